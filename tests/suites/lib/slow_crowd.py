"""A thousand slow clients of each kind at once: what they hold, when they end, and that another is served.

Readers ask for 10 MB and take next to nothing of it; writers send a byte a second of what they announced; the
silent begin no handshake. Prints memory and times; demands bounds of memory and that all of them end.
"""

import asyncio
import contextlib
import multiprocessing
import pathlib
import resource
import socket
import ssl
import tempfile
import time
import urllib.request

from hpack import Encoder
from hyperframe.frame import HeadersFrame, SettingsFrame, WindowUpdateFrame

from proxy import Score, certificate, running

CROWD = 1_000
STREAMS = 100
"""Of one connection over HTTP/2."""
LARGE = 10_000_000
MOST_MIB = 128
"""Above what the process holds without them."""

YAML = """
listeners:
  - address: "127.0.0.1:0"
  - {{ address: "127.0.0.1:0", tls: {{ certificates: [{{ certificate: cert.pem, key: key.pem }}] }} }}
admin: {{ address: "127.0.0.1:0" }}
limits: {{ idle_timeout: 8s }}
providers: {{ edge: {{ seat: SI }} }}
services:
  portal:
    routes: [{{ host: "*" }}]
    timeouts: {{ body_stall: 5s }}
    upstreams: [{{ provider: edge, url: "http://127.0.0.1:{port}" }}]
"""


async def serve(reader, writer):
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            await reader.readexactly(int((head.lower() + b"content-length: 0").split(b"content-length: ")[1].split(b"\r")[0]))
            size = LARGE if b"/large" in head.split(b"\r\n", 1)[0] else 7
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            for start in range(0, size, 65536):
                writer.write(b"x" * min(65536, size - start))
                await writer.drain()
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


def origin(ready):
    """Pages of 10 MB and of 7 bytes, in a process of its own: it holds a thousand of them."""
    more_files()

    async def run():
        server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1024)
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


def more_files():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def resident(pid):
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("VmRSS:")[2].split()[0]) / 1024


def connected(port, tls=None):
    stream = socket.socket()
    stream.settimeout(20)
    # Set before it connects, or the window is large already.
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    stream.connect(("127.0.0.1", port))
    return tls.wrap_socket(stream, server_hostname="localhost") if tls else stream


class Crowd:
    """What a thousand of a kind did; `turn` is what each does once a second."""

    def __init__(self, proxy, begin, turn, size=CROWD):
        pid, base, began = proxy.process.pid, resident(proxy.process.pid), time.monotonic()
        self.most, self.waits = 0.0, 0.0
        streams = [begin() for _ in range(size)]
        for stream in streams:
            stream.setblocking(False)
        self.left = size
        while self.left and time.monotonic() - began < 60:
            time.sleep(1)
            self.most = max(self.most, resident(pid) - base)
            self.waits = max(self.waits, served(proxy.port()))
            for stream in streams:
                with contextlib.suppress(OSError):
                    turn(stream)
            self.left = connections(proxy)
        self.took = time.monotonic() - began
        for stream in streams:
            stream.close()

    def judge(self, what, score):
        said = f"{self.most:.1f} MiB, the last ended after {self.took:.1f} s, another waited {self.waits * 1000:.0f} ms at most"
        print(f"--   {CROWD} {what}: {said}")
        score.check(f"{what}: memory is bounded", self.most <= MOST_MIB, said)
        score.check(f"{what}: all are given up", self.left == 0, f"{self.left} left")


def served(port):
    """How long another client waits for a page."""
    began = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), timeout=20) as stream:
        stream.sendall(b"GET /page HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        got = b""
        while more := stream.recv(4096):
            got += more
    if not got.startswith(b"HTTP/1.1 200 ") or not got.endswith(b"xxxxxxx"):
        raise SystemExit(f"another client is not served: {got[:200]!r}")
    return time.perf_counter() - began


def connections(proxy):
    """Those of clients that it has; its own count, since who reads nothing does not see its end either."""
    admin = next(line["address"] for line in proxy.said() if line.get("role") == "admin")
    with urllib.request.urlopen(f"http://{admin}/metrics", timeout=20) as page:
        lines = page.read().decode().splitlines()
    return sum(int(float(line.split()[-1])) for line in lines if line.startswith("bascule_connections{"))


def asked(stream, text):
    stream.sendall(text)
    return stream


def asked_for_many(port):
    """A connection of HTTP/2 with a hundred requests, and windows as wide as they can be."""
    stream = connected(port)
    wide = 2**31 - 1
    settings = SettingsFrame(settings={SettingsFrame.INITIAL_WINDOW_SIZE: wide}).serialize()
    window = WindowUpdateFrame(0, window_increment=wide - 65_535).serialize()
    fields = [(":method", "GET"), (":scheme", "http"), (":path", "/large"), (":authority", "localhost")]
    encoder, flags = Encoder(), ["END_HEADERS", "END_STREAM"]
    heads = [HeadersFrame(number, data=encoder.encode(fields), flags=flags) for number in range(1, 2 * STREAMS, 2)]
    stream.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings + window + b"".join(h.serialize() for h in heads))
    return stream


def a_byte(stream):
    stream.send(b"x")


def nothing(_):
    pass


def main():
    score = Score()
    more_files()
    here, there = multiprocessing.Pipe()
    server = multiprocessing.Process(target=origin, args=(there,), daemon=True)
    server.start()
    with tempfile.TemporaryDirectory() as folder:
        files = certificate(folder, "localhost")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.load_verify_locations(cadata=files["cert.pem"])
    large = b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n"
    upload = b"POST /page HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
    with running(YAML.format(port=here.recv()), 2, files) as proxy:
        plain, secure = proxy.port(), proxy.port(1)
        served(plain)
        for what, begin, turn, *size in (
            ("readers", lambda: asked(connected(plain), large), nothing),
            ("readers over TLS", lambda: asked(connected(secure, tls), large), nothing),
            ("readers of HTTP/2 streams", lambda: asked_for_many(plain), nothing, CROWD // STREAMS),
            ("writers", lambda: asked(connected(plain), upload), a_byte),
            ("writers over TLS", lambda: asked(connected(secure, tls), upload), a_byte),
            ("silent before a handshake", lambda: connected(secure), nothing),
        ):
            Crowd(proxy, begin, turn, *size).judge(what, score)
    server.terminate()
    score.end()


main()
