#!/usr/bin/env python3
"""How much CPU one request costs bascule, beside other proxies on the same machine.

One command, no arguments needed; README.md beside this file says what is measured and how to read it.
Standard library only. Everything runs on loopback, in a scratch folder, and ends with the run.
"""
import argparse
import json
import os
import re
import shutil
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from chart import chart

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
BODY = "x" * 1024
PROXY_CORE, LOAD_CORE = 0, 1
WARM_UP_SECONDS = 1
READY_WITHIN_SECONDS = 20
IDLE_CONNECTIONS = 5_000
BASE = "haproxy"


class Stopped(Exception):
    """A contestant that does not serve, or a load that came to nothing."""


# ---- loads: each returns what the clients saw

def run(command, seconds):
    done = subprocess.run(pinned(LOAD_CORE, command), capture_output=True, text=True, timeout=seconds + 120)
    return done.stdout


def wrk(scheme, page, connections, *more):
    def drive(ports, seconds):
        url = f"{scheme}://localhost:{ports[scheme]}/{page}"
        said = run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", *more, url], seconds)
        count = re.search(r"(\d+) requests in", said)
        if not count:
            raise Stopped(f"wrk said: {said}")
        refused = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
        broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", said)
        failed = int(refused.group(1)) if refused else 0
        return {
            "requests": int(count.group(1)),
            "rate": float(re.search(r"Requests/sec:\s+([\d.]+)", said).group(1)),
            "failed": failed + (sum(map(int, broken.groups())) if broken else 0),
        }
    return drive


def h2load(ports, seconds):
    url = f"https://localhost:{ports['https']}/1k"
    said = run(["h2load", "-t1", "-c8", "-m32", "-D", seconds, url], seconds)
    if "Application protocol: h2" not in said:
        raise Stopped("no HTTP/2 was spoken:\n" + said)
    requests, failed = map(int, re.search(r"(\d+) succeeded, (\d+) failed", said).groups())
    rate = float(re.search(r"finished in [\d.]+s, ([\d.]+) req/s", said).group(1))
    return {"requests": requests, "rate": rate, "failed": failed}


def steady(ports, seconds):
    """64 clients that ask 62.5 times a second each, whether they have been answered or not."""
    url = f"http://localhost:{ports['http']}/1k"
    with tempfile.NamedTemporaryFile() as log:
        command = ["h2load", "--h1", "-t1", "-c64", "--rps", "62.5", "-D", seconds, f"--log-file={log.name}", url]
        said = run(command, seconds)
        rows = [line.split("\t") for line in Path(log.name).read_text().splitlines()]
    took = sorted(int(row[2]) for row in rows if row[1] == "200")
    if not took:
        raise Stopped("nothing was answered:\n" + said)
    at = lambda share: took[min(int(len(took) * share), len(took) - 1)]
    return {"requests": len(took), "rate": len(took) / seconds, "failed": len(rows) - len(took),
            "p50": at(0.5), "p99": at(0.99)}


def answered(stream):
    stream.sendall(b"GET /1k HTTP/1.1\r\nHost: localhost\r\n\r\n")
    got = b""
    while not got.endswith(BODY.encode()):
        more = stream.recv(65536)
        if not more:
            raise Stopped("a connection was closed where an answer was expected")
        got += more


def idle(scheme):
    """Connections that have had an answer and stay: KiB of resident memory for each."""
    def drive(ports, process):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        before, streams = resident(process.pid), []
        for _ in range(IDLE_CONNECTIONS):
            stream = socket.create_connection(("127.0.0.1", ports[scheme]), timeout=20)
            # Without it each TLS handshake waits for a delayed acknowledgement.
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if scheme == "https":
                stream = context.wrap_socket(stream, server_hostname="localhost")
            answered(stream)
            streams.append(stream)
        time.sleep(3)
        each = (resident(process.pid) - before) / IDLE_CONNECTIONS
        for stream in streams:
            stream.close()
        return {"kib": each, "failed": 0}
    return drive


