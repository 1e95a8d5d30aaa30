#!/usr/bin/env python3
"""What grows with the number of services: cost of a request, memory, start, reload, scrape, steering.

For 1, 100, 1,000 and 10,000 services (the most there may be) with two upstreams each, and for 1,000 with five. Needs python3,
nginx, wrk, h2load, taskset and a release build; a quarter of an hour.

Usage: tests/bench/growth.py [--bascule target/release/bascule] [--sizes 1x2,100x2,1000x2,1000x5,10000x2]
"""
import argparse
import os
import re
import shutil
import statistics
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

import bench

IDLE_SECONDS = 20
LOAD_SECONDS = 4
FILE = """
workers: {workers}
listeners: [{{ address: "127.0.0.1:{http}" }}]
admin: {{ address: "127.0.0.1:{admin}" }}
include: [growth.d/*.yaml]
providers:
{providers}
"""


def write(conf, services, upstreams, workers, ports):
    """A file of so many services, a thousand to each included one; the last is the one that is asked."""
    seats = ["US", "SI", "FR", "DE", "SE"]
    providers = "\n".join(f"  p{n}: {{ seat: {seats[n]} }}" for n in range(upstreams))
    ways = ", ".join(f'{{ provider: p{n}, url: "http://127.0.0.1:{ports["origin"]}" }}' for n in range(upstreams))
    parts = conf.parent / "growth.d"
    shutil.rmtree(parts, ignore_errors=True)
    parts.mkdir()
    for first in range(0, services, 1000):
        out = ["services:\n"]
        for n in range(first, min(first + 1000, services)):
            host = "localhost" if n == services - 1 else f"s{n}.bench.example"
            # Probes cost what they cost, wherever they are sent: not here.
            out.append(f"  s{n}:\n    routes: [{{ host: {host} }}]\n    probe: {{ path: /1k, interval: 1h }}\n    upstreams: [{ways}]\n")
        (parts / f"{first}.yaml").write_text("".join(out))
    conf.write_text(FILE.format(workers=workers, providers=providers, **ports))


def metric(ports, name):
    began = time.perf_counter()
    with urllib.request.urlopen(f"http://127.0.0.1:{ports['admin']}/metrics", timeout=30) as answer:
        page = answer.read().decode()
    took = time.perf_counter() - began
    found = re.search(rf"^bascule_{name}(?:{{[^}}]*}})? (\S+)$", page, re.M)
    return float(found.group(1)) if found else None, took, len(page)


def reload_under_load(ports, conf):
    """Seconds from the change of the file to the new generation, and the longest answer meanwhile."""
    before, _, _ = metric(ports, "config_generation")
    with tempfile.NamedTemporaryFile() as log:
        command = ["h2load", "--h1", "-t1", "-c4", "--rps", "250", "-D", "12", f"--log-file={log.name}",
                   f"http://localhost:{ports['http']}/1k"]
        load = subprocess.Popen(bench.pinned(bench.LOAD_CORE, command), stdout=subprocess.PIPE, text=True)
        time.sleep(2)
        began = time.monotonic()
        conf.write_text(conf.read_text() + "# changed\n")
        while metric(ports, "config_generation")[0] == before:
            if time.monotonic() - began > 60:
                raise SystemExit("the file was not read again")
            time.sleep(0.05)
        took = time.monotonic() - began
        load.communicate(timeout=60)
        rows = [line.split("\t") for line in Path(log.name).read_text().splitlines()]
    return took, max(int(row[2]) for row in rows) / 1000, sum(row[1] != "200" for row in rows)


def measure(binary, folder, ports, size, workers):
    services, upstreams = map(int, size.split("x"))
    conf = folder / "growth.yaml"
    write(conf, services, upstreams, workers, ports)
    url = f"http://localhost:{ports['http']}/1k"
    began = time.monotonic()
    process = bench.start(bench.PROXY_CORE, [binary, "run", "-c", conf], folder / "growth.log", url)
    try:
        started = time.monotonic() - began
        drive = bench.wrk("http", "1k", 64)
        drive(ports, 1)
        costs = []
        for _ in range(3):
            before = bench.cpu_seconds(process.pid)
            seen = drive(ports, LOAD_SECONDS)
            costs.append((bench.cpu_seconds(process.pid) - before) / seen["requests"] * 1e6)
        memory = bench.resident(process.pid) / 1024
        _, scrape, length = metric(ports, "config_generation")
        _, scrape, length = metric(ports, "config_generation")
        before = bench.cpu_seconds(process.pid)
        time.sleep(IDLE_SECONDS)
        idle = (bench.cpu_seconds(process.pid) - before) / IDLE_SECONDS * 100
        reloaded, longest, failed = reload_under_load(ports, conf)
    finally:
        bench.stop(process)
    print(f"{size:>9}{workers:9}{statistics.median(costs):9.1f}{memory:9.0f}{started:9.2f}{idle:9.2f}"
          f"{scrape * 1000:9.0f}{length / 1024:9.0f}{reloaded:9.2f}{longest:10.1f}{failed:8}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bascule", default=str(bench.ROOT / "target/release/bascule"))
    parser.add_argument("--sizes", default="1x2,100x2,1000x2,1000x5,10000x2")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {bench.LOAD_CORE})
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        os.chmod(folder, 0o755)
        ports = {name: bench.free_port() for name in ("http", "admin", "origin")}
        (folder / "pages").mkdir()
        origin = bench.serve_origin(folder, ports)
        try:
            print(f"{'services':>9}{'workers':>9}{'us/req':>9}{'MiB':>9}{'start s':>9}{'idle %':>9}{'scrape ms':>9}"
                  f"{'page KiB':>9}{'reload s':>9}{'longest ms':>10}{'failed':>8}")
            for size in arguments.sizes.split(","):
                measure(arguments.bascule, folder, ports, size, 1)
            measure(arguments.bascule, folder, ports, "1000x2", 2)
        finally:
            bench.stop(origin)


if __name__ == "__main__":
    main()
