"""Decoders: what `tokenizers` makes of the tokens' texts, step by step; and the bytes that one token stands for.

A step is held as the object that a tokenizer.json holds, its fields complete and checked.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from llmtool.core.bpe.normalizers import Step, read_steps
from llmtool.core.bpe.vocabulary import UNICODE_TO_BYTE, encode_text, string_to_token

BYTE_LEVEL: Step = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
BYTE_TOKEN = re.compile("<0x([0-9A-Fa-f]{2})>")
"""The spelling of a byte as a token of its own, in vocabularies of characters."""


def decode_tokens(tokens: Sequence[str], steps: Sequence[Step]) -> str:
    """The text of tokens, by definition. Without a decoder they are words, joined by spaces."""
    if not steps:
        return " ".join(tokens)
    parts = list(tokens)
    for step in steps:
        parts = STEPS[step["type"]](parts, step)
    return "".join(parts)


def token_bytes(token: str, steps: Sequence[Step]) -> bytes:
    """The bytes that one token stands for in the middle of a text; what cuts at a text's start is left aside."""
    for step in steps:
        kind = step["type"]
        if kind == "ByteLevel":
            return spelled(token)
        if kind == "ByteFallback" and (byte := BYTE_TOKEN.fullmatch(token)):
            return bytes([int(byte[1], 16)])
        if kind == "Replace":
            token = _replaced(token, step)
        if kind == "Metaspace":
            token = token.replace(step["replacement"], " ")
    return encode_text(token)


def text_bytes(tokens: Sequence[str], parts: Sequence[bytes], steps: Sequence[Step]) -> bytes:
    """The bytes of a whole text, from its tokens and what each stands for in the middle of one.

    What the steps take off a text's ends goes: SentencePiece's first space.
    """
    parts = list(parts)
    for step in steps:
        if step["type"] == "Metaspace" and step["replacement"] in "".join(tokens[:1]):
            parts[0] = encode_text(_metaspace([*tokens[:1]], step)[0])
    data, fused = b"".join(parts), False
    for step in steps:
        fused = fused or step["type"] == "Fuse"
        if step["type"] == "Strip" and fused:
            content = step["content"].encode()
            for _ in range(step["start"] if content else 0):
                data = data.removeprefix(content)
            for _ in range(step["stop"] if content else 0):
                data = data.removesuffix(content)
    return data


def spelled(token: str) -> bytes:
    """The bytes of a token under ByteLevel: GPT-2's characters are bytes, a token with any other is its own UTF-8."""
    return string_to_token(token) if all(c in UNICODE_TO_BYTE for c in token) else encode_text(token)


def _byte_level(tokens: list[str], _step: Step) -> list[str]:
    return [b"".join(map(spelled, tokens)).decode("utf-8", "replace")]


def _byte_fallback(tokens: list[str], _step: Step) -> list[str]:
    """Each run of byte tokens: its UTF-8, or U+FFFD for each byte where the run is not well-formed."""
    parts: list[str] = []
    run = bytearray()

    def end_run() -> None:
        if run:
            try:
                parts.append(run.decode())
            except UnicodeDecodeError:
                parts.extend(["\ufffd"] * len(run))
            run.clear()

    for token in tokens:
        byte = BYTE_TOKEN.fullmatch(token)
        if byte:
            run.append(int(byte[1], 16))
        else:
            end_run()
            parts.append(token)
    end_run()
    return parts


def _replaced(token: str, step: Step) -> str:
    pattern = step["pattern"]
    if "String" in pattern:
        return token.replace(pattern["String"], step["content"])
    from llmtool.core.bpe.pattern import compile_pattern

    content: str = step["content"]
    return "".join(content if matched else piece for piece, matched in compile_pattern(pattern["Regex"]).cuts(token))


def _strip(tokens: list[str], step: Step) -> list[str]:
    """Up to `start` of the character off the front of each token, and `stop` off its end."""
    content: str = step["content"]

    def stripped(token: str) -> str:
        front = len(token) - len(token.lstrip(content))
        token = token[min(front, step["start"]) :]
        back = len(token) - len(token.rstrip(content))
        return token[: len(token) - min(back, step["stop"])]

    return list(map(stripped, tokens))


def _metaspace(tokens: list[str], step: Step) -> list[str]:
    mark: str = step["replacement"]
    first = [token.replace(mark, "" if step["prepend_scheme"] != "never" else " ") for token in tokens[:1]]
    return [*first, *(token.replace(mark, " ") for token in tokens[1:])]


STEPS: dict[str, Callable[[list[str], Step], list[str]]] = {
    "ByteLevel": _byte_level,
    "ByteFallback": _byte_fallback,
    "Fuse": lambda tokens, _step: ["".join(tokens)],
    "Metaspace": _metaspace,
    "Replace": lambda tokens, step: [_replaced(token, step) for token in tokens],
    "Strip": _strip,
}

FIELDS: dict[str, dict[str, Any]] = {
    "ByteLevel": {"add_prefix_space": (bool, True), "trim_offsets": (bool, True), "use_regex": (bool, True)},
    "ByteFallback": {},
    "Fuse": {},
    "Metaspace": {
        "replacement": str, "prepend_scheme": (frozenset({"always", "first", "never"}), "always"),
        "split": (bool, True), "add_prefix_space": (bool, None), "str_rep": (str, None),
    },
    "Replace": {"pattern": "pattern", "content": str},
    "Strip": {"content": str, "start": int, "stop": int},
}  # fmt: skip


def read_decoder(component: Any, where: str) -> tuple[Step, ...]:
    """Steps of a tokenizer.json's decoder."""
    return tuple(read_steps(component, "decoder", "decoders", FIELDS, where))
