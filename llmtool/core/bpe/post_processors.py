"""Post-processors: the tokens that `tokenizers` puts around a text when special tokens are asked for."""

from collections.abc import Mapping, Sequence
from typing import Any


def put_around(component: dict[str, Any] | None) -> tuple[list[int], list[int]]:
    """(ids before a text, ids after it) of a tokenizer.json's post_processor, which its reader has checked.

    In a Sequence each step puts its tokens around what the one before made. ByteLevel concerns offsets only.
    """
    match component:
        case {"type": "Sequence", "processors": [*steps]}:
            first: list[int] = []
            last: list[int] = []
            for step in steps:
                before, after = put_around(step)
                first, last = [*before, *first], [*last, *after]
            return first, last
        case {"type": "RobertaProcessing" | "BertProcessing", "cls": [str(), int(cls)], "sep": [str(), int(sep)]}:
            return [cls], [sep]
        case {"type": "TemplateProcessing", "single": [*places], "special_tokens": dict(named)}:
            text = next((number for number, place in enumerate(places) if "Sequence" in place), len(places))
            return _ids(named, places[:text]), _ids(named, places[text:])
    return [], []


def _ids(named: dict[str, Any], places: list[dict[str, Any]]) -> list[int]:
    tokens = [place["SpecialToken"]["id"] for place in places if "SpecialToken" in place]
    return [number for token in tokens for number in named[token]["ids"]]


def template(before: Sequence[str], after: Sequence[str], ids: Mapping[str, int]) -> dict[str, Any]:
    """The post_processor that puts these tokens around a text, and around each of a pair."""

    def around(name: str, kind: int) -> list[dict[str, Any]]:
        def special(tokens: Sequence[str]) -> list[dict[str, Any]]:
            return [{"SpecialToken": {"id": token, "type_id": kind}} for token in tokens]

        return [*special(before), {"Sequence": {"id": name, "type_id": kind}}, *special(after)]

    return {
        "type": "TemplateProcessing",
        "single": around("A", 0),
        "pair": [*around("A", 0), *around("B", 1)],
        "special_tokens": {
            token: {"id": token, "ids": [ids[token]], "tokens": [token]} for token in sorted({*before, *after})
        },
    }
