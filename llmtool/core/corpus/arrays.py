"""Arrays in files of equal length, one for each unit of a stage, mapped and not read: rows of any of them together."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from llmtool.core.run.atomic import atomic_file
from llmtool.core.run.errors import UserError

Array = npt.NDArray[Any]


def save_array(path: Path, array: Array) -> None:
    """A .npy file, whole or not at all; the same bytes for the same array."""
    with atomic_file(path) as file:
        np.lib.format.write_array(file, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)


def map_array(path: Path) -> Array:
    """A .npy file, mapped (an empty one cannot be, and is read)."""
    try:
        if path.stat().st_size <= 128:
            return np.asarray(np.load(path, allow_pickle=False))
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError) as error:
        raise UserError(f"not an array: {error}", where=str(path), hint="run the stage again with --force") from None


class Sharded:
    """Rows [N, ...] in files of `size` rows each, the last one shorter."""

    def __init__(self, paths: Sequence[Path], size: int) -> None:
        self.parts = [map_array(path) for path in paths]
        self.size = size
        self._length = sum(len(part) for part in self.parts)

    def __len__(self) -> int:
        return self._length

    def rows(self, ids: Array) -> Array:
        """Rows in the order of `ids` [M] -> [M, ...], copied."""
        ids = np.asarray(ids, np.int64)
        if len(self.parts) == 1:
            return np.asarray(self.parts[0][ids])
        out = np.empty((len(ids), *self.parts[0].shape[1:]), self.parts[0].dtype)
        units = ids // self.size
        for unit in np.unique(units):
            chosen = units == unit
            out[chosen] = self.parts[unit][ids[chosen] - unit * self.size]
        return out
