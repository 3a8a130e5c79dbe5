"""Many arrays, few open files."""

import os
from pathlib import Path

import numpy as np
import pytest

from llmtool.core.corpus.arrays import OPEN, Mapped, Sharded, map_array, save_array
from llmtool.core.run.errors import UserError


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
def test_four_hundred_arrays_hold_few_files_open(tmp_path: Path) -> None:
    """150 units under `ulimit -n 256` ended in "Too many open files" and the advice to make all of them again."""
    rows = np.arange(4000, dtype=np.int64).reshape(2000, 2)
    paths = [tmp_path / f"{unit}.npy" for unit in range(400)]
    for unit, path in enumerate(paths):
        save_array(path, np.tile(rows[5 * unit : 5 * unit + 5], 1))
    before = len(os.listdir("/proc/self/fd"))
    sharded = Sharded(paths, 5)
    assert len(sharded) == 2000
    ids = np.random.default_rng(0).permutation(2000)
    assert (sharded.rows(ids) == rows[ids]).all()
    assert (np.concatenate(list(Mapped(paths))) == rows).all()
    assert (np.concatenate(sharded.parts[3:6]) == rows[15:30]).all()
    assert len(os.listdir("/proc/self/fd")) <= before + 2 * OPEN
    assert len(Sharded([], 5)) == 0
    with pytest.raises(IndexError):
        Mapped(paths)[400]


def test_what_is_no_array_is_said(tmp_path: Path) -> None:
    text, objects = tmp_path / "ids.npy", tmp_path / "objects.npy"
    text.write_text("1 2 3\n" * 40)
    np.save(objects, np.array([{}, None] * 40), allow_pickle=True)
    for path, what in ((text, "does not begin as .npy does"), (objects, "holds Python objects")):
        with pytest.raises(UserError, match=what):
            map_array(path)
