"""LBPE in portable Python: all matches in order, accepting what overlaps nothing accepted.

Equal to the recursion of reference.py because an accepted token splits the piece for everything after it.
The C++ engine's policy_lbpe.hpp does the same.
"""

from typing import Any

from llmtool.core.bpe.definition import Definition
from llmtool.core.bpe.encoder import between_unknown
from llmtool.core.bpe.policy import PieceCutter
from llmtool.methods.lbpe.reference import token_key


class LBPE:
    """Encoding policy: the longest token first. Needs the tokens only, no merges; scaffolds are never produced."""

    native = "lbpe"
    needs_merges = False

    def cutter(self, definition: Definition) -> PieceCutter:
        """What cuts a piece into units, portable."""
        vocabulary = definition.vocabulary
        unit_of = vocabulary.unit_of
        tokens = {vocabulary.units[unit] for unit in self.units(definition)}
        priority = _priorities(definition)
        lengths = sorted({len(token) for token in tokens}, reverse=True)

        def cut(piece: bytes) -> list[int]:
            if piece in tokens:
                return [unit_of[piece]]
            size = len(piece)
            matches = [
                (priority[token], start, token)
                for length in lengths
                if length <= size
                for start in range(size - length + 1)
                if (token := piece[start : start + length]) in tokens
            ]
            taken = bytearray(size)
            accepted: list[tuple[int, int]] = []
            for _, start, token in sorted(matches):
                end = start + len(token)
                if not any(taken[start:end]):
                    taken[start:end] = b"\1" * len(token)
                    accepted.append((start, unit_of[token]))
            return [unit for _, unit in sorted(accepted)]

        def cut_known(run: list[int]) -> list[int]:
            return cut(b"".join(vocabulary.units[unit] for unit in run))

        return cut if definition.spells_bytes else between_unknown(vocabulary, cut_known)

    def order(self, definition: Definition) -> list[int] | None:
        """None where the engine's default, longest bytes and leftmost, is meant."""
        if definition.length == "bytes" and definition.ties == "leftmost":
            return None
        priority = _priorities(definition)
        return [priority[definition.vocabulary.units[unit]] for unit in self.units(definition)]

    def units(self, definition: Definition) -> list[int]:
        """Tokens only; added tokens are none, unless a text needs one as a symbol."""
        vocabulary = definition.vocabulary
        added = set(vocabulary.added_ids.values())
        return [
            unit
            for unit, ids in enumerate(vocabulary.emit)
            if len(ids) == 1 and (ids[0] not in added or len(vocabulary.symbols(vocabulary.units[unit])) == 1)
        ]

    def to_huggingface(self, definition: Definition) -> dict[str, Any]:
        """The stock form of export.py."""
        from llmtool.methods.lbpe.export import stock_form

        return stock_form(definition)


def _priorities(definition: Definition) -> dict[bytes, int]:
    """Place of each token in the order in which tokens are taken; equal keys share a place."""
    vocabulary = definition.vocabulary
    ids = {vocabulary.units[unit]: vocabulary.emit[unit][0] for unit in LBPE().units(definition)}
    key = token_key(definition.length, definition.ties, ids)
    places = {value: place for place, value in enumerate(sorted({key(token) for token in ids}))}
    return {token: places[key(token)] for token in ids}
