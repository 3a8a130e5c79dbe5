"""Which documents become samples, and in which order: by a hash of (seed, document's key), whoever asks."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from llmtool.core.run.errors import UserError, closest
from llmtool.methods.nextlong.chance import drawn
from llmtool.methods.nextlong.copies import COPIED, HELD
from llmtool.methods.nextlong.embedding import CONTAMINATED
from llmtool.methods.nextlong.store import Store

I64 = npt.NDArray[np.int64]


def seed_order(store: Store, chosen: I64, seed: int) -> I64:
    """Documents in the order in which they are tried."""
    return chosen[np.argsort(drawn(seed, "seeds", store.keys[chosen]), kind="stable")]


def capped(order: I64, store: Store, caps: Mapping[str, float]) -> I64:
    """The same order without documents by which a source would come to more than its share of those before."""
    limits = {store.sources.index(name): share for name, share in caps.items()}
    if not limits:
        return order
    taken = dict.fromkeys(limits, 0)
    kept: list[int] = []
    for number in order.tolist():
        source = int(store.source[number])
        if source in limits:
            if taken[source] + 1 > limits[source] * (len(kept) + 1):
                continue
            taken[source] += 1
        kept.append(number)
    return np.array(kept, np.int64)


def parse_caps(texts: list[str]) -> dict[str, float]:
    """SOURCE=SHARE, share from 0 to 1."""
    caps: dict[str, float] = {}
    for text in texts:
        name, _, value = text.rpartition("=")
        try:
            share = float(value)
        except ValueError:
            share = -1.0
        if not name or not 0 <= share <= 1:
            raise UserError(f"--cap {text!r} is not SOURCE=SHARE", hint="for example --cap forum=0.2")
        caps[name] = share
    return caps


def check_caps(caps: Mapping[str, float], store: Store) -> None:
    """Refuse names that no document has."""
    for name in caps:
        if name not in store.sources:
            hint = closest(name, store.sources) or f"sources: {', '.join(store.sources[:8])}"
            raise UserError(f"--cap: there is no source {name!r}", hint=hint)


def eligible(store: Store, min_chunks: int, flags: npt.NDArray[np.uint8]) -> tuple[I64, dict[str, int]]:
    """Documents that can be seeds, and how many cannot, by reason; a copy is one most of whose chunks were merged."""
    counts = np.diff(store.first)
    few = counts < min_chunks
    dirty = np.add.reduceat((flags & CONTAMINATED > 0).astype(np.int64), store.first[:-1]) > 0
    held = np.add.reduceat((flags & HELD > 0).astype(np.int64), store.first[:-1]) > 0
    copied = 2 * np.add.reduceat((flags & COPIED > 0).astype(np.int64), store.first[:-1]) > counts
    rejects = {
        "fewer chunks than --min-chunks": int(few.sum()), "contaminated": int((dirty & ~few).sum()),
        "held out": int((held & ~dirty & ~few).sum()),
        "copy of other documents": int((copied & ~held & ~dirty & ~few).sum()),
    }  # fmt: skip
    left = np.flatnonzero(~few & ~dirty & ~held & ~copied)
    return left, {reason: number for reason, number in rejects.items() if number}
