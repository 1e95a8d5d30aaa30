#!/usr/bin/env python3
"""How much CPU one request costs bascule, beside haproxy and nginx on the same machine.

One command, no arguments needed; README.md beside this file says what is measured and how to read it.
Standard library only. Everything runs on loopback, in a scratch folder, and ends with the run.
"""
import argparse
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
BODY = "x" * 1024
PROXY_CORE, LOAD_CORE = 0, 1
WARM_UP_SECONDS = 1
READY_WITHIN_SECONDS = 15

# Workload: what it is, the tool that drives it, its arguments after `-d`/`-D`.
WORKLOADS = {
    "w1": ("HTTP/1.1 keep-alive, 1 KiB, 64 connections", "wrk", "http"),
    "w2": ("the same over TLS 1.3", "wrk", "https"),
    "w4": ("HTTP/2 over TLS, 8 connections x 32 streams", "h2load", "https"),
}

# Contestant: its template, and its command after the binary.
CONTESTANTS = {
    "bascule": ("bascule.yaml", ["run", "-c", "{conf}"]),
    "haproxy": ("haproxy.cfg", ["-db", "-f", "{conf}"]),
    "nginx": ("nginx.conf", ["-p", "{run}", "-c", "{conf}"]),
}
BASE = "haproxy"


class Stopped(Exception):
    """A contestant that does not serve."""


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


def render(template, target, values):
    text = (HERE / "conf" / template).read_text()
    for name, value in values.items():
        text = text.replace(f"@{name}@", str(value))
    target.write_text(text)
    return target


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=1) as response:
            return response.read().decode() == BODY
    except OSError:
        return False


def start(core, command, log, url):
    """A pinned process that serves the page, or Stopped."""
    with open(log, "w") as output:
        process = subprocess.Popen(pinned(core, command), stdout=output, stderr=output)
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


def drive(workload, ports, seconds):
    """Loads the proxy; (requests, requests a second, failed ones)."""
    _, tool, scheme = WORKLOADS[workload]
    url = f"{scheme}://localhost:{ports[scheme]}/1k"
    if tool == "wrk":
        said = run(["wrk", "-t1", "-c64", f"-d{seconds}s", url])
        requests = int(re.search(r"(\d+) requests in", said).group(1))
        rate = float(re.search(r"Requests/sec:\s+([\d.]+)", said).group(1))
        refused = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
        broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", said)
        failed = int(refused.group(1)) if refused else 0
        return requests, rate, failed + (sum(map(int, broken.groups())) if broken else 0)
    said = run(["h2load", "-t1", "-c8", "-m32", "-D", str(seconds), url])
    if "Application protocol: h2" not in said:
        raise Stopped("no HTTP/2 was spoken:\n" + said)
    rate = float(re.search(r"finished in [\d.]+s, ([\d.]+) req/s", said).group(1))
    requests, failed = map(int, re.search(r"(\d+) succeeded, (\d+) failed", said).groups())
    return requests, rate, failed


def run(command):
    done = subprocess.run(pinned(LOAD_CORE, command), capture_output=True, text=True, timeout=120)
    return done.stdout


def measure(name, binary, workload, folder, ports, seconds):
    """One contestant, one workload, a fresh process: CPU per request in microseconds, and more."""
    template, arguments = CONTESTANTS[name]
    conf = render(template, folder / template, {
        "HTTP_PORT": ports["http"], "TLS_PORT": ports["https"], "ORIGIN_PORT": ports["origin"],
        "FOLDER": folder,
    })
    command = [binary] + [word.format(conf=conf, run=folder) for word in arguments]
    process = start(PROXY_CORE, command, folder / f"{name}.log", f"http://localhost:{ports['http']}/1k")
    try:
        drive(workload, ports, WARM_UP_SECONDS)
        before = cpu_seconds(process.pid)
        requests, rate, failed = drive(workload, ports, seconds)
        spent = cpu_seconds(process.pid) - before
    finally:
        stop(process)
    return {"cpu": spent / max(requests, 1) * 1e6, "rate": rate, "failed": failed}


