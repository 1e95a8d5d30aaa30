"""Each server of docs/MARKER.md, run with the very text that stands there, behind bascule.

Between bascule and the server stands an edge that passes its answers on, or puts another marker in place of the
server's: none, an old one, one by a stranger's key, a forged one, one of another site. A 503 whose marker is
accepted is the origin's own and reaches the client; any other is tried at the second upstream.
"""

import base64
import contextlib
import http.client
import http.server
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time

import origin
from proxy import PATIENCE, Score, running

ROOT = pathlib.Path(__file__).resolve().parents[3]
BASCULE = pathlib.Path(os.environ.get("BASCULE", ROOT / "target/debug/bascule")).resolve()
HOST = "www.portal.example"
HEADER = "X-Origin-Id"
KEY, STRANGER = "a-key-of-this-suite-0123456789abcdef", "a-key-of-nobody-we-know-0123456789ab"


def snippets(folder):
    """Writes every block that names its file, below the folder; what they name is looked for there too."""
    text = (ROOT / "docs/MARKER.md").read_text()
    names = set()
    for name, block in re.findall(r"^```\w+ (\S+)\n(.*?)^```", text, re.M | re.S):
        for root in ("/etc/", "/run/"):
            block = block.replace(root, f"{folder}{root}")
        file = folder / name.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block)
        names.add(name)
    return names


def sign(folder, *more, key=KEY, host=HOST):
    file = folder / "signing.keys"
    file.write_text(key + "\n")
    command = [BASCULE, "sign", "--key-file", file, "--host", host, *more]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def started(command, folder, port, **environment):
    """A server in the foreground, from its first open port to the end of the block."""
    log = folder / "server.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [str(word) for word in command], cwd=folder, stdout=out, stderr=out,
            env={**os.environ, **environment},
        )
    try:
        end = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"{command[0]} does not listen:\n{log.read_text()}")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE)


def nginx(folder, port, dead):
    (folder / "etc/nginx/marker.key.conf").write_text(f'js_var $marker_key "{KEY}";\n')
    (folder / "nginx.conf").write_text(f"""
        user root; daemon off; pid {folder}/nginx.pid; error_log stderr;
        load_module /usr/lib/nginx/modules/ngx_http_js_module.so;
        events {{ }}
        http {{
            access_log off;
            include {folder}/etc/nginx/conf.d/marker.conf;
            server {{
                listen 127.0.0.1:{port};
                include {folder}/etc/nginx/snippets/marker.conf;
                location / {{ return 200 page; }}
                location /broken {{ return 503; }}
                location /dead {{ proxy_pass http://127.0.0.1:{dead}; }}
            }}
        }}""")
    return started(["nginx", "-p", folder, "-c", folder / "nginx.conf"], folder, port)


def haproxy(folder, port, dead):
    snippet = (folder / "etc/haproxy/marker.cfg").read_text()
    (folder / "haproxy.cfg").write_text(f"""
defaults
    mode http
    retries 0
    timeout connect 1s
    timeout client 5s
    timeout server 5s
frontend public
    bind 127.0.0.1:{port}
{snippet}
    http-request return status 200 content-type text/plain string page if {{ path / }}
    http-request return status 503 if {{ path /broken }}
    default_backend dead
backend dead
    server one 127.0.0.1:{dead}
""")
    key = base64.b64encode(KEY.encode()).decode()
    command = ["haproxy", "-db", "-f", folder / "haproxy.cfg"]
    return started(command, folder, port, MARKER_KEY=key)


def timer(folder):
    """What the timer runs, once."""
    (folder / "etc/bascule/marker.keys").write_text(KEY + "\n")
    (folder / "bin").mkdir(exist_ok=True)
    link = folder / "bin/bascule"
    if not link.exists():
        link.symlink_to(BASCULE)
    environment = {**os.environ, "PATH": f"{folder}/bin:{os.environ['PATH']}"}
    service = (folder / "etc/systemd/system/bascule-marker.service").read_text()
    (command,) = re.findall(r"^ExecStart=(.*)$", service, re.M)
    subprocess.run(command.split(), check=True, env=environment)


def apache(folder, port, dead):
    timer(folder)
    modules = "mpm_event authz_core headers alias proxy proxy_http".split()
    load = "".join(f"LoadModule {m}_module /usr/lib/apache2/modules/mod_{m}.so\n" for m in modules)
    (folder / "www").mkdir()
    # Its workers are somebody else.
    folder.chmod(0o755)
    (folder / "www/index.html").write_text("page")
    (folder / "apache.conf").write_text(f"""{load}
ServerRoot {folder}
ServerName {HOST}
PidFile {folder}/apache.pid
ErrorLog {folder}/apache.log
Listen 127.0.0.1:{port}
DocumentRoot {folder}/www
DefaultRuntimeDir {folder}
AliasMatch ^/$ {folder}/www/index.html
Redirect 503 /broken
ProxyPass /dead http://127.0.0.1:{dead}/
Include {folder}/etc/apache2/conf-enabled/marker.conf
""")
    command = ["apache2", "-d", folder, "-f", folder / "apache.conf", "-DFOREGROUND"]
    return started(command, folder, port)


def caddy(folder, port, dead):
    timer(folder)
    (folder / "Caddyfile").write_text(f"""{{
    admin off
    auto_https off
    persist_config off
}}
http://:{port} {{
    bind 127.0.0.1
    import {folder}/etc/caddy/marker.caddy
    handle /broken {{
        error 503
    }}
    handle /dead {{
        reverse_proxy 127.0.0.1:{dead}
    }}
    handle {{
        respond page
    }}
}}
""")
    binary = pathlib.Path(sys.executable).parent / "caddy"
    command = [binary, "run", "--config", folder / "Caddyfile", "--adapter", "caddyfile"]
    return started(command, folder, port, HOME=str(folder))


