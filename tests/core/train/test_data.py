"""Rows, mixtures and schedules: pure functions of their numbers."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from llmtool.core.corpus.token_files import TokenFile, open_tokens, refuse_out_of_range
from llmtool.core.run.errors import UserError
from llmtool.core.train.data import Mixture, RowBatches, TokenRows, shares, shuffled, to_batch
from llmtool.core.train.objective import IGNORED
from llmtool.core.train.schedules import SHAPES, Schedule


def corpus(tokens: int, name: str = "c", first: int = 0, documents: int = 1) -> TokenFile:
    ids = np.arange(first, first + tokens, dtype=np.uint32)
    return TokenFile(name, ids, np.linspace(0, tokens, documents + 1).astype(np.uint64))


@pytest.mark.parametrize("size", [1, 2, 3, 16, 17, 100, 1025])
def test_shuffled_is_a_permutation(size: int) -> None:
    places = [shuffled(number, size, (7, "a")) for number in range(size)]
    assert sorted(places) == list(range(size))
    if size > 16:
        assert places != list(range(size))
        assert places != [shuffled(number, size, (8, "a")) for number in range(size)]


@pytest.mark.parametrize("tokens", [9, 10, 16, 17, 18, 1000])
def test_an_epoch_holds_each_token_once(tokens: int) -> None:
    rows = TokenRows(corpus(tokens), 8, seed=3)
    for epoch in range(3):
        drawn = [rows.row(epoch * rows.rows + number)[0] for number in range(rows.rows)]
        starts = sorted(int(row[0]) for row in drawn)
        assert all(b - a == 8 for a, b in pairwise(starts))
        assert all((np.diff(row) == 1).all() and len(row) == 9 for row in drawn)
        assert tokens - 8 * rows.rows <= 8


def test_a_corpus_shorter_than_a_row_is_refused() -> None:
    with pytest.raises(UserError, match="fewer than a row"):
        TokenRows(corpus(8), 8, seed=0)


def test_mixture_keeps_weights_and_each_sources_order() -> None:
    sources = [TokenRows(corpus(4000, "a"), 8, 0), TokenRows(corpus(4000, "b", 10_000), 8, 0)]
    mixture = Mixture(sources, [3, 1])
    rows = [mixture.row(number)[0] for number in range(25_000)]
    second = np.array([row[0] >= 10_000 for row in rows])
    assert second.sum() == len(rows) // 4
    assert abs(second.cumsum() - np.arange(1, len(rows) + 1) / 4).max() <= 1  # even from row to row
    assert [row.tolist() for row in rows if row[0] < 10_000][:600] == [
        sources[0].row(number)[0].tolist() for number in range(600)
    ]


def test_a_weight_too_small_or_not_positive_is_refused() -> None:
    sources = [TokenRows(corpus(100, "a"), 8, 0), TokenRows(corpus(100, "b"), 8, 0)]
    for weights in ([1, 1e-9], [1, 0], [1, -1]):
        with pytest.raises(UserError):
            Mixture(sources, weights)


def test_rows_do_not_depend_on_who_asks() -> None:
    batches = RowBatches(Mixture([TokenRows(corpus(5000, documents=90), 8, 0)], [1]), 12)
    whole = batches.batch(5, range(12))
    parts = [batches.batch(5, rows) for rows in shares(12, 4)]
    assert whole.ids.tolist() == [row for part in parts for row in part.ids.tolist()]
    assert whole.labels.tolist() == [row for part in parts for row in part.labels.tolist()]
    assert batches.batch(6, range(12)).ids.tolist() != whole.ids.tolist()


def test_no_document_predicts_the_next_ones_first_token() -> None:
    file = corpus(5000, documents=300)
    batch = RowBatches(TokenRows(file, 32, 0), 16).batch(0, range(16))
    assert batch.documents is not None
    starts = set(file.starts.tolist())
    firsts = [[int(label) in starts for label in row] for row in (batch.ids + 1)]
    assert (np.array(firsts) == (batch.labels == IGNORED).numpy()).all()
    assert (batch.labels == IGNORED).sum() > 20
    numbers = np.searchsorted(file.starts, batch.ids.numpy(), "right")
    assert (np.diff(numbers) == np.diff(batch.documents.numpy())).all()
    assert not (batch.documents[:, 0] != 0).any()
    plain = RowBatches(TokenRows(file, 32, 0, mask_documents=False), 16).batch(0, range(16))
    assert plain.documents is None
    assert (plain.labels == plain.ids + 1).all()


@pytest.mark.parametrize("rows", [1, 2])
def test_what_is_left_out_of_the_labels_stays_in_the_inputs(rows: int) -> None:
    """A batch of one row shared its inputs with its labels: training and evaluation died of an id of -100."""
    ids = np.arange(33 * rows).reshape(rows, 33)
    batch = to_batch(list(ids), [np.arange(33) // 5] * rows)
    assert (batch.labels == IGNORED).sum() == 6 * rows
    assert (batch.ids.numpy() == ids[:, :-1]).all()
    batch.labels[:] = IGNORED
    assert (batch.ids.numpy() == ids[:, :-1]).all()


def test_parts_keep_documents() -> None:
    file = corpus(100, documents=10)
    part = file.part(15, 45)
    assert part.starts.tolist() == [0, 5, 15, 25, 30]
    assert part.fingerprint() != file.fingerprint()


def test_bad_token_files_are_one_line(tmp_path: Path) -> None:
    bare = tmp_path / "bare.bin"
    bare.write_bytes(b"\0" * 10)
    with pytest.raises(UserError, match="is missing"):
        open_tokens(bare)
    for name, array in (
        ("float", np.zeros(3)),
        ("square", np.zeros((2, 2), np.int64)),
        ("empty", np.zeros(0, np.int64)),
    ):
        np.save(tmp_path / f"{name}.npy", array)
        with pytest.raises(UserError, match="wanted whole numbers"):
            open_tokens(tmp_path / f"{name}.npy")
    np.save(tmp_path / "good.npy", np.array([1, 2, 99]))
    file = open_tokens(tmp_path / "good.npy")
    refuse_out_of_range(file, 100)
    with pytest.raises(UserError, match=r"id 99.*ends at 98"):
        refuse_out_of_range(file, 99)
    np.save(tmp_path / "negative.npy", np.array([1, -2]))
    with pytest.raises(UserError, match="id -2"):
        refuse_out_of_range(open_tokens(tmp_path / "negative.npy"), 99)


@pytest.mark.parametrize("shape", SHAPES)
def test_schedules_rise_hold_and_end(shape: str) -> None:
    plan = Schedule(shape, steps=100, warmup=10, final=0.1, decay=0.2).check()
    rates = [plan(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == 1.0
    assert rates[-1] == pytest.approx(1.0 if shape == "constant" else 0.1)
    assert all(a >= b for a, b in pairwise(rates[9:]))
    if shape == "wsd":
        assert rates[79] == 1.0
        assert rates[80] < 1.0
        assert np.allclose(np.diff(rates[79:], 2), 0)


def test_schedules_that_cannot_be_followed_are_refused() -> None:
    for plan in (Schedule("cosine", 10, warmup=11), Schedule("cosine", 10, final=2), Schedule("square", 10)):
        with pytest.raises(UserError):
            plan.check()
