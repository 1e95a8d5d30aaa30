#!/usr/bin/env python3
"""Instructions that each pure part of the request path takes, counted by valgrind.

The same on a busy machine as on a quiet one. Counts each part at two numbers of runs; the difference is
the part alone, without start and preparation. With --check, differences of more than a tenth from the
file of known counts are an error; with --write they become the known ones.

Usage: tests/bench/instructions.py [--check | --write]   (needs valgrind and cargo)
"""
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KNOWN = ROOT / "tests/golden/instructions.json"
FEW, MANY = 1_000, 11_000
TOLERANCE = 0.10


# Link-time optimisation changes little here and takes minutes; one unit, so that a change elsewhere in
# the crate does not move what is inlined here.
PROFILE = {"CARGO_PROFILE_BENCH_LTO": "off", "CARGO_PROFILE_BENCH_CODEGEN_UNITS": "1", "CARGO_PROFILE_BENCH_DEBUG": "0"}


def binary():
    command = ["cargo", "bench", "--locked", "--bench", "parts", "--no-run", "--message-format", "json"]
    said = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True,
                          env=os.environ | PROFILE).stdout
    built = [json.loads(line) for line in said.splitlines()]
    (path,) = [one["executable"] for one in built if one.get("executable") and one["target"]["name"] == "parts"]
    return path


def counted(path, part, times):
    with tempfile.NamedTemporaryFile() as out:
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out.name}", path, part, str(times)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(re.search(r"Collected : (\d+)", done.stderr).group(1))


def main():
    path = binary()
    parts = subprocess.run([path], check=True, capture_output=True, text=True).stdout.split()
    found = {part: round((counted(path, part, MANY) - counted(path, part, FEW)) / (MANY - FEW)) for part in parts}
    known = json.loads(KNOWN.read_text()) if KNOWN.exists() else {}
    worse = []
    for part, count in found.items():
        before = known.get(part)
        print(f"{part:12}{count:8} instructions" + (f", known {before}" if before else ""))
        if before is None or abs(count - before) > max(TOLERANCE * before, 5):
            worse.append(part)
    if "--write" in sys.argv:
        KNOWN.write_text(json.dumps(found, indent=2) + "\n")
    elif "--check" in sys.argv and worse:
        sys.exit(f"not as known: {', '.join(worse)}; if that is meant, run with --write")


if __name__ == "__main__":
    main()
