"""A running bascule for the suites: started on a file, stopped at the end, its addresses known."""

import contextlib
import json
import os
import pathlib
import subprocess
import tempfile
import time

PATIENCE = 20
"""Seconds to wait for anything that should happen: far above what it takes."""


class Proxy:
    """`addresses` are where clients connect, in the order of the file; `folder` holds its files."""

    def __init__(self, folder, process, log):
        self.folder, self.process, self.log = folder, process, log
        self.addresses = []

    def said(self):
        lines = self.log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def wait_for(self, listeners):
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and self.process.poll() is None:
            said = [line for line in self.said() if line.get("message") == "listening"]
            clients = [line["address"] for line in said if line["role"] == "clients"]
            if len(clients) >= listeners:
                self.addresses = clients
                return
            time.sleep(0.05)
        raise SystemExit("bascule does not listen:\n" + self.log.read_text())

    def port(self, listener=0):
        return int(self.addresses[listener].rsplit(":", 1)[1])


def binary():
    """The bascule under test."""
    root = pathlib.Path(__file__).resolve().parents[3]
    return pathlib.Path(os.environ.get("BASCULE", root / "target/debug/bascule")).resolve()


@contextlib.contextmanager
def running(yaml, listeners=1, files=None):
    """Runs on this text until the end of the block; `files` are written beside it first."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for file, text in (files or {}).items():
            (folder / file).write_text(text)
        (folder / "bascule.yaml").write_text(yaml)
        log = folder / "log"
        with log.open("w") as out:
            command = [str(binary()), "run", "-c", "bascule.yaml", "--log-format", "json"]
            process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=out)
        proxy = Proxy(folder, process, log)
        try:
            proxy.wait_for(listeners)
            yield proxy
        finally:
            process.terminate()
            code = process.wait(PATIENCE * 2)
            text = log.read_text()
            if code != 0 or "panicked at" in text:
                raise SystemExit(f"bascule ended with {code}:\n{text}")


def certificate(folder, host, days=30, more=()):
    """A certificate of its own for a host: `cert.pem` and `key.pem`. `more` are further extensions."""
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes".split()
    command += ["-days", str(days)]
    names = f"subjectAltName=DNS:{host},DNS:localhost,IP:127.0.0.1"
    command += ["-subj", f"/CN={host}", "-addext", names, "-keyout", "key.pem", "-out", "cert.pem"]
    command += [word for extension in more for word in ("-addext", extension)]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return {file: (pathlib.Path(folder) / file).read_text() for file in ("cert.pem", "key.pem")}


class Score:
    """Counts what was shown; a failure ends the suite with 1 once all is tried."""

    def __init__(self):
        self.passed, self.failed = 0, []

    def check(self, what, holds, detail=""):
        if holds:
            self.passed += 1
            print("ok  ", what)
        else:
            self.failed.append(what)
            print("FAIL", what, detail)

    def end(self):
        print(f"{self.passed} passed, {len(self.failed)} failed")
        raise SystemExit(1 if self.failed or not self.passed else 0)
