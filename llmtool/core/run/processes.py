"""Which of several processes this one is, as torchrun sets RANK and WORLD_SIZE; without torch."""

from llmtool.core.run.errors import UserError
from llmtool.core.run.numbers import from_environment


def rank_and_size() -> tuple[int, int]:
    """This process's number, from 0, and how many there are. One that cannot be would wait for the others for ever."""
    rank, size = from_environment("RANK", 0), from_environment("WORLD_SIZE", 1)
    if rank >= size:
        raise UserError(f"RANK is {rank} and WORLD_SIZE {size}: ranks go from 0 to {size - 1}",
                        hint="torchrun sets both; without it: unset RANK WORLD_SIZE")  # fmt: skip
    return rank, size


def leads() -> bool:
    """Whether this process writes and speaks."""
    return from_environment("RANK", 0) == 0
