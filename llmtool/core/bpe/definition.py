"""What a tokenizer is, and the file that says so: schema llmtool.tokenizer/1.

One JSON object: how the vocabulary was made (`algorithm`), how text is cut (`pretokenizer`, `encoder`), the tokens,
and the merges in rank order. Tokens are spelled with GPT-2's byte-to-unicode characters. A scaffold is listed with the
ids of the tokens that take its place, so that reading a file needs no training method.
"""

import json
from dataclasses import dataclass, field, replace
from typing import Any

from llmtool.core.bpe.pretokenizers import PRETOKENIZERS, UNICODE_VERSION, find_pretokenizer
from llmtool.core.bpe.vocabulary import Vocabulary, strings_to_tokens, token_to_string
from llmtool.core.run.errors import UserError, closest

SCHEMA = "llmtool.tokenizer/1"
LENGTHS = ("bytes", "characters")
TIES = ("leftmost", "rank")


@dataclass(frozen=True)
class Definition:
    """A tokenizer as data.

    algorithm, encoder: names of catalog rows ("bpe", "scaffold"; "merge", "lbpe").
    length, ties: what the encoder "lbpe" calls long, and which of equally long tokens it takes.
    normalizer: "NFC" or None. ignore_merges: a piece that is a token is that token, whatever the merges say.
    bos, eos: special tokens named so; chat_template: carried for exports.
    training: facts of the training run, for people; never read back as settings.
    """

    vocabulary: Vocabulary
    pretokenizer: str
    algorithm: str = "bpe"
    encoder: str = "merge"
    length: str = "bytes"
    ties: str = "leftmost"
    normalizer: str | None = None
    ignore_merges: bool = False
    bos: str | None = None
    eos: str | None = None
    add_bos: bool = False
    chat_template: str | None = None
    training: dict[str, Any] = field(default_factory=dict)

    @property
    def special_position(self) -> str:
        """Where the special tokens' ids stand: "first", "last", or "mixed" (foreign files)."""
        special, tokens = self.vocabulary.special.values(), self.vocabulary.id_of.values()
        if special and min(special) > max(tokens):
            return "last"
        return "first" if not special or max(special) < min(tokens) else "mixed"

    def to_json(self) -> dict[str, Any]:
        """The object that the file holds."""
        vocabulary = self.vocabulary
        spell = [token_to_string(unit) for unit in vocabulary.units]
        tokens = sorted((ids[0], text) for text, ids in zip(spell, vocabulary.emit, strict=True) if len(ids) == 1)
        return {
            "schema": SCHEMA,
            "algorithm": self.algorithm,
            "encoder": {"name": self.encoder, "length": self.length, "ties": self.ties},
            "pretokenizer": {
                "name": self.pretokenizer,
                "pattern": PRETOKENIZERS[self.pretokenizer].pattern,
                "unicode": UNICODE_VERSION,
            },
            "normalizer": self.normalizer,
            "ignore_merges": self.ignore_merges,
            "special_tokens": dict(vocabulary.special),
            "special_position": self.special_position,
            "bos": self.bos,
            "eos": self.eos,
            "add_bos": self.add_bos,
            "chat_template": self.chat_template,
            "training": self.training,
            "vocabulary": {text: number for number, text in tokens},
            "scaffolds": {spell[unit]: list(vocabulary.emit[unit]) for unit in vocabulary.scaffolds},
            "merges": [[spell[left], spell[right]] for left, right, _ in vocabulary.merges],
        }

    def fingerprint(self) -> str:
        """sha256 of everything that decides ids: the same for a file however it is formatted."""
        import hashlib

        facts = self.to_json()
        for key in ("training", "chat_template", "algorithm"):
            del facts[key]
        del facts["pretokenizer"]["name"]  # GPT-4's and Llama 3's patterns are one
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def with_encoder(self, encoder: str, length: str = "bytes", ties: str = "leftmost") -> "Definition":
        """The same vocabulary, cut by another encoder."""
        check_choice("length", length, LENGTHS, "encoder")
        check_choice("ties", ties, TIES, "encoder")
        return replace(self, encoder=encoder, length=length, ties=ties)


def serialize(definition: Definition) -> bytes:
    """The file's bytes: one merge or token a line would triple it, so only the top level is broken into lines."""
    facts = definition.to_json()
    lines = [f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in facts.items()]
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def check_choice(key: str, value: object, known: tuple[str, ...], where: str) -> None:
    """Refuse a value outside `known`, naming the key and the nearest known value."""
    if value not in known:
        hint = closest(str(value), list(known)) or f"one of {', '.join(known)}"
        raise UserError(f"{key} {value!r} is not known", where=where, hint=hint)


