"""`bascule status --watch` on a pseudo-terminal: drawn in place, as large as the window, coloured unless
asked not to, and the terminal given back as it was."""

import contextlib
import fcntl
import http.client
import json
import os
import pathlib
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

from origin import origin
from proxy import PATIENCE, Score, running

BASCULE = pathlib.Path(os.environ.get("BASCULE", pathlib.Path(__file__).parents[3] / "target/debug/bascule")).resolve()
ENTER, LEAVE, BEGIN, END = b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[?2026h", b"\x1b[?2026l"
SERVICES = 8
YAML = """
listeners: [{{ address: "127.0.0.1:0" }}]
admin: {{ address: "127.0.0.1:0" }}
providers: {{ bunny: {{ seat: SI }}, gcore: {{ seat: LU }} }}
services:
"""
SERVICE = """
  service{number}:
    routes: [{{ host: s{number}.example }}]
    upstreams:
      - {{ provider: bunny, url: "http://127.0.0.1:{port}" }}
      - {{ provider: gcore, url: "http://127.0.0.1:{port}" }}
"""


class Terminal:
    """The verb on a pseudo-terminal of this size."""

    def __init__(self, admin, rows, columns, **environment):
        self.controller, self.side = pty.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(self.side)
        self.seen = b""
        variables = {**os.environ, "TERM": "xterm-256color", **environment}
        if "NO_COLOR" not in environment:
            variables.pop("NO_COLOR", None)
        command = [str(BASCULE), "status", "--watch", "--admin", admin]
        self.process = subprocess.Popen(
            command, stdin=self.side, stdout=self.side, stderr=subprocess.PIPE, env=variables, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))

    def resize(self, rows, columns):
        fcntl.ioctl(self.side, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def press(self, keys):
        os.write(self.controller, keys)

    def read(self, seconds):
        if select.select([self.controller], [], [], seconds)[0]:
            self.seen += os.read(self.controller, 65536)

    def frames(self):
        return [part.split(END)[0] for part in self.seen.split(BEGIN)[1:] if END in part]

    def until(self, holds):
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            self.read(0.1)
            frames = self.frames()
            if frames and holds(frames[-1]):
                return frames[-1]
        return None

    def end(self):
        """Its exit code, once all of its output is read."""
        end = time.monotonic() + PATIENCE
        while self.process.poll() is None and time.monotonic() < end:
            self.read(0.1)
        self.read(0)
        code = self.process.poll()
        restored = termios.tcgetattr(self.side) == self.before
        self.process.kill()
        os.close(self.controller)
        os.close(self.side)
        return code, restored, self.seen


def bare(frame):
    return re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", frame).decode().replace("\r", "").split("\n")


def order(address, body, method="POST"):
    connection = http.client.HTTPConnection(address, timeout=PATIENCE)
    target = "/v1/overrides" if method == "POST" else "/v1/overrides/bunny"
    connection.request(method, target, json.dumps(body) if body else None, {"Content-Type": "application/json"})
    return connection.getresponse().status


def on_a_terminal(score, address):
    terminal = Terminal(f"http://{address}", 20, 90)
    first = terminal.until(lambda frame: b"service0" in frame)
    lines = bare(first or b"")
    score.check("a frame is as high as the window", len(lines) == 20, len(lines))
    score.check("and no wider", all(len(line) <= 90 for line in lines), max(map(len, lines)))
    score.check("words of state are coloured", first and b"\x1b[32mhealthy" in first)
    score.check("what is below is counted", "lines below" in lines[-1], lines[-1])
    status = order(address, {"target": "bunny", "order": "drain", "reason": "a drill"})
    moved = terminal.until(lambda frame: b"draining" in frame)
    score.check("an order shows within a second or two", status == 200 and moved, status)
    terminal.press(b"G")
    bottom = terminal.until(lambda frame: b"lines below" not in frame)
    score.check("G leads to the end", bottom and "q ends" in bare(bottom)[-1])
    terminal.resize(50, 120)
    larger = terminal.until(lambda frame: len(bare(frame)) == 50)
    score.check("a larger window is filled", larger and "RECENT" in "\n".join(bare(larger)))
    terminal.resize(5, 20)
    smaller = terminal.until(lambda frame: len(bare(frame)) == 5)
    score.check("a small one is not overrun", smaller and all(len(line) <= 20 for line in bare(smaller)))
    terminal.press(b"q")
    code, restored, seen = terminal.end()
    score.check("q ends it, and the terminal is as it was", code == 0 and restored and seen.rstrip().endswith(LEAVE), (code, restored, seen[-40:]))
    drawn = seen[seen.index(ENTER):seen.index(LEAVE)]
    score.check("nothing is cleared before it is drawn", b"\x1b[2J" not in drawn and b"\x1bc" not in drawn)
    order(address, None, "DELETE")


def endings(score, address):
    for what, hit in [("Ctrl-C", lambda t: t.press(b"\x03")), ("SIGTERM", lambda t: t.process.send_signal(signal.SIGTERM))]:
        terminal = Terminal(f"http://{address}", 24, 80, NO_COLOR="1")
        frame = terminal.until(lambda frame: b"service0" in frame)
        score.check(f"NO_COLOR is heeded ({what})", frame and not re.search(rb"\x1b\[[0-9;]*m", frame), frame)
        hit(terminal)
        code, restored, seen = terminal.end()
        score.check(f"{what} ends it, and the terminal is as it was", code == 0 and restored and LEAVE in seen, (code, restored))


def without_a_proxy(score):
    terminal = Terminal("http://127.0.0.1:1", 24, 80)
    frame = terminal.until(lambda frame: b"NO ANSWER" in frame)
    score.check("a proxy that is not there is told, and asked again", frame and "connecting to" in bare(frame)[0], frame)
    terminal.press(b"q")
    code, restored, _ = terminal.end()
    score.check("q ends that too", code == 0 and restored, code)


def without_a_terminal(score, address):
    command = [str(BASCULE), "status", "--watch", "--admin", f"http://{address}"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        lines = [process.stdout.readline() for _ in range(SERVICES)]
        score.check("without a terminal: a line a service", all("served through bunny; bunny healthy 100%" in line for line in lines), lines)
        order(address, {"target": "service0/bunny", "order": "force_out"})
        told = []
        while len(told) < 40 and not (told and told[-1].split("  ", 1)[1].startswith("service0: served through gcore")):
            told.append(process.stdout.readline())
        plain = "".join(lines + told)
        score.check("and a line for each change", "failover from=bunny to=gcore" in plain and "\x1b" not in plain, told)
        process.terminate()
    order(address, None, "DELETE")


def main():
    score = Score()
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(origin())
        yaml = YAML.format() + "".join(SERVICE.format(number=number, port=port) for number in range(SERVICES))
        proxy = stack.enter_context(running(yaml))
        said = [line for line in proxy.said() if line.get("message") == "listening" and line["role"] == "admin"]
        address = said[0]["address"]
        on_a_terminal(score, address)
        endings(score, address)
        without_a_proxy(score)
        without_a_terminal(score, address)
    score.end()


main()
