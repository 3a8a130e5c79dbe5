"""The file that holds a tokenizer: schemas llmtool.tokenizer/1 and /2.

One JSON object: how the vocabulary was made (`algorithm`), how text is cut (`normalizer`, `pretokenizer`, `encoder`),
the tokens, and the merges in rank order. Tokens are spelled with GPT-2's byte-to-unicode characters, or as they are in
an alphabet of characters. A scaffold is listed with the ids of the tokens that take its place, so that reading a file
needs no training method. The second schema adds what files of others hold: steps, flags of added tokens, a decoder.
"""

from collections.abc import Sequence
from typing import Any

from llmtool.core.bpe.added_tokens import read_added_token, special_tokens
from llmtool.core.bpe.decoders import read_decoder
from llmtool.core.bpe.definition import FIRST_SCHEMA, LENGTHS, SCHEMA, TIES, Beside, Definition, check_choice
from llmtool.core.bpe.engine import plain_units
from llmtool.core.bpe.normalizers import NFC, read_normalizer
from llmtool.core.bpe.packed import PackedBytes, PackedIds, PackedTriples
from llmtool.core.bpe.pretokenizer_steps import read_pretokenizer, refuse_unknown_start
from llmtool.core.bpe.pretokenizers import UNICODE_VERSION, find_pretokenizer, name_of_pattern, name_of_steps
from llmtool.core.bpe.vocabulary import (
    LARGEST_ID,
    Alphabet,
    Unknown,
    Vocabulary,
    encode_text,
    find_unknown,
    strings_to_tokens,
)
from llmtool.core.run.errors import UserError, closest
from llmtool.core.run.json_file import dumps


def serialize(definition: Definition) -> bytes:
    """The file's bytes: one merge or token a line would triple it, so only the top level is broken into lines."""
    facts = definition.to_json()
    lines = [f"{dumps(key)}: {dumps(value, ensure_ascii=False)}" for key, value in facts.items()]
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def from_json(facts: dict[str, Any], where: str, vocabulary: Vocabulary | None = None) -> Definition:
    """Read the object of a file, strictly: unknown fields and contradictions are refused by name.

    vocabulary: where it has been read before (compiled.py); the fields that hold it are then not looked at.
    """
    schema = facts.get("schema")
    if schema not in (SCHEMA, FIRST_SCHEMA):
        hint = "written by another version?"
        raise UserError(f"schema {schema!r:.60} is not {SCHEMA!r} or {FIRST_SCHEMA!r}", where=where, hint=hint)
    known = {**FIELDS, **(FURTHER_FIELDS if schema == SCHEMA else {"normalizer": str | None})}
    for key in facts:
        if key not in known:
            raise UserError(f"unknown field {key!r}", where=where, hint=closest(key, list(known)))
    for key, kind in known.items():
        if key not in facts:
            raise UserError(f"field {key!r} is missing", where=where, hint="is the file complete?")
        if not isinstance(facts[key], kind):
            raise UserError(f"field {key!r} has the wrong type", where=where)
    encoder = facts["encoder"]
    check_choice("encoder.length", encoder.get("length"), LENGTHS, where)
    check_choice("encoder.ties", encoder.get("ties"), TIES, where)
    cutting = _read_steps(facts, where) if schema == SCHEMA else _read_first_schema(facts, where)
    vocabulary = vocabulary or _read_vocabulary(facts, where)
    for role in ("bos", "eos"):
        if facts[role] is not None and facts[role] not in vocabulary.added_ids:
            raise UserError(f"{role} {facts[role]!r} is not an added token", where=where)
    return Definition(
        vocabulary=vocabulary,
        algorithm=facts["algorithm"],
        encoder=str(encoder.get("name")),
        length=encoder["length"],
        ties=encoder["ties"],
        **{key: facts[key] for key in ("ignore_merges", "bos", "eos", "add_bos", "chat_template", "training")},
        **cutting,
    )


FIELDS: dict[str, Any] = {
    "schema": str, "algorithm": str, "encoder": dict, "pretokenizer": dict, "ignore_merges": bool,
    "special_tokens": dict, "special_position": str, "bos": str | None, "eos": str | None, "add_bos": bool,
    "chat_template": str | None, "training": dict, "vocabulary": dict, "scaffolds": dict, "merges": list,
}  # fmt: skip
FURTHER_FIELDS: dict[str, Any] = {
    "normalizer": list, "decoder": list, "post_processor": dict | None, "alphabet": str, "unknown": dict,
    "added_tokens": list, "unused": dict, "beside": dict,
}  # fmt: skip
READABLE_UNICODE = (UNICODE_VERSION, "17.0")
"""Files of earlier versions say "17.0"; only what is newer than UNICODE_VERSION is cut otherwise now."""


def _read_first_schema(facts: dict[str, Any], where: str) -> dict[str, Any]:
    pretokenizer = facts["pretokenizer"]
    entry = find_pretokenizer(str(pretokenizer.get("name")))
    if pretokenizer.get("pattern") != entry.pattern:
        raise UserError(f"pretokenizer.pattern is not the pattern of {entry.name!r}", where=where)
    _check_unicode(pretokenizer, where)
    if facts["normalizer"] not in (None, "NFC"):
        raise UserError(f"normalizer {facts['normalizer']!r} is not implemented", where=where)
    return {"pretokenizer": entry.name, "normalizer": (NFC,) if facts["normalizer"] else ()}


def _check_unicode(pretokenizer: dict[str, Any], where: str) -> None:
    if pretokenizer.get("unicode") not in READABLE_UNICODE:
        raise UserError(
            f"pretokenizer.unicode is {pretokenizer.get('unicode')!r}, this llmtool cuts by Unicode {UNICODE_VERSION}",
            where=where,
            hint="use the version of llmtool that wrote the file",
        )


