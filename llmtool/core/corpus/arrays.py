"""Arrays in files of equal length, one for each unit of a stage, mapped and not read: rows of any of them together."""

import errno
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from tokenize import TokenError
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

from llmtool.core.run.atomic import atomic_file
from llmtool.core.run.errors import UserError, explain_os_error
from llmtool.core.run.files import require_plain

Array = npt.NDArray[Any]
_DAMAGED = (ValueError, EOFError, OverflowError, TypeError, SyntaxError, TokenError, RecursionError, MemoryError)
"""What numpy says of a header that is none: it is read as Python's own words, whose parser calls a thousand brackets
too much memory. Data take none: they are mapped, or below 128 bytes."""


def save_array(path: Path, array: Array) -> None:
    """A .npy file, whole or not at all; the same bytes for the same array."""
    array = np.ascontiguousarray(array)
    with atomic_file(path) as file:
        facts = np.lib.format.header_data_from_array_1_0(array)
        np.lib.format.write_array_header_1_0(file, facts)
        file.write(array.data.cast("B") if array.size else b"")  # numpy's tofile does not say why it wrote no more


def map_array(path: Path, hint: str | None = "run the stage again with --force") -> Array:
    """A .npy file, mapped (an empty one cannot be, and is read); a UserError for anything else."""
    try:
        mode: Literal["r"] | None = "r" if require_plain(path) > 128 else None
        return np.asarray(np.load(path, mmap_mode=mode, allow_pickle=False))
    except OSError as error:
        if error.errno == errno.EMFILE:  # nothing is damaged: to make the stage again would fail in the same place
            hint = "allow more: ulimit -n 1024"
        raise UserError(f"cannot read: {explain_os_error(error)}", where=str(path), hint=hint) from None
    except _DAMAGED as error:
        what = str(error)
        if not _begins_as_an_array(path):
            what = "the file does not begin as .npy does"
        elif "allow_pickle" in what or "Python objects" in what:
            what = "it holds Python objects, which are not read"
        raise UserError(f"not an array: {what}", where=str(path), hint=hint) from None


def _begins_as_an_array(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(6) == b"\x93NUMPY"


OPEN = 4
"""Arrays of one kind that are mapped at a time: a map holds its file open, a process may have 256, and several stages'
arrays, of three kinds each, are in use at once."""


class Mapped(Sequence[Array]):
    """Arrays in files, mapped when they are asked for; the OPEN that were used last stay mapped."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = list(paths)
        self._held: OrderedDict[int, Array] = OrderedDict()

    def __len__(self) -> int:
        return len(self._paths)

    @overload
    def __getitem__(self, index: int) -> Array: ...

    @overload
    def __getitem__(self, index: slice) -> list[Array]: ...

    def __getitem__(self, index: int | slice) -> Array | list[Array]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        place = range(len(self._paths))[index]
        if place in self._held:
            self._held.move_to_end(place)
        else:
            self._held[place] = map_array(self._paths[place])
            if len(self._held) > OPEN:
                self._held.popitem(last=False)
        return self._held[place]


class Sharded:
    """Rows [N, ...] in files of `size` rows each, the last one shorter; any number of files, few of them mapped."""

    def __init__(self, paths: Sequence[Path], size: int) -> None:
        self.parts = Mapped(paths)
        self.size = size
        self._length = size * (len(paths) - 1) + len(self.parts[-1]) if paths else 0

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
