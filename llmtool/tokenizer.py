"""`llmtool.Tokenizer`: train, load, encode, decode, save.

    from llmtool import Tokenizer
    tokenizer = Tokenizer.train(["corpus.jsonl"], vocab_size=8192, algorithm="scaffold")
    ids = tokenizer.encode("Once upon a time")

Binds the methods of the catalog to the core's tokenizer, so that the core needs to know none of them.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Self

from llmtool import catalog
from llmtool.core.bpe.compiled import Entry, Tables, entry_path, load_entry, store_entry
from llmtool.core.bpe.definition import SCHEMA, Definition
from llmtool.core.bpe.definition_file import from_json, serialize
from llmtool.core.bpe.engine import PieceCounts
from llmtool.core.bpe.foreign_files import (
    all_that_counts,
    find_file,
    is_foreign,
    read_foreign,
    refuse_others,
    tokens_beside,
)
from llmtool.core.bpe.pretokenizers import CUSTOM
from llmtool.core.bpe.rank_files import is_tekken, read_tekken
from llmtool.core.bpe.settings import USUAL_LENGTH, USUAL_TIES, TrainingSettings
from llmtool.core.bpe.tokenizer import BaseTokenizer, Text, available_cores, half_of_memory
from llmtool.core.bpe.training import (
    SpecialInCorpus,
    count_pieces,
    train_vocabulary,
    trained_definition,
)
from llmtool.core.bpe.vocabulary import LONGEST_PIECE, Vocabulary, encode_text
from llmtool.core.corpus.document import ReadReport
from llmtool.core.corpus.readers import Reading, read_documents, total_bytes
from llmtool.core.run.atomic import atomic_file
from llmtool.core.run.collector import collector_paused
from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError
from llmtool.core.run.json_file import json_object, read_bytes
from llmtool.core.run.wording import counted

LONGEST_TEXT = 16 * LONGEST_PIECE
"""Bytes of text without a safe place to cut that training holds; beyond, a piece may be cut in two."""

ALIASES = {"lbpe": ("bpe", "lbpe"), "scaffold-lbpe": ("scaffold", "lbpe")}
"""Names for pairs of --algorithm and --encoder."""


class Tokenizer(BaseTokenizer):
    """A byte-level BPE tokenizer. `.encode(text) -> ids`, `.decode(ids) -> text`, `.token_bytes(id)`, `.vocab_size`."""

    def __init__(self, definition: Definition) -> None:
        super().__init__(definition, catalog.resolve(catalog.ENCODING, definition.encoder, "encoder"))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read our file, or others' of BPE: tokenizer.json, vocab.json with its merges.txt, SentencePiece's
        tokenizer.model, tiktoken's ranks, a tekken.json; or a directory that holds one.

        >>> import llmtool
        >>> tokenizer = llmtool.Tokenizer.load("bpe.json")
        >>> tokenizer.decode(tokenizer.encode("the cat"))
        'the cat'
        """
        definition, place = _load(Path(path))
        tokenizer = cls(definition)
        if place is not None:
            tokenizer._tables = partial(Tables, place)
        return tokenizer

    @classmethod
    def train(
        cls,
        inputs: Sequence[str | Path] | str | Path,
        vocab_size: int,
        *,
        reading: Reading | None = None,
        limit_bytes: int | None = None,
        console: Console | None = None,
        **settings: Any,
    ) -> Self:
        """Train on files, directories or stdin ("-"); further settings as in train_from_documents.

        reading: how text is read; its options may also be given by their names. limit_bytes: the first of the text.
        Progress and what was read as what are shown on `console`.
        """
        reading, settings = Reading.split(reading, settings)
        console = console or Console(verbosity=-1)
        report = ReadReport()
        uncut, spaced = settings.get("pretokenizer") == "none", _holds_space(settings.get("special", ()))
        inputs = [inputs] if isinstance(inputs, str | Path) else inputs
        with console.progress("counting", total_bytes(inputs, reading), "B") as bar:
            documents = read_documents(
                inputs,
                reading,
                whole=uncut or spaced,
                limit_bytes=limit_bytes,
                longest=None if spaced else LONGEST_PIECE if uncut else LONGEST_TEXT,
                report=report,
                on_bytes=bar.advance,
            )
            ended = 0

            def texts() -> Iterator[bytes]:
                nonlocal ended
                for document in documents:
                    ended += not document.more
                    yield document.text

            tokenizer = cls.train_from_documents(texts(), vocab_size, console=console, **settings)
        report.say(console)
        definition = tokenizer.definition
        return cls(replace(definition, training={**definition.training, "documents": ended}))

    @classmethod
    def train_from_documents(
        cls,
        documents: Iterable[Text],
        vocab_size: int,
        *,
        algorithm: str = "bpe",
        encoder: str | None = None,
        pretokenizer: str = TrainingSettings.pretokenizer,
        pretokenizer_regex: Sequence[str] = TrainingSettings.pretokenizer_regex,
        special: Sequence[str] = TrainingSettings.special,
        special_position: str = TrainingSettings.special_position,
        allow_special: bool = False,
        min_frequency: int = TrainingSettings.min_frequency,
        max_token_bytes: int = TrainingSettings.max_token_bytes,
        length: str = USUAL_LENGTH,
        ties: str = USUAL_TIES,
        threads: int | None = None,
        max_memory: int | None = None,
        console: Console | None = None,
    ) -> Self:
        """Train on an iterable of texts.

        vocab_size counts the 256 bytes and the special tokens; no merge makes a token of over max_token_bytes.
        allow_special: special tokens in the texts are cut out; else they are learned as text, and a warning says so.
        algorithm: "bpe", "scaffold", or the aliases "lbpe" and "scaffold-lbpe". encoder: "merge" or "lbpe". length,
        ties: options of the encoder "lbpe". max_memory: bytes that counts and pairs may take before they spill to a
        temporary directory; half of the machine's memory by default.
        """
        if isinstance(documents, str | bytes):
            raise TypeError("documents must be an iterable of texts, not one text")
        algorithm, encoder = method_pair(algorithm, encoder)
        settings = TrainingSettings(
            vocab_size,
            pretokenizer,
            min_frequency,
            tuple(special),
            special_position,
            max_token_bytes,
            tuple(pretokenizer_regex),
        )
        settings.check()
        policy = catalog.resolve(catalog.TRAINING, algorithm)
        console = console or Console(verbosity=-1)
        from tempfile import TemporaryDirectory

        data = (encode_text(text) if isinstance(text, str) else text for text in documents)
        with TemporaryDirectory(prefix="llmtool-") as spill:
            limit = half_of_memory() if max_memory is None else max_memory
            counts = PieceCounts(settings.cut_by, threads or available_cores(), limit, spill, settings.steps)
            marks = SpecialInCorpus(special, cut=allow_special)
            number, size = count_pieces(data, counts, marks)
            if warning := marks.warning():
                console.warn(warning)
            if counts.spills:
                console.detail(f"counts spilled to disk {counted(counts.spills, 'time')}")
            with console.progress("merging", vocab_size, "tokens") as bar:
                vocabulary, trained = train_vocabulary(counts, policy, settings, bar.update)
        if vocabulary.size < vocab_size:
            why = (
                f"no pair is left that occurs {min_frequency:,} times" if min_frequency > 1 else "nothing left to merge"
            )
            console.warn(f"the corpus gave {vocabulary.size:,} tokens, not {vocab_size:,}: {why}")
        facts = {"documents": number, "bytes": size, "pieces": counts.pieces}
        definition = trained_definition(vocabulary, trained, settings, algorithm, facts)
        tokenizer = cls(definition.with_encoder(encoder, length, ties))
        tokenizer.encode(b"a")  # what the engine cannot hold is refused here, before anything is written
        return tokenizer

    def with_encoder(self, encoder: str, length: str = USUAL_LENGTH, ties: str = USUAL_TIES) -> "Tokenizer":
        """The same vocabulary, cut by another encoder: LBPE can be switched on for continual pre-training."""
        return Tokenizer(self.definition.with_encoder(encoder, length, ties))

    def save(self, path: str | Path) -> None:
        """Write our file; what stands there already is replaced whole."""
        with atomic_file(Path(path)) as file:
            file.write(serialize(self.definition))


