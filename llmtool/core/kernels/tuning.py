"""Launch configurations by device, as data: tuning.json, {device: {op: {kernel: [{"up_to": width, ...}]}}}.

No search at run time: a configuration is the same in every run, and a first call costs one compilation.
`llmtool bench kernels --tune` measures the candidates of an op on the GPU at hand and prints the table's rows.
"""

import json
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import torch

from llmtool.core.kernels.launch import device_name, interpreting

FILE = Path(__file__).with_name("tuning.json")
DEFAULT = "default"


@lru_cache
def table() -> dict[str, Any]:
    """The file."""
    content: dict[str, Any] = json.loads(FILE.read_text())
    return content


def tuned(op: str, kernel: str, device: torch.device, size: int) -> dict[str, int]:
    """The launch configuration of a kernel at a size (its width, usually), for this device or by default."""
    index = None
    if device.type == "cuda":
        index = device.index if device.index is not None else torch.cuda.current_device()
    return lookup(op, kernel, None if index is None else device_name(index), size)


@cache
def lookup(op: str, kernel: str, device: str | None, size: int) -> dict[str, int]:
    """As `tuned`, by the device's name."""
    entry = table().get(device or "", {}).get(op) or table()[DEFAULT][op]
    rows = entry[kernel]
    row = next((row for row in rows if size <= row["up_to"]), rows[-1])
    found = {key: value for key, value in row.items() if key != "up_to"}
    if interpreting():
        found.update(row.get("interpreted", {}))
    found.pop("interpreted", None)
    return found


def measured(op: str, device: str) -> bool:
    """Whether this op's rows were measured on this device; "default" rows are reasoned, not measured."""
    return op in table().get(device, {})
