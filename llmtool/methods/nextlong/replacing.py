"""A stage of a work directory in the place of another one, and what is left of it that was made from the other one.

With --force the old stage stands, and is read, until the new one is whole (core.corpus.successor); the stages after it
keep to what they were made from, so they are refused until they are made again too.
"""

import re
from collections.abc import Iterator, Mapping
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llmtool.core.corpus.shards import DONE, Stage
from llmtool.core.corpus.successor import Place
from llmtool.core.corpus.units import Means
from llmtool.core.run.errors import UserError

_OURS = re.compile(
    r"\d{5,}\..+|(lsa|bm25)\.\w+\.npy|(copies|random_pairs)\.npy|trained\.faiss|(settings|done)\.json|\..+|__pycache__"
)


def stopped(error: UserError) -> bool:
    """Whether the work was broken off from outside, so that the same command goes on with what is there."""
    return error.goes_on or isinstance(error.__context__, OSError | BrokenExecutor)


@contextmanager
def standing(
    directory: Path, settings: Mapping[str, Any], means: Means, *, again: bool = False
) -> Iterator[Stage]:  # fmt: skip
    """The stage to make in the block, unless it is complete; behind the block it stands in `directory`.

    again: replace what is complete, though its settings are the same.
    """
    place = Place(directory, settings, lambda name: _OURS.fullmatch(name) is not None, means.console, last=DONE)
    stage = place.begin(force=means.force, again=again and place.stage.complete)
    try:
        yield stage
    except UserError as error:
        if not stopped(error):
            place.give_up()
        raise
    with place.ending(stage):
        pass


def made_from(stage: Stage, key: str, wanted: str, command: str) -> None:
    """Refuse a stage whose settings name something else under `key` than what stands here now."""
    if stage.settings.get(key) != wanted:
        what = f"was made from other {key} than those that stand here now"
        raise UserError(what, where=str(stage.directory), hint=f"run `{command} --force` first")
