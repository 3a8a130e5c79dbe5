"""Every training path makes the same merges: the definition, portable Python, and the C++ engine with any threads."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmtool import Tokenizer, catalog
from llmtool.core.bpe import engine, reference
from llmtool.core.bpe.policy import Trained
from llmtool.core.bpe.pretokenizers import split
from llmtool.core.bpe.settings import TrainingSettings
from llmtool.core.bpe.training import count_pieces, number_tokens
from llmtool.core.bpe.vocabulary import LONGEST_PIECE, piece_parts
from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError
from llmtool.methods.scaffold_bpe import reference as scaffold_reference
from tests.core.bpe.strategies import pieces

fixture_is_stateless = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def by_engine(
    corpus: dict[bytes, int], algorithm: str, size: int, min_frequency: int = 0, threads: int = 1, longest: int = 1024
) -> Trained:
    """Train through the engine in use; each piece is a document of the pre-tokenizer `none`."""
    counts = engine.PieceCounts("none", threads, 0, "")
    counts.add([piece for piece, count in corpus.items() for _ in range(count)])
    policy = catalog.resolve(catalog.TRAINING, algorithm)
    return engine.train(counts, policy, size, min_frequency, lambda _: None, longest)


def defined(
    corpus: dict[bytes, int], algorithm: str, size: int, min_frequency: int = 0, longest: int = 1024
) -> Trained:
    """The literal result."""
    if algorithm == "bpe":
        return Trained(reference.train(corpus, size, min_frequency, longest))
    state = scaffold_reference.train(corpus, size, min_frequency, longest)
    merges = [(left, right, result) for (left, right), result in state.merges.items()]
    return Trained(merges, state.scaffolds, state.marks, state.promotions)


@pytest.mark.parametrize("algorithm", catalog.options(catalog.TRAINING))
@given(
    corpus=pieces,
    size=st.integers(256, 275),
    min_frequency=st.integers(0, 3),
    longest=st.sampled_from([2, 3, 4, 6, 1024]),
)
@fixture_is_stateless
def test_fast_equals_the_definition(
    each_engine: str, algorithm: str, corpus: dict[bytes, int], size: int, min_frequency: int, longest: int
) -> None:
    made = by_engine(corpus, algorithm, size, min_frequency, longest=longest)
    assert made == defined(corpus, algorithm, size, min_frequency, longest)


@pytest.mark.parametrize("algorithm", catalog.options(catalog.TRAINING))
def test_fast_equals_the_definition_on_real_text(each_engine: str, algorithm: str, sources: list[bytes]) -> None:
    text = b"\n".join(source[:2000] for source in sources[-12:])
    corpus = dict(Counter(split("llama3", text)))
    assert by_engine(corpus, algorithm, 380) == defined(corpus, algorithm, 380)


@pytest.mark.parametrize("algorithm", catalog.options(catalog.TRAINING))
def test_engines_and_threads_agree(algorithm: str, sources: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    def trained(threads: int) -> tuple[int, Trained]:
        counts = engine.PieceCounts("llama3", threads, 0, "")
        count_pieces(sources, counts)
        policy: Any = catalog.resolve(catalog.TRAINING, algorithm)
        return counts.pieces, engine.train(counts, policy, 2000, 2, lambda _: None)

    results = [trained(threads) for threads in (1, 2, 3)]
    monkeypatch.setattr(engine, "_NATIVE", None)
    assert all(result == trained(1) for result in results)


def test_special_tokens_are_cut_out_of_the_corpus(sources: list[bytes]) -> None:
    """As if the texts between them were documents of their own; and without the option they are learned, and told."""
    end, longer = "<|endoftext|>", "<|endoftext|>!"
    parts = [source[:3000] for source in sources[:6]]
    joined = end.encode().join(parts) + longer.encode() + end.encode()
    settings: dict[str, Any] = {"special": [end, longer], "vocab_size": 700}
    cut = Tokenizer.train_from_documents([joined], allow_special=True, **settings)
    assert cut.definition.vocabulary == Tokenizer.train_from_documents(parts, **settings).definition.vocabulary
    assert cut.definition.training["documents"] == 1


def test_special_tokens_that_are_learned_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    text = "tell me<|endoftext|>a tale<|endoftext|>" * 9
    for allowed, told in ((False, "holds special tokens 18 times (such as '<|endoftext|>')"), (True, "")):
        made = Tokenizer.train_from_documents(
            [text], 280, special=["<|endoftext|>"], allow_special=allowed, console=Console()
        )
        assert told in capsys.readouterr().err
        learned = any(b"endo" in token for token in made.definition.vocabulary.id_of)
        assert learned is not allowed


def test_progress_can_stop_training(each_engine: str, sources: list[bytes]) -> None:
    counts = engine.PieceCounts("gpt2", 1, 0, "")
    counts.add(sources)
    seen: list[int] = []

    def stop(size: int) -> None:
        seen.append(size)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.train(counts, catalog.resolve(catalog.TRAINING, "bpe"), 20_000, 0, stop)
    assert len(seen) == 1


def test_numbering_puts_special_tokens_first_or_last() -> None:
    corpus = {b"abab": 5, b"abc": 4}
    policy = catalog.resolve(catalog.TRAINING, "scaffold")
    trained = by_engine(corpus, "scaffold", 259)
    first = number_tokens(trained, policy, ["<s>", "</s>"], "first")
    last = number_tokens(trained, policy, ["<s>", "</s>"], "last")
    assert first.special == {"<s>": 0, "</s>": 1}
    assert last.special == {"<s>": first.size - 2, "</s>": first.size - 1}
    assert {token: number - 2 for token, number in first.id_of.items()} == last.id_of
    assert sorted(first.tokens) == list(range(first.size))


@pytest.mark.parametrize(
    "wrong, what",
    [
        ({"vocab_size": 255}, "below the alphabet"),
        ({"vocab_size": 257, "special": ("<a>", "<b>")}, "at least 258"),
        ({"vocab_size": 300, "special": ("<a>", "<a>")}, "given twice"),
        ({"vocab_size": 300, "special": ("",)}, "is empty"),
        ({"vocab_size": 300, "pretokenizer": "gpt3"}, "did you mean 'gpt2'"),
        ({"vocab_size": 300, "special_position": "middle"}, "first or last"),
        ({"vocab_size": 1 << 30}, "too large"),
    ],
)
def test_settings_that_cannot_be(wrong: dict[str, Any], what: str) -> None:
    with pytest.raises(UserError, match=what):
        TrainingSettings(**wrong).check()


def test_a_long_piece_is_counted_in_parts() -> None:
    """90 MB of NULs took 3 GB: one key of 90 MB, and 33 bytes a byte in the merge loop."""
    texts = [bytes(3_000_000), "é".encode() * 700_000, b"\x80" * 1_500_000, b"word " + b"A" * 1_200_000 + b" end"]
    found = []
    for native in (True, False):
        counts = engine.PieceCounts("llama3", 2, 0, "")
        if native and not counts.native:
            continue
        if not native:
            counts.native = None
        counts.add(texts)
        found.append(dict(counts.items()))
    assert found[0] == found[-1]
    assert max(map(len, found[0])) <= LONGEST_PIECE
    assert found[0][bytes(LONGEST_PIECE)] == 2
    assert found[0]["é".encode() * (LONGEST_PIECE // 2)] == 1
    assert sum(len(piece) * count for piece, count in found[0].items()) == sum(map(len, texts))
    for text in texts:
        parts = list(piece_parts(text))
        assert b"".join(parts) == text
        assert all(LONGEST_PIECE - 3 <= len(part) <= LONGEST_PIECE for part in parts[:-1])
