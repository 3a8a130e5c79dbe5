"""A text cut by several tokenizers, side by side, for the eye: where each cuts, and where they differ.

Borders are found by the tokenizer's own account of places, so they are right under normalization, for special tokens
and inside characters: what no character border separates is one piece of several tokens.
"""

import unicodedata
from collections.abc import Mapping
from dataclasses import field
from html import escape

from llmtool.core.bpe.tokenizer import BaseTokenizer
from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.wording import counted

MOST = 600
"""Characters of a text that are shown."""


@dataclass(frozen=True)
class Piece:
    """text[start:end] and the ids of the tokens in it: one, several inside a character, or none where it is dropped."""

    start: int
    end: int
    ids: tuple[int, ...]
    special: bool = False
    sizes: tuple[int, ...] = field(default=(), compare=False)
    """Bytes of each token where there are several: how a character is cut inside."""


def pieces(tokenizer: BaseTokenizer, text: str) -> list[Piece]:
    """The text from border to border."""
    ids, places = tokenizer.encode_with_places(text, range(len(text) + 1))
    found, start, first = [], 0, 0
    for place in range(1, len(text) + 1):
        before, begun = places[place]
        if place < len(text) and (before != begun or before == first):
            continue
        last = len(ids) if place == len(text) else before
        inside = tuple(ids[first:last])
        special = len(inside) == 1 and inside[0] in tokenizer.added_tokens.values()
        sizes = tuple(len(tokenizer.token_bytes(number)) for number in inside) if len(inside) > 1 else ()
        found.append(Piece(start, place, inside, special, sizes))
        start, first = place, last
    return found


@dataclass(frozen=True)
class SideBySide:
    """A block of a page: one text, and how each tokenizer cuts it."""

    title: str
    text: str
    cuts: Mapping[str, list[Piece]]

    @classmethod
    def of(cls, title: str, text: str, tokenizers: Mapping[str, BaseTokenizer]) -> "SideBySide":
        """The beginning of a text."""
        shown = text[:MOST]
        return cls(title, shown, {name: pieces(tokenizer, shown) for name, tokenizer in tokenizers.items()})

    def differing(self, name: str) -> set[tuple[int, int]]:
        """Pieces that not every tokenizer has, cut inside as here: for the first those that another lacks, else those
        the first lacks."""
        cuts = {each: {(piece.start, piece.end): piece.sizes for piece in cut} for each, cut in self.cuts.items()}
        first, *others = cuts
        against = others if name == first else [first]
        return {span for span, sizes in cuts[name].items() if any(cuts[other].get(span) != sizes for other in against)}

    def html(self) -> str:
        """A row of coloured pieces for each tokenizer; underlined where it differs, the ids under the pointer."""
        rows = []
        for name, cut in self.cuts.items():
            differs = self.differing(name)
            spans = "".join(self._span(piece, (piece.start, piece.end) in differs) for piece in cut)
            count = sum(len(piece.ids) for piece in cut)
            rows.append(
                f'<p class="note">{escape(name)}: {counted(count, "token")}'
                + (f", {counted(len(differs), 'piece')} cut otherwise" if len(self.cuts) > 1 else "")
                + f'</p>\n<div class="cut" dir="auto">{spans}</div>'
            )
        return f"<h2>How {escape(self.title)} is cut</h2>\n" + "\n".join(rows)

    def _span(self, piece: Piece, differs: bool) -> str:
        kinds = [kind for kind, holds in (("special", piece.special), ("differs", differs)) if holds]
        classes = f' class="{" ".join(kinds)}"' if kinds else ""
        said = " ".join(map(str, piece.ids)) or "no token"
        several = f' data-tokens="{len(piece.ids)}"' if len(piece.ids) > 1 else ""
        shown = "".join(map(_visible, self.text[piece.start : piece.end]))
        return f'<span{classes}{several} title="{said}">{escape(shown)}</span>'

    def markdown(self) -> str:
        """The same with bars between the pieces, in a fixed pitch."""
        from llmtool.core.run.page_blocks import Lines

        lines = []
        for name, cut in self.cuts.items():
            bars = "|".join(self.text[piece.start : piece.end].replace("\n", "↵") for piece in cut)
            lines += [f"{name}: {counted(sum(len(piece.ids) for piece in cut), 'token')}", bars, ""]
        return Lines([f"How {self.title} is cut", "", *lines[:-1]]).markdown()


JOINERS = "\u200c\u200d"
"""Join letters and emoji, and part them: the text is not the same without."""


def _visible(character: str) -> str:
    """Line ends and tabs as signs beside what they do; by number what is unseen, or would turn the direction."""
    if character in "\n\t\r":
        return {"\n": "↵\n", "\t": "⇥\t", "\r": "␍"}[character]
    hidden = unicodedata.category(character) in ("Cc", "Cf", "Co", "Zl", "Zp") and character not in JOINERS
    return f"[U+{ord(character):04X}]" if hidden else character
