"""No command loses anything, wherever a call fails or the process dies: a sample of the calls here, all on demand."""

import json
import os
import shutil
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from tests.faults.commands import COMMANDS
from tests.faults.harness import start

pytest.importorskip("torch")
pytest.importorskip("matplotlib")
BUDGET = None if os.environ.get("LLMTOOL_FAULTS") == "all" else 0.5
"""Seconds of CPU for the tries of a command in one scenario; all calls with LLMTOOL_FAULTS=all."""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """By command; the process is asked for all of them, in their order."""
    compiler = (sysconfig.get_config_var("CC") or "").split()
    if not compiler or shutil.which(compiler[0]) is None or not Path("/proc/self/fd").exists():
        pytest.skip("no C compiler, or no /proc")
    process = start([], BUDGET, tmp_path_factory.mktemp("shim") / "shim.so", every=BUDGET is None)
    assert process.stdout is not None
    found: dict[str, list[dict[str, Any]]] = {}
    for line in process.stdout:
        outcome = json.loads(line)
        found.setdefault(outcome["words"], []).append(outcome)
    assert process.wait() == 0
    return found


@pytest.mark.parametrize("command", COMMANDS, ids=[command.name for command in COMMANDS])
def test_nothing_is_lost(command: Any, outcomes: dict[str, list[dict[str, Any]]]) -> None:
    tried = outcomes[command.words]
    for outcome in tried:
        print(f"{outcome['scenario']}: {outcome['tries']} tries at {outcome['calls']} calls, {outcome['stood']}")
        assert outcome["calls"] > 5  # the shim counts
        assert outcome["tries"] >= 2
        assert not outcome["wrong"], "\n".join(outcome["wrong"])
