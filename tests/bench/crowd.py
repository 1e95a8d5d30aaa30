#!/usr/bin/env python3
"""What a crowd of idle and of slow clients costs, and what others notice of it.

10,000 connections that have had an answer and stay, then 5,000 that send half a head, while one client
asks every 20 ms. Prints resident memory for each connection and that client's times.
Needs python3 and a built binary; descriptors for 16,000 connections.

Usage: tests/bench/crowd.py [--bascule target/release/bascule] [--tls]
"""

import argparse
import os
import pathlib
import resource
import selectors
import socket
import ssl
import statistics
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/suites/lib"))
import origin  # noqa: E402
import proxy  # noqa: E402

IDLE, SLOW = 10_000, 5_000
REQUEST = b"GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n"
HALF = b"GET /page HTTP/1.1\r\nHost: loc"


def resident(pid):
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("VmRSS:")[2].split()[0])


def connect(port, tls):
    stream = socket.create_connection(("127.0.0.1", port), timeout=20)
    return tls.wrap_socket(stream, server_hostname="localhost") if tls else stream


def answered(stream):
    stream.sendall(REQUEST)
    got = b""
    while not got.endswith(b"a page\n"):
        more = stream.recv(4096)
        if not more:
            raise SystemExit("a connection was closed where an answer was expected")
        got += more


class Steady(threading.Thread):
    """One client that asks every 20 ms on one connection."""

    def __init__(self, port, tls):
        super().__init__(daemon=True)
        self.stream, self.over, self.took = connect(port, tls), False, []

    def run(self):
        while not self.over:
            began = time.perf_counter()
            answered(self.stream)
            self.took.append(time.perf_counter() - began)
            time.sleep(0.02)

    def told(self):
        took, self.took = sorted(self.took), []
        at = lambda share: took[min(int(len(took) * share), len(took) - 1)] * 1000
        return f"p50 {statistics.median(took) * 1000:.1f} ms, p99 {at(0.99):.1f} ms, worst {took[-1] * 1000:.1f} ms of {len(took)}"


def closed(streams, patience):
    """How many of them the other side has closed within so many seconds."""
    selector = selectors.DefaultSelector()
    for stream in streams:
        stream.setblocking(False)
        selector.register(stream, selectors.EVENT_READ)
    left, end = len(streams), time.monotonic() + patience
    while left and time.monotonic() < end:
        for key, _ in selector.select(0.5):
            try:
                over = not key.fileobj.recv(4096)
            except (ssl.SSLWantReadError, BlockingIOError):
                continue
            except OSError:
                over = True
            if over:
                selector.unregister(key.fileobj)
                left -= 1
    return len(streams) - left


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bascule", default=ROOT / "target/release/bascule")
    parser.add_argument("--tls", action="store_true")
    arguments = parser.parse_args()
    os.environ["BASCULE"] = str(arguments.bascule)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as folder:
        files = proxy.certificate(folder, "localhost")
    tls = None
    if arguments.tls:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        tls.load_verify_locations(cadata=files["cert.pem"])
    yaml = origin.YAML.replace("header_read_timeout: 3s, idle_timeout: 5s",
                               "header_read_timeout: 10s, idle_timeout: 5m")
    with origin.origin() as port, proxy.running(yaml.format(port=port), 2, files) as running:
        crowd(running, running.port(1 if tls else 0), tls)


def crowd(running, port, tls):
    pid = running.process.pid
    steady = Steady(port, tls)
    steady.start()
    time.sleep(2)
    base = resident(pid)
    print(f"alone:                {base} KiB; the steady client: {steady.told()}")
    idle = []
    for _ in range(IDLE):
        stream = connect(port, tls)
        answered(stream)
        idle.append(stream)
    steady.took = []
    time.sleep(3)
    with_idle = resident(pid)
    each = (with_idle - base) / IDLE
    print(f"{IDLE} idle:          {with_idle} KiB, {each:.1f} KiB each; the steady client: {steady.told()}")
    slow, began = [], time.monotonic()
    for _ in range(SLOW):
        stream = connect(port, tls)
        stream.sendall(HALF)
        slow.append(stream)
    opened = time.monotonic() - began
    with_slow = resident(pid)
    each = (with_slow - with_idle) / SLOW
    gone = closed(slow, 15)
    print(f"{SLOW} half heads:     {with_slow} KiB, {each:.1f} KiB each, opened within {opened:.1f} s; "
          f"{gone} closed {time.monotonic() - began:.1f} s after the first; the steady client: {steady.told()}")
    for stream in slow:
        stream.close()
    answered(idle[0])
    answered(idle[-1])
    print("the first and the last of the idle ones are still served")
    steady.over = True
    steady.join()


if __name__ == "__main__":
    main()
