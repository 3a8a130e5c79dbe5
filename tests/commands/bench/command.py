"""Run `llmtool bench` as a user does."""

import os
import subprocess
import sys
from pathlib import Path

from tests.processes import cpu_budget


def bench(*arguments: str, cache: Path | None = None, **environment: str) -> "subprocess.CompletedProcess[str]":
    """The command's status and what it printed."""
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    if cache is not None:
        variables["TRITON_CACHE_DIR"] = str(cache)
    command = [sys.executable, "-m", "llmtool", "bench", *arguments]
    return subprocess.run(
        command, env=variables, capture_output=True, text=True, check=False, preexec_fn=cpu_budget(600)
    )
