"""Runs each VTC file against one bascule: `${proxy}` is where clients go, `${upstream}` a socket on
which the file's server listens.

bascule's upstream is a relay before that socket: it answers bascule's probes itself, so that a server
in a file meets nothing but the requests of its file."""

import pathlib
import socket
import struct
import subprocess
import sys
import tempfile
import threading

from proxy import PATIENCE, Score, running

FILES = pathlib.Path(__file__).resolve().parents[1] / "vtc"
PROBE = "/probe-of-the-suite"
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

# One worker, or a second request might not find the first one's connection; observed only, because
# what the files do is meant to look bad.
YAML = f"""
listeners: [{{{{ address: "127.0.0.1:0" }}}}]
workers: 1
providers: {{{{ edge: {{{{ seat: SI }}}} }}}}
services:
  portal:
    routes: [{{{{ host: www.portal.example }}}}]
    failover: {{{{ mode: observe }}}}
    probe: {{{{ path: {PROBE}, interval: 60s }}}}
    upstreams: [{{{{ provider: edge, url: "http://127.0.0.1:{{port}}" }}}}]
"""


class Relay:
    """Passes connections on to `upstream`, the socket of the file that runs."""

    def __init__(self):
        self.upstream = None
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            near, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(near,), daemon=True).start()

    def serve(self, near):
        near.settimeout(PATIENCE)
        with near, socket.socket(socket.AF_UNIX) as far:
            try:
                first = near.recv(1 << 16)
                if PROBE.encode() in first.partition(b"\r\n")[0]:
                    near.sendall(GOOD)
                    return
                far.settimeout(PATIENCE)
                far.connect(self.upstream)
                back = threading.Thread(target=pump, args=(far, near), daemon=True)
                back.start()
                far.sendall(first)
                pump(near, far)
                back.join()
            except OSError:
                # An end that the file, or bascule, made: the other one is to see it as one.
                near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def pump(source, sink):
    try:
        while part := source.recv(1 << 16):
            sink.sendall(part)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        # Whoever reads from either has to learn that nothing more comes.
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def main():
    score = Score()
    files = [pathlib.Path(name) for name in sys.argv[1:]] or sorted(FILES.glob("*.vtc"))
    relay = Relay()
    with tempfile.TemporaryDirectory() as folder, running(YAML.format(port=relay.port)) as proxy:
        for number, file in enumerate(files):
            relay.upstream = f"{folder}/{number}"
            macros = [f"-Dproxy=127.0.0.1:{proxy.port()}", f"-Dupstream={relay.upstream}"]
            command = ["varnishtest", *macros, "-t", "20", str(file)]
            done = subprocess.run(command, capture_output=True, timeout=60, check=False)
            score.check(file.stem.replace("_", " "), done.returncode == 0, done.stdout.decode(errors="replace"))
    score.end()


main()
