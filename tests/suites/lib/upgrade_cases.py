"""Change without loss: new binaries, reloads, restarts behind a supervisor's sockets."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request

from long_origin import long_origin
from proxy import PATIENCE, Score
from steady_load import Load

UPGRADES, RELOADS, RESTARTS, KILLS = 20, 100, 10, 50
DOWNLOAD = 15
"""Seconds of the long answer."""
WATCHDOG = 2
"""Seconds without a sign of life that the supervisor of these cases would accept."""

YAML = """
listeners: [{{ address: "127.0.0.1:{clients}" }}]
admin: {{ address: "127.0.0.1:{admin}" }}
state_dir: state
workers: 2
limits: {{ drain: 20s }}
providers: {{ edge: {{ seat: SI }} }}
services:
  portal:
    routes: [{{ host: www.portal.example }}]
    probe: {{ path: /page, interval: 5s }}
    timeouts: {{ body_stall: 5s }}
    failover: {{ standby_trickle: {trickle}% }}
    upstreams: [{{ provider: edge, url: "http://127.0.0.1:{origin}" }}]
"""


class Supervisor:
    """What systemd is to a service: it holds the sockets if it shall, and listens for notices."""

    def __init__(self, folder, origin):
        self.folder, self.origin, self.trickle = folder, origin, 0
        self.sockets = [socket.create_server(("127.0.0.1", 0), backlog=4096) for _ in range(2)]
        self.clients, self.admin = (held.getsockname()[1] for held in self.sockets)
        self.notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notices.bind(str(folder / "notify"))
        self.notices.settimeout(PATIENCE)
        self.heard, self.processes, self.main = [], [], None
        self.log = (folder / "log").open("ab")
        root = pathlib.Path(__file__).resolve().parents[3]
        binary = pathlib.Path(os.environ.get("BASCULE", root / "target/debug/bascule")).resolve()
        for name in ("release-1", "release-2"):
            (folder / name).symlink_to(binary)
        self.switch("release-1")
        self.write()

    def write(self):
        yaml = YAML.format(**{name: getattr(self, name) for name in ("clients", "admin", "origin", "trickle")})
        (self.folder / "fresh").write_text(yaml)
        (self.folder / "fresh").rename(self.folder / "bascule.yaml")

    def switch(self, release):
        """The name that is run leads to another file from now on."""
        (self.folder / "next").symlink_to(release)
        (self.folder / "next").rename(self.folder / "bascule")

    def start(self, activated):
        command = [str(self.folder / "bascule"), "run", "-c", "bascule.yaml", "--log-format", "json"]
        environment = dict(os.environ, NOTIFY_SOCKET=str(self.folder / "notify"))
        environment["WATCHDOG_USEC"] = str(WATCHDOG * 1_000_000)
        if activated:
            # The shell takes the process id that the variable has to name.
            numbers = [held.fileno() for held in self.sockets]
            moves = " ".join(f"{place}<&{number}" for place, number in enumerate(numbers, 20))
            moves += " " + " ".join(f"{place}<&{place + 17}" for place in range(3, 3 + len(numbers)))
            environment.update(LISTEN_FDS=str(len(numbers)), LISTEN_FDNAMES="web:admin")
            command = ["bash", "-c", f'export LISTEN_PID=$$ WATCHDOG_PID=$$; exec "$@" {moves}', "-", *command]
        else:
            numbers = []
            for held in self.sockets:
                held.close()
        started = subprocess.Popen(command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=self.log,
                                   stderr=self.log, env=environment, pass_fds=numbers)
        self.processes.append(started)
        self.main = started.pid
        self.hear("READY=1")

    def hear(self, wanted):
        """Waits for a notice; all that comes before it is kept."""
        while True:
            try:
                notice = self.notices.recv(4096).decode()
            except TimeoutError:
                raise SystemExit(f"no {wanted}:\n" + self.said()) from None
            self.heard.append(notice)
            if wanted in notice:
                return notice

    def said(self):
        return (self.folder / "log").read_text()

    def lines(self, message):
        parsed = (json.loads(line) for line in self.said().splitlines() if line.startswith("{"))
        return [line for line in parsed if message in line.get("message", "")]

    def wait_for(self, message, count):
        end = time.monotonic() + PATIENCE + 20
        while len(self.lines(message)) < count:
            if time.monotonic() > end:
                raise SystemExit(f"not {count} times `{message}`:\n" + self.said()[-5000:])
            time.sleep(0.02)
        return self.lines(message)

    def signal(self, number):
        os.kill(self.main, number)

    def upgrade(self):
        """How long it took, in seconds, until another process served."""
        began = time.monotonic()
        self.signal(signal.SIGUSR2)
        notice = self.hear("MAINPID=")
        self.main = int(notice.split("MAINPID=")[1].split()[0])
        return time.monotonic() - began

    def metrics(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/metrics", timeout=5) as page:
            return page.read().decode()

    def metric(self, start):
        return sum(float(line.rsplit(" ", 1)[1]) for line in self.metrics().splitlines() if line.startswith(start))

    def end(self):
        for process in {self.main, *(one.pid for one in self.processes if one.poll() is None)}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM)
        time.sleep(0.1)
        for process in {self.main, *(one.pid for one in self.processes if one.poll() is None)}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM)
        for process in self.processes:
            process.wait(PATIENCE)
        if "panicked at" in self.said():
            raise SystemExit("bascule panicked:\n" + self.said()[-5000:])


@contextlib.contextmanager
def supervised(origin):
    with tempfile.TemporaryDirectory() as name:
        supervisor = Supervisor(pathlib.Path(name), origin)
        try:
            yield supervisor
        finally:
            supervisor.end()


def broken(supervisor, text):
    script = supervisor.folder / "release-broken"
    script.write_text("#!/bin/sh\n" + text)
    script.chmod(0o755)
    supervisor.switch("release-broken")
    before = len(supervisor.lines("this one serves on"))
    supervisor.signal(signal.SIGUSR2)
    return before + 1


def new_binaries(score, origin):
    with supervised(origin) as supervisor:
        supervisor.start(activated=False)
        supervisor.metrics()
        load = Load(supervisor.clients, download=DOWNLOAD)
        load.wait_for(300)
        took, mains = [], {supervisor.main}
        for number in range(UPGRADES):
            supervisor.switch(f"release-{number % 2 + 1}")
            took.append(supervisor.upgrade())
            mains.add(supervisor.main)
            load.wait_for(200)
        score.check(f"{UPGRADES} upgrades are {UPGRADES} new processes", len(mains) == UPGRADES + 1)
        count = broken(supervisor, "exit 3\n")
        why = supervisor.wait_for("this one serves on", count)[-1]
        score.check("a binary that ends at once is named with its status", "exit status: 3" in why["error"], why)
        # While a binary that says nothing is waited for, reloads go on.
        count = broken(supervisor, "exec sleep 600\n")
        reloads(score, supervisor, load)
        why = supervisor.wait_for("this one serves on", count)[-1]
        score.check("a binary that says nothing is ended", "it was ended" in why["error"], why)
        supervisor.switch("release-1")
        took.append(supervisor.upgrade())
        load.wait_for(200)
        failed = load.stop()
        detail = f"{load.answered} answers, {load.connections} connections, {load.farewells} of them told to go, "
        detail += f"an upgrade takes {max(took):.2f} s at most"
        print("    " + detail)
        score.check(f"{UPGRADES} upgrades and {RELOADS} reloads under load: 0 failed", not failed, failed[:5])
        score.check("watchdog pings go on", any("WATCHDOG=1" in notice for notice in supervisor.heard))
        supervisor.heard.clear()
        supervisor.hear("WATCHDOG=1")
        score.check("and come from the last process too", True)
        supervisor.signal(signal.SIGTERM)
        supervisor.hear("STOPPING=1")
        score.check("the end is announced", True)


def reloads(score, supervisor, load):
    before, generation = supervisor.metric("bascule_config_reloads_total"), supervisor.metric("bascule_routing_generation")
    for number in range(RELOADS):
        supervisor.trickle = number % 2
        supervisor.write()
        supervisor.signal(signal.SIGHUP)
        end = time.monotonic() + PATIENCE
        # A rename is seen by itself too: at least one reload each.
        while supervisor.metric("bascule_config_reloads_total") < before + number + 1:
            if time.monotonic() > end:
                raise SystemExit("a reload does not come:\n" + supervisor.said()[-5000:])
            time.sleep(0.01)
    load.wait_for(100)
    count = supervisor.metric("bascule_config_reloads_total") - before
    new = supervisor.metric("bascule_routing_generation") - generation
    failed = supervisor.metric("bascule_config_reload_failed")
    score.check(f"{RELOADS} reloads are in force", count >= RELOADS and new >= RELOADS and failed == 0, (count, new, failed))
    told = [notice for notice in drain(supervisor) if "RELOADING=1" in notice]
    score.check("reloads are announced with their time", told and "MONOTONIC_USEC=" in told[0])


def drain(supervisor):
    """Every notice so far."""
    supervisor.notices.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            supervisor.heard.append(supervisor.notices.recv(4096).decode())
    supervisor.notices.settimeout(PATIENCE)
    return supervisor.heard


def restarts(score, origin):
    with supervised(origin) as supervisor:
        supervisor.start(activated=True)
        score.check("the supervisor's sockets are taken over", not supervisor.lines("no listener of the file"))
        load = Load(supervisor.clients, sockets=0)
        load.wait_for(200)
        gaps = []
        for _ in range(RESTARTS):
            old = supervisor.processes[-1]
            supervisor.signal(signal.SIGTERM)
            code = old.wait(PATIENCE)
            began = time.monotonic()
            supervisor.start(activated=True)
            gaps.append(time.monotonic() - began)
            if code != 0:
                raise SystemExit(f"it ended with {code}:\n" + supervisor.said()[-5000:])
            load.wait_for(100)
        failed = load.stop()
        print(f"    {load.answered} answers, {load.connections} connections, ready in {max(gaps):.2f} s at most")
        score.check(f"{RESTARTS} restarts behind held sockets: 0 failed", not failed, failed[:5])
        # And an upgrade of a process that was activated.
        supervisor.upgrade()
        supervisor.metrics()
        score.check("an activated process is replaced like any other", True)


def given_up_and_taken_again(score, origin):
    """What a supervisor holds is found again after a reload gave it up, by a process that took over too."""
    with supervised(origin) as supervisor:
        supervisor.start(activated=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            elsewhere = free.getsockname()[1]
        held = supervisor.clients
        for number, process in enumerate(("the first process", "the second", "the third"), 1):
            for clients in (elsewhere, held):
                supervisor.clients = clients
                count = len(supervisor.lines("configuration reloaded")) + 1
                supervisor.write()
                supervisor.wait_for("configuration reloaded", count)
            load = Load(held, keep_alive=1, new=1, sockets=0)
            load.wait_for(5)
            failed = load.stop()
            score.check(f"{process} listens again at the supervisor's socket", not failed, failed[:5])
            supervisor.upgrade()
            # Only one process reads the file from here on.
            supervisor.wait_for("drained", number)


def kills(score, origin):
    with supervised(origin) as supervisor:
        supervisor.start(activated=True)
        load = Load(supervisor.clients, sockets=0)
        load.wait_for(200)
        took = []
        for _ in range(KILLS):
            supervisor.signal(signal.SIGKILL)
            supervisor.processes[-1].wait(PATIENCE)
            began = time.monotonic()
            supervisor.start(activated=True)
            took.append(time.monotonic() - began)
            load.wait_for(100)
        failed, clients = load.stop(), 30
        print(f"    {len(failed)} failed at {KILLS} kills with {clients} clients; ready in {max(took):.2f} s at most")
        score.check("kill -9 costs at most what was in flight", len(failed) <= KILLS * clients, failed[:5])
        score.check("and it is ready again in a second", max(took) < 1.0, took)


def systemd_itself(score, origin):
    """The real thing that passes sockets, as far as it runs without systemd as process 1."""
    tool = shutil.which("systemd-socket-activate")
    if not tool:
        raise SystemExit("systemd-socket-activate is missing")
    with supervised(origin) as supervisor:
        for held in supervisor.sockets:
            held.close()
        command = [tool, "-l", f"127.0.0.1:{supervisor.clients}", "-l", f"127.0.0.1:{supervisor.admin}",
                   "--fdname=web:admin", str(supervisor.folder / "bascule"), "run", "-c", "bascule.yaml"]
        started = subprocess.Popen(command, cwd=supervisor.folder, stdout=supervisor.log, stderr=supervisor.log)
        supervisor.processes.append(started)
        supervisor.main = started.pid
        end = time.monotonic() + PATIENCE
        while True:
            # The first connection starts it, and is answered by it.
            with contextlib.suppress(OSError):
                load = Load(supervisor.clients, keep_alive=1, new=0, sockets=0)
                load.wait_for(5)
                break
            if time.monotonic() > end:
                raise SystemExit("nobody listens:\n" + supervisor.said())
        failed = load.stop()
        taken = [line for line in supervisor.said().splitlines() if "fits" in line or "no listener of the file" in line]
        score.check("systemd-socket-activate starts it at the first connection", not taken, (failed, taken))


def main():
    score = Score()
    with long_origin() as origin:
        for part in (new_binaries, restarts, given_up_and_taken_again, kills, systemd_itself):
            began = time.monotonic()
            part(score, origin)
            print(f"    {part.__name__}: {time.monotonic() - began:.0f} s")
    score.end()


main()
