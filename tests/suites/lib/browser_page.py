"""What a real browser sees through bascule; the origin and the page are here, its driver in
browser_drive.cjs."""

import asyncio
import base64
import contextlib
import hashlib
import http.server
import json
import pathlib
import subprocess
import tempfile
import threading
import time

from websockets.asyncio.server import serve

from origin import Handler, Server
from proxy import PATIENCE, Score, certificate, running

DRIVER = pathlib.Path(__file__).with_name("browser_drive.cjs")
HOST = "localhost"

YAML = """
listeners:
  - {{ address: "127.0.0.1:0", tls: {{ certificates: [{{ certificate: cert.pem, key: key.pem }}] }} }}
access_log: {{ target: stdout, format: json }}
providers: {{ edge: {{ seat: SI }} }}
services:
  portal:
    routes: [{{ host: localhost }}]
    upstreams: [{{ provider: edge, url: "http://127.0.0.1:{pages}" }}]
  chat:
    routes: [{{ host: localhost, prefix: /chat }}]
    probe: {{ path: /, interval: 60s }}
    upstreams: [{{ provider: edge, url: "http://127.0.0.1:{chat}", http: 1 }}]
"""

PAGE = b"<!doctype html><meta charset=utf-8><title>a page</title><link rel=icon href=data:,><p>seen"
EVENTS = 5
SEEN = threading.Semaphore(0)
"""Events that the page says it has: the next one waits for it, so none may be held back."""


class Pages(Handler):
    """A page, events of which each waits for the one before, and an upload that is measured."""

    def do_GET(self):
        if self.path == "/events":
            return self.events()
        if self.path == "/seen":
            SEEN.release()
        return self.answer(200, PAGE)

    def do_POST(self):
        self.answer(200, hashlib.sha256(self.body()).hexdigest().encode())

    def events(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for number in range(EVENTS):
            self.wfile.write(b"id: %d\ndata: event %d\n\n" % (number, number))
            self.wfile.flush()
            if not SEEN.acquire(timeout=PATIENCE):
                return

    def end_headers(self):
        if self.path == "/":
            self.send_header("Content-Type", "text/html")
        super().end_headers()


@contextlib.contextmanager
def pages():
    """The port of the pages, until the end of the block."""
    server = Server(("127.0.0.1", 0), Pages)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


async def talk(socket):
    """Speaks first, then echoes: both directions are used."""
    await socket.send("welcome")
    async for message in socket:
        await socket.send(message)


def answer_probe(connection, request):
    if "upgrade" not in request.headers.get("connection", "").lower():
        return connection.respond(200, "ok\n")
    return None


def public_key(folder):
    """What a browser pins a certificate by."""
    command = ["openssl", "x509", "-in", "cert.pem", "-noout", "-pubkey"]
    pem = subprocess.run(command, cwd=folder, check=True, capture_output=True).stdout.decode()
    return base64.b64encode(hashlib.sha256(base64.b64decode("".join(pem.splitlines()[1:-1]))).digest()).decode()


async def drive(port, pin):
    """What the browser saw, as its driver tells."""
    command = ["node", str(DRIVER), f"https://{HOST}:{port}/", pin]
    run = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
    out, err = await asyncio.wait_for(run.communicate(), 60)
    if run.returncode != 0:
        raise SystemExit(f"the browser's driver ended with {run.returncode}:\n" + err.decode())
    return json.loads(out)


def judge(score, saw):
    score.check("the page over HTTP/2", saw["page"] == ["h2", 200, "a page", "seen"], saw["page"])
    score.check("the server's greeting over the WebSocket", saw["greeting"] == "welcome", saw["greeting"])
    score.check("messages come back as they were sent", all(saw["echoes"]) and len(saw["echoes"]) == 5, saw["echoes"])
    score.check("the WebSocket closes in good order", saw["close"] == [1000, True], saw["close"])
    score.check("all server-sent events, strictly in turns", saw["events"] == [f"event {n}" for n in range(EVENTS)], saw["events"])
    score.check("an upload of 3 MB arrives whole", saw["upload"][1] == saw["upload"][2], saw["upload"])
    score.check("the upload over HTTP/2", saw["upload"][0] == "h2", saw["upload"])
    score.check("nothing to complain of in the browser", not saw["complaints"], saw["complaints"])


def way(proxy):
    """Over which version of HTTP the browser opened its WebSocket, as the access log has it."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        lines = [line for line in proxy.said() if line.get("path") == "/chat" and "protocol" in line]
        if lines:
            return lines[0]["protocol"]
        time.sleep(0.05)
    return None


async def main():
    score = Score()
    with tempfile.TemporaryDirectory() as folder:
        files = certificate(folder, HOST)
        pin = public_key(folder)
    async with serve(talk, "127.0.0.1", 0, process_request=answer_probe, max_size=None) as chat:
        port = chat.sockets[0].getsockname()[1]
        with pages() as page_port, running(YAML.format(pages=page_port, chat=port), 1, files) as proxy:
            judge(score, await drive(proxy.port(), pin))
            version = way(proxy)
            score.check(f"the WebSocket came over {version}", version in ("HTTP/1.1", "HTTP/2.0"))
    score.end()


asyncio.run(main())
