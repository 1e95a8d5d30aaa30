"""Asks every query of the dashboards while a provider fails, and wants data from each.

The outage: a provider outside the EU is refused, the next one, in the EU, answers everything with 500
after a while, so that a third serves from outside. With `--pictures FOLDER` some panels are drawn from what
Prometheus then answers.
"""

import argparse
import json
import pathlib
import re
import tempfile
import time

import panels
import proxy as running_proxy
import watched

DASHBOARDS = watched.ROOT / "dashboards"
SCHEMA = 38
"""Of Grafana 10; later ones migrate it by themselves."""

FILE = """
workers: 1
trusted_proxies: [127.0.0.1/32]
control_targets: ["127.0.0.1:{far}"]
defaults:
  residency: prefer-eu
  origin_marker: {{ header: X-Origin-Id, value: spoken }}
  probe: {{ path: /probe, interval: 1s, timeout: 900ms }}
  failover: {{ hold: 5s, max_hold: 5s, min_stay: 5s, ramp: 5s }}
providers: {{ us: {{ seat: US }}, eu: {{ seat: SI }}, far: {{ seat: US }} }}
services:
"""
SERVICE = """  {name}:
    routes: [{{ host: {name}.example }}]
    upstreams:
      - {{ provider: us, url: "http://localhost:{us}" }}
      - {{ provider: eu, url: "http://127.0.0.1:{eu}" }}
      - {{ provider: far, url: "http://127.0.0.1:{far}" }}
"""
# What the outage must show somewhere: a query that is 0 throughout would pass for data.
MOVES = [
    "Services on a fallback",
    "Providers left by all",
    "Outside the EU against preference",
    "What failed, and what clients saw of it",
    "Services that moved",
    "On a fallback",
    "Attempts that failed",
    "Time to notice",
    "Failovers",
    "Left by all",
    "Prefer it and have left it",
    "Failing share by service",
    "Share of requests",
    "Share of bytes",
    "Outside against preference",
    "Time outside against preference",
    "annotation Failovers",
]
NAMES = ["portal", "mail", "forms"]
# What Grafana would put in. The scrape interval is a second here.
VARIABLES = {"$__rate_interval": "5s", "$__range": "2m", "$service": "portal", "$provider": "us", "${datasource}": "x"}


def expressions(board):
    """`(panel, expression, whether it is asked for one moment)`, those of annotations and variables too."""
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"], target["instant"]
    for each in board["annotations"]["list"]:
        yield f"annotation {each['name']}", each["expr"], False
    for each in board["templating"]["list"]:
        if found := re.fullmatch(r"label_values\((\w+), (\w+)\)", each.get("definition", "")):
            yield f"variable {each['name']}", f"group by ({found[2]}) ({found[1]})", True


def filled(expression):
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    if "$" in expression:
        raise SystemExit(f"a variable that nobody fills: {expression}")
    return expression


def form(board, file, score):
    """What Grafana needs to import it."""
    score.check(f"{file}: schema version and a data source to choose", board["schemaVersion"] == SCHEMA and board["templating"]["list"][0]["type"] == "datasource")
    numbers = [panel["id"] for panel in board["panels"]]
    score.check(f"{file}: panels have numbers of their own", len(set(numbers)) == len(numbers))
    places = [panel["gridPos"] for panel in board["panels"]]
    overlap = [
        (a, b)
        for at, a in enumerate(places)
        for b in places[:at]
        if a["x"] < b["x"] + b["w"] and b["x"] < a["x"] + a["w"] and a["y"] < b["y"] + b["h"] and b["y"] < a["y"] + a["h"]
    ]
    score.check(f"{file}: panels stand beside each other, within the width", not overlap and all(p["x"] + p["w"] <= 24 for p in places), overlap)
    sources = {json.dumps(target["datasource"]) for panel in board["panels"] for target in panel.get("targets", [])}
    score.check(f"{file}: every query goes to the chosen source", sources == {'{"type": "prometheus", "uid": "${datasource}"}'}, sources)


def ask(prometheus, began, score):
    """Each query, over the whole time or at its end."""
    asked = 0
    end = time.time()
    for file in sorted(DASHBOARDS.glob("*.json")):
        board = json.loads(file.read_text())
        form(board, file.name, score)
        empty, still = [], set()
        moved = set()
        for panel, expression, instant in expressions(board):
            span = {} if instant else {"start": began, "end": end, "step": 1}
            found = prometheus.query(filled(expression), **span)
            asked += 1
            numbers = [v for each in found for _, v in ([each["value"]] if instant else each["values"])]
            if not any(number != "NaN" for number in numbers):
                empty.append(f"{panel}: {expression}")
            (moved if any(float(number) > 0 for number in numbers) else still).add(panel)
        score.check(f"{file.name}: every query brings data", not empty, "\n     " + "\n     ".join(empty))
        still = still - moved & set(MOVES)
        score.check(f"{file.name}: what the outage moves has moved", not still, still)
    print(f"     {asked} queries")


def outage(us, eu):
    """As told at the top. The clients keep asking meanwhile."""
    time.sleep(15)
    us.close()
    time.sleep(20)
    eu.status, eu.marker, eu.probes_too = 500, None, True
    time.sleep(20)


def main(pictures):
    score = running_proxy.Score()
    loop = watched.Loop()
    us, eu, far = (watched.StandIn(loop) for _ in range(3))
    for each in (us, eu, far):
        each.marker = "spoken"
        each.body = b"<html>" + b"a page " * 500 + b"</html>\n"
    text = FILE.format(far=far.port)
    text += "".join(SERVICE.format(name=name, us=us.port, eu=eu.port, far=far.port) for name in NAMES)
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place)
        (folder / "one").mkdir()
        instance = watched.Instance(folder / "one", text)
        running_proxy.certificate(instance.folder, "portal.example")
        instance.write('  - { address: "127.0.0.1:0", tls: { certificates: [{ certificate: cert.pem, key: key.pem }] } }\n' + text)
        instance.start()
        prometheus = watched.Prometheus(folder, [f"127.0.0.1:{instance.admin}"])
        with watched.stopping(instance, prometheus):
            began = time.time()
            for name in NAMES:
                watched.Load(loop, instance.clients, f"{name}.example", 10)
            outage(us, eu)
            ask(prometheus, began + 2, score)
            if pictures:
                panels.draw(prometheus, DASHBOARDS, filled, began + 2, pathlib.Path(pictures))
    score.end()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", metavar="FOLDER")
    main(parser.parse_args().pictures)
