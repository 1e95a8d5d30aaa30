"""Slow heads, slow bodies and slow readers, with others that want to be served meanwhile."""

import re
import subprocess
import tempfile

from origin import YAML, origin
from proxy import Score, certificate, running

KINDS = {
    "slow heads": ["-H", "-i", "2"],
    "slow bodies": ["-B", "-i", "2", "-s", "8192"],
    "slow readers": ["-X", "-k", "3", "-n", "1", "-w", "512", "-y", "1024", "-z", "32"],
}


def attack(kind, more, proxy, score):
    url = f"http://127.0.0.1:{proxy.port()}/page"
    # 200 at once for 12 s, while another client looks every second whether it is served within 3 s.
    command = ["slowhttptest", *more, "-c", "200", "-r", "200", "-l", "12", "-p", "3", "-u", url]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    said = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout.decode(errors="replace"))
    served = set(re.findall(r"service available:\s*(\w+)", said))
    score.check(f"{kind}: others are served throughout", served == {"YES"}, served or said[-500:])
    ended = re.findall(r"Exit status:\s*(.*)", said)
    # A slow reader's answer is in its own machine's buffers, where nobody can take it back.
    given_up = ended == ["No open connections left"] or kind == "slow readers"
    score.check(f"{kind}: all are given up", given_up, ended)


def main():
    score = Score()
    with tempfile.TemporaryDirectory() as folder:
        files = certificate(folder, "localhost")
    with origin() as port, running(YAML.format(port=port), 2, files) as proxy:
        for kind, more in KINDS.items():
            attack(kind, more, proxy, score)
    score.end()


main()
