"""The C++ engine by itself: any merge list, hostile text, hostile arguments, threads."""

import array
import itertools
import random
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from llmtool.core.bpe import pretokenizers, reference
from llmtool.core.bpe.vocabulary import BYTE_ORDER
from llmtool.methods.lbpe import reference as lbpe_reference
from tests.core.bpe.arrays import ends_of, numbers, u32

_engine = pytest.importorskip("llmtool.core.bpe._engine")

BYTES = [bytes([byte]) for byte in BYTE_ORDER]
UNIT = {byte: unit for unit, byte in enumerate(BYTE_ORDER)}
Merges = Sequence[tuple[int, int, int]]


def encoder(
    units: Sequence[bytes],
    merges: Merges = (),
    *,
    pretokenizer: str = "none",
    policy: str = "merge",
    emit: Sequence[Sequence[int]] | None = None,
    ignore_merges: bool = False,
    order: Sequence[int] | None = None,
) -> Any:
    """An encoder that writes each unit as its own number unless told otherwise."""
    emit = [[unit] for unit in range(len(units))] if emit is None else emit
    return _engine.Encoder(
        pretokenizer,
        policy,
        b"".join(units),
        ends_of(units),
        u32(itertools.chain.from_iterable(merges)),
        u32(itertools.chain.from_iterable(emit)),
        ends_of(emit),
        ignore_merges,
        None if order is None else u32(order),
    )


def trained_on(documents: Sequence[bytes], size: int, policy: str = "bpe", name: str = "llama3") -> Any:
    counter = _engine.PieceCounter(name)
    counter.add(b"".join(documents), ends_of(documents))
    return _engine.train(counter, policy, size, 0, 1024, bytes(BYTE_ORDER))


def units_and_merges(trained: Any) -> tuple[list[bytes], list[tuple[int, int, int]]]:
    flat = numbers(trained.merges)
    merges = list(zip(flat[::3], flat[1::3], flat[2::3], strict=True))
    units = list(BYTES)
    for left, right, result in merges:
        assert result == len(units)
        units.append(units[left] + units[right])
    return units, merges


@st.composite
def any_merge_list(draw: st.DrawFn) -> tuple[list[bytes], list[tuple[int, int, int]]]:
    """Units over few letters and any of their splits in any order: also lists that no training would make."""
    words = draw(st.sets(st.text("abc", min_size=2, max_size=5), min_size=1, max_size=12))
    units = BYTES + sorted(word.encode() for word in words)
    number = {unit: index for index, unit in enumerate(units)}
    splits = [
        (number[word[:cut]], number[word[cut:]], number[word])
        for word in units[256:]
        for cut in range(1, len(word))
        if word[:cut] in number and word[cut:] in number
    ]
    kept = draw(st.permutations(splits).flatmap(lambda all_: st.integers(0, len(all_)).map(lambda n: all_[:n])))
    return units, kept


texts = st.text("abc", min_size=1, max_size=24).map(str.encode)


@given(any_merge_list(), st.lists(texts, min_size=1, max_size=8), st.booleans())
@settings(max_examples=3000, deadline=None)
def test_any_merge_list(
    vocabulary: tuple[list[bytes], list[tuple[int, int, int]]], documents: list[bytes], ignore_merges: bool
) -> None:
    units, merges = vocabulary
    engine = encoder(units, merges, ignore_merges=ignore_merges)
    for text in documents:
        expected = reference.encode_piece([UNIT[byte] for byte in text], merges)
        if ignore_merges and text in units:
            expected = [units.index(text)]
        assert numbers(engine.encode(text)) == expected


@given(any_merge_list(), st.lists(texts, min_size=1, max_size=8), st.booleans())
@settings(max_examples=400, deadline=None)
def test_lbpe_of_any_units(
    vocabulary: tuple[list[bytes], list[tuple[int, int, int]]], documents: list[bytes], repeat: bool
) -> None:
    units, _ = vocabulary
    ids = {unit: number for number, unit in enumerate(units)}
    engine = encoder(units, policy="lbpe")
    for text in documents:
        long = text * 6 if repeat else text  # past 64 bytes the engine takes another way
        assert numbers(engine.encode(long)) == lbpe_reference.encode_piece(long, ids)


