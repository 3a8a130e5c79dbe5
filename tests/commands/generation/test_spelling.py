"""Stop strings in a stream: nothing of one is ever shown, and nothing else is lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtool.commands.generation.spelling import Cut, SpelledIds


class Letters:
    """An id is a letter; the last one comes with the end, as a character whose bytes are not all there does."""

    def __init__(self) -> None:
        self.kept = ""

    def push(self, token: int) -> str:
        out, self.kept = self.kept, chr(token)
        return out

    def finish(self) -> str:
        return self.kept


def spell(text: str, stops: list[str]) -> tuple[str, bool]:
    cut = Cut(Letters(), stops)
    return "".join([cut.push(ord(letter)) for letter in text] + [cut.finish()]), cut.ended


@given(st.text("abc", max_size=20), st.lists(st.text("abc", min_size=1, max_size=4), max_size=3))
def test_the_text_ends_where_the_first_stop_begins(text: str, stops: list[str]) -> None:
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    shown, ended = spell(text, stops)
    if not places:
        assert (shown, ended) == (text, False)
        return
    # Of stops that overlap the one that is complete first ends the stream.
    ends = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
    assert ended
    assert shown == text[: min(ends)[1]]


def test_what_might_be_a_stop_is_held_back() -> None:
    cut = Cut(Letters(), ["END"])
    assert [cut.push(ord(letter)) for letter in "aENxEND!"] == ["", "a", "", "", "ENx", "", "", ""]
    assert (cut.ended, cut.finish()) == (True, "")


def test_ids_as_numbers() -> None:
    cut = Cut(SpelledIds(), [])
    assert "".join(map(cut.push, [1, 22, 3])) == "1 22 3"


@pytest.mark.parametrize("stops", [["b", "ab"], ["ab", "b"]])
def test_of_two_that_end_together_the_longer_is_cut(stops: list[str]) -> None:
    assert spell("xab", stops) == ("x", True)
