"""`llmtool.Tokenizer`: train, load, encode, decode, save.

    from llmtool import Tokenizer
    tokenizer = Tokenizer.train(["corpus.jsonl"], vocab_size=8192, algorithm="scaffold")
    ids = tokenizer.encode("Once upon a time")

Binds the methods of the catalog to the core's tokenizer, so that the core needs to know none of them.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

from llmtool import catalog
from llmtool.core.bpe.definition import SCHEMA, Definition, from_json
from llmtool.core.bpe.engine import PieceCounts
from llmtool.core.bpe.tokenizer import BaseTokenizer, Text, available_cores
from llmtool.core.bpe.training import TrainingSettings, count_pieces, train_vocabulary, trained_definition
from llmtool.core.bpe.vocabulary import encode_text
from llmtool.core.run.atomic import atomic_file
from llmtool.core.run.errors import UserError
from llmtool.core.run.json_file import read_json_object

ALIASES = {"lbpe": ("bpe", "lbpe"), "scaffold-lbpe": ("scaffold", "lbpe")}
"""Names for pairs of --algorithm and --encoder."""


class Tokenizer(BaseTokenizer):
    """A byte-level BPE tokenizer. `.encode(text) -> ids`, `.decode(ids) -> text`, `.token_bytes(id)`, `.vocab_size`."""

    def __init__(self, definition: Definition) -> None:
        super().__init__(definition, catalog.resolve(catalog.ENCODING, definition.encoder, "encoder"))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read our file, a Hugging Face byte-level BPE tokenizer.json, or a directory that holds one."""
        return cls(load_definition(Path(path)))

    @classmethod
    def train(cls, inputs: Sequence[str | Path], vocab_size: int, **settings: Any) -> Self:
        """Train on files or directories of text; settings as in train_from_documents."""
        from llmtool.core.corpus.readers import read_documents

        whole = settings.get("pretokenizer") == "none"
        documents = (document.text for document in read_documents([str(path) for path in inputs], whole=whole))
        return cls.train_from_documents(documents, vocab_size, **settings)

    @classmethod
    def train_from_documents(
        cls,
        documents: Iterable[Text],
        vocab_size: int,
        *,
        algorithm: str = "bpe",
        encoder: str | None = None,
        pretokenizer: str = "llama3",
        special: Sequence[str] = (),
        special_position: str = "first",
        min_frequency: int = 0,
        length: str = "bytes",
        ties: str = "leftmost",
        threads: int | None = None,
    ) -> Self:
        """Train on an iterable of texts.

        vocab_size counts the 256 bytes and the special tokens. algorithm: "bpe", "scaffold", or the aliases "lbpe" and
        "scaffold-lbpe". encoder: "merge" or "lbpe". length, ties: options of the encoder "lbpe".
        """
        algorithm, encoder = method_pair(algorithm, encoder)
        settings = TrainingSettings(vocab_size, pretokenizer, min_frequency, tuple(special), special_position)
        settings.check()
        policy = catalog.resolve(catalog.TRAINING, algorithm)
        catalog.resolve(catalog.ENCODING, encoder)
        counts = PieceCounts(pretokenizer, threads or available_cores(), 0, "")
        data = (encode_text(text) if isinstance(text, str) else text for text in documents)
        number, size = count_pieces(data, counts)
        vocabulary, trained = train_vocabulary(counts, policy, settings, lambda _: None)
        facts = {"documents": number, "bytes": size, "pieces": counts.pieces}
        definition = trained_definition(vocabulary, trained, settings, algorithm, facts)
        return cls(definition.with_encoder(encoder, length, ties))

    def with_encoder(self, encoder: str, length: str = "bytes", ties: str = "leftmost") -> "Tokenizer":
        """The same vocabulary, cut by another encoder: LBPE can be switched on for continual pre-training."""
        return Tokenizer(self.definition.with_encoder(encoder, length, ties))

    def save(self, path: str | Path) -> None:
        """Write our file; what stands there already is replaced whole."""
        with atomic_file(Path(path)) as file:
            file.write(serialize(self.definition))


def method_pair(algorithm: str, encoder: str | None) -> tuple[str, str]:
    """(algorithm, encoder) with aliases written out; an alias that contradicts the encoder is refused."""
    if algorithm not in ALIASES:
        return algorithm, encoder or "merge"
    pair = ALIASES[algorithm]
    if encoder not in (None, pair[1]):
        raise UserError(f"algorithm {algorithm!r} means encoder {pair[1]!r}, not {encoder!r}", hint="drop one of them")
    return pair


def serialize(definition: Definition) -> bytes:
    """The file's bytes: one merge or token a line would triple it, so only the top level is broken into lines."""
    facts = definition.to_json()
    lines = [f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in facts.items()]
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def load_definition(path: Path) -> Definition:
    """Recognise and read a tokenizer by content."""
    if path.is_dir():
        if not (path / "tokenizer.json").is_file():
            raise UserError("the directory holds no tokenizer.json", where=str(path))
        path = path / "tokenizer.json"
    facts = read_json_object(path)
    if "schema" in facts:
        return from_json(facts, str(path))
    if "model" in facts:
        from llmtool.core.bpe.huggingface import read_huggingface

        return read_huggingface(facts, path)
    raise UserError(
        "not a tokenizer file",
        where=str(path),
        hint=f"wanted {SCHEMA} or a Hugging Face tokenizer.json",
    )
