"""SentencePiece's own file, `tokenizer.model`: a protobuf message, read as the tokenizer.json that means the same.

Of its algorithms BPE is ours; Unigram (the default of `spm_train`) is another one and refused by name. Ids are those of
SentencePiece: merges go by the score of what they make, user-defined pieces are added tokens that are found in the
normalized text.
"""

import base64
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

from llmtool.core.run.errors import UserError
from llmtool.core.run.protobuf import fields

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
MARK = "\u2581"
LONGEST = 512
"""Characters of a piece: spm_train makes none that is longer, and finding a piece's merges costs their square."""

ALGORITHMS = {1: "Unigram", 3: "words", 4: "characters"}


class Piece(NamedTuple):
    """An entry: its text, its score (merges that make the highest go first), and its kind."""

    text: str
    score: float
    kind: int


def read_sentencepiece(data: bytes, where: str) -> dict[str, Any]:
    """The tokenizer.json of a model, and under "named" what it calls begin and end of a text.

    UserError names what is wrong or not done.
    """
    try:
        pieces, training, normalizing = _parts(data)
        kind = training.get(3, 1)
        if kind != 2:
            what = f"a SentencePiece model of {ALGORITHMS.get(kind, f'kind {kind}')}, not of BPE"
            raise UserError(what, where=where, hint="another algorithm: such vocabularies are not read")
        facts = _as_tokenizer_json(pieces, training, normalizing, where)
        return {**facts, "named": _named(pieces, training)}
    except (ValueError, struct.error, IndexError, AttributeError, TypeError) as error:
        raise UserError(f"not a SentencePiece model: {error}", where=where, hint="is the file complete?") from None


def _parts(data: bytes) -> tuple[list[Piece], dict[int, Any], dict[int, Any]]:
    """Pieces by their ids, and the fields of TrainerSpec and NormalizerSpec by their numbers."""
    pieces: list[Piece] = []
    specs: dict[int, dict[int, Any]] = {2: {}, 3: {}}
    for number, value in fields(data):
        if number == 1:
            facts = {1: b"", 2: b"\0\0\0\0", 3: NORMAL, **dict(fields(value))}
            pieces.append(Piece(facts[1].decode(), struct.unpack("<f", facts[2])[0], int(facts[3])))
        elif number in specs:
            specs[number].update(fields(value))
    if not pieces:
        raise ValueError("it holds no pieces")
    return pieces, specs[2], specs[3]


def _as_tokenizer_json(
    pieces: list[Piece], training: Mapping[int, Any], normalizing: Mapping[int, Any], where: str
) -> dict[str, Any]:
    if training.get(24):
        raise UserError("treat_whitespace_as_suffix is not implemented", where=where)
    if any(piece.kind == UNUSED for piece in pieces):
        raise UserError("pieces marked as unused are not implemented", where=where)
    numbers = {piece.text: number for number, piece in enumerate(pieces)}
    if len(numbers) < len(pieces):
        raise UserError("two pieces are the same text", where=where)
    if longer := next((piece for piece in pieces if len(piece.text) > LONGEST), None):
        what = f"a piece of {len(longer.text):,} characters, {longer.text[:20]!r}..."
        raise UserError(what, where=where, hint=f"SentencePiece makes none of more than {LONGEST}")
    unknown = next((piece.text for piece in pieces if piece.kind == UNKNOWN), None)
    symbols = [piece.text for piece in pieces if piece.kind == USER_DEFINED and piece.text]
    normalizer, fronted = _normalizer(normalizing, symbols)
    in_marks = [step["type"] for step in normalizer] == ["Replace"]  # a symbol is its own normalized content
    decoders: list[dict[str, Any]] = [{"type": "Replace", "pattern": {"String": MARK}, "content": " "}]
    decoders += [{"type": "ByteFallback"}, {"type": "Fuse"}]
    if fronted:
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": number, "content": piece.text, "single_word": False, "lstrip": False, "rstrip": False,
                "normalized": in_marks and piece.kind == USER_DEFINED, "special": piece.kind != USER_DEFINED,
            }
            for number, piece in enumerate(pieces)
            if piece.kind in (UNKNOWN, CONTROL, USER_DEFINED)
        ],
        "normalizer": {"type": "Sequence", "normalizers": normalizer},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": unknown, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": bool(training.get(35)),
            "ignore_merges": False, "vocab": numbers, "merges": _merges(pieces),
        },
    }  # fmt: skip


def _normalizer(spec: Mapping[int, Any], symbols: list[str]) -> tuple[list[dict[str, Any]], bool]:
    """Steps of a normalizer, and whether they put a space in front."""
    steps: list[dict[str, Any]] = []
    mark = MARK if spec.get(5, 1) else " "
    table = base64.b64encode(spec.get(2, b"")).decode()
    if table or (symbols and (spec.get(3, 1) or spec.get(4, 1))):
        steps.append({"type": "SentencePiece", "precompiled_charsmap": table, "symbols": symbols})
    if spec.get(4, 1):  # spaces at both ends, and all but one between
        steps.append({"type": "Replace", "pattern": {"Regex": rf"\A +|[ {MARK}]+\z"}, "content": ""})
        steps.append({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})
    if fronted := bool(spec.get(3, 1)):
        steps.append({"type": "Prepend", "prepend": mark})
    if mark == MARK:
        steps.append({"type": "Replace", "pattern": {"String": " "}, "content": MARK})
    return steps, fronted


def _merges(pieces: list[Piece]) -> list[list[str]]:
    """Every way to make a piece of two others, by the score of what is made."""
    scores = {
        piece.text: (-piece.score, number)
        for number, piece in enumerate(pieces)
        if piece.kind in (NORMAL, USER_DEFINED) and piece.text
    }
    merges = []
    for text, (score, number) in scores.items():
        for place in range(1, len(text)):
            left, right = text[:place], text[place:]
            if left in scores and right in scores:
                merges.append((score, number, scores[left][1], scores[right][1], left, right))
    merges.sort()
    return [[left, right] for *_, left, right in merges]


def _named(pieces: list[Piece], training: Mapping[int, Any]) -> dict[str, str]:
    """The control pieces that a model names as begin and end of a text; -1, for none, is a large number here."""
    places = {"bos_token": training.get(41, 1), "eos_token": training.get(42, 2)}
    known = {role: pieces[place] for role, place in places.items() if place < len(pieces)}
    return {role: piece.text for role, piece in known.items() if piece.kind == CONTROL}
