"""The process of one job: `python -m llmtool.commands.bench.device.child OUT PART NAME UNTIL DEVICE`.

A job is a sequence of units. Each writes that it begins, its rows, and that it ended, to OUT/rows.jsonl, appended and
synced: a unit that ended is not run again, one that broke its process is passed over, one that ran out of time gets a
second try. The process ends with 0 if nothing is left, AGAIN if time was short, BROKEN if the device is lost to it.
"""

import importlib
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from llmtool.core.bench.rows import append, read

AGAIN, BROKEN = 75, 70
ROWS = "rows.jsonl"
TRIES = 2
"""How often a unit may run into its limit."""
HOMES = {"decode": "models", "train": "models"}
"""Part -> module of this folder; the others are in kernels."""

Row = dict[str, Any]


class Log:
    """What a job has done, and what it does."""

    def __init__(self, out: Path, part: str, name: str, until: float) -> None:
        self.file, self.part, self.name, self.until = out / ROWS, part, name, until
        self.all = read(self.file)
        mine = [row for row in self.all if (row.get("part"), row.get("job")) == (part, name)]
        self.ended = {row["unit"] for row in mine if row.get("event") == "end"}
        stopped = [row["open"] for row in mine if row.get("event") == "process" and row.get("open")]
        broken = {row["open"] for row in mine if row.get("event") == "process" and row.get("broken")}
        self.over = broken | {unit for unit in stopped if stopped.count(unit) >= TRIES}
        self.short = self.lost = False

    def left(self) -> float:
        """Seconds until the limit."""
        return self.until - time.time()

    def write(self, **facts: Any) -> None:
        """A row of this job."""
        append(self.file, {"part": self.part, "job": self.name, **facts})

    def unit(self, name: str, work: Callable[[], Iterable[Row]], need: float = 3.0) -> None:
        """Run it, unless it is done, or hopeless, or less than `need` seconds are left. What it raises is a row."""
        if name in self.ended or name in self.over or self.lost:
            return
        if self.left() < need:
            self.short = True
            return
        self.write(event="begin", unit=name)
        started = time.time()
        try:
            for row in work():
                self.write(unit=name, **row)
        except Exception as error:  # of a kernel, a compiler, the device: said, and the next unit goes on
            said = str(error).partition("\n")[0]
            self.write(unit=name, failed=f"{type(error).__name__}: {said}"[:400])
            self.lost = not healthy()
        self.write(event="end", unit=name, wall=round(time.time() - started, 2))

    def status(self) -> int:
        """The process's status."""
        return BROKEN if self.lost else AGAIN if self.short else 0


def healthy() -> bool:
    """Whether the device still answers: after an illegal access nothing does, in this process."""
    import torch

    if not torch.cuda.is_available():
        return True
    try:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
    except RuntimeError:
        return False
    return True


def main() -> None:
    """Run the job."""
    import torch

    out, part, name, until, device = sys.argv[1:]
    log = Log(Path(out), part, name, float(until))
    home = importlib.import_module(f"llmtool.commands.bench.device.{HOMES.get(part, 'kernels')}")
    home.PARTS[part](log, name, torch.device(device))
    sys.exit(log.status())


if __name__ == "__main__":
    main()
