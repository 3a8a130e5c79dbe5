"""Decoding as ids arrive, in linear time: text that later ids cannot change any more, never half a character.

`core/bpe/decoders.py` says what the text of all ids is; here each of its steps hands on what is certain, and the parts
join to the very same text.
"""

import codecs
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from llmtool.core.bpe.decoders import BYTE_TOKEN, STEPS, spelled
from llmtool.core.bpe.normalizers import Step

UNKNOWN = "\ufffd"


class Stage(Protocol):
    """One step of a decoder. `fed` are tokens, or parts of the one text that tokens were fused to."""

    def feed(self, fed: list[str], last: bool) -> list[str]:
        """What is certain now; everything, where these are the last."""
        ...


class StreamDecoder:
    """Ids in, text out; `text = "".join([*map(stream.push, ids), stream.finish()])` is `tokenizer.decode(ids)`.

    An id without a token, which a model's spare rows can give, is U+FFFD.
    """

    def __init__(self, spellings: Mapping[int, str], steps: Sequence[Step], skipped: frozenset[int]) -> None:
        self._spellings, self._skipped = spellings, skipped
        self._stages = make_stages(steps)

    def push(self, token: int) -> str:
        """The text that is certain with one more id; "" where it ends in the middle of a character."""
        if token in self._skipped:
            return ""
        return self._run([self._spellings.get(token, UNKNOWN)], last=False)

    def finish(self) -> str:
        """The rest: bytes of a character that never ended are U+FFFD. Begins anew afterwards."""
        return self._run([], last=True)

    def _run(self, parts: list[str], *, last: bool) -> str:
        for stage in self._stages:
            parts = stage.feed(parts, last)
        return "".join(parts)


def make_stages(steps: Sequence[Step]) -> list[Stage]:
    """The steps of a decoder, each for tokens or, behind one that fuses them, for the parts of one text."""
    stages: list[Stage] = [] if steps else [_Spaced()]
    fused = False
    for step in steps:
        kind = step["type"]
        if kind == "Fuse":
            fused = True
        elif kind == "ByteLevel":
            stages.append(_Bytes())
            fused = True
        elif kind == "ByteFallback" and not fused:
            stages.append(_ByteRuns())
        elif kind == "Strip" and fused:
            stages.append(_Ends(step["content"], step["start"], step["stop"]))
        elif kind == "Metaspace" and not fused:
            stages.append(_Metaspace(step))
        elif fused:
            stages.append(_Held(step))
        else:
            stages.append(_Each(step))
    return stages


class _Bytes:
    """GPT-2's characters as bytes, and these as UTF-8."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, fed: list[str], last: bool) -> list[str]:
        text = self._decoder.decode(b"".join(map(spelled, fed)), last)
        return [text] if text else []


class _ByteRuns:
    """A run of byte tokens is known when it ends: one wrong byte makes each of them U+FFFD."""

    def __init__(self) -> None:
        self._run: list[str] = []

    def feed(self, fed: list[str], last: bool) -> list[str]:
        parts: list[str] = []
        for token in fed:
            if not BYTE_TOKEN.fullmatch(token):
                parts += self._end()
                parts.append(token)
            else:
                self._run.append(token)
        return [*parts, *self._end()] if last else parts

    def _end(self) -> list[str]:
        run, self._run = self._run, []
        return STEPS["ByteFallback"](run, {}) if run else []


class _Ends:
    """Strip of the whole text: characters at its start are dropped, as many at its end are held back until then."""

    def __init__(self, content: str, start: int, stop: int) -> None:
        self._content, self._start, self._stop = content, start, stop
        self._begin()

    def _begin(self) -> None:
        self._left, self._back = self._start, ""

    def feed(self, fed: list[str], last: bool) -> list[str]:
        text = "".join(fed)
        while self._left and text:
            if text[0] != self._content:
                self._left = 0
                break
            text, self._left = text[1:], self._left - 1
        text = self._back + text
        tail = min(self._stop, len(text) - len(text.rstrip(self._content)))
        kept, self._back = text[: len(text) - tail], text[len(text) - tail :]
        if last:
            self._begin()
        return [kept] if kept else []


class _Metaspace:
    """The first token's marks are read otherwise than the others'."""

    def __init__(self, step: Step) -> None:
        self._step, self._first = step, True

    def feed(self, fed: list[str], last: bool) -> list[str]:
        made = STEPS["Metaspace"](fed if self._first else ["", *fed], self._step)
        made = made if self._first else made[1:]
        self._first = last or (self._first and not fed)
        return made


class _Each:
    """A step that looks at one token at a time."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self._apply: Callable[[list[str], Any], list[str]] = STEPS[step["type"]]

    def feed(self, fed: list[str], last: bool) -> list[str]:
        return self._apply(fed, self._step)


class _Held:
    """A step that looks at the whole text where others fused it: certain only at the end. No file is known with one."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self._parts: list[str] = []

    def feed(self, fed: list[str], last: bool) -> list[str]:
        self._parts += fed
        if not last:
            return []
        parts, self._parts = self._parts, []
        return STEPS[self._step["type"]](["".join(parts)], self._step)


class _Spaced:
    """No decoder at all: tokens are words with spaces between."""

    def __init__(self) -> None:
        self._first = True

    def feed(self, fed: list[str], last: bool) -> list[str]:
        parts = [token if self._first and not place else f" {token}" for place, token in enumerate(fed)]
        self._first = last or (self._first and not fed)
        return parts
