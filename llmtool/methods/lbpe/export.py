"""LBPE as stock `tokenizers` components, 0.19 to 0.23: one Split for each token length, the longest first.

After the pattern's pieces are spelled as bytes, the Split of length l isolates the tokens of l bytes, leftmost first.
A piece that a longer Split isolated is matched whole by a guard, `\\A(?:longer tokens)\\z`, so it is not cut again.
What remains at the end are tokens and single bytes, which a BPE without merges takes as they are (`ignore_merges`:
0.15 and before pass over it and give single bytes; 1.0 refuses a Split behind ByteLevel).
"""

from collections.abc import Iterable
from typing import Any

from llmtool.core.bpe.definition import Definition
from llmtool.core.bpe.pretokenizers import isolating
from llmtool.core.bpe.stock_form import bpe, cutting
from llmtool.core.bpe.vocabulary import token_to_string
from llmtool.core.run.errors import UserError

LONGEST_TOKEN = 400
"""Bytes; a regex nests once for each byte of a token."""


def stock_form(definition: Definition) -> dict[str, Any]:
    """`pre_tokenizer` and `model` of a tokenizer.json; exact for the longest bytes, leftmost of equals."""
    if (definition.length, definition.ties) != ("bytes", "leftmost"):
        what = f"LBPE with length {definition.length!r}, ties {definition.ties!r} has no stock form"
        raise UserError(what, hint="only length 'bytes' with ties 'leftmost' has")
    if definition.vocabulary.alphabet != "bytes":
        raise UserError("LBPE's stock form is of bytes, and this vocabulary's alphabet is of characters")
    tokens = [token_to_string(token) for token in definition.vocabulary.id_of]
    longest = max(tokens, key=len)
    if len(longest) > LONGEST_TOKEN:
        what = f"a token of {len(longest)} bytes is too long for LBPE's stock form"
        raise UserError(what, hint=f"at most {LONGEST_TOKEN}")
    cuts = [isolating(_cut(tokens, length)) for length in sorted({len(token) for token in tokens} - {1}, reverse=True)]
    return {"pre_tokenizer": cutting(definition, cuts), "model": bpe(definition, [], ignore_merges=True)}


def _cut(tokens: list[str], length: int) -> str:
    """The regex for one length. Only tokens that hold one of this length need the guard."""
    these = {token for token in tokens if len(token) == length}
    longer = [
        token
        for token in tokens
        if len(token) > length and any(token[at : at + length] in these for at in range(len(token) - length + 1))
    ]
    guard = rf"\A{one_of(longer)}\z|" if longer else ""
    return guard + one_of(these)


def one_of(words: Iterable[str]) -> str:
    """A regex for any of these words, the longest that fits, written as a tree of what they begin with.

    A flat list would be tried word by word at every character.
    """
    heads: dict[str, list[str]] = {}
    for word in sorted(words):
        heads.setdefault(word[:1], []).append(word[1:])
    ends = heads.pop("", None) is not None
    branches = [_escaped(head) + (one_of(tails) if any(tails) else "") for head, tails in heads.items()]
    if not branches:
        return ""
    group = branches[0] if len(branches) == 1 and not ends else f"(?:{'|'.join(branches)})"
    return group + ("?" if ends else "")


def _escaped(character: str) -> str:
    return "\\" + character if character in r"\.+*?()|[]{}^$-&~#/" else character
