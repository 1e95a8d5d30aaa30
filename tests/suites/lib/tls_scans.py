"""What scanners find at the TLS listener."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

from origin import YAML, origin
from proxy import Score, certificate, running

HARMLESS = {"OK", "INFO", "WARN", "DEBUG"}


def sslyze(port, score):
    command = [str(pathlib.Path(sys.executable).with_name("sslyze"))]
    done = subprocess.run(
        [*command, "--mozilla_config=intermediate", f"localhost:{port}"],
        capture_output=True, timeout=120, check=False,
    )
    text = done.stdout.decode()
    findings = text.partition("COMPLIANCE")[2].splitlines()
    # The certificate is our own of this run: that nobody vouches for it is not TLS's fault.
    open_ = [line.strip() for line in findings if line.strip().startswith("*")]
    other = [line for line in open_ if "certificate" not in line]
    score.check("sslyze: as Mozilla's intermediate profile wants it", "COMPLIANCE" in text and not other, other)


def testssl(port, score):
    with tempfile.TemporaryDirectory() as folder:
        report = os.path.join(folder, "report.json")
        command = ["testssl", "--quiet", "--color", "0", "--warnings", "off", "--ip", "127.0.0.1"]
        command += ["-p", "-s", "-f", "-U", "--jsonfile", report, f"https://localhost:{port}/"]
        subprocess.run(command, capture_output=True, timeout=300, check=False)
        findings = json.loads(pathlib.Path(report).read_text())
    bad = [one for one in findings if one["severity"] not in HARMLESS]
    shown = [(one["id"], one["severity"], one["finding"]) for one in bad]
    score.check(f"testssl: {len(findings)} findings, none of them a hole", len(findings) > 20 and not bad, shown)


def main():
    score = Score()
    with tempfile.TemporaryDirectory() as folder:
        files = certificate(folder, "localhost")
    with origin() as port, running(YAML.format(port=port), 2, files) as proxy:
        sslyze(proxy.port(1), score)
        testssl(proxy.port(1), score)
    score.end()


main()
