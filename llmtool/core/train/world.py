"""The processes of a run, one or many, as torchrun starts them: who am I, sums over all, one speaker.

They meet once: the group that the first World makes serves every later one, and is left when the process ends. Leaving
it between two jobs of a process and meeting again hung: one rank stood in the old group's barrier, another in the new
group's start.
"""

import atexit
import os
import time
from collections.abc import Sequence

import torch
import torch.distributed as dist

from llmtool.core.run.errors import UserError
from llmtool.core.run.numbers import from_environment
from llmtool.core.run.processes import rank_and_size


class World:
    """`rank` of `size` processes; with one process nothing is communicated."""

    def __init__(self, device: str = "cpu") -> None:
        self.rank, self.size = rank_and_size()
        self.device = torch.device(device)
        self.distributed = "TORCHELASTIC_RUN_ID" in os.environ or self.size > 1
        if self.distributed:
            if self.device.type == "cuda":
                self.device = torch.device("cuda", from_environment("LOCAL_RANK", 0))
                torch.cuda.set_device(self.device)
            if not dist.is_initialized():
                _check_meeting()
                backend = "nccl" if self.device.type == "cuda" else "gloo"
                dist.init_process_group(backend, device_id=self.device if backend == "nccl" else None)
                atexit.register(_leave)

    @property
    def leader(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """Sum over the processes, in place."""
        if self.distributed:
            dist.all_reduce(values)
        return values

    def barrier(self) -> None:
        """Wait for all."""
        if self.distributed:
            dist.barrier()

    def any(self, flag: bool) -> bool:
        """Whether any process says so."""
        if not self.distributed:
            return flag
        return bool(self.total(torch.tensor(float(flag), device=self.device)))

    def own(self, rows: int, micro: int) -> Sequence[range]:
        """This process's rows of a step, in micro-batches of the same size."""
        if rows % (self.size * micro):
            what = f"a batch of {rows:,} rows cannot be shared by {self.size} processes in micro-batches of {micro}"
            raise UserError(what, hint="choose --batch, --length and --micro so that they divide")
        count = rows // self.size
        first = self.rank * count
        return [range(start, start + micro) for start in range(first, first + count, micro)]


def _check_meeting() -> None:
    """Refuse an environment that names no place to meet."""
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
    if missing:
        what = f"WORLD_SIZE is {os.environ.get('WORLD_SIZE', 1)} and {' and '.join(missing)} not set"
        raise UserError(what, hint="torchrun sets them; for one process: unset RANK WORLD_SIZE")
    from_environment("MASTER_PORT", 0)


def _leave() -> None:
    """Leave the group that was joined here, as the process ends."""
    if dist.is_initialized():
        dist.destroy_process_group()
        # gloo's threads let go of their last message a moment later, for which they need the interpreter: one that
        # ends in that moment aborts the process (seen 2 times in 12 on a busy machine).
        time.sleep(0.2)
