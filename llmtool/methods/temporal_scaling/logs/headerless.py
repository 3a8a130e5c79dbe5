"""Tables that some programs write without a header, known by their form; and those that others print with one."""

import math
import re
from collections.abc import Iterator, Mapping

from llmtool.methods.temporal_scaling.logs.columns import Record
from llmtool.methods.temporal_scaling.logs.names import LINE, meaning
from llmtool.methods.temporal_scaling.logs.numbers import known, number

RWKV = re.compile(
    r"(\d{1,9}) (\d+\.\d+|nan|inf) (\d+\.\d+|nan|inf) (\d+\.\d+(?:e-\d+)?)"
    r" \d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)? \d+\s*"
)
"""A row of train_log.txt: epoch, loss, its perplexity, learning rate, date, epoch."""
NEAR = 0.01
MOST = 0.5
"""Of the lines that are not empty, more than so many are rows of such a table."""
BESIDE = ("NEW RUN", "{")
"""How its other lines begin: a start of the program, and its settings."""
PARTS = {"box": "box_loss", "obj": "obj_loss", "cls": "cls_loss", "dfl": "dfl_loss", "total": "total_loss"}
"""Losses that YOLO's console names so in its table; `gpu_mem` stands there, too."""
MARK = "gpu_mem"
LARGEST = 700.0
"""A loss from which on there is no perplexity to hold it against."""
FEWEST = 3
"""Columns of a printed table."""
_GAP = re.compile(r"\s{2,}|\t")
_OF = re.compile(r"\d{1,9}/\d{1,9}")


def read(text: str) -> Iterator[Record] | None:
    """The records of a log of RWKV; None where it is none."""
    rows: list[Record] = []
    lines = text.split("\n")
    for at, line in enumerate(lines, start=1):
        if (found := RWKV.fullmatch(line)) is None:
            continue
        epoch, loss, perplexity, rate = map(known, found.groups())
        if loss < LARGEST and math.isfinite(perplexity) and abs(perplexity / math.exp(loss) - 1) > NEAR:
            return None
        rows.append({"epoch": epoch, "loss": loss, "lr": rate, LINE: at})
    held = sum(bool(line.strip()) and not line.startswith(BESIDE) for line in lines)
    return iter(rows) if len(rows) > MOST * held else None


class Printed:
    """A table in the course of what a program prints: a header, and rows below it, with headers of others between."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def spelled_out(self, line: str) -> str | None:
        """A row as `name: cell, name: cell`; None for what is none, a header included."""
        cells = _GAP.split(line.strip().partition(":")[0].strip())
        if len(cells) < FEWEST:
            return None
        if _names_a_count(cells[0]) and all(number(cell) is None and " " not in cell for cell in cells):
            parts: Mapping[str, str] = PARTS if MARK in map(str.lower, cells) else {}
            self.names = [parts.get(cell, cell) for cell in cells]
            return None
        if len(cells) != len(self.names) or not (_OF.fullmatch(cells[0]) or number(cells[0]) is not None):
            return None
        return ", ".join(f"{name}: {cell}" for name, cell in zip(self.names, cells, strict=True))


def _names_a_count(cell: str) -> bool:
    held = meaning(cell)
    return held is not None and held.role == "axis"
