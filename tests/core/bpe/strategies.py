"""Random corpora: short pieces over few bytes, so that every rare case of the merge loop is met often."""

from hypothesis import strategies as st

piece = st.one_of(
    st.text("ab", min_size=1, max_size=12),
    st.text("abc", min_size=1, max_size=8),
    st.text("aé漢 ", min_size=1, max_size=6),
).map(str.encode)
pieces = st.dictionaries(piece, st.integers(1, 9), min_size=1, max_size=8)
any_bytes = st.one_of(st.binary(max_size=40), st.text(max_size=30).map(lambda t: t.encode("utf-8", "surrogatepass")))
