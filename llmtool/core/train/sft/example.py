"""What a model is trained on: ids with a mask; many of them, in memory or mapped from files."""

from array import array
from pathlib import Path
from typing import Any

import numpy as np

from llmtool.core.corpus.arrays import map_array, save_array
from llmtool.core.run.dataclass import dataclass

ARRAYS = ("ids.npy", "trained.npy", "ends.npy")
"""The files of saved examples."""


@dataclass(frozen=True)
class Example:
    """ids [n] and whether each is trained [n]; n is at most the length + 1, of which length are predicted."""

    ids: "np.ndarray[Any, np.dtype[np.int64]]"
    trained: "np.ndarray[Any, np.dtype[np.bool_]]"


class Examples:
    """All examples in two flat arrays, in memory or mapped: four bytes a token and one for the mask."""

    def __init__(self) -> None:
        self._ids: Any = array("i")
        self._trained: Any = bytearray()
        self._ends: Any = [0]
        self.folder: Path | None = None
        """Where they are mapped from."""

    @classmethod
    def mapped(cls, folder: Path) -> "Examples":
        """What `save` wrote; a ValueError where it is something else."""
        made = cls()
        arrays = [map_array(folder / name, hint="remove it") for name in ARRAYS]
        made._ids, made._trained, made._ends = arrays
        made.folder = folder
        kinds = [one.dtype for one in arrays]
        if kinds != [np.int32, np.bool_, np.int64] or len({len(arrays[0]), len(arrays[1]), int(arrays[2][-1])}) > 1:
            raise ValueError(f"arrays of {kinds}")
        return made

    def save(self, folder: Path) -> None:
        """Three arrays, for `mapped`."""
        save_array(folder / ARRAYS[0], np.frombuffer(self._ids, np.int32))
        save_array(folder / ARRAYS[1], np.frombuffer(self._trained, np.bool_))
        save_array(folder / ARRAYS[2], np.array(self._ends, np.int64))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def add(self, ids: list[int], trained: list[bool]) -> None:
        """Append one."""
        self._ids.extend(ids)
        self._trained.extend(trained)
        self._ends.append(len(self._ids))

    def __getitem__(self, number: int) -> Example:
        start, end = self._ends[number], self._ends[number + 1]
        ids = np.frombuffer(self._ids, np.int32)[start:end].astype(np.int64)
        return Example(ids, np.frombuffer(self._trained, np.bool_)[start:end].copy())

    @property
    def largest(self) -> int:
        """The largest id."""
        return int(np.frombuffer(self._ids, np.int32).max())

    @property
    def lengths(self) -> list[int]:
        """Tokens of each."""
        lengths: list[int] = np.diff(np.array(self._ends, np.int64)).tolist()
        return lengths

    def digest(self) -> str:
        """sha256 of ids, masks and ends."""
        import hashlib

        digest = hashlib.sha256(self._ids)
        digest.update(self._trained)
        digest.update(np.array(self._ends, np.int64).tobytes())
        return digest.hexdigest()
