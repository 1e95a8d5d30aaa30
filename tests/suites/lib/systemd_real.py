"""The Debian package under a real systemd. Usage: systemd_real.py ROOT PACKAGE"""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

from long_origin import long_origin
from proxy import PATIENCE, Score
from steady_load import Load

RELOADS, UPGRADES, RESTARTS = 5, 3, 10
WATCHDOG = 20
"""`WatchdogSec` of the unit."""

BOOT = """
set -e
mount --make-rprivate /
mount --bind "$1" "$1"
mount -t proc proc "$1/proc"
mount --rbind /sys "$1/sys"
mount --rbind /dev "$1/dev"
mount -t tmpfs tmpfs "$1/run" -o mode=755
mount -t tmpfs tmpfs "$1/tmp"
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot "$1" \\
  /lib/systemd/systemd --system --log-target=console --show-status=no
"""

YAML = """
listeners: [{{ address: "127.0.0.1:{clients}" }}]
admin: {{ address: "127.0.0.1:{admin}" }}
state_dir: /var/lib/bascule
access_log: {{ target: /var/log/bascule/access.log }}
limits: {{ max_connections: 1000 }}
providers: {{ edge: {{ seat: SI }} }}
services:
  portal:
    routes: [{{ host: www.portal.example }}]
    probe: {{ path: /page }}
    upstreams: [{{ provider: edge, url: "http://127.0.0.1:{origin}" }}]
"""

SOCKET = """
[Socket]
ListenStream=
ListenStream=127.0.0.1:{clients}
"""


