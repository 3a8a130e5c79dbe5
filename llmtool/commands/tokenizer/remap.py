"""Ids on disk renumbered for a trimmed tokenizer: what `llmtool tokenizer encode --remap` does."""

from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmtool.commands.tokenizer.trim import MAP
from llmtool.core.bpe.export import OWN_FILE
from llmtool.core.bpe.foreign_files import find_file
from llmtool.core.bpe.tokenizer import BaseTokenizer
from llmtool.core.corpus.arrays import map_array
from llmtool.core.corpus.encoding import Encoded
from llmtool.core.corpus.token_files import TokenFile, is_token_file, open_tokens
from llmtool.core.corpus.tokenized import Totals, sidecars, token_array
from llmtool.core.run.atomic import atomic_files, require_space
from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError
from llmtool.core.run.json_file import read_json_object
from llmtool.core.run.manifest import Run, file_entry, manifest_path
from llmtool.core.run.outputs import claim_file
from llmtool.tokenizer import Tokenizer

BLOCK = 1 << 22
"""Ids held at once."""


def remap_file(
    tokenizer: BaseTokenizer,
    source: str | Path | Sequence[str],
    output: Path | None,
    map_file: str | Path,
    *,
    read: list[str] | None = None,
    bin_dtype: str | None = None,
    force: bool,
    console: Console | None = None,
) -> Totals:
    """Write a .bin or .npy of the same documents with the ids of `tokenizer`, by the map that `trim` wrote.

    Refused where an id occurs that is gone (that text has to be encoded again), and where the map leads to the ids of
    another tokenizer: what is written says whose they are. bin_dtype: of a .bin that says nothing of it.
    """
    import numpy as np

    console = console or Console(verbosity=-1)
    sources = [source] if isinstance(source, str | Path) else list(source)
    if len(sources) != 1 or output is None:
        raise UserError("--remap takes one array and writes another", hint="train.bin --remap ids.npy -o new.bin")
    source = Path(sources[0])
    if not is_token_file(source) or output.suffix not in (".bin", ".npy"):
        raise UserError("--remap reads and writes .bin or .npy", where=str(source), hint="-o OUT.bin")
    map_file = Path(map_file)
    map_file = map_file / MAP if map_file.is_dir() else map_file
    form = output.suffix.removeprefix(".")
    numbers = read_map(map_file, tokenizer)
    file = open_tokens(source, bin_dtype=bin_dtype)
    made = _made(map_file)
    right = f"llmtool tokenizer encode {map_file.parent} {source} --remap {map_file.parent} -o {output}"
    _check_target(tokenizer, made, numbers, map_file, right if made else "name the tokenizer that trim wrote with it")
    _check_source(file, made[0] if made else tokenizer, map_file, source)
    if not made:
        console.warn(f"{map_file} stands alone: nothing but its size says that it leads to this tokenizer")
    facts = {"tokenizer": tokenizer.fingerprint(), "remap": str(map_file)}
    run = Run("tokenizer encode", facts if bin_dtype is None else {**facts, "bin_dtype": bin_dtype})
    beside = list(sidecars(output, form).values())
    inputs = [str(source), str(map_file), *(read or [])]
    claim_file(output, run, read=inputs, beside=beside, force=force, console=console,
               found=lambda: [file_entry(source), file_entry(map_file)])  # fmt: skip
    require_space(output, 4 * len(file))
    about = source.with_name(source.name + ".json")
    told = read_json_object(about) if about.is_file() else {}
    ends = {key: _mapped(told.get(key), numbers) for key in ("documents_begin_with", "documents_end_with")}
    with atomic_files() as files, console.progress("renumbering", len(file), "tokens") as bar:
        with token_array(output, tokenizer, form, ends, files) as writer:
            for first in range(0, len(file), BLOCK):
                block = np.asarray(file.ids[first : first + BLOCK]).astype(np.int64)
                beyond = block >= len(numbers)
                new = np.where(beyond, -1, numbers[np.where(beyond, 0, block)])
                if (wrong := np.flatnonzero(new < 0)).size:
                    number, place = int(block[wrong[0]]), first + int(wrong[0])
                    what = f"id {number} at token {place:,} is no id of the trimmed tokenizer"
                    raise UserError(what, where=str(source), hint="encode the text again with the new tokenizer")
                writer.write(Encoded([], new.astype(np.uint32).tobytes(), [len(new)], True))
                bar.advance(len(new))
            writer.starts = array("Q", file.starts.astype("<u8").tobytes())
        run.inputs = [file_entry(source), file_entry(map_file)]
        run.save(manifest_path(output), [output, *beside], files)
    return Totals(len(file.starts) - 1, len(file))


def read_map(path: str | Path, tokenizer: BaseTokenizer) -> Any:
    """The map of old to new ids, int64 [old rows], -1 for none; refused where it is not of this tokenizer."""
    numbers = map_array(Path(path), hint="`llmtool tokenizer trim` writes ids.npy")
    if numbers.ndim != 1 or numbers.dtype.kind != "i" or not numbers.size or int(numbers.min()) < -1:
        raise UserError("is no map of ids", where=str(path), hint="`llmtool tokenizer trim` writes ids.npy")
    if int(numbers.max()) >= tokenizer.vocab_size:
        what = f"maps to id {int(numbers.max()):,}, and the tokenizer ends at {tokenizer.vocab_size - 1:,}"
        raise UserError(what, where=str(path), hint="name the tokenizer that stands beside it")
    return numbers


def _made(map_file: Path) -> list[BaseTokenizer]:
    """The tokenizer that stands beside the map, as trim wrote both; none where the map stands alone.

    Twice, from our own file and from the form that others read: with the encoder lbpe these have two hashes.
    """
    own, place = map_file.parent / OWN_FILE, map_file.parent
    paths = [own] if own.is_file() else []
    return [Tokenizer.load(path) for path in [*paths, *([place] if find_file(place) else [])]]


def _check_target(
    tokenizer: BaseTokenizer, made: list[BaseTokenizer], numbers: Any, map_file: Path, right: str
) -> None:
    """The ids that are written must be those of the tokenizer whose hash stands beside them."""
    leads, size = int(numbers.max()) + 1, tokenizer.vocab_size
    if made and all(each.fingerprint() != tokenizer.fingerprint() for each in made):
        what = f"leads to tokenizer {made[0].fingerprint()[:12]}, which stands beside it, and TOK is another"
        raise UserError(f"{what} ({tokenizer.fingerprint()[:12]})", where=str(map_file), hint=right)
    if leads != size:  # trim numbers without gaps
        raise UserError(f"leads to {leads:,} ids, and TOK has {size:,}: another one", where=str(map_file), hint=right)


def _check_source(file: TokenFile, made: BaseTokenizer, map_file: Path, source: Path) -> None:
    """Where it is known which tokenizer was trimmed, and with which encoder, the ids must be that one's."""
    old, manifest = made.definition.training.get("trimmed_from"), map_file.parent / "run.json"
    if old is None and manifest.is_file():
        config = read_json_object(manifest).get("config")
        old = config.get("tokenizer") if isinstance(config, dict) else None
    if old is not None and file.tokenizer not in (None, old):
        what = f"was written with tokenizer {str(file.tokenizer)[:12]}, and {map_file} is of {str(old)[:12]}"
        raise UserError(what, where=str(source), hint="encode the text again")


def _mapped(number: Any, numbers: Any) -> int | None:
    if type(number) is not int or not 0 <= number < len(numbers) or numbers[number] < 0:
        return None
    return int(numbers[number])