def _read_steps(facts: dict[str, Any], where: str) -> dict[str, Any]:
    pretokenizer = facts["pretokenizer"]
    _check_unicode(pretokenizer, where)

    def sequence(steps: Any, inner: str) -> dict[str, Any]:
        return {"type": "Sequence", inner: steps}

    steps = read_pretokenizer(sequence(pretokenizer.get("steps"), "pretokenizers"), where, name_of_pattern)
    normalizer = read_normalizer(sequence(facts["normalizer"], "normalizers"), where)
    refuse_unknown_start(steps, normalizer, where)
    name = name_of_steps(steps, normalizer)
    if pretokenizer.get("name") != name and steps != find_pretokenizer(str(pretokenizer.get("name"))).steps:
        raise UserError(f"pretokenizer.steps are not those of {pretokenizer.get('name')!r:.60}", where=where)
    return {
        "pretokenizer": pretokenizer["name"],
        "steps": steps,
        "normalizer": normalizer,
        "decoder": read_decoder(sequence(facts["decoder"], "decoders"), where),
        "post_processor": facts["post_processor"],
        "beside": _read_beside(facts["beside"], where),
    }


def _read_beside(facts: dict[str, Any], where: str) -> Beside:
    if set(facts) != {"roles", "templates", "config"} or not all(isinstance(part, dict) for part in facts.values()):
        raise UserError("beside holds other than the objects roles, templates and config", where=where)
    if not all(isinstance(template, str) for template in facts["templates"].values()):
        raise UserError("beside.templates holds other than texts", where=where)
    return Beside(**facts)


def _read_vocabulary(facts: dict[str, Any], where: str) -> Vocabulary:
    tokens, scaffolds, special = facts["vocabulary"], facts["scaffolds"], facts["special_tokens"]
    unused: dict[str, int] = facts.get("unused", {})
    numbered = {"vocabulary": tokens, "special_tokens": special, "unused": unused}
    for name, entries in numbered.items():
        if not set(map(type, entries.values())) <= {int}:
            raise UserError(f"the ids of {name} are not whole numbers", where=where)
    for text, ids in scaffolds.items():
        if not (isinstance(ids, list) and ids and set(map(type, ids)) == {int}):
            raise UserError(f"the ids of scaffold {text!r} are not whole numbers", where=where)
    spelled = [*tokens, *scaffolds]
    alphabet = facts.get("alphabet", "bytes")
    check_choice("alphabet", alphabet, ("bytes", "characters"), where)
    plain = None
    if not scaffolds and "" not in tokens and set(map(type, facts["merges"])) <= {list}:
        plain = plain_units(spelled, facts["merges"], alphabet)
    units, merges = plain or _read_closely(spelled, facts["merges"], alphabet, where)
    emit: Sequence[tuple[int, ...]] = [*((token,) for token in tokens.values()), *map(tuple, scaffolds.values())]
    if plain and 0 <= min(tokens.values(), default=0) <= max(tokens.values(), default=0) <= LARGEST_ID:
        emit = PackedIds.single(list(tokens.values()))  # else any numbers, until they are checked
    added = special_tokens(special)
    unknown = Unknown()
    if facts["schema"] == SCHEMA:
        added = tuple(
            read_added_token(token, f"added_tokens[{place}]", where)
            for place, token in enumerate(facts["added_tokens"])
        )
        how = facts["unknown"]
        for key, kind in (("token", str | None), ("fuse", bool), ("byte_fallback", bool)):
            if not isinstance(how.get(key), kind):
                raise UserError(f"unknown.{key} has the wrong type", where=where)
        unknown = find_unknown(how["token"], how["fuse"], how["byte_fallback"], {**tokens, **unused, **special})
    vocabulary = Vocabulary(units, merges, emit, added, dict(unused), unknown, alphabet)
    if plain:
        vocabulary.check_ids(where)  # the rest holds by how it was read
    else:
        vocabulary.check(where)
    if facts["schema"] == FIRST_SCHEMA and vocabulary.missing_bytes:
        missing = vocabulary.missing_bytes
        raise UserError(
            f"the vocabulary lacks {len(missing)} of the 256 bytes (first: 0x{missing[0]:02x})", where=where
        )
    return vocabulary


def _read_closely(
    spelled: list[str], listed: list[Any], alphabet: Alphabet, where: str
) -> tuple[PackedBytes, PackedTriples]:
    """By definition, saying what is wrong."""
    try:
        units = PackedBytes.of(strings_to_tokens(spelled) if alphabet == "bytes" else list(map(encode_text, spelled)))
    except KeyError as error:
        text = next(text for text in spelled if error.args[0] in text)
        raise UserError(f"token {text!r} holds {error.args[0]!r}, which spells no byte", where=where) from None
    plain = plain_units(spelled, listed, alphabet) if set(map(type, listed)) <= {list} else None
    if plain is not None:
        return units, plain[1]
    number = dict(zip(spelled, range(len(spelled)), strict=True))
    try:
        if not set(map(type, listed)) <= {list}:
            raise TypeError
        joined = [(number[left], number[right], number[left + right]) for left, right in listed]
        return units, PackedTriples.of(joined)
    except (KeyError, TypeError, ValueError):
        rank, pair = next((rank, pair) for rank, pair in enumerate(listed) if not _joins(pair, number))
        raise UserError(f"merge {rank} ({pair!r}) does not join two units into a third", where=where) from None


def _joins(pair: object, number: dict[str, int]) -> bool:
    """Whether a merge is a pair of units whose concatenation is a unit."""
    if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair)):
        return False
    return pair[0] in number and pair[1] in number and pair[0] + pair[1] in number
