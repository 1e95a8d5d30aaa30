#!/usr/bin/env python3
"""What clients notice when the names of upstreams change, fail or do not exist yet.

A name server of our own on loopback answers as it is told, origins stand at 127.0.0.2 and 127.0.0.3,
and eight clients ask all the time, each on one connection:

  change   the answer becomes another address; both go on serving
  gone     the same, and the old address is dead from that moment: alone, then with a second provider
  silent   the name server says nothing for --silence seconds, then answers again
  late     the name does not exist when the proxy starts, and appears later

Prints each figure and ends with 1 if one is beyond its bound. Needs python3 and a built binary.

Usage: tests/bench/names.py [--bascule target/release/bascule] [--silence 600] [CASE]…
"""

import argparse
import contextlib
import http.client
import os
import pathlib
import re
import socket
import sys
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/suites/lib"))
import origin  # noqa: E402
import proxy  # noqa: E402

NAME = "edge.example"
OLD, NEW, OTHER = "127.0.0.2", "127.0.0.3", "127.0.0.4"
CLIENTS = 8
# Requests before anything happens: retries are a share of what was asked lately.
WARM = 3000
TTL = 1
# Seconds. An answer is gone by for five at least, an address that no answer names for another sixty, and
# idle connections are looked through every five: busy ones lead to the old address until then.
MOVED = 75

YAML = """
listeners: [{{ address: "127.0.0.1:0" }}]
admin: {{ address: "127.0.0.1:0" }}
resolver: {{ servers: ["udp://127.0.0.1:{dns}"] }}
providers: {{ edge: {{ seat: SI }}, other: {{ seat: FR }} }}
services:
  portal:
    routes: [{{ host: "*" }}]
    probe: {{ path: /probe, interval: 1s, timeout: 900ms }}
    failover: {{ standby_trickle: 0 }}
    upstreams:
      - {{ provider: edge, url: "http://{name}:{port}" }}
{more}
"""
SECOND = '      - {{ provider: other, url: "http://{other}:{port}" }}'


class Names(threading.Thread):
    """A name server over UDP and TCP: A records of one address, no such name, or not a word."""

    def __init__(self, says):
        super().__init__(daemon=True)
        self.says = says
        while True:
            self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.udp.bind(("127.0.0.1", 0))
            self.port = self.udp.getsockname()[1]
            self.tcp = socket.socket()
            try:
                self.tcp.bind(("127.0.0.1", self.port))
            except OSError:
                continue
            break
        self.tcp.listen(16)
        threading.Thread(target=self.over_tcp, daemon=True).start()

    def run(self):
        while True:
            question, peer = self.udp.recvfrom(1500)
            if answer := self.answer(question):
                self.udp.sendto(answer, peer)

    def over_tcp(self):
        while True:
            stream, _ = self.tcp.accept()
            with stream, contextlib.suppress(OSError):
                stream.settimeout(2)
                length = int.from_bytes(stream.recv(2), "big")
                if answer := self.answer(stream.recv(length)):
                    stream.sendall(len(answer).to_bytes(2, "big") + answer)

    def answer(self, question):
        says = self.says
        if says == "silence" or len(question) < 17:
            return None
        end = question.index(b"\0", 12) + 5
        wants_v4 = question[end - 4 : end - 2] == b"\0\1"
        missing = says == "nothing"
        record = b""
        if wants_v4 and not missing:
            data = socket.inet_aton(says)
            record = b"\xc0\x0c\0\1\0\1" + TTL.to_bytes(4, "big") + b"\0\4" + data
        flags = b"\x81\x83" if missing else b"\x81\x80"
        counts = b"\0\1" + (b"\0\1" if record else b"\0\0") + b"\0\0\0\0"
        return question[:2] + flags + counts + question[12:end] + record


class Origin(origin.Server):
    """Notes when clients asked it, and can die with all its connections."""

    def __init__(self, address):
        self.asked, self.streams = [], set()
        super().__init__(address, Noting)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def process_request(self, request, client_address):
        self.streams.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request):
        self.streams.discard(request)
        super().shutdown_request(request)

    def die(self):
        self.shutdown()
        self.server_close()
        for stream in list(self.streams):
            with contextlib.suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)


class Noting(origin.Handler):
    def do_GET(self):
        if self.path == "/load":
            self.server.asked.append(time.monotonic())
        super().do_GET()


def origins():
    """At all three addresses, on one port."""
    while True:
        first = Origin((OLD, 0))
        try:
            return [first] + [Origin((address, first.server_port)) for address in (NEW, OTHER)]
        except OSError:
            first.die()


