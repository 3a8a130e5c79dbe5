"""What a command read, as run.json lists it; hashed in a thread beside the work, which reads the same pages anyway."""

from collections.abc import Sequence
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, Self

from llmtool.core.corpus import remote
from llmtool.core.corpus.inputs import STDIN, find_inputs
from llmtool.core.corpus.reading import Reading

if TYPE_CHECKING:
    from concurrent.futures import Future


class InputHashes:
    """Hashes of the inputs, begun on entering the block; leaving it early stops them."""

    def __init__(
        self, inputs: Sequence[str | Path], reading: Reading | None = None, *, read_whole: bool = True
    ) -> None:
        self._read_whole, self._reading = read_whole, reading
        self._inputs = [str(path) for path in inputs]
        self._stopped = Event()
        self._entries: list[Future[dict[str, Any]]] = []

    def __enter__(self) -> Self:
        if self._inputs:
            from concurrent.futures import ThreadPoolExecutor

            pool = ThreadPoolExecutor(1, "hash")
            self._entries = [
                pool.submit(describe, name, self._stopped, self._read_whole, self._reading) for name in self._inputs
            ]
            pool.shutdown(wait=False)
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()

    def wait(self) -> list[dict[str, Any]]:
        """One entry for each input as it was named."""
        return [entry.result() for entry in self._entries]


def describe(name: str, stopped: Event, read_whole: bool, reading: Reading | None = None) -> dict[str, Any]:
    """Files, bytes and sha256 of one input; of a directory, the hash over its files' relative names and hashes.

    The hash is None where it cannot be known beside the reading: of stdin, pipes and URLs (which are not fetched
    twice; what their server calls the version stands as `identity`), and where only a part is read.
    """
    if name == STDIN:
        return {"path": STDIN, "sha256": None}
    import hashlib

    streams = find_inputs([name], reading)
    if remote.is_url(streams[0].source):
        known = [remote.identity(stream.source) for stream in streams]
        size = sum(stream.size or 0 for stream in streams)
        return {"path": name, "files": len(streams), "bytes": size, "sha256": None, "identity": known}
    root = streams[0].root
    size = sum(stream.size or 0 for stream in streams)
    if not read_whole or any(stream.size is None for stream in streams):
        return {"path": name, "files": len(streams), "bytes": size, "sha256": None}
    digests = []
    for stream in streams:
        digest = hashlib.sha256()
        for chunk in stream.chunks():
            if stopped.is_set():
                break
            digest.update(chunk)
        digests.append(digest.hexdigest())
    if len(streams) == 1 and streams[0].source == root:
        total = digests[0]
    else:
        names = [str(Path(stream.source).relative_to(root)) for stream in streams]
        listing = "".join(f"{digest}  {file}\n" for digest, file in zip(digests, names, strict=True))
        total = hashlib.sha256(listing.encode("utf-8", "surrogateescape")).hexdigest()
    return {"path": name, "files": len(streams), "bytes": size, "sha256": total}
