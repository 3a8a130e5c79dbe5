"""Who is measured: each contender is a function that prepares, and returns what is timed; one signature for all."""
# ruff: noqa: ARG001

import array
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from llmtool.core.run.json_file import parse_json

VOCAB_SIZE = 32_000
SLOW_BYTES = 12_000_000
"""What slow peers encode; their MB/s hardly depend on the amount of text."""

Encode = Callable[[], tuple[bytes, int]]
"""Encodes all documents; returns the ids as u32 and the number of bytes that were encoded."""


def read(corpus: Path) -> list[str]:
    """Every document of the corpus, in memory: reading is not what is measured."""
    from llmtool.core.bpe.vocabulary import decode_text
    from llmtool.core.corpus.readers import read_documents

    return [decode_text(document.text) for document in read_documents([str(corpus)])]


def head(documents: list[str]) -> list[str]:
    """The first SLOW_BYTES of the corpus, in whole documents."""
    sizes = itertools.accumulate(len(text.encode()) for text in documents)
    return [text for text, size in zip(documents, sizes, strict=True) if size <= SLOW_BYTES]


def ours(directory: Path, documents: list[str], threads: int, name: str = "llmtool") -> Encode:
    """Our engine, on the vocabulary and with the encoder that the contender's name says."""
    from llmtool.core.bpe.packed import pack_ends
    from llmtool.tokenizer import Tokenizer

    file, encoder = OURS[name]
    tokenizer = Tokenizer.load(directory / file)
    engine = (tokenizer.with_encoder(encoder) if encoder else tokenizer)._encoder
    data = [text.encode() for text in documents]
    text, ends = b"".join(data), pack_ends(map(len, data))
    return lambda: (engine.encode_batch(text, ends, threads)[0], len(text))


OURS = {
    "llmtool": ("bpe.json", "merge"),
    "llmtool lbpe": ("bpe.json", "lbpe"),
    "llmtool scaffold": ("scaffold.json", "merge"),
    "llmtool hf": ("hf/tokenizer.json", None),
}
"""Name -> file and encoder; "hf" reads the Hugging Face file that the peers read."""


def fastokens(directory: Path, documents: list[str], threads: int) -> Encode:
    """Its flat interface."""
    import fastokens as package

    tokenizer = package._native.Tokenizer.from_file(str(directory / "hf" / "tokenizer.json"))
    size = sum(len(text.encode()) for text in documents)
    return lambda: (tokenizer.encode_batch_flat(documents)[0], size)


def gigatoken(directory: Path, documents: list[str], threads: int) -> Encode:
    """Its list interface: rows of `awkward`, whose buffer is read; since 0.10, without that package, lists."""
    import gigatoken as package
    import numpy as np

    tokenizer = package.Tokenizer(directory / "hf" / "tokenizer.json")
    data = [text.encode() for text in documents]
    rows: Any = None

    def encode() -> tuple[bytes, int]:
        nonlocal rows
        rows = tokenizer.encode_batch(data, parallel=threads > 1)
        ids = _flat(rows) if isinstance(rows, list) else np.asarray(rows.layout.content.data, np.uint32)
        return ids, sum(map(len, data))  # type: ignore[return-value]

    return encode


def tokenizers(directory: Path, documents: list[str], threads: int) -> Encode:
    """Its fastest interface, on the first SLOW_BYTES."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(directory / "hf" / "tokenizer.json"))
    texts = head(documents)
    size = sum(len(text.encode()) for text in texts)
    return lambda: (_flat([row.ids for row in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]), size)


def tiktoken(directory: Path, documents: list[str], threads: int) -> Encode:
    """On the first SLOW_BYTES."""
    import tiktoken as package

    from llmtool.core.bpe.agreement import read_tiktoken

    encoding = package.Encoding(**read_tiktoken(directory / "tiktoken"))
    texts = head(documents)
    size = sum(len(text.encode()) for text in texts)
    return lambda: (_flat(encoding.encode_ordinary_batch(texts, num_threads=threads)), size)


def _flat(rows: Sequence[Sequence[int]]) -> bytes:
    return array.array("I", itertools.chain.from_iterable(rows)).tobytes()


PEERS: dict[str, Any] = {
    "fastokens": fastokens,
    "gigatoken": gigatoken,
    "tiktoken": tiktoken,
    "tokenizers": tokenizers,
}


def train_ours(corpus: Path, threads: int, name: str) -> Callable[[], bytes]:
    """Training, reading left out."""
    from llmtool.tokenizer import Tokenizer

    pretokenizer = "gpt2" if name.endswith("gpt2") else "llama3"
    algorithm = "scaffold" if "scaffold" in name else "bpe"
    documents = [text.encode() for text in read(corpus)]

    def train() -> bytes:
        made = Tokenizer.train_from_documents(
            documents, VOCAB_SIZE, algorithm=algorithm, pretokenizer=pretokenizer, threads=threads
        )
        return repr(tuple(made.definition.vocabulary.merges)).encode()

    return train


def train_tokenizers(corpus: Path, threads: int, name: str) -> Callable[[], bytes]:
    """Its BpeTrainer with the same pattern."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    from llmtool.core.bpe.pretokenizers import PRETOKENIZERS
    from llmtool.core.bpe.vocabulary import BYTE_ORDER, string_to_token

    documents = read(corpus)
    tokenizer = Tokenizer(models.BPE())
    cut = pre_tokenizers.Split(Regex(PRETOKENIZERS["llama3"].pattern), "isolated")
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cut, level])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCAB_SIZE, initial_alphabet=alphabet, show_progress=False)

    def train() -> bytes:
        tokenizer.train_from_iterator(documents, trainer)
        facts = parse_json(tokenizer.to_str())["model"]
        number = facts["vocab"]
        assert [string_to_token(c)[0] for c in sorted(number, key=number.__getitem__)[:256]] == list(BYTE_ORDER)
        return repr(tuple((number[a], number[b], number[a + b]) for a, b in facts["merges"])).encode()

    return train


def train_gigatoken(corpus: Path, threads: int, name: str) -> Callable[[], bytes]:
    """It trains the GPT-2 pattern only, and reads by itself."""
    import gigatoken as package

    from llmtool.core.bpe.vocabulary import BYTE_ORDER

    source = package.JsonlFileSource([str(corpus)])

    def train() -> bytes:
        _, pairs = package.train_bpe(source, VOCAB_SIZE, [])
        number = {bytes([byte]): unit for unit, byte in enumerate(BYTE_ORDER)}
        triples = []
        for left, right in pairs:
            number.setdefault(left + right, len(number))
            triples.append((number[left], number[right], number[left + right]))
        return repr(tuple(triples)).encode()

    return train


TRAINERS: dict[str, Any] = {
    "llmtool": train_ours,
    "llmtool scaffold": train_ours,
    "tokenizers": train_tokenizers,
    "llmtool gpt2": train_ours,
    "gigatoken gpt2": train_gigatoken,
}
