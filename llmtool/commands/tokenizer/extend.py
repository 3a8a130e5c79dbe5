"""A tokenizer and text in, the tokenizer with more tokens out: what `llmtool tokenizer extend` does."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from llmtool import catalog
from llmtool.commands.places import beside
from llmtool.commands.tokenizer.compare import short_names
from llmtool.commands.tokenizer.inspect import show
from llmtool.commands.tokenizer.settings import ExtendSettings
from llmtool.commands.tokenizer.usage import Usage, usage
from llmtool.core.bpe import engine
from llmtool.core.bpe.agreement import agreement
from llmtool.core.bpe.encoder import refuse_scaffolds
from llmtool.core.bpe.export import OWN_FILE, checked_again, seal, write_huggingface
from llmtool.core.bpe.extension import Extension, Room, extend, outside_words, times
from llmtool.core.bpe.token_filter import KNOWN, TokenFilter
from llmtool.core.bpe.tokenizer import available_cores, half_of_memory
from llmtool.core.bpe.training import count_pieces
from llmtool.core.corpus.document import ReadReport
from llmtool.core.corpus.inputs import without_weights
from llmtool.core.corpus.provenance import InputHashes
from llmtool.core.corpus.readers import Reading, parse_size, read_documents, total_bytes
from llmtool.core.run.atomic import atomic_directory
from llmtool.core.run.console import Console
from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.errors import UserError
from llmtool.core.run.json_file import read_json_object
from llmtool.core.run.manifest import Run
from llmtool.core.run.numbers import whole
from llmtool.core.run.outputs import claim_directory
from llmtool.core.run.wording import counted
from llmtool.tokenizer import LONGEST_TEXT, Tokenizer

ADDED, CUTOFFS = "added.tsv", "cutoffs.tsv"
SPELLED = {"tokenizer": "TOK", "text_mode": "--documents"}
"""Options of settings that are called otherwise."""

WORTH_SAYING = 0.01
"""Share of characters that no new token can hold, beyond which it is said of a full extension too."""

CUTOFF = 1024
"""Tokens from one row of the table to the next; eighths of less than eight times as many."""


def extend_files(
    source: str | Path,
    inputs: Sequence[str],
    output: Path | None,
    settings: ExtendSettings | None = None,
    *,
    reading: Reading | None = None,
    console: Console | None = None,
    **named: Any,
) -> dict[str, Any]:
    """Write a directory that `transformers` loads, with what was added (added.tsv) and the table of cut-offs."""
    console = console or Console(verbosity=-1)
    reading, named = Reading.split(reading, named)
    settings = ExtendSettings.of(settings, named)
    output = beside(source, "extended", output)
    tokenizer = Tokenizer.load(source)
    base = tokenizer.definition
    room = Room(settings.add, settings.multiple, rows_of(settings.fit_rows))
    room.check(base)
    if catalog.resolve(catalog.TRAINING, settings.algorithm).makes_scaffolds:
        refuse_scaffolds(base)
    scripts = [name.strip() for name in (settings.scripts or "").split(",") if name.strip()]
    allows = TokenFilter(base, settings.veto, scripts)
    files = [name for name in settings.veto if Path(name).is_file()]
    shown = [*settings.control, *settings.held_out]
    config = {
        "tokenizer": tokenizer.fingerprint(), **settings.facts(), "fit_rows": room.rows,
        "control": list(settings.control), "held_out": list(settings.held_out), **reading.facts(),
    }  # fmt: skip
    whole = settings.limit_bytes is None and reading.sample is None
    with InputHashes([*inputs, *files, *shown], reading, read_whole=whole) as hashes:
        run = Run(
            "tokenizer extend",
            config,
            seed=reading.seed,
            backend=engine.NAME,
            spelled=SPELLED,
            defaults=settings.defaults(),
        )
        model = Path(settings.fit_rows or "")
        sized = [model / "config.json" if model.is_dir() else model] if settings.fit_rows else []
        read: list[str | Path] = [str(source), *without_weights([*inputs, *shown]), *files, *sized]
        with checked_again(output, lambda: Tokenizer.load(output / OWN_FILE)):
            claim_directory(output, run, read=read, force=settings.force, found=hashes.wait, console=console)
        extension = _train(tokenizer, inputs, reading, settings, room, allows, console)
        extended = Tokenizer(extension.definition())
        extended.encode(b"a")  # what the engine cannot hold is refused here
        table = cutoff_table(extension, extended, settings, reading, console)
        run.inputs = hashes.wait()
        with atomic_directory(output, run.allowed) as work:
            write_huggingface(extended, work, output.name)
            write_tsv(work / ADDED, ADDED_HEADER, added_rows(extension))
            write_tsv(work / CUTOFFS, *table.written())
            seal(work, run)
            checked = agreement(extended, work, place=output)
    _say(console, output, extension, extended, allows, table, settings)
    if not settings.held_out:
        console.info("--held-out TEXT shows what they save on text that was not learned from")
    console.info("\n".join(checked.lines()))
    return {
        "schema": "llmtool.tokenizer-extend/1",
        "output": str(output),
        "sha256": extended.fingerprint(),
        "asked": settings.add,
        "added": extension.added,
        "ran_out": extension.ran_out,
        "characters_outside": extension.outside,
        "characters": extension.characters or None,
        "scaffolds": len(extension.trained.scaffolds),
        "first_id": base.vocabulary.id_limit,
        "rows": extended.vocab_size,
        "refused": dict(allows.refused),
        "unreachable": len(extension.unreachable()),
        "cutoffs": table.to_json(),
        "exact": checked.exact,
        "checks": [vars(check) for check in checked.checks],
    }


def rows_of(given: str | None) -> int | None:
    """Rows of an embedding: a number, or what the config.json of a checkpoint says."""
    if given is None:
        return None
    if given.isascii() and given.isdecimal():
        return whole(given, "--fit-rows", low=1)
    path = Path(given)
    facts = read_json_object(path / "config.json" if path.is_dir() else path)
    rows = facts.get("vocab_size", (facts.get("text_config") or {}).get("vocab_size"))
    if type(rows) is not int or rows < 1:
        raise UserError(f"vocab_size {rows!r:.60} is no number of rows", where=str(path), hint="--fit-rows 151936")
    return rows


def _train(
    tokenizer: Tokenizer, inputs: Sequence[str], reading: Reading, settings: ExtendSettings, room: Room,
    allows: TokenFilter, console: Console,
) -> Extension:  # fmt: skip
    report = ReadReport()
    threads = settings.threads or available_cores()
    limit = None if settings.limit_bytes is None else parse_size(settings.limit_bytes)
    memory = half_of_memory() if settings.max_memory is None else parse_size(settings.max_memory)
    whole = tokenizer.needs_whole(allow_special=True)
    with TemporaryDirectory(prefix="llmtool-") as spill:
        counts = engine.own_pieces(tokenizer.definition, threads, memory, spill)
        with console.progress("counting", total_bytes(inputs, reading), "B") as bar:
            documents = read_documents(
                inputs, reading, whole=whole, limit_bytes=limit, longest=None if whole else LONGEST_TEXT,
                report=report, on_bytes=bar.advance,
            )  # fmt: skip
            count_pieces((document.text for document in documents), counts)
        report.say(console)
        first = len(tokenizer.definition.vocabulary.units)
        with console.progress("merging", settings.add, "tokens") as bar:
            return extend(
                tokenizer.definition, counts, catalog.resolve(catalog.TRAINING, settings.algorithm), room,
                algorithm=settings.algorithm, min_frequency=settings.min_count,
                max_token_bytes=settings.max_token_bytes, allows=allows,
                progress=lambda made: bar.update(made - first),
            )  # fmt: skip


ADDED_HEADER = ("rank", "id", "token", "left", "right", "count")


@dataclass(frozen=True)
class Column:
    """Figures of one kind, a row each; None where there is none. spec: how people are shown them."""

    name: str
    values: Sequence[float | None]
    spec: str = ","

    def texts(self, spec: str) -> list[str]:
        """For people or for a file."""
        return ["" if value is None else format(value, spec) for value in self.values]


@dataclass(frozen=True)
class Table:
    """Columns of equal length."""

    columns: list[Column]

    def shown(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows for people."""
        return self._rows([column.texts(column.spec) for column in self.columns])

    def written(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows for a file: whole numbers without commas."""
        return self._rows([column.texts(column.spec.replace(",", "")) for column in self.columns])

    def to_json(self) -> list[dict[str, float | None]]:
        """An object a row, with numbers; shares are of 1."""
        rows = zip(*(column.values for column in self.columns), strict=True)
        return [dict(zip([column.name for column in self.columns], row, strict=True)) for row in rows]

    def _rows(self, columns: list[list[str]]) -> tuple[list[str], list[list[str]]]:
        return [column.name for column in self.columns], [list(row) for row in zip(*columns, strict=True)]


def added_rows(extension: Extension) -> Iterator[list[str]]:
    """A line for each new token, as `tokenizer inspect` shows tokens."""
    for rank, number, token, left, right, count in extension.rows():
        yield [str(rank), str(number), show(token), show(left), show(right), str(count)]


def cutoff_table(
    extension: Extension, extended: Tokenizer, settings: ExtendSettings, reading: Reading, console: Console
) -> Table:
    """What each number of added tokens gives: bytes a token of control texts, share of the new tokens in use."""
    cutoffs = _cutoffs(extension)
    names = short_names(settings.control) if settings.control else []
    table = Table([Column("added", cutoffs), Column("ids", [_ids(extension, n) for n in cutoffs])])
    for name, path in zip(names, settings.control, strict=True):
        found = usage(extended, [path], reading, console)
        at = _at(extension, found, cutoffs)
        table.columns.append(Column(f"bytes a token, {name}", _bytes_a_token(found, at), ".3f"))
    if settings.held_out:
        found = usage(extended, list(settings.held_out), reading, console)
        at = _at(extension, found, cutoffs)
        limit = extension.base.vocabulary.id_limit
        used = [
            sum(number >= limit for number in counts) / added if added else None
            for counts, added in zip(at, cutoffs, strict=True)
        ]
        lone = _lone_bytes(extension)
        alone = [sum(counts[i] for i in lone) / max(counts.total(), 1) for counts in at]
        table.columns.extend([
            Column("bytes a token, held out", _bytes_a_token(found, at), ".3f"),
            Column("new tokens in use", used, ".1%"), Column("lone bytes", alone, ".2%"),
        ])  # fmt: skip
    return table


def _cutoffs(extension: Extension) -> list[int]:
    if not extension.nested:
        return [extension.added]
    step = CUTOFF if extension.added >= 8 * CUTOFF else max(1, extension.added // 8)
    return sorted({*range(0, extension.added, step), extension.added})


def _ids(extension: Extension, added: int) -> int:
    return extension.base.vocabulary.id_limit + added


def _at(extension: Extension, found: Usage, cutoffs: list[int]) -> list[Counter[int]]:
    return extension.at_cutoffs(found.counts, cutoffs) if extension.nested else [found.counts]


def _bytes_a_token(found: Usage, at: list[Counter[int]]) -> list[float]:
    return [found.bytes / max(counts.total(), 1) for counts in at]


def _lone_bytes(extension: Extension) -> set[int]:
    """Ids that stand for one byte of a character of several: what rare scripts fall apart into."""
    vocabulary = extension.base.vocabulary
    lone = {number for token, number in vocabulary.id_of.items() if len(token) == 1 and token[0] >= 0x80}
    return lone | set(vocabulary.unknown.byte_ids.values())


def write_tsv(path: Path, header: Sequence[str], rows: Any) -> None:
    """Rows of texts with tabs between, which no shown token holds."""
    lines = ["\t".join(row) for row in [header, *rows]]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _say(
    console: Console, output: Path, extension: Extension, extended: Tokenizer, allows: TokenFilter, table: Table,
    settings: ExtendSettings,
) -> None:  # fmt: skip
    scaffolds = len(extension.trained.scaffolds)
    built = f" and {counted(scaffolds, 'scaffold')}" if scaffolds else ""
    first = extension.base.vocabulary.id_limit
    console.info(
        f"{output}: {counted(extension.added, 'token')} added{built}, "
        f"ids {first:,} to {first + extension.added - 1:,}; a model needs {extended.vocab_size:,} rows"
    )
    for reason, number in allows.refused.items():
        examples = ", ".join(show(token) for token in allows.examples[reason][:5])
        more = ": no text is cut into it, and its pair is left alone" if reason == KNOWN else ""
        console.info(f"refused {number:,} {reason}{more} ({examples}{', ...' if number > 5 else ''})")
    if unreachable := extension.unreachable():
        many = counted(len(unreachable), "new token is", "new tokens are")
        console.warn(f"{many} cut otherwise: {', '.join(map(show, unreachable[:5]))}")
    if extension.ran_out:
        pair = "pair that may be merged" if allows.refused else "pair"
        within = "" if settings.max_token_bytes == ExtendSettings.max_token_bytes else (
            f" and makes {settings.max_token_bytes} bytes at most"
        )  # fmt: skip
        found = f"{extension.added:,} of {settings.add:,}"
        console.warn(f"{found}: no other {pair} occurs {times(settings.min_count)}{within}")
    if extension.outside and (extension.ran_out or extension.outside_share >= WORTH_SAYING):
        console.warn(outside_words(extension.base, extension.outside, extension.characters))
    console.table("what each cut-off gives", *table.shown())
