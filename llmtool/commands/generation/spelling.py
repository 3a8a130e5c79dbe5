"""New ids as text while they come: words, or numbers; cut where a stop string begins."""

from collections.abc import Collection, Iterator, Sequence
from typing import IO, Protocol


class Spelling(Protocol):
    """Ids as text, one after the other."""

    def push(self, token: int) -> str:
        """The text that is certain with one more id."""
        ...

    def finish(self) -> str:
        """The rest of it."""
        ...


class SpelledIds:
    """Ids as numbers with spaces between."""

    def __init__(self) -> None:
        self._between = ""

    def push(self, token: int) -> str:
        """The number."""
        between, self._between = self._between, " "
        return f"{between}{token}"

    def finish(self) -> str:
        """Nothing."""
        return ""


class Cut:
    """Another spelling up to the first of some texts; what may be the beginning of one is held back."""

    def __init__(self, spelling: Spelling, stops: Sequence[str]) -> None:
        self.spelling, self.stops = spelling, tuple(stops)
        self.ended = False
        self._held = ""

    def push(self, token: int) -> str:
        """The text that is certain with one more id; "" once a stop was met."""
        return "" if self.ended else self._certain(self.spelling.push(token))

    def finish(self) -> str:
        """What was held back, and is no stop after all."""
        if self.ended:
            return ""
        text = self._certain(self.spelling.finish())
        held, self._held = self._held, ""
        return text + ("" if self.ended else held)

    def _certain(self, new: str) -> str:
        text = self._held + new
        places = [place for stop in self.stops if (place := text.find(stop)) >= 0]
        if places:
            self.ended, self._held = True, ""
            return text[: min(places)]
        longest = max((self._overlap(text, stop) for stop in self.stops), default=0)
        self._held = text[len(text) - longest :]
        return text[: len(text) - longest]

    @staticmethod
    def _overlap(text: str, stop: str) -> int:
        """Characters at the end of the text that a stop begins with."""
        return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)


def write_stream(
    steps: Iterator[list[int | None]], spellings: Sequence[Cut], stop: Collection[int], out: IO[bytes] | None
) -> tuple[list[list[int]], list[str]]:
    """The new ids of each row and their text without `stop`; with `out` the single row's is written as it grows."""
    new: list[list[int]] = [[] for _ in spellings]
    parts: list[list[str]] = [[] for _ in spellings]
    ended = [False] * len(spellings)
    for step in steps:
        for row, token in enumerate(step):
            if token is None or ended[row]:
                ended[row] = True
                continue
            new[row].append(token)
            text = "" if token in stop else spellings[row].push(token)
            parts[row].append(text)
            if out and text:
                out.write(text.encode())
                out.flush()
            ended[row] = token in stop or spellings[row].ended
        if all(ended):
            break
    for made, spelling in zip(parts, spellings, strict=True):
        made.append(spelling.finish())
    if out:
        out.write(f"{parts[0][-1]}\n".encode())
        out.flush()
    return new, ["".join(made) for made in parts]