# Workload: what it is, the tool it needs, its load, and what bascule has in its file.
WORKLOADS = {
    "w1": ("HTTP/1.1 keep-alive, 1 KiB, 64 connections", "wrk", wrk("http", "1k", 64), ["bascule"]),
    "w2": ("the same over TLS 1.3", "wrk", wrk("https", "1k", 64), ["bascule"]),
    "w3": ("a new TLS connection for every request, 32 at a time", "wrk",
           wrk("https", "1k", 32, "-H", "Connection: close"), ["bascule"]),
    "w4": ("HTTP/2 over TLS, 8 connections x 32 streams", "h2load", h2load, ["bascule"]),
    "w5": ("1 MiB, 16 connections", "wrk", wrk("http", "1m", 16), ["bascule"]),
    "w5t": ("1 MiB over TLS, 16 connections", "wrk", wrk("https", "1m", 16), ["bascule"]),
    "w6": ("4,000 requests a second, 64 connections", "h2load", steady, ["bascule"]),
    "w7": (f"{IDLE_CONNECTIONS} idle connections", "nginx", idle("http"), ["bascule"]),
    "w7t": (f"{IDLE_CONNECTIONS} idle TLS connections", "nginx", idle("https"), ["bascule"]),
    "w8": ("w1 with more in bascule's file", "wrk", wrk("http", "1k", 64),
           ["bascule", "bascule, 5 upstreams", "bascule, 1000 services x 5"]),
    "w9": ("w1 with an access log, on a file", "wrk", wrk("http", "1k", 64), ["bascule"]),
}

# Contestant: its template, its command after the binary, and how it is told to log.
CONTESTANTS = {
    "bascule": ("bascule.yaml", ["run", "-c", "{conf}"], "access_log: {{ target: {folder}/access.log }}"),
    "haproxy": ("haproxy.cfg", ["-db", "-f", "{conf}"], "option httplog\n    log global"),
    "haproxy-splice": ("haproxy.cfg", ["-db", "-f", "{conf}"], "option httplog\n    log global"),
    "nginx": ("nginx.conf", ["-p", "{folder}", "-c", "{conf}"], "{folder}/access.log"),
    "envoy": ("envoy.yaml", ["-c", "{conf}", "--concurrency", "1", "--disable-hot-restart", "-l", "error"],
              'access_log: [{{ name: file, typed_config: {{ "@type": type.googleapis.com/envoy.extensions.access_loggers'
              '.file.v3.FileAccessLog, path: {folder}/access.log }} }}]'),
    "pingora": (None, ["{http}", "{https}", "{origin}", "{folder}/cert.pem", "{folder}/key.pem"], None),
    "caddy": ("Caddyfile", ["run", "--adapter", "caddyfile", "--config", "{conf}"],
              "log {{\n\t\toutput file {folder}/access.log\n\t}}"),
}


# ---- processes

def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def pinned(core, command):
    return ["taskset", "-c", str(core)] + [str(word) for word in command]


def process_tree(root):
    """The process and everything it started, by id."""
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                after_name = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # It ended while we were looking.
            children.setdefault(int(after_name[1]), []).append(int(entry))
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting.extend(children.get(pid, []))
    return found


def cpu_seconds(root):
    """User and system time of a process tree."""
    total = 0
    for pid in process_tree(root):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total / TICKS_PER_SECOND


def resident(root):
    """KiB of memory of a process tree."""
    total = 0
    for pid in process_tree(root):
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += int(re.search(r"Rss:\s+(\d+)", text).group(1))
    return total


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=1) as response:
            return response.read().decode() == BODY
    except OSError:
        return False


def start(core, command, log, url):
    """A pinned process that serves the page, or Stopped."""
    environment = {**os.environ, "GOMAXPROCS": "1", "HOME": str(Path(log).parent)}
    with open(log, "w") as output:
        process = subprocess.Popen(pinned(core, command), stdout=output, stderr=output, env=environment)
    deadline = time.monotonic() + READY_WITHIN_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if answers(url):
            return process
        time.sleep(0.05)
    stop(process)
    raise Stopped(f"{command[0]} does not serve:\n{Path(log).read_text()[-2000:]}")


def stop(process):
    tree = process_tree(process.pid)
    for name in (signal.SIGTERM, signal.SIGKILL):
        for pid in tree:
            try:
                os.kill(pid, name)
            except OSError:
                pass  # Gone already.
        try:
            process.wait(timeout=3)
        except subprocess.TimeoutExpired:
            continue
        if not any(os.path.exists(f"/proc/{pid}") for pid in tree):
            return


# ---- configurations

def services(variant, origin):
    """`providers` and `services` of bascule's file."""
    count, upstreams = {"bascule": (1, 1), "bascule, 5 upstreams": (1, 5), "bascule, 1000 services x 5": (1000, 5)}[variant]
    seats = ["US", "SI", "FR", "DE", "SE"]
    providers = "\n".join(f"  p{n}: {{ seat: {seats[n]} }}" for n in range(upstreams))
    ways = ", ".join(f'{{ provider: p{n}, url: "http://127.0.0.1:{origin}" }}' for n in range(upstreams))
    # All else being equal: probes have a cost of their own, which is not one of requests.
    tail = f"    probe: {{ path: /1k, interval: 60s }}\n    upstreams: [{ways}]\n"
    text = f'  bench:\n    routes: [{{ host: "*" }}]\n{tail}'
    for n in range(1, count):
        text += f"  s{n}:\n    routes: [{{ host: s{n}.bench.example }}]\n{tail}"
    return providers, text


