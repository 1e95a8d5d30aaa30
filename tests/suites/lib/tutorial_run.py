"""Runs the blocks of docs/TUTORIAL.md in a copy of what they need, and looks at what they print."""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile

import proxy as running_proxy
import watched

PORTS = ["8001", "8002", "8080", "9180", "9090", "9093", "9095"]
PATIENCE = 150


def ports():
    return {port: str(watched.free_port()) for port in PORTS}


def main():
    score = running_proxy.Score()
    text = (watched.ROOT / "docs/TUTORIAL.md").read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.M | re.S)
    score.check("there are blocks to run", len(blocks) > 6, len(blocks))
    script = "set -eu\n" + "".join(f"echo '## {number}'\n{block}" for number, block in enumerate(blocks))
    taken = ports()

    def replaced(text):
        return re.sub(r"\b(" + "|".join(PORTS) + r")\b", lambda m: taken[m[1]], text)

    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place)
        shutil.copytree(watched.RULES, folder / "config/prometheus")
        for file in (folder / "config/prometheus").glob("*.yml"):
            file.write_text(replaced(file.read_text()))
        (folder / "bin").mkdir()
        (folder / "bin/bascule").symlink_to(running_proxy.binary())
        script = replaced(script)
        # The verbs ask the default address of the admin listener, which is not the one here.
        verbs = "status|journal|drain"
        script = re.sub(rf"^(.*\bbascule (?:{verbs}))\b", rf"\1 --admin http://127.0.0.1:{taken['9180']}", script, flags=re.M)
        environment = os.environ | {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
        with (folder / "said").open("w") as said:
            process = subprocess.Popen(
                ["bash", "-c", script], cwd=folder, env=environment, stdout=said, stderr=said, start_new_session=True
            )
            try:
                code = process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                code = None
        # What a block that failed has left running.
        try:
            os.killpg(process.pid, signal.SIGTERM)
        except ProcessLookupError:
            pass
        said = (folder / "said").read_text()
    print("     " + said.replace("\n", "\n     "))
    score.check("every block ends well", code == 0, code)
    parts = re.split(r"^## \d+$", said, flags=re.M)
    whole = "\n".join(parts)
    score.check("the page is served", "our page" in whole)
    score.check("the first choice serves before the outage", re.search(r'provider="overseas".*=> 1 ', whole))
    score.check("the fallback serves in it", re.search(r'provider="nearby".*=> 1 ', whole))
    score.check("the failover is counted", re.search(r'from="overseas".*to="nearby".*=> 1 ', whole))
    score.check("the alert fires", 'alertname="BasculeFailover"' in whole)
    score.check("Alertmanager has it", re.search(r"^BasculeFailover\b", whole, re.M))
    score.check("the client saw nothing", re.search(r"^\s*\d+ 200$", whole, re.M) and not re.search(r"^\s*\d+ (?!200)\d{3}$", whole, re.M))
    score.end()


if __name__ == "__main__":
    main()