def load(path: str, encoder: str | None = None, length: str = USUAL_LENGTH, ties: str = USUAL_TIES) -> Tokenizer:
    """Tokenizer.load with another encoder, where one is named; says so where no scanner of the engine cuts the text."""
    tokenizer = Tokenizer.load(path)
    definition = tokenizer.definition
    if definition.pretokenizer == CUSTOM and any(step["type"] != "Metaspace" for step in definition.pretokenizer_steps):
        kinds = " then ".join(step["type"] for step in definition.pretokenizer_steps)
        Console().info(f"{path}: cut by the general matcher ({kinds}): exact, slower than a scanner of the engine")
    return tokenizer.with_encoder(encoder, length, ties) if encoder else tokenizer


def method_pair(algorithm: str, encoder: str | None) -> tuple[str, str]:
    """(algorithm, encoder) with aliases written out; unknown names and an alias that contradicts are refused."""
    pair = ALIASES.get(algorithm, (algorithm, encoder or "merge"))
    if encoder not in (None, pair[1]):
        raise UserError(f"algorithm {algorithm!r} means encoder {pair[1]!r}, not {encoder!r}", hint="drop one of them")
    catalog.resolve(catalog.TRAINING, pair[0])
    catalog.resolve(catalog.ENCODING, pair[1])
    return pair


