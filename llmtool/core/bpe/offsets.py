"""Where each id of a text comes from, in the text as it was given: through added tokens, normalizer and pieces.

Ranges are in characters, as those of `tokenizers`: an id that holds a part of a character has the whole of it, and what
a step puts in front ("▁") belongs to the first character. A normalizer is followed through runs that it treats alone, a
base character with its marks: what is composed has the place of the base.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from llmtool.core.bpe.alignment import EncodeBatch, token_ends
from llmtool.core.bpe.definition import Definition
from llmtool.core.bpe.normalizers import Step, normalize
from llmtool.core.bpe.pattern import compile_pattern
from llmtool.core.bpe.pretokenizers import CUSTOM, byte_pieces
from llmtool.core.bpe.segments import Segments
from llmtool.core.bpe.vocabulary import BYTE_TO_UNICODE, decode_text, encode_text

Span = tuple[int, int]
SPACE = BYTE_TO_UNICODE[0x20]
MARK = "\u2581"
"""Stands for a space in text of SentencePiece's kind."""


def ids_and_spans(
    definition: Definition, segments: Segments, encode: EncodeBatch, text: str, allow_special: bool
) -> tuple[list[int], list[Span]]:
    """Ids of a text, and the characters [start, end) that each comes from."""
    pieces: list[bytes] = []
    found: list[tuple[int, Span] | list[Span]] = []  # an added token, or the origins of a piece's characters
    for part in segments.parts(text, allow_special=allow_special):
        if part.token is not None:
            found.append((part.token, (part.start, part.end)))
            continue
        raw = text[part.start : part.end]
        whole = decode_text(segments.normalize(encode_text(raw)))
        origins = [(part.start + a, part.start + b) for a, b in _origins(definition.normalizer, raw)]
        for inner in segments.parts(whole, normalized=True, allow_special=allow_special):
            own = origins[inner.start : inner.end]
            if inner.token is not None:
                found.append((inner.token, (own[0][0], own[-1][1])))
                continue
            cut = _pieces(definition, whole[inner.start : inner.end], own, inner.start == part.start == 0)
            for spelled, piece_origins in cut:
                pieces.append(encode_text(spelled))
                found.append(piece_origins)
    encoded = iter(zip(pieces, encode(pieces), strict=True))
    ids: list[int] = []
    spans: list[Span] = []
    for entry in found:
        if isinstance(entry, tuple):
            ids.append(entry[0])
            spans.append(entry[1])
        else:
            piece, numbers = next(encoded)
            ids += numbers
            spans += _of_piece(definition, piece, numbers, entry)
    for trimmed in _trimming(definition.post_processor):
        spans = _trimmed(definition, ids, spans, bool(trimmed.get("add_prefix_space", True)))
    return ids, spans


def _trimming(component: Any) -> list[dict[str, Any]]:
    """The post-processors that take white space off the ranges."""
    if not isinstance(component, dict):
        return []
    if component.get("type") == "Sequence":
        return [step for inner in component.get("processors", []) for step in _trimming(inner)]
    trims = component.get("type") in ("ByteLevel", "RobertaProcessing") and component.get("trim_offsets", True)
    return [component] if trims else []


def _trimmed(definition: Definition, ids: list[int], spans: list[Span], prefix: bool) -> list[Span]:
    """The ranges without the white space that tokens begin and end with; prefix: a space was put in front."""
    spellings = definition.vocabulary.spellings
    out: list[Span] = []
    for place, (number, (start, end)) in enumerate(zip(ids, spans, strict=True)):
        text = spellings[number]
        bare = text.replace(SPACE, " ")
        leading, trailing = len(text) - len(bare.lstrip()), len(text) - len(bare.rstrip())
        if leading:
            start = min(start + leading - (prefix and (place == 0 or start == 0)), end)
        if trailing and end >= trailing:
            end = max(end - trailing, start)
        out.append((start, end))
    return out


