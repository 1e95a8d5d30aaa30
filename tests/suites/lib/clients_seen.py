"""What people's clients get through bascule, in every version of HTTP."""

import re
import subprocess
import tempfile

from origin import YAML, origin
from proxy import Score, certificate, running

WAYS = {
    "HTTP/1.0": (0, ["--http1.0"], "1.0"),
    "HTTP/1.1": (0, ["--http1.1"], "1.1"),
    "HTTP/2 by prior knowledge": (0, ["--http2-prior-knowledge"], "2"),
    "HTTP/1.1 over TLS 1.2": (1, ["--http1.1", "--tls-max", "1.2"], "1.1"),
    "HTTP/1.1 over TLS 1.3": (1, ["--http1.1", "--tlsv1.3"], "1.1"),
    "HTTP/2 over TLS": (1, ["--http2"], "2"),
}


def run(command, data=None):
    return subprocess.run(command, input=data, capture_output=True, timeout=60, check=False)


def curl(proxy, listener, more, path, data=None):
    scheme = ("http", "https")[listener]
    write = "\n%{http_version} %{response_code}"
    command = ["curl", "-sS", "--cacert", str(proxy.folder / "cert.pem"), "-w", write, *more]
    done = run([*command, f"{scheme}://localhost:{proxy.port(listener)}{path}"], data)
    body, _, end = done.stdout.rpartition(b"\n")
    version, _, status = end.decode().partition(" ")
    return version, status, body, done.stderr.decode()


def pages(proxy, score):
    blob = bytes(range(256)) * 4000
    for way, (listener, more, version) in WAYS.items():
        got = curl(proxy, listener, more, "/page")
        # What a client of 1.0 is answered in is up to the server, as long as it can read it.
        same = got[0] == version or version == "1.0"
        score.check(f"a page over {way}", same and got[1:3] == ("200", b"a page\n"), got)
        for path, status in (("/none", "204"), ("/same", "304")):
            got = curl(proxy, listener, more, path)
            score.check(f"{status} over {way}", got[1:3] == (status, b""), got)
        got = curl(proxy, listener, [*more, "--head"], "/page")
        score.check(f"HEAD over {way}", got[1] == "200" and b"a page" not in got[2], got)
        upload = [*more, "--data-binary", "@-"]
        got = curl(proxy, listener, upload, "/echo", blob)
        score.check(f"an upload of a known length over {way}", got[1:3] == ("200", blob), got[3])
        if version != "1.0":
            got = curl(proxy, listener, [*more, "-T", "-"], "/echo", blob)
            score.check(f"an upload of unknown length over {way}", got[1:3] == ("200", blob), got[3])
            # Over HTTP/2 nobody answers 100 here: clients send after a second of waiting.
            patience = "30" if version == "1.1" else "1"
            expect = [*upload, "-H", "Expect: 100-continue", "--expect100-timeout", patience]
            got = curl(proxy, listener, expect, "/echo", b"waited")
            score.check(f"an upload that waits for 100 over {way}", got[1:3] == ("200", b"waited"), got)


def main():
    score = Score()
    with tempfile.TemporaryDirectory() as folder:
        files = certificate(folder, "localhost")
    with origin() as port, running(YAML.format(port=port), 2, files) as proxy:
        pages(proxy, score)
        for scheme, listener in (("http", 0), ("https", 1)):
            url = f"{scheme}://localhost:{proxy.port(listener)}/page"
            done = run(["nghttp", "-ns", "-m", "20", url])
            answers = len(re.findall(rb" 200 +\d+ +/page", done.stdout))
            score.check(f"nghttp, 20 streams, {scheme}", answers == 20, done.stdout[-300:])
            done = run(["h2load", "-n", "2000", "-c", "4", "-m", "10", url])
            whole = b"2000 succeeded, 0 failed" in done.stdout
            score.check(f"h2load, 2000 requests, {scheme}", whole, done.stdout[-500:])
    score.end()


main()