def version(binary):
    for flag in ("--version", "-v"):
        done = subprocess.run([binary, flag], capture_output=True, text=True)
        said = (done.stdout + done.stderr).strip().splitlines()
        if done.returncode == 0 and said:
            return said[0]
    return "unknown version"


def table(workload, results):
    """One workload's medians; ratios are medians over rounds of the same round's ratio."""
    print(f"\n{workload}: {WORKLOADS[workload][0]}")
    print(f"  {'':10}{'CPU us/request':>16}{'(min-max)':>16}{'x ' + BASE:>12}{'requests/s':>12}{'failed':>8}")
    base = {row["round"]: row["cpu"] for row in results.get(BASE, [])}
    for name, rows in results.items():
        cpu = [row["cpu"] for row in rows]
        ratios = [row["cpu"] / base[row["round"]] for row in rows if base.get(row["round"])]
        ratio = f"{statistics.median(ratios):.2f}" if ratios else "-"
        spread = f"({min(cpu):.1f}-{max(cpu):.1f})"
        rate = statistics.median(row["rate"] for row in rows)
        failed = sum(row["failed"] for row in rows)
        print(f"  {name:10}{statistics.median(cpu):16.1f}{spread:>16}{ratio:>12}{rate:12.0f}{failed:8}")


def settings():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-w", "--workloads", default=",".join(WORKLOADS), help="of " + ",".join(WORKLOADS))
    parser.add_argument("-c", "--contestants", default=",".join(CONTESTANTS), help="of " + ",".join(CONTESTANTS))
    parser.add_argument("-r", "--rounds", type=int, default=5)
    parser.add_argument("-d", "--seconds", type=int, default=3, help="of each measured run")
    parser.add_argument("--bascule", default=str(HERE.parents[1] / "target/release/bascule"), help="the binary to measure")
    return parser.parse_args()


def present(wanted, known, find, what):
    """Those that can run; every other one is named."""
    found = {}
    for name in wanted.split(","):
        if name not in known:
            sys.exit(f"unknown {what}: {name}; there are {', '.join(known)}")
        binary = find(name)
        if binary:
            found[name] = binary
        else:
            print(f"left out: {what} {name} is not installed")
    return found


def main():
    chosen = settings()
    for tool, package in (("nginx", "nginx"), ("taskset", "util-linux"), ("openssl", "openssl")):
        if not shutil.which(tool):
            sys.exit(f"{tool} is missing (Debian: {package}): the bench cannot do without it")
    if os.cpu_count() < 2:
        sys.exit("two cores are needed: one for the proxy, one for the load")
    workloads = present(chosen.workloads, WORKLOADS, lambda name: shutil.which(WORKLOADS[name][1]), "workload")
    contestants = present(
        chosen.contestants, CONTESTANTS,
        lambda name: shutil.which(chosen.bascule if name == "bascule" else name), "contestant",
    )
    for name, binary in contestants.items():
        print(f"{name}: {version(binary)}")
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
        ports = {"http": free_port(), "https": free_port(), "origin": free_port()}
        conf = render("origin.conf", folder / "origin.conf", {"ORIGIN_PORT": ports["origin"], "FOLDER": folder, "BODY": BODY})
        origin = start(LOAD_CORE, ["nginx", "-p", folder, "-c", conf], folder / "origin.log",
                       f"http://localhost:{ports['origin']}/1k")
        try:
            compete(workloads, contestants, folder, ports, chosen)
        finally:
            stop(origin)


def compete(workloads, contestants, folder, ports, chosen):
    for workload in workloads:
        results = {}
        for turn in range(chosen.rounds):
            for name, binary in contestants.items():
                try:
                    row = measure(name, binary, workload, folder, ports, chosen.seconds)
                except Stopped as error:
                    print(f"left out of {workload}, round {turn + 1}: {name}: {error}")
                    continue
                results.setdefault(name, []).append({"round": turn, **row})
        table(workload, results)


if __name__ == "__main__":
    main()