def _of_piece(definition: Definition, piece: bytes, numbers: Sequence[int], origins: list[Span]) -> list[Span]:
    """Of each id of a piece, the origins of the characters that its bytes lie in."""
    character_at: list[int] = []
    for place, character in enumerate(decode_text(piece)):
        character_at += [place] * len(encode_text(character))
    spans: list[Span] = []
    start = 0
    for end in token_ends(definition, piece, numbers):
        inside = character_at[start:end] or character_at[max(start - 1, 0) : start] or [0]
        spans.append((origins[inside[0]][0], origins[inside[-1]][1]))
        start = end
    return spans


def _pieces(definition: Definition, segment: str, origins: list[Span], at_start: bool) -> list[tuple[str, list[Span]]]:
    """The pieces that the encoder is given, with the origins of their characters."""
    if definition.pretokenizer != CUSTOM:
        return [(segment, origins)]
    # A mark may stand for a space or for itself, and a piece has either: told apart, a text with both lost its place.
    marked, cut, at = segment.replace(" ", MARK), [], 0
    for piece in map(decode_text, byte_pieces(segment, definition.pretokenizer_steps, at_start)):
        spelled = piece.replace(" ", MARK)
        # from `at` on; what was put in front has the place of the first
        place = marked.find(spelled, at)
        if place >= 0 and not (place > at and piece[1:] and marked.startswith(spelled[1:], at)):
            cut.append((piece, origins[place : place + len(piece)]))
            at = place + len(piece)
        else:
            cut.append((piece, [origins[at], *origins[at : at + len(piece) - 1]]))
            at += len(piece) - 1
    return cut


def _origins(steps: Sequence[Step], raw: str) -> list[Span]:
    """For each character of a normalized segment the characters of the raw one that it comes from."""
    text, origins = raw, [(place, place + 1) for place in range(len(raw))]
    for step in steps:
        made = normalize(text, [step])
        if made == text:
            continue
        match step["type"]:
            case "Prepend":
                places = [(0, 1)] * len(step["prepend"]) + [(n, n + 1) for n in range(len(text))]
            case "Replace":
                places = _replaced(step, text)
            case "Strip":
                start = text.find(made) if made else 0
                places = [(start + n, start + n + 1) for n in range(len(made))]
            case _:
                places = _by_runs(step, text, made)
        origins = [(origins[start][0], origins[end - 1][1]) for start, end in places]
        text = made
    return origins


def _replaced(step: Step, text: str) -> list[Span]:
    """Origins of a Replace's result: of what it puts, all that it replaced, one for one where that is as long."""
    kind, pattern = next(iter(step["pattern"].items()))
    cuts = compile_pattern(re.escape(pattern) if kind == "String" else pattern).cuts(text)
    places: list[Span] = []
    at = 0
    for piece, matched in cuts:
        content = step["content"] if matched else piece
        if len(content) == len(piece):
            places += [(at + n, at + n + 1) for n in range(len(piece))]
        else:
            places += [(at, max(at + len(piece), at + 1))] * len(content)
        at += len(piece)
    return places


def _by_runs(step: Step, text: str, made: str) -> list[Span]:
    """Origins of what composes, decomposes or maps characters."""
    runs: list[str] = _run().findall(text)
    new_runs = [normalize(run, [step]) for run in runs]
    if "".join(new_runs) != made:  # what a run becomes depends on its neighbours
        return [(0, len(text))] * len(made)
    places: list[Span] = []
    start = 0
    for run, new in zip(runs, new_runs, strict=True):
        alone = [normalize(character, [step]) for character in run]
        taken = max(len(run) - len(new), 0)  # by the base character, which has the place that it had
        if "".join(alone) == new:
            own = [n for n, text_alone in enumerate(alone) for _ in text_alone]
        else:
            own = [min(n + (taken if n else 0), len(run) - 1) for n in range(len(new))]
        places += [(start + n, start + n + 1) for n in own]
        start += len(run)
    return places


@lru_cache
def _run() -> Any:
    import regex

    return regex.compile(r"(?s).\p{M}*")
