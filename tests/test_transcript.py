"""What a document shows is held to what is printed: these must fail, and these must not."""

import pytest

from tests.transcript import Step, differences, missing, same, steps

DOCUMENT = """
```sh
A=1
```
<!-- needs: package -->
```console
$ echo one \\
>   two
one two
$ true
```
"""


def test_steps() -> None:
    assert steps(DOCUMENT) == [
        Step("A=1\n", None, None),
        Step("echo one \\\n  two", ("one two",), "package"),
        Step("true", (), "package"),
    ]


@pytest.mark.parametrize("shown, printed", [
    ("loss 6.5", "loss   7.1"), ("4,000 tokens", "4,399 tokens"), ("in 0.3 s, 9 MB/s", "in 70 s, 0.1 MB/s"),
    ("a … c", "a b, b, c"), ("───", "──────"), ("0.01 and 0", "0.02 and 1"), ("used 12 x…", "used 13 x and more"),
])  # fmt: skip
def test_alike(shown: str, printed: str) -> None:
    assert same(shown, printed)


@pytest.mark.parametrize("shown, printed", [
    ("loss 6.5", "loss 7.2"), ("4,000 tokens", "4,500 tokens"), ("4,000 tokens", "4,000 token"), ("a … c", "a b"),
    ("1 row", "None rows"), ("0.066", "-0.066"), ("loss 6.5", "loss nan"), ("3 of 4", "3 of 4 and 5"),
])  # fmt: skip
def test_different(shown: str, printed: str) -> None:
    assert not same(shown, printed)


def test_lines_in_their_order() -> None:
    printed = "one\n\ntwo\nthree\n"
    for shown in (("one", "two", "three"), ("...", "three"), ("one", "..."), ("one", "...", "three"), ("...",)):
        assert missing(shown, printed) is None
    assert missing(("one", "three"), printed) == "three"
    assert missing(("three", "...", "one"), printed) == "three"
    assert missing(("...", "four"), printed) == "four"
    assert missing(("one",), printed) == "(nothing more, but there is) two"
    assert missing((), "surprise\n") is not None
    step = Step("x", ("one",), None)
    assert differences([step, Step("y", None, None)], ["two\n", "anything"]) == ["$ x\n  shown: one\n  printed:\ntwo\n"]