class Load:
    """Clients that ask every 5 ms, each on one connection, until the end of the block."""

    def __init__(self, port):
        self.port, self.over, self.seen = port, False, []
        self.threads = [threading.Thread(target=self.ask, daemon=True) for _ in range(CLIENTS)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over = True
        for thread in self.threads:
            thread.join(proxy.PATIENCE)

    def ask(self):
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        while not self.over:
            began = time.monotonic()
            try:
                client.request("GET", "/load")
                answer = client.getresponse()
                answer.read()
                status = answer.status
            except (OSError, http.client.HTTPException) as error:
                client.close()
                status = type(error).__name__
            self.seen.append((began, status))
            time.sleep(0.005)

    def failed(self, since=0.0):
        return [(at, status) for at, status in self.seen if status != 200 and at >= since]


def wait_until(holds, seconds):
    """Whether it held in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.05)
    return False


def metric(running, family):
    listening = [line for line in running.said() if line.get("message") == "listening"]
    admin = next(line["address"] for line in listening if line["role"] != "clients")
    with urllib.request.urlopen(f"http://{admin}/metrics", timeout=10) as page:
        text = page.read().decode()
    found = re.search(rf"^{family}{{[^}}]*{NAME}[^}}]*}} (\S+)$", text, re.M)
    return float(found[1]) if found else 0.0


@contextlib.contextmanager
def stage(says, more=""):
    names = Names(says)
    names.start()
    old, new, other = origins()
    more = more.format(other=OTHER, port=old.server_port)
    yaml = YAML.format(dns=names.port, name=NAME, port=old.server_port, more=more)
    try:
        with proxy.running(yaml) as running:
            yield names, old, new, running
    finally:
        for server in (old, new, other):
            with contextlib.suppress(OSError):
                server.die()


def settled(load, old):
    """The first address serves, and everything that failed before that is forgotten."""
    if not wait_until(lambda: len(old.asked) > WARM, proxy.PATIENCE):
        raise SystemExit(f"nothing is served: {load.seen[-5:]}")
    load.seen.clear()


def change(score, _):
    with stage(OLD) as (names, old, new, running), Load(running.port()) as load:
        settled(load, old)
        names.says, began = NEW, time.monotonic()
        wait_until(lambda: new.asked, MOVED)
        # Both may be asked for a while; then only the new one is.
        wait_until(lambda: time.monotonic() - old.asked[-1] > 8, 20)
        first = new.asked[0] - began if new.asked else float("inf")
        last = old.asked[-1] - began
        failed = load.failed()
        score.check(f"change: {len(load.seen)} requests, 0 failed", not failed, failed[:5])
        score.check(f"change: first at the new address after {first:.1f} s", first < MOVED)
        score.check(f"change: last at the old one after {last:.1f} s", last < MOVED)


def gone(score, _):
    for what, more in (("gone, alone", ""), ("gone, with a second provider", SECOND)):
        with stage(OLD, more) as (names, old, new, running), Load(running.port()) as load:
            settled(load, old)
            names.says, began = NEW, time.monotonic()
            old.die()
            wait_until(lambda new=new: new.asked, 60)
            first = new.asked[0] - began if new.asked else float("inf")
            time.sleep(2)
            failed = load.failed()
            last = max((at - began for at, _ in failed), default=0.0)
            said = f"{len(load.seen)} requests, {len(failed)} failed, the last after {last:.2f} s"
            # Nobody else is there to ask; with somebody, nobody may notice.
            holds = last < 3 if not more else not failed
            score.check(f"{what}: {said}", holds, failed[:5])
            bound = 3 if not more else 60
            score.check(f"{what}: first at the new address after {first:.2f} s", first < bound)


def silent(score, silence):
    with stage(OLD) as (names, old, _, running), Load(running.port()) as load:
        settled(load, old)
        failures = metric(running, "bascule_dns_failures_total")
        names.says = "silence"
        time.sleep(silence)
        age = metric(running, "bascule_dns_answer_age_seconds")
        counted = metric(running, "bascule_dns_failures_total") - failures
        names.says, back = OLD, time.monotonic()
        fresh = lambda: metric(running, "bascule_dns_answer_age_seconds") < 5  # noqa: E731
        came_back = wait_until(fresh, 60)
        healed = time.monotonic() - back
        failed = load.failed()
        score.check(f"silent for {silence} s: {len(load.seen)} requests, 0 failed", not failed, failed[:5])
        score.check(f"silent: the answer's age grew to {age:.0f} s", age >= silence - 1)
        score.check(f"silent: {counted:.0f} failures counted", counted >= 1)
        score.check(f"silent: a fresh answer {healed:.1f} s after it speaks again", came_back)


def late(score, _):
    with stage("nothing") as (names, old, _, running), Load(running.port()) as load:
        time.sleep(5)
        before = sorted({str(status) for _, status in load.seen})
        names.says, began = OLD, time.monotonic()
        wait_until(lambda: len(old.asked) > 20, 60)
        first = old.asked[0] - began if old.asked else float("inf")
        time.sleep(2)
        failed = load.failed(began)
        last = max((at - began for at, _ in failed), default=0.0)
        score.check(f"late: before it exists clients get {', '.join(before)}", before in (["502"], ["503"], ["502", "503"]))
        score.check(f"late: first served after {first:.2f} s, last failure after {last:.2f} s", last < 3)


CASES = {"change": change, "gone": gone, "silent": silent, "late": late}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--bascule", help="the binary; default: $BASCULE or the debug build")
    parser.add_argument("--silence", type=int, default=12, help="seconds for `silent`")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; default: all")
    given = parser.parse_args()
    if given.bascule:
        os.environ["BASCULE"] = str(pathlib.Path(given.bascule).resolve())
    score = proxy.Score()
    for case in given.cases or CASES:
        CASES[case](score, given.silence)
    score.end()


if __name__ == "__main__":
    main()
