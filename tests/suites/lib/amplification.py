"""What an input costs over its own bytes: memory while it is there, and time on a processor.

Release builds are what the figures of docs/WIRE.md are from; a debug build is dearer in all alike."""

import socket
import tempfile

from cost import Cost
from origin import YAML, origin
from proxy import Score, certificate, running

TIMES, ROOM = 10, 64 * 1024
"""An input may hold so many times its own bytes, and so much besides."""
DEARER = 10
"""An input may take as much time as so many good requests, or as those of its own length: who sends it
gets no more out of his bytes than by asking for pages."""
TOGETHER = 100
"""Connections that send it at the same time: one alone is lost in what the allocator rounds to."""

HOST = b"Host: localhost\r\n"
GOOD = b"GET /page HTTP/1.1\r\n" + HOST + b"\r\n"
CHUNKED = b"POST /echo HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"

CLEAR = {
    "a single byte": b"G",
    "a good request": GOOD,
    "a body framed twice": CHUNKED[:-2] + b"Content-Length: 5\r\n\r\nhello",
    "60 KiB of a head without end": GOOD[:-2] + b"X: " + b"a" * 60000,
    "300 KB in one field": GOOD[:-2] + b"X: " + b"a" * 300000 + b"\r\n\r\n",
    "90 short fields": GOOD[:-2] + b"a: 1\r\n" * 90 + b"\r\n",
    "10,000 short fields": GOOD[:-2] + b"a: 1\r\n" * 10000 + b"\r\n",
    "32 KiB of Via": GOOD[:-2] + b"Via: " + b"1.1 a," * 5400 + b"1.1 a\r\n\r\n",
    "32 KiB of names in Connection": GOOD[:-2] + b"Connection: " + b"x-a," * 8000 + b"x-b\r\n\r\n",
    "32 KiB of crumbs": GOOD[:-2] + b"Cookie: a=1\r\n" * 90 + b"Cookie: " + b"a=1; " * 6000 + b"\r\n\r\n",
    "a target of 60 KiB": b"GET /" + b"a" * 60000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    "60 KiB of empty lines": b"\r\n" * 30000,
    "10,000 chunks of a byte": CHUNKED + b"1\r\nx\r\n" * 10000,
    "chunks with 15 KiB of extensions": CHUNKED + b"1;" + b"a" * 15000 + b"\r\nx\r\n",
    "30 KiB of trailers": CHUNKED + b"0\r\n" + b"X-T: " + b"a" * 30000 + b"\r\n\r\n",
    "a size that overflows": CHUNKED + b"FFFFFFFFFFFFFFFFF\r\nx\r\n",
}
SECURE = {
    "a request in clear to the TLS port": GOOD,
    "a TLS record that is none": b"\x16\x03\x01\xff\xff" + b"\0" * 16000,
    "a hello that does not end": b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03" + b"\0" * 15000,
}


def send(port, data):
    """A connection with these bytes on their way, held open by whoever has it."""
    connection = socket.create_connection(("127.0.0.1", port), 10)
    try:
        connection.sendall(data)
    except OSError:
        pass
    return connection


def measure(cost, port, data):
    """Bytes and seconds that each of many at the same time has cost."""
    cost.settle()
    cost.begin()
    held = [send(port, data) for _ in range(TOGETHER)]
    cost.settle()
    each = cost.grown() / TOGETHER, cost.spent() / TOGETHER
    for connection in held:
        connection.close()
    return each


def main():
    score = Score()
    with tempfile.TemporaryDirectory() as folder:
        files = certificate(folder, "localhost")
    with origin() as port, running(YAML.format(port=port), 2, files) as proxy:
        cost = Cost(proxy.process.pid)
        # What is set up once, for the first of all, is nobody's cost.
        for data in (GOOD, GOOD):
            measure(cost, proxy.port(0), data)
        good = measure(cost, proxy.port(0), GOOD)[1]
        cases = [(name, proxy.port(0), data) for name, data in CLEAR.items()]
        cases += [(name, proxy.port(1), data) for name, data in SECURE.items()]
        print(f"{'input':<36} {'bytes':>7} {'holds':>8} {'takes':>8} {'good requests':>14}")
        for name, listener, data in cases:
            grown, spent = measure(cost, listener, data)
            dearer = spent / good
            print(f"{name:<36} {len(data):>7} {grown / 1024:>4.0f} KiB {spent * 1e6:>5.0f} us {dearer:>14.1f}")
            score.check(f"{name}: memory", grown < TIMES * len(data) + ROOM, grown)
            score.check(f"{name}: time", dearer < max(DEARER, len(data) / len(GOOD)), dearer)
    score.end()


if __name__ == "__main__":
    main()