class Machine:
    """A Debian that has been booted."""

    def __init__(self, root):
        self.root = pathlib.Path(root)
        (self.root / "etc/machine-id").write_text("")
        # Nothing that touches the network or the console, which are the real machine's.
        for unit in ("systemd-networkd", "systemd-resolved", "systemd-timesyncd", "console-getty", "getty@"):
            (self.root / f"etc/systemd/system/{unit}.service").symlink_to("/dev/null")
        (self.root / "etc/systemd/system/default.target").symlink_to("/lib/systemd/system/multi-user.target")
        self.log = (self.root.parent / "boot.log").open("wb")
        command = ["unshare", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child", "sh", "-c", BOOT, "boot", root]
        self.outside = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        self.first = self.until("process 1", self.find_first)
        self.until("the boot", lambda: self.does("systemctl", "is-system-running", check=False).strip() in ("running", "degraded"))

    def find_first(self):
        """Process 1 of the namespaces, by its number outside."""
        children = pathlib.Path(f"/proc/{self.outside.pid}/task/{self.outside.pid}/children").read_text().split()
        if children and pathlib.Path(f"/proc/{children[0]}/comm").read_text().strip() == "systemd":
            return children[0]
        return None

    def until(self, what, holds, patience=PATIENCE):
        end = time.monotonic() + patience
        while time.monotonic() < end:
            if self.outside.poll() is not None:
                break
            if found := holds():
                return found
            time.sleep(0.1)
        self.log.flush()
        raise SystemExit(f"did not happen: {what}\n" + (self.root.parent / "boot.log").read_text()[-3000:] + self.journal())

    def does(self, *command, check=True):
        """What a command in there prints."""
        inside = ["nsenter", "-t", self.first, "-m", "-p", "-u", "-i", "-r", "-w", "env", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
        done = subprocess.run([*inside, *command], capture_output=True, text=True, timeout=120)
        if check and done.returncode:
            raise SystemExit(f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}{self.journal()}")
        return done.stdout

    def journal(self):
        with contextlib.suppress(Exception):
            return self.does("journalctl", "-u", "bascule", "--no-pager", "-n", "30", check=False)
        return ""

    def says(self, name):
        """A property of the unit."""
        return self.does("systemctl", "show", "bascule", "-p", name, "--value").strip()

    def is_serving(self, restarts):
        return (self.says("NRestarts"), self.says("ActiveState")) == (str(restarts), "active")

    def kill(self, number, pid):
        """By its number in there."""
        self.does("kill", f"-{number}", pid)

    def end(self):
        self.outside.send_signal(signal.SIGKILL)
        self.outside.wait()
        self.log.close()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as held:
        return held.getsockname()[1]


def changes(machine, score, clients):
    """Reloads and new binaries under load."""
    load = Load(clients, keep_alive=4, new=2, sockets=2)
    load.wait_for(50)
    file = machine.root / "etc/bascule/bascule.yaml"
    for number in range(RELOADS):
        file.write_text(file.read_text() + f"# {number}\n")
        machine.does("systemctl", "reload", "bascule")
        load.wait_for(20)
    score.check(f"{RELOADS} reloads", machine.says("StatusText") == "serving", machine.says("StatusText"))
    mains = {machine.says("MainPID")}
    for _ in range(UPGRADES):
        before = machine.says("MainPID")
        machine.does("systemctl", "kill", "-s", "USR2", "--kill-whom=main", "bascule")
        machine.until("another main process", lambda before=before: machine.says("MainPID") not in (before, "0"))
        mains.add(machine.says("MainPID"))
        load.wait_for(50)
    score.check(f"{UPGRADES} new binaries are main processes in turn", len(mains) == UPGRADES + 1, mains)
    score.check("and none of it is a restart", machine.is_serving(0))
    failed = load.stop()
    score.check(f"{RELOADS} reloads and {UPGRADES} new binaries under load: 0 failed", not failed, failed[:5])
    print(f"     {load.answered} answers")


def mishaps(machine, score, clients):
    """A process that hangs, and one that is killed."""
    machine.kill("STOP", machine.says("MainPID"))
    began = time.monotonic()
    machine.until("the watchdog", lambda: machine.is_serving(1), WATCHDOG + PATIENCE)
    took = time.monotonic() - began
    score.check("one that hangs is started anew by the watchdog", took < WATCHDOG + 10, took)
    began = time.monotonic()
    machine.kill("KILL", machine.says("MainPID"))
    machine.until("another process", lambda: machine.is_serving(2))
    print(f"     hung: {took:.1f} s, killed: {time.monotonic() - began:.1f} s until it serves again")
    load = Load(clients, keep_alive=1, new=1, sockets=0)
    load.wait_for(20)
    failed = load.stop()
    score.check("one that was killed too", not failed, failed[:5])


def restarts(machine, score, clients):
    """systemd holds the socket meanwhile."""
    machine.does("systemctl", "stop", "bascule")
    ended = (machine.says("ActiveState"), machine.says("Result"))
    score.check("it is stopped without complaint", ended == ("inactive", "success"), ended)
    folder = machine.root / "etc/systemd/system/bascule.socket.d"
    folder.mkdir()
    (folder / "here.conf").write_text(SOCKET.format(clients=clients))
    machine.does("systemctl", "daemon-reload")
    machine.does("systemctl", "start", "bascule.socket")
    # The first client starts it.
    load = Load(clients, keep_alive=4, new=2, sockets=0)
    load.wait_for(20)
    for _ in range(RESTARTS):
        machine.does("systemctl", "restart", "bascule")
        load.wait_for(30)
    failed = load.stop()
    score.check(f"{RESTARTS} restarts behind the socket under load: 0 failed", not failed, failed[:5])
    owner = machine.does("stat", "-c", "%U %a", "/var/lib/bascule").strip()
    score.check("its state is its own", owner == "bascule 700", owner)
    user = machine.does("ps", "-o", "user=", "-p", machine.says("MainPID")).strip()
    score.check("it is nobody in particular", user == "bascule", user)


def main(root, package):
    score = Score()
    clients, admin = free_port(), free_port()
    with long_origin() as origin:
        machine = Machine(root)
        try:
            machine.does("dpkg", "-i", f"/root/{package}")
            score.check("the package is installed and starts nothing", machine.says("ActiveState") == "inactive")
            (machine.root / "etc/bascule/bascule.yaml").write_text(YAML.format(clients=clients, admin=admin, origin=origin))
            machine.does("systemctl", "start", "bascule")
            score.check("it says when it is ready", machine.says("StatusText") == "serving", machine.says("StatusText"))
            changes(machine, score, clients)
            mishaps(machine, score, clients)
            restarts(machine, score, clients)
        finally:
            machine.end()
    score.end()


if __name__ == "__main__":
    if os.geteuid() != 0:
        raise SystemExit("namespaces need root")
    main(sys.argv[1], sys.argv[2])
