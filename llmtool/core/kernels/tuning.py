"""Launch configurations, as data: tuning.json, {device: {op: {kernel: [{"up_to": size, ...}]}}}.

A device is a GPU by name ("NVIDIA H200": measured there), an architecture ("sm_90") or "default"; the first of these
that has the kernel gives its rows, the first row that reaches to the size gives the configuration. Nothing is searched
at run time: a run takes what the run before took, and a first call costs one compilation. `llmtool bench kernels
--tune` measures candidates on the GPU at hand and prints rows for the file.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from math import inf
from pathlib import Path
from typing import Any

import torch

from llmtool.core.kernels.launch import architecture, device_name, interpreting
from llmtool.core.run.json_file import parse_json

PLANNED: tuple[str, ...] = ()
"""Devices ("sm_90") for which launches are planned where there is no GPU: core/bench/launches.py sets it."""
FILE = Path(__file__).with_name("tuning.json")
DEFAULT = "default"


@cache
def table() -> dict[str, Any]:
    """The file."""
    content: dict[str, Any] = parse_json(FILE.read_text())
    return content


ALIGNED = 16
"""Elements that Triton's launcher knows a size to be a multiple of, so that a row is loaded in whole vectors."""


def aligned(*sizes: int) -> bool:
    """Whether the rows of tensors of these widths all begin on such a multiple."""
    return all(size % ALIGNED == 0 for size in sizes)


def tuned(
    op: str, kernel: str, device: torch.device, size: int, dtype: torch.dtype | None = None, *, whole: bool = True
) -> dict[str, int]:
    """The launch configuration of a kernel at a size (its width, usually) on this device, for elements of this type.

    whole: its rows are `aligned`. Where they are not, the addresses of single elements do not fit into registers beside
    the accumulators of a large tile: the row by default says what is different then ("unaligned").
    """
    if device.type != "cuda":
        return lookup(op, kernel, PLANNED, size, dtype, whole=whole)
    index = device.index if device.index is not None else torch.cuda.current_device()
    return lookup(op, kernel, (device_name(index), architecture(index)), size, dtype, whole=whole)


def lookup(
    op: str,
    kernel: str,
    devices: tuple[str, ...],
    size: int,
    dtype: torch.dtype | None = None,
    *,
    whole: bool = True,
) -> dict[str, int]:
    """As `tuned`, for the first of these devices that is in the table, or by default."""
    name = typed(kernel, dtype)
    if (op, name) in _TRIED:
        _USED.add((op, name))
        return dict(_TRIED[op, name])
    return dict(_lookup(op, kernel, devices, size, dtype, whole))


def typed(kernel: str, dtype: torch.dtype | None) -> str:
    """The rows' name: float32 has rows of its own, for its tiles take twice the memory."""
    return f"{kernel} float32" if dtype == torch.float32 else kernel


@cache
def _lookup(
    op: str, kernel: str, devices: tuple[str, ...], size: int, dtype: torch.dtype | None, whole: bool
) -> dict[str, int]:  # fmt: skip
    names = dict.fromkeys((typed(kernel, dtype), kernel))
    known = (table().get(device, {}).get(op, {}).get(name) for name in names for device in (*devices, DEFAULT))
    row = reaching(next(rows for rows in known if rows), size)
    found = {key: value for key, value in row.items() if key not in FACTS}
    if not whole:
        by_default = next(rows for name in names if (rows := table()[DEFAULT][op].get(name)))
        found |= reaching(by_default, size).get("unaligned", {})
    return {**found, **(row.get("interpreted", {}) if interpreting() else {})}


FACTS = ("up_to", "interpreted", "unaligned", "seconds", "rival", "rival_seconds")
"""Keys of a row that are no launch argument. A measured row holds seconds of ours and of the fastest rival."""


def reaching(rows: list[dict[str, Any]], size: int) -> dict[str, Any]:
    """The first row that reaches to the size."""
    return next((row for row in rows if size <= row["up_to"]), rows[-1])


_TRIED: dict[tuple[str, str], dict[str, int]] = {}


_USED: set[tuple[str, str]] = set()


@contextmanager
def tried(op: str, kernel: str, configuration: Mapping[str, int]) -> Iterator[Callable[[], bool]]:
    """Launch this kernel so, whatever the table says: for `llmtool bench kernels --tune`.

    Gives a function that says whether the configuration was taken: a kernel that did not run was not measured.
    """
    _TRIED[op, kernel] = dict(configuration)
    _USED.discard((op, kernel))
    try:
        yield lambda: (op, kernel) in _USED
    finally:
        del _TRIED[op, kernel]


def wins(
    op: str, device: str, kernels: Iterable[str], dtype: torch.dtype | None, sizes: Sequence[int] | None = None
) -> bool:
    """Whether ours was measured on this very device, in this type, and beat the fastest rival.

    In every one of these kernels' rows that the sizes fall in; without sizes in every row. No row, no win: those of an
    architecture or by default are reasoned, and what nobody has timed is not chosen.
    """
    if device.startswith("sm_") or device == DEFAULT:
        return False
    held = table().get(device, {}).get(op, {})
    looked: list[dict[str, Any]] = []
    for kernel in kernels:
        rows = held.get(typed(kernel, dtype))
        if not rows:
            return False
        if sizes and any(size > rows[-1]["up_to"] for size in sizes):
            return False
        looked += [reaching(rows, size) for size in sizes] if sizes else rows
    return bool(looked) and all(row.get("seconds", inf) < row.get("rival_seconds", 0.0) for row in looked)