def _holds_space(special: Sequence[str]) -> bool:
    """Whether a special token could lie across the place where a long document is cut."""
    return any(character.isspace() for text in special for character in text)


def load_definition(path: Path) -> Definition:
    """Recognise and read a tokenizer by content."""
    return _load(path)[0]


def _load(path: Path) -> tuple[Definition, Path | None]:
    """A tokenizer, and where the cache keeps what was read, if it does."""
    if path.is_dir():
        found = find_file(path)
        if found is None:
            raise UserError("the directory holds no tokenizer.json", where=str(path), hint="nor another tokenizer")
        path = found
    with collector_paused():
        return _read_definition(path)


def _read_definition(path: Path) -> tuple[Definition, Path | None]:
    path = tokens_beside(path) or path
    data = read_bytes(path)
    foreign = is_foreign(path, data)
    if not foreign:
        refuse_others(path, data)
    place = entry_path(all_that_counts(path, data) if foreign else data)
    entry = place and load_entry(place)
    if entry:
        return _definition(entry.facts, path, entry.vocabulary), place
    facts = read_foreign(path, data) if foreign else json_object(data, str(path))
    if is_tekken(facts):
        facts = read_tekken(facts, str(path))
    definition = _definition(facts, path)
    # a vocabulary without merges may be an encoder's export, looked at whole
    if not place or not definition.vocabulary.merges:
        return definition, None
    store_entry(place, Entry(facts, definition.vocabulary))
    return definition, place


def _definition(facts: dict[str, Any], path: Path, vocabulary: Vocabulary | None = None) -> Definition:
    """What a tokenizer file's fields say; vocabulary: where it has been read before."""
    if "schema" in facts:
        return from_json(facts, str(path), vocabulary)
    if "model" in facts:
        from llmtool.core.bpe.huggingface import read_huggingface

        encoders = {name: catalog.resolve(catalog.ENCODING, name) for name in catalog.options(catalog.ENCODING)}
        return read_huggingface(facts, path, encoders, vocabulary)
    hint = (
        f"wanted {SCHEMA}, a Hugging Face tokenizer.json, a vocab.json with its merges.txt, a tokenizer.model, or ranks"
    )
    raise UserError("not a tokenizer file", where=str(path), hint=hint)
