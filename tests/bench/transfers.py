#!/usr/bin/env python3
"""Memory while a gibibyte goes through, up and down, for each pair of protocols.

An upstream over HTTP/2 is a second bascule that speaks HTTP/2 by prior knowledge before the same origin.
Needs python3, curl and a built binary.

Usage: tests/bench/transfers.py [--bascule target/release/bascule]
"""

import argparse
import http.server
import os
import pathlib
import subprocess
import sys
import tempfile
import threading

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/suites/lib"))
import proxy  # noqa: E402

SIZE = 1 << 30
PIECE = bytes(1 << 20)
WAYS = {
    "HTTP/1.1": (0, "http", ["--http1.1"]),
    "HTTP/2": (0, "http", ["--http2-prior-knowledge"]),
    "HTTP/1.1 over TLS": (1, "https", ["--http1.1"]),
    "HTTP/2 over TLS": (1, "https", ["--http2"]),
}


class Origin(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        size = SIZE if self.path == "/big" else 0
        self.send_response(200)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        for _ in range(size // len(PIECE)):
            self.wfile.write(PIECE)

    def do_PUT(self):
        left = int(self.headers["Content-Length"])
        read = 0
        while left > read:
            read += len(self.rfile.read(min(len(PIECE), left - read)))
        said = str(read).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_):
        pass


def figures(pid):
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return [int(text.partition(key)[2].split()[0]) for key in ("VmRSS:", "VmHWM:")]


def yaml(upstream, http):
    return f"""
listeners:
  - address: "127.0.0.1:0"
  - {{ address: "127.0.0.1:0", tls: {{ certificates: [{{ certificate: cert.pem, key: key.pem }}] }} }}
limits: {{ max_request_body: 2GiB }}
providers: {{ edge: {{ seat: SI }} }}
services:
  portal:
    routes: [{{ host: "*" }}]
    probe: {{ path: /, interval: 60s }}
    upstreams: [{{ provider: edge, url: "http://127.0.0.1:{upstream}", http: {http} }}]
"""


def transfer(running, way, up, blob):
    listener, scheme, more = WAYS[way]
    command = ["curl", "-sS", "--cacert", str(running.folder / "cert.pem"), *more]
    url = f"{scheme}://localhost:{running.port(listener)}"
    if up:
        command += ["-H", "Expect:", "-T", blob, f"{url}/sink"]
    else:
        command += ["-o", "/dev/null", "-w", "%{size_download}", f"{url}/big"]
    done = subprocess.run(command, capture_output=True, timeout=300, check=True)
    if done.stdout != str(SIZE).encode():
        raise SystemExit(f"{way}: {done.stdout[:100]!r} came through")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bascule", default=ROOT / "target/release/bascule")
    os.environ["BASCULE"] = str(parser.parse_args().bascule)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        files = proxy.certificate(folder, "localhost")
        blob = os.path.join(folder, "blob")
        with open(blob, "wb") as file:
            file.truncate(SIZE)
        with proxy.running(yaml(server.server_port, 1), 2, files) as second:
            for version, upstream in ((1, server.server_port), (2, second.port(0))):
                through(yaml(upstream, version), files, blob, f"HTTP/{version}")


def through(text, files, blob, upstream):
    for way in WAYS:
        for up in (True, False):
            with proxy.running(text, 2, files) as running:
                pid = running.process.pid
                before, _ = figures(pid)
                transfer(running, way, up, blob)
                after, most = figures(pid)
            direction = "up" if up else "down"
            print(f"1 GiB {direction:4} {way:17} to {upstream}: {before} KiB before, "
                  f"{most} at most (+{(most - before) / 1024:.1f} MiB), {after} after", flush=True)


main()
