"""Runs `bascule check` once a line of its standard input; answers exit code, peak KiB and seconds.

A process of its own, and a small one: what a child is said to have needed at its peak includes what its
parent was when it was started."""

import os
import signal
import sys
import time

LONGEST = 20
"""Seconds after which a check is ended."""

BINARY, SAID = sys.argv[1:]
INTO = [(os.POSIX_SPAWN_OPEN, 1, SAID, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2)]

for _ in sys.stdin:
    began = time.monotonic()
    child = os.posix_spawn(BINARY, [BINARY, "check", "-c", "bascule.yaml"], os.environ, file_actions=INTO)
    signal.signal(signal.SIGALRM, lambda *_, child=child: os.kill(child, signal.SIGKILL))
    signal.alarm(LONGEST)
    _, status, usage = os.wait4(child, 0)
    signal.alarm(0)
    print(os.waitstatus_to_exitcode(status), usage.ru_maxrss, time.monotonic() - began, flush=True)
