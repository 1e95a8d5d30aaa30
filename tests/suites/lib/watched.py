"""A real Prometheus and Alertmanager around running proxies, with stand-ins that fail as they are told.

Everything is on loopback. A minute of the shipped rules takes a second here: `shortened` divides every
duration of rules and routes by sixty, and changes nothing else.
"""

import asyncio
import contextlib
import http.server
import json
import pathlib
import random
import re
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

import proxy as running_proxy

ROOT = pathlib.Path(__file__).resolve().parents[3]
RULES = ROOT / "config/prometheus"
FASTER = 60
"""How much faster time goes in rules and routes."""

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def free_port():
    """One that nobody has now; used at once."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def shorter(duration):
    """`15m` becomes `15s`, `30s` becomes `500ms`."""
    number, unit = re.fullmatch(r"(\d+)([smhd])", duration).groups()
    return f"{int(number) * UNITS[unit] * 1000 // FASTER}ms"


def shortened(text):
    """The rules or routes with each `for:`, range, offset and group time a sixtieth as long. The age of an
    answer of the resolver is compared with a number of seconds, which is divided likewise."""
    text = re.sub(r"(\bfor: )(\w+)", lambda m: m[1] + shorter(m[2]), text)
    text = re.sub(r"\[(\d+[smhd])\]", lambda m: f"[{shorter(m[1])}]", text)
    text = re.sub(r"((?:group_wait|group_interval|repeat_interval): )(\w+)", lambda m: m[1] + shorter(m[2]), text)
    return re.sub(r"(answer_age_seconds\) > )(\d+)", lambda m: m[1] + str(int(m[2]) // FASTER), text)


class Loop:
    """An event loop in a thread: stand-ins and load live in it."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def do(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(20)

    def begin(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)


class StandIn:
    """A provider's edge on a port of its own. Set the fields to make it fail; `open` and `close` its port."""

    def __init__(self, loop):
        self.loop = loop
        self.port = free_port()
        self.server, self.streams = None, set()
        self.well()
        self.open()

    def well(self):
        self.status, self.body, self.media_type = 200, b"<html>a page</html>\n", "text/html"
        self.marker = self.delay = None
        # Of requests; probes are answered well all the same.
        self.failing, self.probes_too = 0.0, False

    def open(self):
        self.server = self.loop.do(asyncio.start_server(self.serve, "127.0.0.1", self.port, backlog=512))

    def close(self):
        async def shut():
            self.server.close()
            for stream in list(self.streams):
                stream.transport.abort()

        self.loop.do(shut())

    async def serve(self, reader, writer):
        self.streams.add(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                writer.write(await self.answer(head))
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            """Whoever asked is gone."""
        finally:
            self.streams.discard(writer)
            writer.close()

    async def answer(self, head):
        is_probe = b" /probe " in head
        if self.delay and not is_probe:
            await asyncio.sleep(self.delay)
        fails = random.random() < self.failing and (self.probes_too or not is_probe)
        status = 500 if fails else self.status
        fields = [f"HTTP/1.1 {status} Told", f"Content-Type: {self.media_type}", f"Content-Length: {len(self.body)}"]
        if self.marker:
            fields.append(f"X-Origin-Id: {self.marker}")
        return ("\r\n".join(fields) + "\r\n\r\n").encode() + self.body


class Relay:
    """Passes bytes on to whichever port it is told, as a provider whose origin is set wrongly would."""

    def __init__(self, loop, port):
        self.loop, self.leads_to, self.port, self.streams = loop, port, free_port(), set()
        loop.do(asyncio.start_server(self.serve, "127.0.0.1", self.port))

    async def serve(self, reader, writer):
        with contextlib.suppress(OSError):
            onward = await asyncio.open_connection("127.0.0.1", self.leads_to)
            self.streams |= {writer, onward[1]}
            await asyncio.gather(self.pump(reader, onward[1]), self.pump(onward[0], writer))

    def lead_to(self, port):
        """From now on; who is connected has to come again."""

        async def turn():
            self.leads_to = port
            while self.streams:
                self.streams.pop().transport.abort()

        self.loop.do(turn())

    async def pump(self, reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
        self.streams.discard(writer)
        writer.close()


class Load:
    """Asks a service so many times a second, from changing clients and for changing pages."""

    def __init__(self, loop, port, host, rate):
        self.port, self.host, self.pause = port, host, 1 / rate
        self.sent, self.failed = 0, 0
        self.task = loop.begin(self.run())

    async def run(self):
        stream = None
        await asyncio.sleep(random.random() * self.pause)
        while True:
            began = time.monotonic()
            try:
                stream = stream or await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20)
                status = await asyncio.wait_for(self.ask(*stream), 20)
                self.sent += 1
                self.failed += status >= 500
            except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError):
                if stream:
                    stream[1].close()
                stream = None
            await asyncio.sleep(max(0.0, began + self.pause - time.monotonic()))

    async def ask(self, reader, writer):
        client = f"198.51.{random.randrange(256)}.{random.randrange(256)}"
        page = random.choice(["", "news", "forms", "search", "map", "help", "contact", "rules"])
        writer.write(f"GET /{page} HTTP/1.1\r\nHost: {self.host}\r\nX-Forwarded-For: {client}\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = re.search(rb"content-length: (\d+)", head)
        if length:
            await reader.readexactly(int(length[1]))
        return int(head.split(b" ", 2)[1])


class Instance:
    """A bascule on fixed ports, so that it can be killed, started again and told another file."""

    def __init__(self, folder, text):
        self.folder = folder
        self.file = folder / "bascule.yaml"
        self.clients, self.admin = free_port(), free_port()
        self.text, self.process = text, None
        self.write(text)

    def write(self, text):
        """The file, in one step, as an editor does it."""
        admin = f'admin: {{ address: "127.0.0.1:{self.admin}" }}\n'
        text = admin + f'listeners:\n  - address: "127.0.0.1:{self.clients}"\n' + text
        beside = self.folder / "new.yaml"
        beside.write_text(text)
        beside.rename(self.file)

    def start(self):
        binary = running_proxy.binary()
        with (self.folder / "log").open("a") as out:
            command = [str(binary), "run", "-c", "bascule.yaml", "--log-format", "json"]
            self.process = subprocess.Popen(command, cwd=self.folder, stdout=out, stderr=out)
        until("bascule is ready", lambda: fetch(f"http://127.0.0.1:{self.admin}/livez") is not None)

    def order(self, method, path, body=None):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.admin}{path}",
            method=method,
            data=json.dumps(body).encode() if body else None,
            headers={"Content-Type": "application/json"},
        )
        urllib.request.urlopen(request, timeout=10).read()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)
        if "panicked at" in (self.folder / "log").read_text():
            raise SystemExit("bascule panicked:\n" + (self.folder / "log").read_text())


