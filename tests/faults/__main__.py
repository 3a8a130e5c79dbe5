"""`python -m tests.faults [NAME...]`: every call of every command, every way; a line a command."""

import json
import sys
import tempfile
from pathlib import Path

from tests.faults.harness import start

with tempfile.TemporaryDirectory() as folder:
    process = start(sys.argv[1:], None, Path(folder) / "shim.so")
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
