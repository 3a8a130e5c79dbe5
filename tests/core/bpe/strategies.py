"""Random corpora: short pieces over few bytes, so that every rare case of the merge loop is met often."""

import random

from hypothesis import strategies as st

from llmtool.core.bpe.definition import Definition
from llmtool.core.bpe.vocabulary import Vocabulary

piece = st.one_of(
    st.text("ab", min_size=1, max_size=12),
    st.text("abc", min_size=1, max_size=8),
    st.text("aé漢 ", min_size=1, max_size=6),
).map(str.encode)
pieces = st.dictionaries(piece, st.integers(1, 9), min_size=1, max_size=8)
any_bytes = st.one_of(st.binary(max_size=40), st.text(max_size=30).map(lambda t: t.encode("utf-8", "surrogatepass")))
texts = st.lists(st.text("abcé ", min_size=1, max_size=14), min_size=1, max_size=8)


def random_base(draw: random.Random, characters: bool = False) -> Definition:
    """A tokenizer as no training makes it: merges in any order, tokens that no merge makes, gaps between ids."""
    alphabet = [c.encode() for c in "abcé "] if characters else [bytes([byte]) for byte in range(256)]
    units = [symbol for symbol in alphabet if not characters or symbol != "é".encode()]
    merges = []
    for _ in range(draw.randint(1, 12)):
        usable = [u for u in range(len(units)) if characters or u >= 256 or units[u] in b"abc "]
        left, right = draw.choice(usable), draw.choice(usable)
        if units[left] + units[right] not in units:
            units.append(units[left] + units[right])
            merges.append((left, right, len(units) - 1))
    draw.shuffle(merges)
    for text in (b"abca", b"cab"):
        if draw.random() < 0.5 and text not in units:
            units.append(text)
    ids = draw.sample(range(len(units) + 5), len(units))
    return Definition(
        Vocabulary(units, merges, [(i,) for i in ids], alphabet="characters" if characters else "bytes"),
        "none" if characters else draw.choice(["none", "gpt2"]), ignore_merges=draw.random() < 0.3,
    )  # fmt: skip