def configure(name, variant, folder, ports, is_logging):
    template, arguments, log = CONTESTANTS[name]
    values = {"HTTP_PORT": ports["http"], "TLS_PORT": ports["https"], "ORIGIN_PORT": ports["origin"], "FOLDER": folder}
    off = "off" if name == "nginx" else ""
    values["LOG"] = log.format(folder=folder) if is_logging and log else off
    values["LOG_TARGET"] = "log stdout format raw local0" if is_logging else ""
    # Splicing takes a pipe, two descriptors more, for each connection.
    values["MAXCONN"] = 3000 if name == "haproxy-splice" else 8000
    values["SPLICE"] = "option splice-response" if name == "haproxy-splice" else ""
    if name == "bascule":
        values["PROVIDERS"], values["SERVICES"] = services(variant, ports["origin"])
    conf = folder / (template or "none")
    if template:
        text = (HERE / "conf" / template).read_text()
        for key, value in values.items():
            text = text.replace(f"@{key}@", str(value))
        conf.write_text(text)
    return [word.format(conf=conf, folder=folder, **ports) for word in arguments]


def serve_origin(folder, ports):
    """The origin of all contestants."""
    conf = folder / "origin.conf"
    text = (HERE / "conf/origin.conf").read_text().replace("@ORIGIN_PORT@", str(ports["origin"]))
    conf.write_text(text.replace("@FOLDER@", str(folder)).replace("@BODY@", BODY))
    return start(LOAD_CORE, ["nginx", "-p", folder, "-c", conf], folder / "origin.log",
                 f"http://localhost:{ports['origin']}/1k")


# ---- measuring

def measure(contestant, workload, folder, ports, seconds):
    """One contestant, one workload, a fresh process."""
    name, variant, binary = contestant
    _, _, drive, _ = WORKLOADS[workload]
    command = [binary] + configure(name, variant, folder, ports, workload == "w9")
    process = start(PROXY_CORE, command, folder / "proxy.log", f"http://localhost:{ports['http']}/1k")
    try:
        if workload.startswith("w7"):
            return drive(ports, process)
        drive(ports, WARM_UP_SECONDS)
        before = cpu_seconds(process.pid)
        seen = drive(ports, seconds)
        spent = cpu_seconds(process.pid) - before
    finally:
        stop(process)
        (folder / "access.log").unlink(missing_ok=True)
    return {**seen, "cpu": spent / max(seen["requests"], 1) * 1e6}


