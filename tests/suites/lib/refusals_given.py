"""Bad configurations given to a bascule under load and to `bascule check`: each is refused, soon and in words."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

import bad_files
import good_file
from bad_files import NAME
from origin import Handler, Server, origin
from proxy import Score, binary, certificate, running
from steady_load import Load

SOON = 1.0
"""Seconds to a refusal on a machine of its own; the slowest one is printed."""
LATEST = 5.0
"""Seconds to a refusal, whatever else the machine does."""
LEAF = ["basicConstraints=critical,CA:FALSE"]
"""What an upstream's certificate says of itself, or it is refused."""
MOST = 64
"""MiB that a check may need at its peak."""


@contextlib.contextmanager
def secure_origin(folder):
    """The same pages over TLS; its port."""
    server = Server(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


def remove(path):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def put(path, what):
    """Bytes come by a rename, as editors write; `None` is nothing."""
    if isinstance(what, bytes):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        fresh = path.with_name("fresh")
        fresh.write_bytes(what)
        fresh.rename(path)
        return
    remove(path)
    if what is not None:
        what(path)


class Checker:
    """`bascule check`, each in a process of its own, which is measured."""

    def __init__(self, folder, said):
        self.said = said
        program = pathlib.Path(__file__).with_name("check_measured.py")
        command = [sys.executable, "-I", "-S", str(program), str(binary()), str(said)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen(command, cwd=folder, text=True, **pipes)

    def check(self):
        """Exit code, MiB at its peak, seconds, and the lines."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        code, kibibytes, seconds = self.process.stdout.readline().split()
        lines = self.said.read_text(errors="replace").splitlines()
        return int(code), int(kibibytes) / 1024, float(seconds), lines

    def end(self):
        self.process.stdin.close()
        self.process.wait()


class Live:
    """The bascule under load."""

    def __init__(self, proxy, admin, token):
        self.proxy, self.admin, self.token = proxy, admin, token
        self.log = proxy.log.open()

    def fetch(self, path, method="GET"):
        request = urllib.request.Request(f"http://127.0.0.1:{self.admin}{path}", method=method)
        request.add_header("Authorization", f"Bearer {self.token}")
        try:
            with urllib.request.urlopen(request, timeout=LATEST * 6) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metric(self, name):
        _, page = self.fetch("/metrics")
        return next(float(line.split()[1]) for line in page.splitlines() if line.startswith(name + " "))

    def new_lines(self):
        """What it said of a refusal since the last call."""
        said = [json.loads(line) for line in self.log.readlines() if line.startswith("{") and line.endswith("\n")]
        refusals = ("configuration refused", "configuration not put into force")
        return [line.get("complaint", line.get("error", "")) for line in said if line["message"] in refusals]

    def by_answer(self):
        status, answer = self.fetch("/v1/reload", "POST")
        return json.loads(answer).get("reasons", []) if status == 422 else [f"{status}: {answer}"]

    def by_signal(self, fits):
        self.proxy.process.send_signal(signal.SIGHUP)
        return self.by_log(fits)

    def by_log(self, fits):
        lines, end = [], time.monotonic() + LATEST * 3
        while not fits(lines) and time.monotonic() < end:
            time.sleep(0.002)
            lines += self.new_lines()
        return lines

    def take(self):
        """A valid file; whether it is in force."""
        status, answer = self.fetch("/v1/reload", "POST")
        return status == 200 and self.metric("bascule_config_reload_failed") == 0, answer


class Trial:
    """Gives one case after the other, and keeps what was wrong and what was largest."""

    def __init__(self, folder, live, checker, good):
        self.folder, self.live, self.checker, self.good = folder, live, checker, good
        self.slowest, self.by_itself, self.largest = (0, ""), (0, ""), (0, "")
        self.beyond, self.asked = [], 0

    def fits(self, case, lines):
        """Whether one of them has file, line and reason."""
        line = r"\d+" if case.line is None else case.line
        place = {0: "", 1: rf"{re.escape(case.file)}:{line}:\d+: error: ", 2: rf"{re.escape(case.file)}: error: "}
        return any(re.match(place[case.code] + ".", text) and re.search(case.says, text) for text in lines)

    def given(self, case):
        """What is wrong with its refusals, in a list."""
        self.live.new_lines()
        for name, content in case.beside.items():
            put(self.folder / name, content)
        put(self.folder / NAME, case.put)
        began = time.monotonic()
        fits = lambda lines: self.fits(case, lines)
        self.asked += 1
        if case.silent:
            lines = self.live.by_log(fits)
        elif self.asked % 2:
            lines = self.live.by_answer()
        else:
            lines = self.live.by_signal(fits)
        took = time.monotonic() - began
        wrong = [] if fits(lines) else [f"live: {lines[:3]}"]
        if self.live.metric("bascule_config_reload_failed") != 1:
            wrong.append("bascule_config_reload_failed is not 1")
        wrong += self.checked(case, took)
        for name in case.beside:
            put(self.folder / name, self.good.get(name))
        return [f"{case.name}: {what}" for what in wrong]

    def checked(self, case, took):
        code, peak, seconds, lines = self.checker.check()
        wrong = [] if code == case.code else [f"check exits with {code}: {lines[:1]}"]
        if case.code != 0 and not self.fits(case, lines):
            wrong.append(f"check: {lines[:3]}")
        name = f"{case.kind}: {case.name}"
        if case.beyond:
            self.beyond.append(f"{name}: {took:.1f} s, {peak:.0f} MiB")
            return wrong
        if case.silent:
            self.by_itself = max(self.by_itself, (took, name))
        else:
            self.slowest = max(self.slowest, (took, name), (seconds, name + ", check"))
        self.largest = max(self.largest, (peak, name))
        wrong += [f"after {max(took, seconds):.1f} s"] if max(took, seconds) > LATEST else []
        wrong += [f"{peak:.0f} MiB"] if peak > MOST else []
        return wrong

    def restore(self):
        for name, content in self.good.items():
            put(self.folder / name, content)


def given(score, trial, cases, load):
    kinds = dict.fromkeys(case.kind for case in cases.list)
    for kind in kinds:
        of_kind = [case for case in cases.list if case.kind == kind]
        wrong = []
        for case in of_kind:
            wrong += trial.given(case)
            if case.silent:
                # It is seen by what it changes.
                trial.restore()
                trial.live.take()
        trial.restore()
        taken, answer = trial.live.take()
        score.check(f"{kind}: {len(of_kind)} refused", not wrong, "\n     " + "\n     ".join(wrong[:8]))
        if not taken:
            raise SystemExit(f"the good file is not taken again after {kind}: {answer}")
        load.wait_for(10)


def peak_of(process):
    text = pathlib.Path(f"/proc/{process}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", text)[1]) / 1024


def suite(score, work):
    for name in ("ours", "theirs"):
        (work / name).mkdir()
    ours, theirs = (certificate(work / name, "www.portal.example", more=LEAF) for name in ("ours", "theirs"))
    with origin() as page, secure_origin(work / "ours") as secure, socket.create_server(("127.0.0.1", 0)) as held:
        ports = bad_files.free_ports(4)
        tree, in_use = good_file.valid(*ports, page, secure), f"127.0.0.1:{held.getsockname()[1]}"
        cases = bad_files.all_cases(tree, theirs["key.pem"].encode(), in_use)
        beside = good_file.files(ours["cert.pem"].encode(), ours["key.pem"].encode())
        token = beside["admin.token"].decode().strip()
        texts = {name: content.decode() for name, content in beside.items()}
        with running(cases.text, 3, texts) as proxy:
            live = Live(proxy, ports[3], token)
            checker = Checker(proxy.folder, work / "said")
            trial = Trial(proxy.folder, live, checker, beside | {NAME: cases.text.encode()})
            code, base, _, lines = checker.check()
            score.check("the good file is valid", code == 0, lines)
            load = Load(ports[0], keep_alive=2, new=1, sockets=0)
            try:
                load.wait_for(20)
                generation = live.metric("bascule_routing_generation")
                peak = peak_of(proxy.process.pid)
                given(score, trial, cases, load)
                put(proxy.folder / NAME, b"\xef\xbb\xbf" + cases.text.encode())
                score.check("a byte order mark is no mistake", *live.take())
                put(proxy.folder / NAME, cases.text.encode())
                grown = live.metric("bascule_routing_generation") > generation
                score.check("the good file is in force again, as a new generation", live.take()[0] and grown)
            finally:
                failed = load.stop()
                checker.end()
            print(f"    {len(cases.list)} bad files; {load.answered} answers over {load.connections} connections")
            print(f"    the slowest refusal took {trial.slowest[0]:.2f} s ({trial.slowest[1]}), "
                  f"unasked {trial.by_itself[0]:.2f} s ({trial.by_itself[1]}); meant: {SOON:.0f} s")
            print(f"    a check needed {trial.largest[0]:.0f} MiB at most ({trial.largest[1]}), "
                  f"of the good file {base:.0f} MiB; the proxy {peak_of(proxy.process.pid):.0f} MiB, "
                  f"before {peak:.0f} MiB")
            for line in trial.beyond:
                print("    beyond, and not held to it:", line)
            score.check("under load: 0 failed", not failed, failed[:5])


def main():
    score, began = Score(), time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        suite(score, pathlib.Path(name))
    if os.geteuid() == 0:
        print("    root may read everything: no file that is not readable")
    print(f"    {time.monotonic() - began:.0f} s")
    score.end()


main()
