"""The examples of a run, made once: into OUT/tokens, by the leading process, mapped by every one.

OUT/tokens/examples-KEY appears whole or not at all. KEY is a hash of the rows' bytes, of how they are read, of the
tokenizer and of the template: the next run of the command, or one that was killed, finds what is there.
"""

import time
from collections.abc import Collection, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from shutil import rmtree
from threading import Event
from typing import TYPE_CHECKING, Any

from llmtool.commands.posttrain.data import Reader
from llmtool.commands.train.texts import FOLDER, PATIENCE
from llmtool.core.corpus.provenance import describe
from llmtool.core.run.atomic import atomic_directory, new_directories, sweep
from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError
from llmtool.core.run.json_file import dumps, read_json_object

if TYPE_CHECKING:
    from llmtool.core.train.sft.example import Examples
    from llmtool.core.train.sft.examples import Counts

COUNTS, KEPT = "counts.json", "examples-"


def keep(
    reader: Reader, inputs: Sequence[str], output: Path | None, leader: bool, console: Console
) -> "tuple[Examples, Counts]":  # fmt: skip
    """The examples of these rows, mapped, and what became of the rows; refused where nothing is trainable."""
    from llmtool.core.train.sft.example import Examples
    from llmtool.core.train.sft.examples import Counts, require_trainable

    entries = [describe(name, Event(), True) for name in inputs]
    if output is None or any(entry["sha256"] is None for entry in entries):  # a dry run; URLs, which are not hashed
        examples, counts = reader.examples(inputs, console)
        require_trainable(counts, ", ".join(inputs))
        return examples, counts
    folder = output / FOLDER / f"{KEPT}{key_of(reader, entries)[:16]}"
    if leader and not folder.is_dir():
        examples, counts = reader.examples(inputs, console)
        require_trainable(counts, ", ".join(inputs))
        with new_directories(folder.parent):
            sweep(folder.parent)  # what a killed run has left of its examples
            with atomic_directory(folder) as work:
                examples.save(work)
                (work / COUNTS).write_bytes(dumps(counts.to_json()).encode())
    elif leader:
        console.detail(f"{', '.join(inputs)}: read before, {folder}")
    while not folder.is_dir():
        time.sleep(PATIENCE)
    try:
        return Examples.mapped(folder), Counts.of_json(read_json_object(folder / COUNTS))
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"not what a run has kept there: {error}", where=str(folder), hint="remove it") from None


def key_of(reader: Reader, entries: Sequence[Mapping[str, Any]]) -> str:
    """A hash of all that decides the examples."""
    template = reader.template
    facts = {
        "rows": [[entry["path"], entry["sha256"]] for entry in entries],
        "reading": reader.options.describe(), "tokenizer": reader.tokenizer.fingerprint(),
        "template": template and [template.sources, template.specials.to_json(), template.now if template.dated else 0],
        "around": [reader.around.before, reader.around.after, sorted(reader.around.ends)],
    }  # fmt: skip
    return sha256(dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def tidy(output: Path, used: Collection[Path | None]) -> None:
    """Remove what earlier runs in this place have made and this one does not use."""
    for folder in sorted((output / FOLDER).glob(f"{KEPT}*")):
        if folder not in used:
            rmtree(folder)
