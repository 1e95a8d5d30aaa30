"""The console during an outage of several kinds at once. The providers and the clients are here, the
browser in console_drive.cjs."""

import contextlib
import http.client
import json
import os
import pathlib
import subprocess
import tempfile
import threading
import time

from origin import Handler, Server
from proxy import PATIENCE, Score, running

DRIVER = pathlib.Path(__file__).with_name("console_drive.cjs")
TOKEN = "correct-horse-battery"
PROVIDERS = {"cloudflare": "US", "fastly": "US", "bunny": "SI", "gcore": "LU"}

BROKEN = set()
"""Pairs of provider and service that answer 503; the origin's own failures carry its marker."""
ORIGIN_BROKEN = set()


class Edge(Handler):
    """A stand-in edge; `server.provider` names it, the host names the service."""

    def do_GET(self):
        service = self.headers.get("host", "").split(".")[0]
        marked = service in ORIGIN_BROKEN
        bad = marked or (self.server.provider, service) in BROKEN
        body = b"no\n" if bad else b"a page\n"
        self.send_response(500 if marked else 503 if bad else 200)
        if not bad or marked:
            self.send_header("X-Origin-Id", "ours")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_HEAD = do_POST = do_GET


@contextlib.contextmanager
def edges():
    """Ports by provider, until the end of the block."""
    servers = {}
    for provider in PROVIDERS:
        server = servers[provider] = Server(("127.0.0.1", 0), Edge)
        server.provider = provider
        threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield {provider: server.server_port for provider, server in servers.items()}
    finally:
        for server in servers.values():
            server.shutdown()
            server.server_close()


SERVICES = {
    # name: residency and upstreams in order
    "portal": ("prefer-eu", ["cloudflare", "bunny", "gcore"]),
    "forms": ("prefer-eu", ["cloudflare", "bunny", "fastly"]),
    "archive": ("any", ["cloudflare", "bunny"]),
    "payments": ("any", ["bunny", "gcore"]),
    "health": ("eu-only", ["gcore", "bunny", "fastly"]),
    "library": ("any", ["gcore", "fastly"]),
}


def yaml(ports):
    lines = [
        'listeners: [{ address: "127.0.0.1:0" }]',
        "trusted_proxies: [127.0.0.0/8]",
        'admin: { address: "127.0.0.2:0", token_file: admin.token }',
        "defaults: { origin_marker: { header: X-Origin-Id, value: ours }, probe: { interval: 1s, timeout: 1s } }",
        "providers:",
    ]
    lines += [f"  {name}: {{ seat: {seat} }}" for name, seat in PROVIDERS.items()]
    lines.append("services:")
    for name, (residency, upstreams) in SERVICES.items():
        lines += [f"  {name}:", f"    routes: [{{ host: {name}.example }}]", f"    residency: {residency}"]
        lines.append("    upstreams:")
        # Nobody ever listened for the archive: all of its upstreams refuse.
        at = {up: 1 if name == "archive" else ports[up] for up in upstreams}
        lines += [f'      - {{ provider: {up}, url: "http://127.0.0.1:{at[up]}" }}' for up in upstreams]
    return "\n".join(lines) + "\n"


def clients(port, stop):
    """A steady load of many clients, as a balancer before us would tell."""
    connection, number = None, 0
    while not stop.is_set():
        for service in SERVICES:
            number += 1
            try:
                connection = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=5)
                connection.request("GET", f"/page/{number % 40}", headers={
                    "Host": f"{service}.example", "X-Forwarded-For": f"198.51.{number % 50}.7"})
                connection.getresponse().read()
            except OSError:
                connection = None
        stop.wait(0.02)


def ask(address, url_path, method="GET", body=None):
    connection = http.client.HTTPConnection(*address, timeout=PATIENCE)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    if body is not None:
        headers["Content-Type"] = "application/json"
    connection.request(method, url_path, json.dumps(body) if body is not None else None, headers)
    answer = connection.getresponse()
    text = answer.read()
    return json.loads(text) if answer.status < 300 else None


def wait_for(address, what, holds):
    end = time.monotonic() + PATIENCE * 3
    while time.monotonic() < end:
        status = ask(address, "/v1/status")
        services = {service["name"]: service for service in status["services"]}
        if holds(services):
            return
        time.sleep(0.1)
    raise SystemExit(f"{what} never came:\n" + json.dumps(status, indent=1))


def outage(address):
    """Everything that the banner knows, but what is wrong with us ourselves."""
    BROKEN.update({("cloudflare", service) for service in ("portal", "forms")})
    BROKEN.add(("bunny", "forms"))
    ORIGIN_BROKEN.add("payments")
    assert ask(address, "/v1/overrides", "POST", {"target": "health/gcore", "order": "drain", "for": "2h", "reason": "their maintenance"})
    assert ask(address, "/v1/overrides", "POST", {"target": "health/bunny", "order": "force_out", "reason": "under investigation"})
    wait_for(address, "the failover of the portal", lambda s: s["portal"]["first"] == "bunny")
    wait_for(address, "a fallback outside the EU", lambda s: s["forms"]["first"] == "fastly")
    wait_for(address, "a fail-open", lambda s: s["archive"]["mode"] == "fail_open")
    wait_for(address, "an origin incident", lambda s: s["payments"]["origin_incident"])
    wait_for(address, "a fail-closed", lambda s: s["health"]["mode"] == "fail_closed")


def main():
    score = Score()
    with contextlib.ExitStack() as stack:
        pictures = os.environ.get("PICTURES") or stack.enter_context(tempfile.TemporaryDirectory())
        pathlib.Path(pictures).mkdir(parents=True, exist_ok=True)
        ports = stack.enter_context(edges())
        proxy = stack.enter_context(running(yaml(ports), 1, {"admin.token": TOKEN}))
        said = [line for line in proxy.said() if line.get("message") == "listening" and line["role"] == "admin"]
        host, port = said[0]["address"].rsplit(":", 1)
        stop = threading.Event()
        load = [threading.Thread(target=clients, args=(proxy.port(), stop)) for _ in range(3)]
        stack.callback(lambda: [stop.set()] + [thread.join() for thread in load])
        for thread in load:
            thread.start()
        wait_for((host, int(port)), "calm", lambda s: all(up["health"] == "healthy" for name, one in s.items() if name != "archive" for up in one["upstreams"]))
        outage((host, int(port)))
        command = ["node", str(DRIVER), f"http://{host}:{port}/", TOKEN, pictures]
        run = subprocess.run(command, capture_output=True, text=True, timeout=300)
        if run.returncode != 0:
            raise SystemExit("the browser's driver failed:\n" + run.stdout + run.stderr)
        for check in json.loads(run.stdout):
            score.check(check["what"], check["holds"], check.get("detail", ""))
    score.end()


main()
