"""A small origin: pages, echoes, and answers without content."""

import contextlib
import http.server
import threading


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body leave together, or the second would wait for the first one's acknowledgement.
    wbufsize = -1

    def do_GET(self):
        status = {"/none": 204, "/same": 304}.get(self.path, 200)
        self.answer(status, b"" if status != 200 else b"a page\n")

    do_HEAD = do_GET

    def do_POST(self):
        self.answer(200, self.body())

    do_PUT = do_POST

    def body(self):
        if "chunked" not in self.headers.get("transfer-encoding", ""):
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def answer(self, status, body):
        self.send_response(status)
        if status == 200:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512

    def handle_error(self, *_):
        """Clients that are given up leave half a request behind."""


@contextlib.contextmanager
def origin():
    """Its port, until the end of the block."""
    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


YAML = """
listeners:
  - address: "127.0.0.1:0"
  - {{ address: "127.0.0.1:0", tls: {{ certificates: [{{ certificate: cert.pem, key: key.pem }}] }} }}
limits: {{ header_read_timeout: 3s, idle_timeout: 5s }}
providers: {{ edge: {{ seat: SI }} }}
services:
  portal:
    routes: [{{ host: "*" }}]
    timeouts: {{ body_stall: 3s }}
    upstreams: [{{ provider: edge, url: "http://127.0.0.1:{port}" }}]
"""
"""A cleartext and a TLS listener before one origin."""