def python(folder, port, _dead):
    (folder / "app.py").write_text(f"""
import http.server
from marker import origin_marker

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/" else 503)
        host = self.headers["Host"].rsplit(":", 1)[0].lower()
        self.send_header("{HEADER}", origin_marker("{KEY}", host))
        self.end_headers()

http.server.HTTPServer(("127.0.0.1", {port}), Handler).serve_forever()
""")
    return started([sys.executable, "app.py"], folder, port, PYTHONPATH=str(folder))


def node(folder, port, _dead):
    (folder / "app.mjs").write_text(f"""
import http from 'node:http';
import {{ originMarker }} from './marker.mjs';
http.createServer((request, response) => {{
    const host = request.headers.host.split(':')[0].toLowerCase();
    response.setHeader('{HEADER}', originMarker('{KEY}', host));
    response.writeHead(request.url === '/' ? 200 : 503).end('page');
}}).listen({port}, '127.0.0.1');
""")
    return started(["node", "app.mjs"], folder, port)


def php(folder, port, _dead):
    (folder / "app.php").write_text(f"""<?php
require 'marker.php';
$host = strtolower(explode(':', $_SERVER['HTTP_HOST'])[0]);
header('{HEADER}: ' . origin_marker('{KEY}', $host));
http_response_code($_SERVER['REQUEST_URI'] === '/' ? 200 : 503);
echo 'page';
""")
    return started(["php", "-S", f"127.0.0.1:{port}", "app.php"], folder, port)


class Edge(http.server.BaseHTTPRequestHandler):
    """Passes on, with the server's marker or with what the server object says instead."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.server.behind, timeout=PATIENCE)
        connection.request("GET", self.path, headers={"Host": self.headers["Host"]})
        answer = connection.getresponse()
        body = answer.read()
        marker = self.server.puts(answer.headers.get(HEADER))
        self.server.saw.append(answer.headers.get(HEADER))
        self.send_response(answer.status)
        if marker:
            self.send_header(HEADER, marker)
        self.send_header("X-Edge", "first")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        connection.close()

    def log_message(self, *_):
        pass


def get(proxy, path):
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port(), timeout=PATIENCE)
    connection.request("GET", path, headers={"Host": f"{HOST}:{proxy.port()}"})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status, answer.headers.get("X-Edge", "second")


def access_lines(proxy, count):
    """The access log once it has so many lines."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        file = proxy.folder / "access.log"
        lines = file.read_text().splitlines() if file.exists() else []
        if len(lines) >= count:
            return [json.loads(line) for line in lines]
        time.sleep(0.05)
    raise SystemExit("the access log lacks lines")


def configuration(edge, second):
    return f"""
listeners: [{{ address: 127.0.0.1:0 }}]
access_log: {{ target: access.log }}
providers: {{ first: {{ seat: SI }}, second: {{ seat: FR }} }}
services:
  portal:
    routes: [{{ host: {HOST} }}]
    origin_marker: {{ header: {HEADER}, key_file: marker.keys }}
    probe: {{ interval: 1h }}
    failover: {{ mode: observe, standby_trickle: 0 }}
    retry: {{ min_per_second: 1000 }}
    upstreams:
      - {{ provider: first, url: "http://127.0.0.1:{edge}" }}
      - {{ provider: second, url: "http://127.0.0.1:{second}" }}
"""


def shown(score, name, start, folder):
    port, dead = free_port(), free_port()
    forge = lambda marker: marker[:-1] + ("0" if marker[-1] != "0" else "1")
    lies = {
        "without one": lambda _: None,
        "with an old one": lambda _, old=sign(folder, "--at", str(int(time.time()) - 3600)): old,
        "with a foreign one": lambda _, theirs=sign(folder, key=STRANGER): theirs,
        "with a forged one": forge,
        "with another site's": lambda _, other=sign(folder, host="api.portal.example"): other,
    }
    edge = origin.Server(("127.0.0.1", 0), Edge)
    edge.behind, edge.puts, edge.saw = port, lambda marker: marker, []
    threading.Thread(target=edge.serve_forever, daemon=True).start()
    files = {"marker.keys": f"{STRANGER[::-1]}\n{KEY}\n"}
    pages = ["/broken", "/dead"] if start in (nginx, haproxy, apache, caddy) else ["/broken"]
    try:
        with start(folder, port, dead), origin.origin() as second:
            yaml = configuration(edge.server_address[1], second)
            with running(yaml, files=files) as proxy:
                score.check(f"{name}: a page", get(proxy, "/") == (200, "first"), edge.saw)
                marked = access_lines(proxy, 1)[0]["origin_marker"]
                score.check(f"{name}: its marker is accepted", marked is True, edge.saw)
                for page in pages:
                    status, by = get(proxy, page)
                    own = status in (502, 503) and by == "first"
                    score.check(f"{name}: {page} is the origin's error", own, (status, by, edge.saw[-1:]))
                for lie, puts in lies.items():
                    edge.puts = puts
                    got = get(proxy, "/broken")
                    score.check(f"{name}: an error {lie} is not", got == (200, "second"), got)
    finally:
        edge.shutdown()


def main():
    score = Score()
    servers = [nginx, haproxy, apache, caddy, python, node, php]
    for start in servers:
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            names = snippets(folder)
            shown(score, start.__name__, start, folder)
    score.check("every snippet is there", len(names) == 12, names)
    score.end()


main()