def version(binary):
    for flag in ("--version", "-v", "version"):
        try:
            done = subprocess.run([binary, flag], capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            continue
        said = (done.stdout + done.stderr).strip().splitlines()
        if done.returncode == 0 and said:
            return said[0]
    return "version unknown"


def ratios(rows, base, key):
    """Of the same round each; the base may be missing in some."""
    known = {row["round"]: row[key] for row in base if row.get(key)}
    return [row[key] / known[row["round"]] for row in rows if row["round"] in known]


def table(workload, results):
    """One workload's medians; a ratio is the median over rounds of the same round's."""
    key, unit = ("kib", "KiB each") if workload.startswith("w7") else ("cpu", "CPU us/request")
    bases = [name for name in (BASE, "nginx", "envoy", "pingora") if name in results]
    print(f"\n{workload}: {WORKLOADS[workload][0]}")
    print(f"  {'':28}{unit:>16}{'(min-max)':>18}" + "".join(f"{'x ' + name:>12}" for name in bases)
          + f"{'requests/s':>12}{'p50 us':>9}{'failed':>8}")
    summary = {}
    for name, rows in results.items():
        figures = [row[key] for row in rows]
        line = f"  {name:28}{statistics.median(figures):16.1f}{f'({min(figures):.1f}-{max(figures):.1f})':>18}"
        for base in bases:
            found = ratios(rows, results[base], key)
            line += f"{statistics.median(found):12.2f}" if found else f"{'-':>12}"
            summary.setdefault(name, {})[base] = statistics.median(found) if found else None
        rate = statistics.median(row.get("rate", 0) for row in rows)
        p50 = statistics.median(row.get("p50", 0) for row in rows)
        print(line + f"{rate:12.0f}{p50:9.0f}{sum(row['failed'] for row in rows):8}")
    return summary


def settings():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-w", "--workloads", default=",".join(WORKLOADS), help="of " + ",".join(WORKLOADS))
    parser.add_argument("-c", "--contestants", default=",".join(CONTESTANTS), help="of " + ",".join(CONTESTANTS))
    parser.add_argument("-r", "--rounds", type=int, default=5)
    parser.add_argument("-d", "--seconds", type=int, default=3, help="of each measured run")
    parser.add_argument("-b", "--binary", action="append", default=[], metavar="NAME=PATH",
                        help="where a contestant is, if not on the PATH; any other name is a further bascule")
    parser.add_argument("--json", metavar="FILE", help="every run, a line each")
    parser.add_argument("--svg", metavar="FILE", help="the ratios, drawn")
    return parser.parse_args()


def contestants(chosen):
    """Those that can run, by name; every other one is named."""
    paths = {"bascule": ROOT / "target/release/bascule", "haproxy-splice": "haproxy",
             "pingora": HERE / "pingora/target/release/bascule-bench-pingora"}
    given = dict(pair.split("=", 1) for pair in chosen.binary)
    if "haproxy" in given:
        given.setdefault("haproxy-splice", given["haproxy"])
    found = {}
    for name in chosen.contestants.split(",") + [name for name in given if name not in CONTESTANTS]:
        if name not in CONTESTANTS and name not in given:
            sys.exit(f"unknown contestant: {name}; there are {', '.join(CONTESTANTS)}")
        binary = shutil.which(given.get(name, paths.get(name, name)))
        if binary:
            found[name] = binary
            print(f"{name}: {version(binary)}")
        else:
            print(f"left out: {name} is not installed")
    return found


def workloads(chosen):
    found = []
    for name in chosen.workloads.split(","):
        if name not in WORKLOADS:
            sys.exit(f"unknown workload: {name}; there are {', '.join(WORKLOADS)}")
        tool = WORKLOADS[name][1]
        if shutil.which(tool):
            found.append(name)
        else:
            print(f"left out: {name} needs {tool}")
    return found


def lined_up(workload, binaries):
    """Who takes part in a workload: name shown, then (name, variant, binary)."""
    found = {}
    for name, binary in binaries.items():
        if name == "haproxy-splice" and workload != "w5":
            continue
        if name in CONTESTANTS and name != "bascule":
            found[name] = (name, None, binary)
            continue
        for variant in WORKLOADS[workload][3]:
            found[variant.replace("bascule", name, 1)] = ("bascule", variant, binary)
    return found


def main():
    chosen = settings()
    for tool, package in (("nginx", "nginx"), ("taskset", "util-linux"), ("openssl", "openssl")):
        if not shutil.which(tool):
            sys.exit(f"{tool} is missing (Debian: {package}): the bench cannot do without it")
    if os.cpu_count() < 2:
        sys.exit("two cores are needed: one for the proxy, one for the load")
    # Idle connections are held by this process, beside the load.
    os.sched_setaffinity(0, {LOAD_CORE})
    taking_part, binaries = workloads(chosen), contestants(chosen)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        os.chmod(folder, 0o755)  # nginx's worker may be somebody else.
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
             "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
             "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
            check=True, capture_output=True,
        )
        (folder / "both.pem").write_text((folder / "cert.pem").read_text() + (folder / "key.pem").read_text())
        (folder / "pages").mkdir()
        (folder / "pages/1m").write_bytes(b"x" * (1 << 20))
        ports = {"http": free_port(), "https": free_port(), "origin": free_port()}
        origin = serve_origin(folder, ports)
        try:
            compete(taking_part, binaries, folder, ports, chosen)
        finally:
            stop(origin)


def compete(taking_part, binaries, folder, ports, chosen):
    summaries = {}
    for workload in taking_part:
        results = {}
        for turn in range(1 if workload.startswith("w7") else chosen.rounds):
            for shown, contestant in lined_up(workload, binaries).items():
                try:
                    row = measure(contestant, workload, folder, ports, chosen.seconds)
                except (Stopped, OSError) as error:
                    print(f"left out of {workload}, round {turn + 1}: {shown}: {error}")
                    continue
                results.setdefault(shown, []).append({"round": turn, **row})
                if chosen.json:
                    with open(chosen.json, "a") as out:
                        out.write(json.dumps({"workload": workload, "name": shown, "round": turn, **row}) + "\n")
        summaries[workload] = table(workload, results)
        sys.stdout.flush()
    if chosen.svg:
        drawn = {name: (WORKLOADS[name][0], {who: found.get(BASE) for who, found in summary.items()})
                 for name, summary in summaries.items()}
        Path(chosen.svg).write_text(chart(drawn, BASE))


if __name__ == "__main__":
    main()
