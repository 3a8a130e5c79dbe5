"""The steps of a pre-tokenizer, each as `tokenizers` runs it.

A step is held as the object that a tokenizer.json holds, its fields complete and checked. It cuts every piece of the
step before alone: `$`, look-ahead and look-behind see the piece, not the text. ByteLevel spells bytes as GPT-2's
characters, so that steps after it see those.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from llmtool.core.bpe.normalizers import Step, read_steps
from llmtool.core.bpe.pattern import Pattern, character_class, compile_pattern, of_code_points, word_pattern
from llmtool.core.bpe.unicode_data import NUMBERS_OF_DIGITS, PUNCTUATION, UNASSIGNED
from llmtool.core.bpe.vocabulary import encode_text, token_to_string
from llmtool.core.run.errors import UserError

Cuts = Iterable[tuple[str, bool]]
"""A text in order: (piece, whether it is a match)."""

GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""What ByteLevel cuts by where use_regex is set."""


def pieces_of(text: str, steps: Sequence[Step], at_start: bool = True) -> list[str]:
    """The pieces of a segment after all steps. at_start: the segment begins the document.

    A step that drops what a piece begins with gives an empty piece for it: the next one does not begin the document.
    """
    pieces = [text] if text else []
    for step in steps:
        run = STEPS[step["type"]]
        cut = [run(piece, step, at_start and place == 0) for place, piece in enumerate(pieces)]
        at_start = at_start and bool(cut and cut[0] and cut[0][0])
        pieces = [made for of_piece in cut for made in of_piece if made]
    return pieces


def _isolated(cuts: Cuts) -> list[str]:
    return [piece for piece, _ in cuts]


def _removed(cuts: Cuts) -> list[str]:
    return ["" if matched else piece for piece, matched in cuts]


def _contiguous(cuts: Cuts) -> list[str]:
    pieces: list[str] = []
    before = False
    for piece, matched in cuts:
        if matched == before and pieces:
            pieces[-1] += piece
        else:
            pieces.append(piece)
        before = matched
    return pieces


def _merged_with_previous(cuts: Cuts) -> list[str]:
    pieces: list[str] = []
    before = False
    for piece, matched in cuts:
        if matched and not before and pieces:
            pieces[-1] += piece
        else:
            pieces.append(piece)
        before = matched
    return pieces


def _merged_with_next(cuts: Cuts) -> list[str]:
    pieces: list[str] = []
    after = False
    for piece, matched in reversed(list(cuts)):
        if matched and not after and pieces:
            pieces[-1] = piece + pieces[-1]
        else:
            pieces.append(piece)
        after = matched
    return pieces[::-1]


BEHAVIORS: Mapping[str, Callable[[Cuts], list[str]]] = {
    "Isolated": _isolated,
    "Removed": _removed,
    "Contiguous": _contiguous,
    "MergedWithPrevious": _merged_with_previous,
    "MergedWithNext": _merged_with_next,
}


def _split(text: str, step: Step, _at_start: bool) -> list[str]:
    kind, pattern = next(iter(step["pattern"].items()))
    cuts: Cuts = _string_cuts(text, pattern) if kind == "String" else compile_pattern(pattern).cuts(text)
    if step["invert"]:
        cuts = [(piece, not matched) for piece, matched in cuts]
    return BEHAVIORS[step["behavior"]](cuts)


def _string_cuts(text: str, string: str) -> Cuts:
    if not string:
        return [(text, False)]
    cuts = [cut for part in text.split(string) for cut in ((part, False), (string, True)) if cut[0]]
    return cuts[:-1]  # one separator too many, after the last part


def _digits(text: str, step: Step, _at_start: bool) -> list[str]:
    return BEHAVIORS["Isolated" if step["individual_digits"] else "Contiguous"](_number().cuts(text))


def _punctuation(text: str, step: Step, _at_start: bool) -> list[str]:
    return BEHAVIORS[step["behavior"]](_punctuation_mark().cuts(text))


@lru_cache
def _number() -> Pattern:
    """What the step Digits takes, each a match of its own: N, of a Unicode that is newer than that of the patterns."""
    return of_code_points(rf"[[\p{{N}}--[{character_class(UNASSIGNED)}]]{character_class(NUMBERS_OF_DIGITS)}]")


@lru_cache
def _punctuation_mark() -> Pattern:
    """What Punctuation and BertPreTokenizer take: ASCII's, symbols included, and P of an old Unicode."""
    return of_code_points(f"[{character_class(PUNCTUATION)}]")


def _white_space(text: str, _step: Step, _at_start: bool) -> list[str]:
    return _removed(compile_pattern(r"\s").cuts(text))


def _words(text: str, _step: Step, _at_start: bool) -> list[str]:
    return [piece if matched else "" for piece, matched in word_pattern().cuts(text)]


