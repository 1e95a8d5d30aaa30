"""An origin for what outlives a process: pages, a WebSocket that echoes, a download that takes its time."""

import base64
import contextlib
import hashlib
import threading
import time

from origin import Handler, Server

MAGIC = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
STEPS = 10
"""Pieces of a long download in each second."""


class LongHandler(Handler):
    def do_GET(self):
        if self.path == "/echo":
            self.echo()
        elif self.path.startswith("/long/"):
            self.long(int(self.path.rsplit("/", 1)[1]))
        else:
            super().do_GET()

    def echo(self):
        key = self.headers.get("sec-websocket-key", "") + MAGIC
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        self.send_header("Sec-WebSocket-Accept", accept)
        self.end_headers()
        self.wfile.flush()
        self.close_connection = True
        # Small masked frames are all that the load sends.
        while len(start := self.rfile.read(6)) == 6:
            body = self.rfile.read(start[1] & 0x7F)
            mask = start[2:]
            plain = bytes(byte ^ mask[place % 4] for place, byte in enumerate(body))
            self.wfile.write(bytes([start[0], len(plain)]) + plain)
            self.wfile.flush()

    def long(self, seconds):
        piece = b"x" * 4096
        self.send_response(200)
        self.send_header("Content-Length", str(len(piece) * STEPS * seconds))
        self.end_headers()
        for _ in range(STEPS * seconds):
            self.wfile.write(piece)
            self.wfile.flush()
            time.sleep(1 / STEPS)


@contextlib.contextmanager
def long_origin():
    """Its port, until the end of the block."""
    server = Server(("127.0.0.1", 0), LongHandler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
