"""A sample of a corpus, and weights: which documents are taken, by a draw that hangs on the seed and nothing else.

Both are a share of each input's text. A share of 2.3 is the text twice and three tenths of it; a share below one is
drawn along the stream so that what was taken never strays from its share by more than about one document: every file
gives by its size, early and late parts alike, and the total comes out to the byte budget.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b

from llmtool.core.corpus.document import Document
from llmtool.core.corpus.inputs import Input

PROBES = 32
"""Files that are looked into to learn how much text a byte on disk holds."""

PROBE_BYTES = 8 << 20


def passes(times: float) -> list[float]:
    """The share that each reading of a stream takes, whole ones first: 2.3 -> 1, 1, 0.3."""
    rest = round(times % 1, 12)
    return [1.0] * int(times) + ([rest] if rest else [])


class Draw:
    """Takes a share of the documents that go by; one draw for all streams of a corpus keeps its balance over them."""

    def __init__(self, seed: int) -> None:
        self._seed, self._balance = seed, dict[float, float]()

    def take(self, documents: Iterable[Document], share: float, key: str) -> Iterator[Document]:
        """Documents drawn with probability `share`; a block of a plain file is drawn like a document of its own."""
        if share >= 1:
            yield from documents
            return
        balance = self._balance.get(share, 0.0)
        held: Document | None = None  # only when the next block is known, it is clear whether the document goes on
        for number, document in enumerate(documents):
            size = max(1, len(document.text))
            balance += size * share
            if balance > uniform(self._seed, key, number) * size:
                balance -= size
                if held is not None:
                    yield held
                held = document
                if not document.more:
                    yield held
                    held = None
            elif held is not None:
                held.more = False
                yield held
                held = None
            self._balance[share] = balance
        if held is not None:
            held.more = False
            yield held


def uniform(seed: int, key: str, number: int) -> float:
    """0 <= u < 1, the same for the same arguments on every machine."""
    data = f"{seed}:{key}:{number}".encode("utf-8", "surrogateescape")
    return int.from_bytes(blake2b(data, digest_size=7).digest()) / (1 << 56)


def text_share(
    streams: Sequence[Input], sample: int, read: Callable[[Input, Callable[[int], None]], Iterable[Document]]
) -> tuple[float, int]:
    """(share of the text that makes `sample` bytes, bytes of text by estimate); weights count.

    The text of a byte on disk is measured at the beginning of up to PROBES files, each kind of name by itself.
    """
    few = len(streams) <= PROBES
    chosen = streams if few else [streams[number * len(streams) // PROBES] for number in range(PROBES)]
    measured: dict[str, list[int]] = {}
    exact: dict[str, int] = {}
    for stream in chosen:
        probe = _Probe()
        for document in read(stream, probe.count):
            probe.text += len(document.text)
            if probe.told[0] >= PROBE_BYTES:
                break
        else:
            exact[stream.source] = probe.text
            probe.told = (probe.text, stream.size or 1)
        both = measured.setdefault(_suffix(stream), [0, 0])
        both[:] = both[0] + probe.told[0], both[1] + probe.told[1]
    everything = [sum(both[place] for both in measured.values()) for place in (0, 1)]
    total = 0.0
    for stream in streams:
        both = measured.get(_suffix(stream), everything)
        guess = (stream.size or 0) * both[0] / max(1, both[1])
        total += stream.weight * exact.get(stream.source, guess)
    return sample / max(1.0, total), round(total)


class _Probe:
    """Text and the bytes on disk that it came from: known whenever the next bytes are asked for."""

    def __init__(self) -> None:
        self.text = self._bytes = 0
        self.told = (0, 0)

    def count(self, number: int) -> None:
        self.told = (self.text, self._bytes)
        self._bytes += number


def _suffix(stream: Input) -> str:
    return ".".join(stream.source.rpartition("/")[2].split(".")[1:]).lower()