def _bert(text: str, step: Step, at_start: bool) -> list[str]:
    words = _white_space(text, step, at_start)
    return [piece for word in words for piece in _isolated(_punctuation_mark().cuts(word)) or [word]]


def _delimiter(text: str, step: Step, _at_start: bool) -> list[str]:
    return text.split(step["delimiter"])


def _byte_level(text: str, step: Step, _at_start: bool) -> list[str]:
    if step["add_prefix_space"] and not text.startswith(" "):
        text = " " + text
    pieces = _isolated(compile_pattern(GPT2_PATTERN).cuts(text)) if step["use_regex"] else [text]
    return [token_to_string(encode_text(piece)) for piece in pieces]


def _metaspace(text: str, step: Step, at_start: bool) -> list[str]:
    mark: str = step["replacement"]
    text = text.replace(" ", mark)
    scheme = step["prepend_scheme"]
    if not text.startswith(mark) and (scheme == "always" or (scheme == "first" and at_start)):
        text = mark + text
    return _merged_with_next(_string_cuts(text, mark)) if step["split"] else [text]


STEPS: dict[str, Callable[[str, Step, bool], list[str]]] = {
    "Split": _split,
    "Digits": _digits,
    "Punctuation": _punctuation,
    "Whitespace": _words,
    "WhitespaceSplit": _white_space,
    "BertPreTokenizer": _bert,
    "CharDelimiterSplit": _delimiter,
    "ByteLevel": _byte_level,
    "Metaspace": _metaspace,
}

_BEHAVIOR = frozenset(BEHAVIORS)
FIELDS: dict[str, dict[str, Any]] = {
    "Split": {"pattern": "pattern", "behavior": _BEHAVIOR, "invert": (bool, False)},
    "Digits": {"individual_digits": (bool, False)},
    "Punctuation": {"behavior": (_BEHAVIOR, "Isolated")},
    "Whitespace": {},
    "WhitespaceSplit": {},
    "BertPreTokenizer": {},
    "CharDelimiterSplit": {"delimiter": str},
    "ByteLevel": {"add_prefix_space": bool, "trim_offsets": (bool, True), "use_regex": (bool, True)},
    "Metaspace": {
        "replacement": str, "prepend_scheme": (frozenset({"always", "first", "never"}), "always"),
        "split": (bool, True), "add_prefix_space": (bool, None), "str_rep": (str, None),
    },
}  # fmt: skip


def read_pretokenizer(component: Any, where: str, known: Callable[[str], object]) -> tuple[Step, ...]:
    """Steps of a tokenizer.json's pre-tokenizer. known: whether a regex need not be tried, which takes 20 ms."""
    steps = [_completed(step) for step in read_steps(component, "pre_tokenizer", "pretokenizers", FIELDS, where)]
    for step in steps:
        pattern = step.get("pattern", {}).get("Regex")
        if pattern is not None and not known(pattern):
            compile_pattern(pattern, where)
        if any(len(step.get(key, "x")) != 1 for key in ("delimiter", "replacement")):
            raise UserError(f"pre_tokenizer: {step['type']} needs one character", where=where)
    if sum(step["type"] == "ByteLevel" for step in steps) > 1:
        raise UserError("pre_tokenizer: ByteLevel twice spells the spelling: not implemented", where=where)
    return tuple(steps)


def refuse_unknown_start(steps: Sequence[Step], normalizer: Sequence[Step], where: str) -> None:
    """Refuse Metaspace's `first` where a piece's place in the text as given, by which it goes, is not followed.

    That is behind a normalizer that may take the text's first characters off, or, where a step cuts before Metaspace,
    make several of one: all that come from the first character are then at the start. A mark in front is none twice.
    """
    first = next((step for step in steps if step.get("prepend_scheme") == "first"), None)
    if first is None:
        return
    marks = (" ", first["replacement"])
    for step in normalizer:
        match step:
            case {"type": "NFC"}:
                continue
            case {"type": "Replace", "pattern": {"String": str(old)}, "content": str(new)} if len(old) == len(new) == 1:
                continue
            case {"type": "Replace", "content": str(new)}:
                followed = new.startswith(marks)
            case {"type": "Strip", "strip_left": left}:
                followed = not left
            case _:
                followed = step["type"] != "StripAccents"
        if not followed or steps[0] is not first:
            what = f"pre_tokenizer: Metaspace.prepend_scheme 'first' behind the normalizer {step['type']}"
            cuts = f" and the step {steps[0]['type']}" if followed else ""
            raise UserError(f"{what}{cuts} is not implemented", where=where)


def _completed(step: Step) -> Step:
    """Metaspace of files before 2024, which say add_prefix_space for prepend_scheme."""
    if step["type"] != "Metaspace":
        return step
    scheme = "never" if step["add_prefix_space"] is False else step["prepend_scheme"]
    return {**{key: step[key] for key in ("type", "replacement", "split")}, "prepend_scheme": scheme}
