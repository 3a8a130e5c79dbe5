"""Mosaic Streaming's MDS shards, written without that package: columns input_ids, length, domain, indices.

A shard: u32 samples, u32 offsets [samples + 1], JSON of the columns, then the samples; a sample: u32 size of each
column whose size varies, then the columns in the order of their names. `ndarray:DTYPE` begins with its shape.
index.json lists the shards. What the readers of long-context trainers (ProLong's and its kin) take.
"""

import struct
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from llmtool.core.run.atomic import atomic_file
from llmtool.core.run.errors import UserError
from llmtool.core.run.json_file import dumps

COLUMNS = {"domain": "str", "indices": "ndarray:uint32", "input_ids": "ndarray:uint32", "length": "int"}
"""By name, which is the order in the file."""

SIZE_LIMIT = 1 << 26
"""Bytes of a shard, at most, unless one sample is longer."""

_SIZES = {"domain": None, "indices": None, "input_ids": None, "length": 8}


def encode_array(array: npt.NDArray[Any]) -> bytes:
    """An `ndarray:uint32`: a byte of (dimensions, width of each), the dimensions, the items."""
    widths = (1, 2, 4, 8)
    code = next(i for i, width in enumerate(widths) if max(array.shape) < 1 << (8 * width))
    head = struct.pack("B", (array.ndim << 2) | code) + np.array(array.shape, f"<u{widths[code]}").tobytes()
    return head + np.ascontiguousarray(array, "<u4").tobytes()


def _config() -> dict[str, Any]:
    return {
        "column_encodings": list(COLUMNS.values()), "column_names": list(COLUMNS),
        "column_sizes": list(_SIZES.values()),
        "compression": None, "format": "mds", "hashes": [], "size_limit": SIZE_LIMIT, "version": 2,
    }  # fmt: skip


def encode_row(row: dict[str, Any]) -> bytes:
    """One sample."""
    parts = {
        "domain": str(row["domain"]).encode(), "indices": encode_array(row["indices"]),
        "input_ids": encode_array(row["input_ids"]), "length": struct.pack("<q", row["length"]),
    }  # fmt: skip
    sizes = [len(data) for name, data in parts.items() if _SIZES[name] is None]
    return struct.pack(f"<{len(sizes)}I", *sizes) + b"".join(parts.values())


def write_mds(directory: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Shards and index.json, which is written last."""
    shards = write_shards(directory, rows, lambda number: f"shard.{number:05d}.mds")
    with atomic_file(directory / "index.json") as file:
        file.write(index(shards))


def index(shards: list[dict[str, Any]]) -> bytes:
    """index.json of shards as `write_shards` describes them."""
    return dumps({"shards": shards, "version": 2}, sort_keys=True).encode()


def write_shards(directory: Path, rows: Iterable[dict[str, Any]], name: Callable[[int], str]) -> list[dict[str, Any]]:
    """Rows in files of at most SIZE_LIMIT, called by their number; what index.json says of each."""
    config = dumps(_config(), sort_keys=True).encode()
    shards: list[dict[str, Any]] = []
    held: list[bytes] = []
    size = 0

    def flush() -> None:
        head = 4 * (len(held) + 2) + len(config)
        ends = np.cumsum([head, *map(len, held)])
        if ends[-1] >= 1 << 32:
            raise UserError("a document of 4 GiB of ids does not fit in MDS", hint="--format bin")
        with atomic_file(directory / name(len(shards))) as file:
            file.write(struct.pack("<I", len(held)) + ends.astype("<u4").tobytes() + config)
            file.writelines(held)
        raw = {"basename": name(len(shards)), "bytes": int(ends[-1]), "hashes": {}}
        shards.append({"samples": len(held), "raw_data": raw, "zip_data": None, **_config()})
        held.clear()

    for row in rows:
        data = encode_row(row)
        if held and size + len(data) + 4 * (len(held) + 3) + len(config) > SIZE_LIMIT:
            flush()
            size = 0
        held.append(data)
        size += len(data)
    if held:
        flush()
    return shards


def read_ids(path: Path) -> Iterator[npt.NDArray[np.uint32]]:
    """The ids of each sample of one file, in order: for checks. UserError where it is no such file."""
    try:
        data = np.memmap(path, np.uint8, "r")
        count = int(data[:4].view("<u4")[0])
        offsets = data[4 : 4 * (count + 2)].view("<u4").tolist()
        for start, end in pairwise(offsets):
            sample = data[start:end]
            domain, indices, ids = sample[:12].view("<u4").tolist()
            array = sample[12 + domain + indices : 12 + domain + indices + ids]
            width = (1, 2, 4, 8)[int(array[0]) & 3]
            yield np.frombuffer(array[1 + width :].tobytes(), "<u4")
    except (OSError, ValueError, IndexError) as error:
        raise UserError(f"not a shard of MDS: {error}", where=str(path)) from None