@given(any_merge_list(), texts, st.randoms(use_true_random=False))
@settings(max_examples=500, deadline=None)
def test_lbpe_in_the_order_of_the_caller(
    vocabulary: tuple[list[bytes], list[tuple[int, int, int]]], text: bytes, chance: random.Random
) -> None:
    units, _ = vocabulary
    order = [chance.randrange(6) for _ in units]
    matches = sorted(
        (order[number], start, -len(unit), number)
        for number, unit in enumerate(units)
        for start in range(len(text))
        if text.startswith(unit, start)
    )
    free, accepted = set(range(len(text))), {}
    for _, start, negative, number in matches:
        span = set(range(start, start - negative))
        if span <= free:
            free -= span
            accepted[start] = number
    expected = [accepted[start] for start in sorted(accepted)]
    assert numbers(encoder(units, policy="lbpe", order=order).encode(text)) == expected


@pytest.mark.parametrize("name", ["gpt2", "llama3"])
def test_training_and_ids_equal_the_tokenizers_package(name: str, sources: list[bytes]) -> None:
    documents = [source.decode().replace("\r", "") for source in sources]
    if name == "gpt2":
        cut: Any = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        pattern = pre_tokenizers.Split(Regex(pretokenizers.PRETOKENIZERS[name].pattern), "isolated")
        cut = pre_tokenizers.Sequence([pattern, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    theirs = Tokenizer(models.BPE())
    theirs.pre_tokenizer, theirs.decoder = cut, decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    theirs.train_from_iterator(
        documents, trainers.BpeTrainer(vocab_size=3000, initial_alphabet=alphabet, show_progress=False)
    )
    units, merges = units_and_merges(trained_on([text.encode() for text in documents], 3000, name=name))
    assert len(merges) == 3000 - 256
    ours = encoder(units, merges, pretokenizer=name)
    for text in documents[-30:]:
        assert numbers(ours.encode(text.encode())) == theirs.encode(text).ids


def test_scaffolds_are_written_as_their_parts(sources: list[bytes]) -> None:
    trained = trained_on(sources, 1500, "scaffold")
    units, merges = units_and_merges(trained)
    assert trained.scaffold.count(1) == trained.marks - trained.promotions > 50
    parts = {result: (left, right) for left, right, result in merges}
    emit: list[list[int]] = []
    for unit in range(len(units)):
        emit.append([unit] if not trained.scaffold[unit] else emit[parts[unit][0]] + emit[parts[unit][1]])
    plain = encoder(units, merges, pretokenizer="llama3")
    written = encoder(units, merges, pretokenizer="llama3", emit=emit)
    for text in sources[:20]:
        expected = [number for unit in numbers(plain.encode(text)) for number in emit[unit]]
        assert numbers(written.encode(text)) == expected


def test_one_training_for_any_number_of_threads(sources: list[bytes]) -> None:
    results = set()
    for threads in (1, 2, 5):
        counter = _engine.PieceCounter("llama3", threads)
        for _ in range(3):
            counter.add(b"".join(sources), ends_of(sources))
        trained = _engine.train(counter, "scaffold", 1200, 0, 1024, bytes(BYTE_ORDER))
        results.add((trained.merges, trained.frequencies, trained.scaffold, counter.pieces, counter.bytes))
    assert len(results) == 1


def test_the_same_ids_for_any_number_of_threads_and_callers(sources: list[bytes]) -> None:
    documents = [b"", *sources, b"", b"x" * 700, *[source[:17] for source in sources], b""] * 3
    units, merges = units_and_merges(trained_on(sources, 1000))
    engine = encoder(units, merges, pretokenizer="llama3")
    text, ends = b"".join(documents), ends_of(documents)
    single = [engine.encode(document) for document in documents]
    id_ends = array.array("Q", [end // 4 for end in itertools.accumulate(map(len, single))]).tobytes()
    expected = (b"".join(single), id_ends)
    assert all(engine.encode_batch(text, ends, threads) == expected for threads in (0, 1, 2, 7))
    found: list[Any] = []
    callers = [threading.Thread(target=lambda: found.append(engine.encode_batch(text, ends, 2))) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert found == [expected] * 4
    assert engine.encode_batch(b"", b"") == (b"", b"")
    assert engine.encode(bytearray(b"")) == b""


def test_caches_forget_without_harm(sources: list[bytes]) -> None:
    """More distinct pieces of every kind than the caches hold, with more ids than an entry holds, twice."""
    chance = random.Random(5)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(chance.choices(letters, k=chance.choice((7, 14, 15, 16, 30, 31, 32, 80)))) for _ in range(200_000)]
    engine = encoder(BYTES, pretokenizer="llama3")
    text = " ".join(words).encode()
    expected = u32(UNIT[byte] for byte in text)
    assert engine.encode(text) == expected
    assert engine.encode(text) == expected


def test_caches_grow_and_keep_what_they_know(sources: list[bytes]) -> None:
    """Tables begin with 1,024 entries: most of 20,000 pieces of two kinds are still known when they come again."""
    chance = random.Random(6)
    words = ["".join(chance.choices("abcdefghij", k=chance.choice((6, 9, 20)))) for _ in range(20_000)]
    units, merges = units_and_merges(trained_on(sources, 1000))
    engine = encoder(units, merges, pretokenizer="llama3")
    text = " ".join(words).encode()
    ids = engine.encode(text)
    first = engine.operations
    assert engine.encode(text) == ids
    assert 0 < engine.operations - first < first / 2
    assert ids == b"".join(encoder(units, merges, pretokenizer="llama3").encode(part) for part in parts_of(text))


def parts_of(text: bytes) -> list[bytes]:
    """Some 500 words each, cut before a space, where pieces begin."""
    words = text.split(b" ")
    return [(b" " if start else b"") + b" ".join(words[start : start + 500]) for start in range(0, len(words), 500)]


HOSTILE: dict[str, Callable[[int], bytes]] = {
    "letter": lambda n: b"a" * n,
    "spaces": lambda n: b" " * n,
    "emoji": lambda n: "😀".encode() * (n // 4),
    "random": lambda n: random.Random(3).randbytes(n),
    "words": lambda n: (b"the quick brown fox jumps over a lazy dog" * (n // 40 + 1))[:n],
    "period": lambda n: (b"aab" * (n // 3 + 1))[:n],
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("policy", ["merge", "any order", "lbpe", "order"])
def test_steps_grow_with_the_text(kind: str, policy: str, sources: list[bytes]) -> None:
    """One piece of 200 KB takes at most 13 times the steps of one of 20 KB: no blow-up in any encoder."""
    units, merges = units_and_merges(trained_on([*sources[:20], b"a" * 600, b" " * 600, "😀".encode() * 90], 1500))
    if policy == "any order":  # an older merge of younger parts: the general encoder has to be taken
        units, merges = [*units, units[-1] + units[-2]], [(len(units) - 1, len(units) - 2, len(units)), *merges]
    order = [-len(unit) % 1000 for unit in units] if policy == "order" else None
    steps = []
    for size in (20_000, 200_000):
        engine = encoder(units, merges, policy="lbpe" if order or policy == "lbpe" else "merge", order=order)
        text = HOSTILE[kind](size)
        ids = numbers(engine.encode(text))
        assert b"".join(units[unit] for unit in ids) == text
        steps.append(engine.operations)
    assert 0 < steps[1] <= 13 * steps[0]


def test_many_tokens_of_one_letter_take_one_place_each() -> None:
    """61 tokens match at every place of "aaa..."; in any order they are looked at, not stored, 61 times."""
    units = [*BYTES, *(b"a" * length for length in range(2, 62))]
    engine = encoder(units, [], policy="lbpe", order=[-len(unit) % 1000 for unit in units])
    ids = numbers(engine.encode(b"a" * 300_000))
    assert b"".join(units[unit] for unit in ids) == b"a" * 300_000
    assert engine.operations < 300_000 * 61 * 5


PAIR_LAST = array.array("Q", [*range(1, 256), 257]).tobytes()
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no such policy": ({"policy": "unigram"}, "unknown encoding policy: unigram"),
    "no such pre-tokenizer": ({"pretokenizer": "gpt3"}, "unknown pre-tokenizer: gpt3"),
    "a byte is missing": ({"units": b"".join([*BYTES[:255], b"ab"]), "unit_ends": PAIR_LAST}, "no unit for byte 173"),
    "the same bytes twice": ({"units": b'"' + b"".join(BYTES[1:])}, "units 0 and 1 are the same bytes"),
    "ends decrease": ({"unit_ends": array.array("Q", [*range(1, 255), 9, 256]).tobytes()}, "unit_ends: offsets"),
    "ends beyond": ({"unit_ends": array.array("Q", [*range(1, 256), 2**63]).tobytes()}, "unit_ends: offsets"),
    "ends before": ({"unit_ends": array.array("Q", range(1, 256)).tobytes()}, "unit_ends: offsets"),
    "half an item": ({"unit_ends": b"\0" * 9}, "unit_ends: not a whole number"),
    "emit ends short": ({"emit_ends": array.array("Q", [256]).tobytes()}, "emit_ends: not one for each unit"),
    "emit too long": ({"emit": u32(range(512)), "emit_ends": array.array("Q", range(2, 514, 2)).tobytes()}, "more ids"),
    "merge out of range": ({"merges": u32([0, 1, 256])}, "merge 0 names a unit"),
    "merge of pairs": ({"merges": u32([0, 1])}, "merges: not a whole number of triples"),
    "merge misspelled": ({"merges": u32([0, 1, 2])}, "merge 0 does not spell its result"),
    "order too short": ({"policy": "lbpe", "order": u32([1])}, "order: not one for each unit"),
    "order of merges": ({"order": u32(range(256))}, "order: only for policy lbpe"),
    "an unknown unit that is none": ({"unknown_unit": 256}, "unknown: names a unit that does not exist"),
    "a byte's unit that is none": (
        {"byte_units": u32([*range(255), 256])},
        "unknown: names a unit that does not exist",
    ),
    "an unknown unit of two ids": (
        {
            "units": b"".join(BYTES) + b'!"',
            "unit_ends": ends_of([*BYTES, b'!"']),
            "emit": u32(range(258)),
            "emit_ends": array.array("Q", [*range(1, 257), 258]).tobytes(),
            "unknown_unit": 256,
        },
        "unknown: a unit is written as more than one id",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments_are_refused(case: str) -> None:
    wrong, message = WRONG[case]
    right = {
        "pretokenizer": "gpt2",
        "policy": "merge",
        "units": b"".join(BYTES),
        "unit_ends": ends_of(BYTES),
        "merges": b"",
        "emit": u32(range(256)),
        "emit_ends": array.array("Q", range(1, 257)).tobytes(),
    }
    assert _engine.Encoder(**right).encode(b"!") == u32([0])
    with pytest.raises(ValueError, match=message):
        _engine.Encoder(**{**right, **wrong})


def test_pairs_are_joined_once() -> None:
    with pytest.raises(ValueError, match="merge 1 joins a pair that an earlier one joins"):
        encoder([*BYTES, b'!"'], [(0, 1, 256), (0, 1, 256)])
    with pytest.raises(ValueError, match="merge 0 joins a unit without bytes"):
        encoder([*BYTES, b""], [(256, 0, 0)])


@pytest.mark.parametrize("ends", [[1], [3, 2], [4], [2, 3, 2**64 - 1], [2**40, 3]])
def test_wrong_document_ends_are_refused(ends: list[int]) -> None:
    packed = array.array("Q", ends).tobytes()
    for call in (encoder(BYTES).encode_batch, _engine.PieceCounter("gpt2").add):
        with pytest.raises(ValueError, match="ends: offsets"):
            call(b"abc", packed)


def test_wrong_training_arguments_are_refused() -> None:
    counter = _engine.PieceCounter("gpt2")
    for order in (b"", bytes(255), bytes(256), bytes(range(256)) + b"a"):
        with pytest.raises(ValueError, match="byte_order: not each byte once"):
            _engine.train(counter, "bpe", 300, 0, 1024, order)
    with pytest.raises(ValueError, match="unknown training policy: wordpiece"):
        _engine.train(counter, "wordpiece", 300, 0, 1024, bytes(range(256)))
    assert _engine.train(counter, "bpe", 300, 0, 1024, bytes(range(256))).merges == b""


def test_lines_of_ids() -> None:
    ids = [0, 7, 10, 4294967295, 99, 100]
    ends = array.array("Q", [0, 4, 4, 6]).tobytes()
    assert _engine.format_ids(u32(ids), ends) == b"\n0 7 10 4294967295\n\n99 100\n"
    assert _engine.format_ids(b"", b"") == b""
    for wrong in ([7], [5], [4, 3, 6]):
        with pytest.raises(ValueError, match="ends: "):
            _engine.format_ids(u32(ids), array.array("Q", wrong).tobytes())
