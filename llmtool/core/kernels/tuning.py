"""Launch configurations, as data: tuning.json, {device: {op: {kernel: [{"up_to": size, ...}]}}}.

A device is a GPU by name ("NVIDIA H200": measured there), an architecture ("sm_90") or "default"; the first of these
that has the kernel gives its rows, the first row that reaches to the size gives the configuration. Nothing is searched
at run time: a run takes what the run before took, and a first call costs one compilation. `llmtool bench kernels
--tune` measures candidates on the GPU at hand and prints rows for the file.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch

from llmtool.core.kernels.launch import architecture, device_name, interpreting
from llmtool.core.run.json_file import parse_json

FILE = Path(__file__).with_name("tuning.json")
DEFAULT = "default"


@cache
def table() -> dict[str, Any]:
    """The file."""
    content: dict[str, Any] = parse_json(FILE.read_text())
    return content


def tuned(op: str, kernel: str, device: torch.device, size: int) -> dict[str, int]:
    """The launch configuration of a kernel at a size (its width, usually) on this device."""
    if device.type != "cuda":
        return lookup(op, kernel, (), size)
    index = device.index if device.index is not None else torch.cuda.current_device()
    return lookup(op, kernel, (device_name(index), architecture(index)), size)


def lookup(op: str, kernel: str, devices: tuple[str, ...], size: int) -> dict[str, int]:
    """As `tuned`, for the first of these devices that is in the table, or by default."""
    if (op, kernel) in _TRIED:
        return dict(_TRIED[op, kernel])
    return dict(_lookup(op, kernel, devices, size))


@cache
def _lookup(op: str, kernel: str, devices: tuple[str, ...], size: int) -> dict[str, int]:
    known = (table().get(device, {}).get(op, {}).get(kernel) for device in (*devices, DEFAULT))
    rows = next(rows for rows in known if rows)
    row = next((row for row in rows if size <= row["up_to"]), rows[-1])
    found = {key: value for key, value in row.items() if key not in ("up_to", "interpreted")}
    return {**found, **(row.get("interpreted", {}) if interpreting() else {})}


_TRIED: dict[tuple[str, str], dict[str, int]] = {}


@contextmanager
def tried(op: str, kernel: str, configuration: Mapping[str, int]) -> Iterator[None]:
    """Launch this kernel so, whatever the table says: for `llmtool bench kernels --tune`."""
    _TRIED[op, kernel] = dict(configuration)
    try:
        yield
    finally:
        del _TRIED[op, kernel]


def measured(op: str, device: str) -> bool:
    """Whether this op's rows were measured on this device; those of an architecture or by default are reasoned."""
    return not device.startswith("sm_") and device != DEFAULT and op in table().get(device, {})
