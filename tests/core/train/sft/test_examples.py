"""Examples: masks, truncation, counts and packing."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("jinja2")

import torch

from llmtool.core.run.errors import UserError
from llmtool.core.train.objective import IGNORED
from llmtool.core.train.sft.batches import PackedExamples, pack
from llmtool.core.train.sft.conversation import WEIGHTED, Message, Row
from llmtool.core.train.sft.example import Examples
from llmtool.core.train.sft.examples import Around, Counts, make_examples, require_trainable
from llmtool.core.train.sft.template import Specials, Template

SPECIALS = Specials("", "~")


def encode(text: str, places: Sequence[int]) -> tuple[list[int], list[tuple[int, int]]]:
    """A token a character."""
    return [ord(c) for c in text], [(place, place) for place in places]


AROUND = Around((), (ord("~"),), frozenset([ord("~")]))


def test_masks_truncation_and_counts() -> None:
    template = Template("{% for m in messages %}{{ m.content }}|{% endfor %}", SPECIALS, "t")
    rows = [
        Row("d:1", (Message("user", "ab"), Message("assistant", "xyz"))),
        Row("d:2", (Message("user", "abcdefghijkl"), Message("assistant", "xyz"))),
        Row("d:3", (Message("user", "abcdef"), Message("assistant", "uvwxyz"))),
        Row("d:4", (Message("user", "a"),)),
        Row("d:5"),
        Row("d:6", pieces=(("pq", False), ("rs", True))),
        Row("d:7", (Message("user", "a"), Message("assistant", "b", untrained=WEIGHTED))),
    ]
    examples, counts = make_examples(rows, template, AROUND, encode, 9)
    facts = counts.to_json()
    losses = {"empty": 1, "masked": 2, "cut_masked": 1, "truncated": 1, "overlong": 0}
    sums = {"rows": 7, "kept": 3, "tokens": 7 + 10 + 5, "trained": 4 + 3 + 3, "answers": 5, "endless": 1}
    assert {key: facts[key] for key in losses | sums} == losses | sums
    assert counts.untrained == {"beyond the length": 1, WEIGHTED: 1}
    assert counts.ends == {ord("~"): 1}
    places = {"cut_masked": "d:2", "truncated": "d:3", "masked": "d:4", "empty": "d:5", "endless": "d:1"}
    assert {key: counts.first[key] for key in places} == places
    text = "".join(map(chr, examples[0].ids))
    assert (text, examples[0].trained.tolist()) == ("ab|xyz|", [False] * 3 + [True] * 4)
    assert "".join(map(chr, examples[2].ids)) == "pqrs~"
    assert examples[2].trained.tolist() == [False] * 2 + [True] * 3
    dropped, counts = make_examples(rows, template, AROUND, encode, 9, drop_overlong=True)
    assert (len(dropped), counts.overlong, counts.truncated) == (2, 2, 0)
    _, counts = make_examples([rows[3], rows[4], rows[6]], template, AROUND, encode, 9)
    words = r"d:5: nothing is trainable: of 3 rows 1 empty, 2 without an answer that is trained, answers: 1 weighted 0"
    with pytest.raises(UserError, match=words):
        require_trainable(counts, "d")


def make(lengths: list[int]) -> Examples:
    examples = Examples()
    for number, length in enumerate(lengths):
        examples.add([100 * (number + 1) + place for place in range(length)], [place > 1 for place in range(length)])
    return examples


@pytest.mark.parametrize("seed", range(3))
def test_packing_keeps_every_example_whole_and_apart(seed: int) -> None:
    lengths = np.random.default_rng(seed).integers(3, 30, 60).tolist()
    examples = make(lengths)
    packed = PackedExamples(examples, 29, 4, seed)
    assert sorted(number for row in packed.packed for number in row) == list(range(60))
    assert packed.fill > 0.9
    seen: list[int] = []
    for number in range(len(packed.packed)):
        ids, labels, documents = packed.row(number)
        for document in set(documents.tolist()):
            inside = documents == document
            if document == 29:  # padding
                assert (labels[inside] == IGNORED).all()
                continue
            own, wanted = ids[inside], labels[inside]
            example = int(own[0]) // 100 - 1
            seen.append(example)
            assert own.tolist() == examples[example].ids[:-1].tolist()
            assert wanted[0] == IGNORED
            assert wanted[1:].tolist() == examples[example].ids[2:].tolist()
    assert sorted(seen) == list(range(60))


def test_rows_depend_on_seed_and_step_alone() -> None:
    examples = make([5, 9, 7, 12, 4, 8, 6])
    one, same, other = (PackedExamples(examples, 12, 2, seed) for seed in (0, 0, 1))
    whole = one.batch(3, range(2))
    parts = [same.batch(3, range(row, row + 1)) for row in range(2)]
    assert torch.equal(whole.ids, torch.cat([part.ids for part in parts]))
    assert one.fingerprint() == same.fingerprint() != other.fingerprint()
    changed = make([5, 9, 7, 12, 4, 8, 6])
    changed._trained[3] ^= 1
    assert PackedExamples(changed, 12, 2, 0).fingerprint() != one.fingerprint()
    epochs = [[one.row(e * len(one.packed) + n)[0].tolist() for n in range(len(one.packed))] for e in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1])
    assert PackedExamples(examples, 12, 2, 0, packing=False).steps(2) == 7


def test_packing_is_best_fit() -> None:
    assert sorted(map(sorted, pack([6, 4, 5, 5], 10, 0))) == [[0, 1], [2, 3]]


def test_examples_are_mapped_as_they_were_saved(tmp_path: Path) -> None:
    examples = make([5, 9, 7])
    examples.save(tmp_path)
    found = Examples.mapped(tmp_path)
    assert (found.digest(), found.lengths, found.largest) == (examples.digest(), [5, 9, 7], 306)
    assert found[1].ids.tolist() == examples[1].ids.tolist()
    assert found[2].trained.tolist() == examples[2].trained.tolist()
    np.save(tmp_path / "ends.npy", np.array([0, 5, 14, 20]))
    with pytest.raises(ValueError, match="arrays of"):
        Examples.mapped(tmp_path)
    counts = Counts(rows=3, ends={7: 2}, first={"masked": "d:1"})
    assert Counts.of_json(counts.to_json()) == counts
