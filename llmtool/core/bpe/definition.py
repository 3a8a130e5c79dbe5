"""What a tokenizer is, as data.

How text is normalized and cut, the vocabulary, the encoder, and what decodes. The file of it is definition_file.py's.
"""

from dataclasses import field, replace
from functools import cached_property
from typing import Any

from llmtool.core.bpe.decoders import BYTE_LEVEL
from llmtool.core.bpe.normalizers import NFC, Step, normalize, symbols_of
from llmtool.core.bpe.post_processors import put_around
from llmtool.core.bpe.pretokenizers import CUSTOM, PRETOKENIZERS, UNICODE_VERSION
from llmtool.core.bpe.settings import USUAL_LENGTH, USUAL_TIES
from llmtool.core.bpe.vocabulary import Unknown, Vocabulary, decode_text, token_to_string
from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.errors import UserError, closest
from llmtool.core.run.json_file import dumps

SCHEMA = "llmtool.tokenizer/2"
FIRST_SCHEMA = "llmtool.tokenizer/1"
"""What earlier versions read too; written for every tokenizer that it can hold."""

LENGTHS = ("bytes", "characters")
TIES = ("leftmost", "rank")


@dataclass(frozen=True)
class Beside:
    """What stands beside a tokenizer.json and changes no id: carried, and written back as it was read.

    roles: named tokens other than BOS and EOS ("pad_token": its text; lists and objects as they are).
    templates: chat templates by name, besides the default. config: further keys of tokenizer_config.json.
    """

    roles: dict[str, Any] = field(default_factory=dict)
    templates: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Definition:
    """A tokenizer as data.

    algorithm, encoder: names of catalog rows ("bpe", "scaffold"; "merge", "lbpe").
    pretokenizer: a name of PRETOKENIZERS, or CUSTOM. steps: how a file spelled it; None means as PRETOKENIZERS does.
    length, ties: what the encoder "lbpe" calls long, and which of equally long tokens it takes.
    normalizer, steps, decoder: steps as a tokenizer.json holds them, run by normalizers.py, pretokenizer_steps.py and
    decoders.py. ignore_merges: a piece that is a token is that token, whatever the merges say.
    post_processor: what a file puts around a text when special tokens are asked for, as it was read; encode adds none.
    bos, eos: added tokens named so; chat_template, beside: carried for exports.
    training: facts of the training run, for people; never read back as settings.
    """

    vocabulary: Vocabulary
    pretokenizer: str
    algorithm: str = "bpe"
    encoder: str = "merge"
    length: str = USUAL_LENGTH
    ties: str = USUAL_TIES
    normalizer: tuple[Step, ...] = ()
    steps: tuple[Step, ...] | None = None
    decoder: tuple[Step, ...] = (BYTE_LEVEL,)
    post_processor: dict[str, Any] | None = None
    ignore_merges: bool = False
    bos: str | None = None
    eos: str | None = None
    add_bos: bool = False
    chat_template: str | None = None
    beside: Beside = field(default_factory=Beside)
    training: dict[str, Any] = field(default_factory=dict)

    @property
    def special_position(self) -> str:
        """Where the special tokens' ids stand: "first", "last", or "mixed" (foreign files)."""
        special, tokens = self.vocabulary.added_ids.values(), self.vocabulary.id_of.values()
        if special and min(special) > max(tokens):
            return "last"
        return "first" if not special or max(special) < min(tokens) else "mixed"

    @property
    def pretokenizer_steps(self) -> tuple[Step, ...]:
        """The steps that cut a text into pieces."""
        return PRETOKENIZERS[self.pretokenizer].steps if self.steps is None else self.steps

    @property
    def around(self) -> tuple[list[int], list[int]]:
        """The ids that others put before and after a text when special tokens are asked for."""
        if self.post_processor is not None:
            return put_around(self.post_processor)
        return ([self.vocabulary.added_ids[self.bos]] if self.add_bos and self.bos else []), []

    @property
    def normalizer_name(self) -> str | None:
        """The normalizer's steps in words; None where there are none."""
        return " then ".join(step["type"] for step in self.normalizer) or None

    @cached_property
    def spellings(self) -> dict[int, str]:
        """Text of each id as it is decoded: that of an added token that is matched in normalized text is normalized."""
        symbols, known = symbols_of(self.normalizer), self.vocabulary.spellings
        changed = {
            token.id: normalize(token.content, self.normalizer)
            for token in self.vocabulary.added
            if self.normalizer and token.normalized and token.content not in symbols
        }
        return {**known, **changed} if any(known[number] != text for number, text in changed.items()) else known

    @property
    def spells_bytes(self) -> bool:
        """Whether any text and any bytes come back from their ids: no symbol is dropped or unknown."""
        return self.vocabulary.alphabet == "bytes" and not self.vocabulary.missing_bytes

    @property
    def is_first_schema(self) -> bool:
        """Whether the first schema can hold it."""
        vocabulary = self.vocabulary
        return (
            self.spells_bytes
            and self.pretokenizer in ("none", "gpt2", "cl100k", "o200k", "llama3", "qwen2")
            and (self.steps is None or self.steps == PRETOKENIZERS[self.pretokenizer].steps)
            and self.normalizer in ((), (NFC,))
            and self.decoder == (BYTE_LEVEL,)
            and self.post_processor is None
            and self.beside == Beside()
            and all(token.plain for token in vocabulary.added)
            and not vocabulary.unused
            and vocabulary.unknown == Unknown()
            and not set(vocabulary.added_ids.values()) & {ids[0] for ids in vocabulary.emit}
        )

    def to_json(self) -> dict[str, Any]:
        """The object that the file holds."""
        vocabulary = self.vocabulary
        spell = token_to_string if vocabulary.alphabet == "bytes" else decode_text
        spelled = [spell(unit) for unit in vocabulary.units]
        tokens = sorted((ids[0], text) for text, ids in zip(spelled, vocabulary.emit, strict=True) if len(ids) == 1)
        facts: dict[str, Any] = {
            "schema": SCHEMA,
            "algorithm": self.algorithm,
            "encoder": {"name": self.encoder, "length": self.length, "ties": self.ties},
            "pretokenizer": {"name": self.pretokenizer, "steps": _plain(self.pretokenizer_steps)},
            "normalizer": _plain(self.normalizer),
            "decoder": _plain(self.decoder),
            "post_processor": self.post_processor,
            "ignore_merges": self.ignore_merges,
            "alphabet": vocabulary.alphabet,
            "unknown": {
                "token": vocabulary.unknown.token,
                "fuse": vocabulary.unknown.fuse,
                "byte_fallback": vocabulary.unknown.byte_fallback,
            },
            "special_tokens": dict(vocabulary.added_ids),
            "added_tokens": [token.to_json() for token in vocabulary.added],
            "special_position": self.special_position,
            "bos": self.bos,
            "eos": self.eos,
            "add_bos": self.add_bos,
            "chat_template": self.chat_template,
            "beside": dict(vars(self.beside)),
            "training": self.training,
            "vocabulary": {text: number for number, text in tokens},
            "unused": dict(vocabulary.unused),
            "scaffolds": {spelled[unit]: list(vocabulary.emit[unit]) for unit in vocabulary.scaffolds},
            "merges": [[spelled[left], spelled[right]] for left, right, _ in vocabulary.merges],
        }
        if self.is_first_schema:
            facts["schema"] = FIRST_SCHEMA
            facts["normalizer"] = self.normalizer_name
            facts["pretokenizer"] = {"name": self.pretokenizer, "pattern": PRETOKENIZERS[self.pretokenizer].pattern}
            for key in ("decoder", "post_processor", "alphabet", "unknown", "added_tokens", "unused", "beside"):
                del facts[key]
        facts["pretokenizer"]["unicode"] = UNICODE_VERSION
        return facts

    def fingerprint(self) -> str:
        """sha256 of everything that decides ids: the same for a file however it is formatted."""
        import hashlib

        # However a file spells what cuts and decodes in the same way, and whatever it says besides.
        cuts = self.steps if self.pretokenizer == CUSTOM else None
        decoder = (BYTE_LEVEL,) if {step["type"] for step in self.decoder} == {"ByteLevel"} else self.decoder
        facts = replace(
            self, steps=cuts, decoder=decoder, add_bos=bool(self.around[0]), post_processor=None, beside=Beside()
        ).to_json()
        for key in ("training", "chat_template", "algorithm", "post_processor", "beside"):
            facts.pop(key, None)
        del facts["pretokenizer"]["name"]  # GPT-4's and Llama 3's patterns are one
        if facts["schema"] == FIRST_SCHEMA:
            # The label of the versions before, so that the hashes that their files carry still name this tokenizer.
            facts["pretokenizer"]["unicode"] = "17.0"
        return hashlib.sha256(dumps(facts, sort_keys=True).encode()).hexdigest()

    def with_encoder(self, encoder: str, length: str = USUAL_LENGTH, ties: str = USUAL_TIES) -> "Definition":
        """The same vocabulary, cut by another encoder."""
        check_choice("length", length, LENGTHS, "encoder")
        check_choice("ties", ties, TIES, "encoder")
        return replace(self, encoder=encoder, length=length, ties=ties)

    def options(self) -> dict[str, str]:
        """As the command line spells it: the tokenizer, whatever its encoder, and the options of the encoder."""
        usual = self.with_encoder("merge").fingerprint()
        return {"TOK": usual, "--encoder": self.encoder, "--length": self.length, "--ties": self.ties}


def _plain(steps: tuple[Step, ...]) -> list[dict[str, Any]]:
    return [dict(step) for step in steps]


def check_choice(key: str, value: object, known: tuple[str, ...], where: str) -> None:
    """Refuse a value outside `known`, naming the key and the nearest known value."""
    if value not in known:
        hint = closest(str(value), list(known)) or f"one of {', '.join(known)}"
        raise UserError(f"{key} {value!r} is not known", where=where, hint=hint)
