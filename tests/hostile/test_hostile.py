"""No file that is read crashes, hangs or fills memory: a sample here; `python -m tests.hostile` goes on for ever."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.hostile.harness import always
from tests.hostile.mutations import STRUCTURES, mutate, parse, written
from tests.hostile.readers import READERS
from tests.hostile.rows import ROWS

TRIES = 60
"""Of each reader; fewer where one takes long (Reader.cost)."""


@pytest.fixture(scope="module")
def outcomes() -> dict[str, dict[str, Any]]:
    """By reader; one process tries them all."""
    pytest.importorskip("torch")
    pytest.importorskip("pyarrow")
    pytest.importorskip("matplotlib")
    if not Path("/proc/self/statm").exists():
        pytest.skip("no /proc")
    asked = json.dumps({"names": [], "tries": TRIES, "seconds": 0, "cuts": False})
    environment = {**os.environ, "LLMTOOL_HOSTILE": asked, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-m", "tests.hostile.harness"], env=environment, stdout=subprocess.PIPE,
                          text=True, cwd=Path(__file__).parents[2], check=True)  # fmt: skip
    return {found["name"]: found for found in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("reader", READERS, ids=[reader.name for reader in READERS])
def test_hostile_files_are_refused_in_a_line(reader: Any, outcomes: dict[str, dict[str, Any]]) -> None:
    if reader.name not in outcomes:
        pytest.skip("its file could not be made")
    found = outcomes[reader.name]
    assert found["cases"] == max(2, TRIES // reader.cost) + len(always(reader))
    assert found["taken"] > 0  # the file as it was made
    assert not found["wrong"]


def test_every_row_is_of_a_reader() -> None:
    assert {row.reader for row in ROWS} <= {reader.name for reader in READERS}


def test_mutations_can_be_had_again() -> None:
    seed = b'{"a": [1, 2.5, {"b": "x", "c": null}], "d": "text"}'
    for kind in ("json", "jsonl", "text", "template"):
        made = [mutate(kind, seed, random.Random(number)) for number in range(300)]
        assert made == [mutate(kind, seed, random.Random(number)) for number in range(300)]
        assert len(set(made)) > 200
    assert written(parse(seed)) == seed.decode()
    assert set(STRUCTURES) >= {reader.kind for reader in READERS} - {"bytes"}