def from_json(facts: dict[str, Any], where: str) -> Definition:
    """Read the object of a file, strictly: unknown fields and contradictions are refused by name."""
    known = {
        "schema": str, "algorithm": str, "encoder": dict, "pretokenizer": dict, "normalizer": str | None,
        "ignore_merges": bool, "special_tokens": dict, "special_position": str, "bos": str | None, "eos": str | None,
        "add_bos": bool, "chat_template": str | None, "training": dict, "vocabulary": dict, "scaffolds": dict,
        "merges": list,
    }  # fmt: skip
    for key in facts:
        if key not in known:
            raise UserError(f"unknown field {key!r}", where=where, hint=closest(key, list(known)))
    for key, kind in known.items():
        if key not in facts:
            raise UserError(f"field {key!r} is missing", where=where, hint="is the file complete?")
        if not isinstance(facts[key], kind):
            raise UserError(f"field {key!r} has the wrong type", where=where)
    if facts["schema"] != SCHEMA:
        raise UserError(
            f"schema {facts['schema']!r} is not {SCHEMA!r}", where=where, hint="written by another version?"
        )
    pretokenizer, encoder = facts["pretokenizer"], facts["encoder"]
    _check_pretokenizer(pretokenizer, where)
    check_choice("encoder.length", encoder.get("length"), LENGTHS, where)
    check_choice("encoder.ties", encoder.get("ties"), TIES, where)
    if facts["normalizer"] not in (None, "NFC"):
        raise UserError(f"normalizer {facts['normalizer']!r} is not implemented", where=where)
    vocabulary = _read_vocabulary(facts, where)
    for role in ("bos", "eos"):
        if facts[role] is not None and facts[role] not in vocabulary.special:
            raise UserError(f"{role} {facts[role]!r} is not a special token", where=where)
    return Definition(
        vocabulary=vocabulary,
        pretokenizer=pretokenizer["name"],
        algorithm=facts["algorithm"],
        encoder=str(encoder.get("name")),
        length=encoder["length"],
        ties=encoder["ties"],
        **{k: facts[k] for k in ("normalizer", "ignore_merges", "bos", "eos", "add_bos", "chat_template", "training")},
    )


def _check_pretokenizer(facts: dict[str, Any], where: str) -> None:
    entry = find_pretokenizer(str(facts.get("name")))
    if facts.get("pattern") != entry.pattern:
        raise UserError(f"pretokenizer.pattern is not the pattern of {entry.name!r}", where=where)
    if facts.get("unicode") != UNICODE_VERSION:
        raise UserError(
            f"pretokenizer.unicode is {facts.get('unicode')!r}, this llmtool cuts by Unicode {UNICODE_VERSION}",
            where=where,
            hint="use the version of llmtool that wrote the file",
        )


def _read_vocabulary(facts: dict[str, Any], where: str) -> Vocabulary:
    tokens, scaffolds, special = facts["vocabulary"], facts["scaffolds"], facts["special_tokens"]
    for name, ids in (("vocabulary", tokens.values()), ("special_tokens", special.values())):
        if not set(map(type, ids)) <= {int}:
            raise UserError(f"the ids of {name} are not whole numbers", where=where)
    for text, ids in scaffolds.items():
        if not (isinstance(ids, list) and ids and set(map(type, ids)) == {int}):
            raise UserError(f"the ids of scaffold {text!r} are not whole numbers", where=where)
    spelled = [*tokens, *scaffolds]
    try:
        units = strings_to_tokens(spelled)
    except KeyError as error:
        text = next(text for text in spelled if error.args[0] in text)
        raise UserError(f"token {text!r} holds {error.args[0]!r}, which spells no byte", where=where) from None
    number = dict(zip(spelled, range(len(spelled)), strict=True))
    try:
        if not set(map(type, facts["merges"])) <= {list}:
            raise TypeError
        merges = [(number[left], number[right], number[left + right]) for left, right in facts["merges"]]
    except (KeyError, TypeError, ValueError):
        rank, pair = next((rank, pair) for rank, pair in enumerate(facts["merges"]) if not _joins(pair, number))
        raise UserError(f"merge {rank} ({pair!r}) does not join two units into a third", where=where) from None
    emit = [*((token,) for token in tokens.values()), *map(tuple, scaffolds.values())]
    vocabulary = Vocabulary(units, merges, emit, dict(special))
    vocabulary.check(where)
    return vocabulary


def _joins(pair: object, number: dict[str, int]) -> bool:
    """Whether a merge is a pair of units whose concatenation is a unit."""
    if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair)):
        return False
    return pair[0] in number and pair[1] in number and pair[0] + pair[1] in number
