"""LBPE by definition: the longest token first (Lian et al., arXiv 2411.05504).

In each piece take the longest vocabulary token that occurs anywhere in it, the leftmost of equals, and recurse on
what remains on both sides. The paper's listing was not available; this is the decided reading (docs/methods/lbpe.md).
"""

from collections.abc import Callable, Mapping

Key = Callable[[bytes], tuple[int, ...]]


def token_key(length: str, ties: str, ids: Mapping[bytes, int]) -> Key:
    """What is taken first: the smallest key, and of equal keys the leftmost.

    length: "bytes", or "characters" (code points that begin in the token, then bytes).
    ties: "leftmost", or "rank" (of equally long tokens the one with the smaller id, wherever it stands).
    """

    def key(token: bytes) -> tuple[int, ...]:
        characters = sum(byte & 0xC0 != 0x80 for byte in token)
        size = (-characters, -len(token)) if length == "characters" else (-len(token),)
        return (*size, ids[token]) if ties == "rank" else size

    return key


def encode_piece(piece: bytes, ids: Mapping[bytes, int], length: str = "bytes", ties: str = "leftmost") -> list[int]:
    """Ids of a piece; every single byte must be a token."""
    if not piece:
        return []
    key = token_key(length, ties, ids)
    found = [
        (key(piece[start:end]), start, end)
        for start in range(len(piece))
        for end in range(start + 1, len(piece) + 1)
        if piece[start:end] in ids
    ]
    _, start, end = min(found)
    left = encode_piece(piece[:start], ids, length, ties)
    right = encode_piece(piece[end:], ids, length, ties)
    return [*left, ids[piece[start:end]], *right]
