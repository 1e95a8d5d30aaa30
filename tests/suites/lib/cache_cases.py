"""How each case of http-cache-tests ends, directly and through bascule."""

import concurrent.futures
import contextlib
import json
import os
import pathlib
import re
import subprocess
import tempfile
import time

from proxy import PATIENCE, Score, running

PACKAGE = pathlib.Path(os.environ["NODE_PATH"]) / "http-cache-tests"
LOOPBACK = pathlib.Path(__file__).with_name("loopback.cjs")

# This is about what is passed on, not about who is left: the origin breaks off on purpose.
YAML = """
listeners: [{{ address: "127.0.0.1:0" }}]
providers: {{ edge: {{ seat: SI }} }}
services:
  portal:
    routes: [{{ host: "*" }}]
    failover: {{ mode: observe }}
    upstreams: [{{ provider: edge, url: "http://127.0.0.1:{port}" }}]
"""

REFUSED = {"headers-store-Transfer-Encoding"}
"""Their origin sends a coding that nobody knows: a 502 here, where Node reads on."""


def environment(**settings):
    return os.environ | {f"npm_config_{name}": value for name, value in settings.items()}


@contextlib.contextmanager
def origin():
    """The port of the suite's own server, until the end of the block."""
    with tempfile.TemporaryDirectory() as name:
        log = pathlib.Path(name) / "log"
        settings = environment(port="0", protocol="http", pidfile=str(log.with_name("pid")))
        command = ["node", "-r", str(LOOPBACK), "server/server.mjs"]
        with log.open("w") as out:
            server = subprocess.Popen(command, cwd=PACKAGE, env=settings, stdout=out, stderr=out)
        try:
            end = time.monotonic() + PATIENCE
            while not (said := re.search(r"127\.0\.0\.1:(\d+)", log.read_text())):
                if time.monotonic() > end or server.poll() is not None:
                    raise SystemExit("the suite's server does not listen:\n" + log.read_text())
                time.sleep(0.05)
            yield int(said[1])
        finally:
            server.terminate()
            server.wait(PATIENCE)


def cases(port):
    """Case to end: `True` where it passed, else what the suite says of it."""
    settings = environment(base=f"http://127.0.0.1:{port}", id="")
    settings["npm_package_config_id"] = ""
    command = ["node", "--no-warnings", "cli.mjs"]
    done = subprocess.run(command, cwd=PACKAGE, env=settings, capture_output=True, timeout=180, check=True)
    return json.loads(done.stdout)


def same(case, direct, through):
    if through == direct:
        return True
    if case in REFUSED:
        return through is not True and "502" in through[1]
    # An answer that is broken already directly: it may break in another way, but not be mended.
    return direct is not True and direct[0] == "FetchError" and through is not True


def main():
    score = Score()
    with origin() as port, running(YAML.format(port=port)) as proxy:
        with concurrent.futures.ThreadPoolExecutor() as pool:
            direct, through = pool.map(cases, (port, proxy.port()))
    passed = sum(end is True for end in through.values())
    print(f"{passed} of {len(through)} cases pass, {sum(end is True for end in direct.values())} directly")
    differ = {case: (end, through.get(case)) for case, end in direct.items() if not same(case, end, through.get(case))}
    score.check("every case ends as it does without a proxy", len(direct) == 350 and not differ, differ)
    score.check("none is made up", through.keys() == direct.keys())
    score.end()


main()
