"""One tokenizer in many hands: threads, forks, fresh processes, and buffers that are borrowed meanwhile."""

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from llmtool.tokenizer import Tokenizer
from tests.conftest import SCRIPTS
from tests.core.bpe.arrays import ends_of
from tests.core.bpe.test_engine import BYTES, _engine, encoder, trained_on, units_and_merges


@pytest.fixture(scope="module", params=["merge", "lbpe"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return Tokenizer.train_from_documents(list(SCRIPTS) * 3, 600, encoder=request.param, special=["<|endoftext|>"])


def on_threads(number: int, work: Callable[[int], Any]) -> list[Any]:
    """What each of them gives; all of them begin together."""
    together = threading.Barrier(number)

    def one(index: int) -> Any:
        together.wait()
        return work(index)

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(one, range(number)))


def test_threads_share_a_tokenizer(tokenizer: Tokenizer) -> None:
    wanted = [tokenizer.encode(text) for text in SCRIPTS]

    def work(index: int) -> bool:
        texts = SCRIPTS[index:] + SCRIPTS[:index]
        right = wanted[index:] + wanted[:index]
        return all([tokenizer.encode(text) for text in texts] == right for _ in range(20)) and all(
            tokenizer.decode(ids).encode() == text.encode() for ids, text in zip(right, texts, strict=True)
        )

    assert on_threads(8, work) == [True] * 8


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_encodes_on(tokenizer: Tokenizer) -> None:
    """As data loaders do it: threads have encoded, and stand; their children have caches of their own from then on."""
    wanted = [tokenizer.encode(text) for text in SCRIPTS]
    encoded, go_on = threading.Barrier(5), threading.Event()

    def stand() -> None:
        tokenizer.encode(SCRIPTS[0] * 50)
        encoded.wait()
        go_on.wait()

    threads = [threading.Thread(target=stand) for _ in range(4)]
    for thread in threads:
        thread.start()
    encoded.wait()
    children = []
    for _ in range(3):
        if (child := os.fork()) == 0:
            status = 1
            try:
                status = int([tokenizer.encode(text) for text in SCRIPTS] != wanted)
            finally:
                os._exit(status)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 3
    go_on.set()
    for thread in threads:
        thread.join()
    assert [tokenizer.encode(text) for text in SCRIPTS] == wanted


def test_a_fresh_process_is_sent_one(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """As `spawn` does it: pickled here, and used there."""
    (tmp_path / "sent").write_bytes(pickle.dumps((tokenizer, SCRIPTS)))
    code = (
        "import pickle, sys; tokenizer, texts = pickle.load(open(sys.argv[1], 'rb'))\n"
        "print([tokenizer.encode(text) for text in texts])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONUTF8": "1"}
    words = [sys.executable, "-c", code, str(tmp_path / "sent")]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == str([tokenizer.encode(text) for text in SCRIPTS])


@pytest.fixture(scope="module")
def trained() -> tuple[Any, list[bytes]]:
    units, merges = units_and_merges(trained_on([text.encode() for text in SCRIPTS], 500))
    return encoder(units, merges, pretokenizer="llama3"), units


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_is_borrowed_and_given_back(trained: tuple[Any, list[bytes]], kind: Any) -> None:
    engine_, _ = trained
    text = "".join(SCRIPTS).encode()
    held = kind(text)
    assert engine_.encode(held) == engine_.encode(text)
    assert engine_.encode(memoryview(bytearray(b"?" + text))[1:]) == engine_.encode(text)
    if kind is bytearray:
        held.clear()  # it is free again
    with pytest.raises((BufferError, TypeError, ValueError)):
        engine_.encode(memoryview(bytearray(text))[::2])
    for other in ("text", 5, None, [1, 2]):
        with pytest.raises(TypeError):
            engine_.encode(other)


def test_a_buffer_cannot_shrink_below_an_encoder(trained: tuple[Any, list[bytes]]) -> None:
    """It is refused while it is borrowed; whichever of the two comes first, nothing is read that is not there."""
    engine_, _ = trained
    text = "".join(SCRIPTS).encode() * 2000
    held = bytearray(text)
    wanted, ends = {engine_.encode(text), engine_.encode(b"")}, ends_of([text])

    def work(index: int) -> Any:
        if index == 0:
            try:
                return engine_.encode_batch(held, ends, 2)[0]
            except ValueError:  # it was empty already, and the ends are another text's
                return engine_.encode(b"")
        try:
            held.clear()
        except BufferError:
            return None
        return None

    assert on_threads(2, work)[0] in wanted


def test_an_encoder_outlives_its_name() -> None:
    """The last reference goes while another thread encodes."""
    text = "".join(SCRIPTS).encode() * 500
    units, merges = units_and_merges(trained_on([text[:5000]], 300))
    wanted = encoder(units, merges, pretokenizer="gpt2").encode(text)
    kept = [encoder(units, merges, pretokenizer="gpt2")]

    def work(index: int) -> Any:
        if index == 0:
            encode = kept[0].encode
            taken.set()
            return encode(text)
        taken.wait()
        kept.clear()
        return wanted

    taken = threading.Event()
    assert on_threads(2, work) == [wanted] * 2


def test_progress_may_use_the_engine_again() -> None:
    """A report during training encodes, trains another, and may raise, which ends the training."""
    engine_ = encoder(BYTES, ())
    text = "".join(SCRIPTS).encode()
    counter = _engine.PieceCounter("llama3")
    counter.add(text, ends_of([text]))
    seen = []

    def report(done: int) -> None:
        seen.append(len(engine_.encode(text)))
        if len(seen) == 1:
            trained_on([text], 260)

    order = bytes(range(256))
    again = _engine.train(counter, "bpe", 400, 0, 64, order, report)
    assert again.merges == _engine.train(counter, "bpe", 400, 0, 64, order).merges
    assert set(seen) <= {4 * len(text)}

    def refuse(done: int) -> None:
        raise ZeroDivisionError("in the report")

    if seen:
        with pytest.raises(ZeroDivisionError, match="in the report"):
            _engine.train(counter, "bpe", 400, 0, 64, order, refuse)
    assert _engine.train(counter, "bpe", 300, 0, 64, order).merges
