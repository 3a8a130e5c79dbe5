"""`python -m tests.faults [--seconds N] [NAME...]`: every call of every command, every way; a line a command."""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from tests.faults.harness import named, start

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("names", nargs="*", help="first words of a command, or a part of its line in commands.py")
parser.add_argument("--seconds", type=float, help="of processor time for the tries of each scenario; all if not given")
asked = parser.parse_args()
if not named(asked.names):
    parser.error(f"no command is called so: {' '.join(asked.names)}")
with tempfile.TemporaryDirectory() as folder:
    process = start(asked.names, asked.seconds, Path(folder) / "shim.so", every=True)
    assert process.stdout is not None
    failed = False
    for line in process.stdout:
        found = json.loads(line)
        stood = ", ".join(f"{number} {kind}" for kind, number in sorted(found["stood"].items()))
        print(f"{found['name']}, {found['scenario']}: {found['calls']} calls, {found['tries']} tries ({stood}), "
              f"{found['seconds']:.1f} s, {len(found['wrong'])} wrong", flush=True)  # fmt: skip
        for wrong in found["wrong"]:
            print(f"    {wrong}")
        failed = failed or bool(found["wrong"])
    sys.exit(process.wait() or failed)