def fetch(url):
    """Its JSON, or text, or `None` while nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            text = answer.read().decode()
    except (urllib.error.URLError, OSError):
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text


def until(what, holds, patience=60):
    """Waits for something that must happen; what it is stands in the complaint."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if found := holds():
            return found
        time.sleep(0.2)
    raise SystemExit(f"did not happen within {patience} s: {what}")


class Prometheus:
    """With the shipped rules, shortened, scraping each second."""

    def __init__(self, folder, targets, alertmanager=None):
        self.url = f"http://127.0.0.1:{free_port()}"
        rules = [RULES / "recording.yml", RULES / "alerts.yml"]
        for file in rules:
            (folder / file.name).write_text(shortened(file.read_text()))
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s", "external_labels": {"site": "main"}},
            "rule_files": [file.name for file in rules],
            "scrape_configs": [{"job_name": "bascule", "static_configs": [{"targets": targets}]}],
        }
        if alertmanager:
            config["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]}
        # JSON is YAML.
        (folder / "prometheus.yml").write_text(json.dumps(config))
        command = ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=tsdb"]
        command += [f"--web.listen-address={self.url[7:]}", "--rules.alert.resend-delay=1s"]
        with (folder / "prometheus.log").open("w") as out:
            self.process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=out)
        until("Prometheus is ready", lambda: fetch(self.url + "/-/ready"))

    def query(self, expression, **arguments):
        """What an instant query finds, or a range query where `start`, `end` and `step` are given."""
        kind = "query_range" if arguments else "query"
        asked = urllib.parse.urlencode({"query": expression, **arguments})
        found = fetch(f"{self.url}/api/v1/{kind}?{asked}")
        if not found or found["status"] != "success":
            raise SystemExit(f"not answered: {expression}\n{found}")
        return found["data"]["result"]

    def firing(self):
        """Every alert that fires now, by its labels."""
        found = fetch(self.url + "/api/v1/alerts")["data"]["alerts"]
        return [alert["labels"] for alert in found if alert["state"] == "firing"]

    def stop(self):
        self.process.terminate()
        self.process.wait(30)


class Alertmanager:
    """With the shipped routes, shortened, and the receivers at `hook`."""

    def __init__(self, folder, hook):
        self.address = f"127.0.0.1:{free_port()}"
        text = (RULES / "alertmanager.yml").read_text().replace("127.0.0.1:9095", f"127.0.0.1:{hook}")
        (folder / "alertmanager.yml").write_text(shortened(text))
        command = ["prometheus-alertmanager", "--config.file=alertmanager.yml", "--storage.path=notified"]
        command += [f"--web.listen-address={self.address}", "--cluster.listen-address="]
        with (folder / "alertmanager.log").open("w") as out:
            self.process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=out)
        until("Alertmanager is ready", lambda: fetch(f"http://{self.address}/-/ready"))

    def stop(self):
        self.process.terminate()
        self.process.wait(30)


class Hook(http.server.ThreadingHTTPServer):
    """Keeps what Alertmanager sends: `(receiver, status, alerts)`, in the order in which it came."""

    daemon_threads = True

    def __init__(self):
        self.sent = []
        super().__init__(("127.0.0.1", 0), Noting)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Noting(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        told = json.loads(self.rfile.read(int(self.headers["content-length"])))
        labels = [alert["labels"] for alert in told["alerts"] if alert["status"] == told["status"]]
        self.server.sent.append((self.path.strip("/"), told["status"], labels))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def stopping(*things):
    """Stops them at the end, whatever happens."""
    try:
        yield
    finally:
        for thing in things:
            thing.stop()
