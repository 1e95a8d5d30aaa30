"""Schemathesis on the admin API of a running proxy, with the token: every operation, valid and invalid
inputs. Then the same operations without the token, and as pages of other origins ask."""

import http.client
import json
import pathlib
import re
import subprocess
import sys
import tempfile

from origin import origin
from proxy import PATIENCE, Score, running

TOKEN = "correct-horse-battery"
YAML = """
listeners: [{{ address: "127.0.0.1:0" }}]
admin: {{ address: "127.0.0.1:0", token_file: admin.token }}
providers:
  bunny: {{ seat: SI }}
  gcore: {{ seat: LU }}
services:
  portal:
    routes: [{{ host: www.portal.example }}]
    upstreams:
      - {{ provider: bunny, url: "http://127.0.0.1:{port}" }}
      - {{ provider: gcore, url: "http://127.0.0.1:{port}" }}
"""
LIMIT = 85
"""Seconds for Schemathesis, whatever it has left to try."""


def ask(port, method, url_path, headers=None, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.request(method, url_path, body, headers or {})
    answer = connection.getresponse()
    return answer.status, answer.read() if answer.status != 200 else b""


def explore(port, folder):
    """Its exit code, and what it printed. `/v1/events` has no end that could be waited for."""
    program = pathlib.Path(sys.executable).with_name("schemathesis")
    command = [
        str(program), "run", f"http://127.0.0.1:{port}/openapi.json", "--header", f"Authorization: Bearer {TOKEN}",
        "--exclude-path", "/v1/events", "--checks", "all", "--phases", "examples,coverage,fuzzing",
        "--max-examples", "40", "--seed", "1", "--generation-database", "none", "--request-timeout", "10", "--no-color",
    ]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=LIMIT)
    return run.returncode, run.stdout + run.stderr


def strangers(score, port):
    """Every operation of the document, asked by nobody in particular and by pages of other origins."""
    shown = {"Authorization": f"Bearer {TOKEN}"}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.request("GET", "/openapi.json", headers=shown)
    document = json.loads(connection.getresponse().read())
    guarded = [
        (method.upper(), path.replace("{provider}", "gcore").replace("{service}", "portal"))
        for path, item in document["paths"].items() for method, operation in item.items() if operation.get("security")
    ]
    tries = [
        ("without the token", {}, 401),
        ("with half of it", {"Authorization": f"Bearer {TOKEN[:-1]}"}, 401),
        ("as a page of another origin", {**shown, "Origin": "https://evil.example"}, 403),
        ("as a page of another port", {**shown, "Origin": "http://127.0.0.1:1"}, 403),
        ("as a browser says of another site", {**shown, "Sec-Fetch-Site": "cross-site"}, 403),
    ]
    for what, headers, expected in tries:
        seen = {(method, path): ask(port, method, path, headers)[0] for method, path in guarded}
        wrong = {key: status for key, status in seen.items() if status != expected}
        score.check(f"{len(guarded)} operations {what}: {expected}", guarded and not wrong, wrong)
    preflight = {**shown, "Origin": "https://evil.example", "Access-Control-Request-Method": "DELETE"}
    status, _ = ask(port, "OPTIONS", "/v1/overrides/gcore", preflight)
    score.check("a browser that asks first is told no", status == 403, status)


def main():
    score = Score()
    with origin() as port, running(YAML.format(port=port), 1, {"admin.token": TOKEN}) as proxy:
        said = [line for line in proxy.said() if line.get("message") == "listening" and line["role"] == "admin"]
        admin = int(said[0]["address"].rsplit(":", 1)[1])
        strangers(score, admin)
        with tempfile.TemporaryDirectory() as folder:
            code, printed = explore(admin, folder)
        print(printed)
        cases = re.search(r"(\d+) generated, (\d+) passed", printed)
        holds = code == 0 and cases and cases[1] == cases[2] and int(cases[1]) > 100
        score.check(f"schemathesis: {cases and cases[0]}", holds, code)
        status, _ = ask(admin, "GET", "/readyz")
        score.check("it is ready all the same", status == 200, status)
    score.end()


main()
