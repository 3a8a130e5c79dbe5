"""Segments to a sample: text, ids and spans, counted in tokens of the joined text and not of its parts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from llmtool.core.bpe.tokenizer import BaseTokenizer
from llmtool.core.run.errors import UserError
from llmtool.methods.nextlong.places import Aligned, Places, encode
from llmtool.methods.nextlong.planning import Segment
from llmtool.methods.nextlong.store import Store
from llmtool.methods.nextlong.vectors import SCALE

U32 = npt.NDArray[np.uint32]
I64 = npt.NDArray[np.int64]
MOST_BYTES_A_TOKEN = 64


@dataclass(frozen=True)
class Sample:
    """text: UTF-8 that encodes to T tokens, or to one or two more where a cut at T would change the tokens; ids [T].

    With --bos or --eos the ids hold these too, and the text as many tokens less. n_tokens: of the text alone.

    chars, tokens: range of each segment [segments, 2], what is cut off left out.
    """

    text: bytes
    ids: U32
    n_tokens: int
    segments: Sequence[Segment]
    chars: I64
    tokens: I64
    behind: int = 0
    """Tokens behind the text."""


def around(tokenizer: BaseTokenizer, *, bos: bool, eos: bool) -> tuple[int | None, int | None]:
    """The tokens before and behind each sample; a tokenizer that names none is refused."""
    for wanted, token, name in ((bos, tokenizer.bos_id, "bos"), (eos, tokenizer.eos_id, "eos")):
        if wanted and token is None:
            raise UserError(f"--{name}: the tokenizer names no such token", hint="one whose settings name it")
    return tokenizer.bos_id if bos else None, tokenizer.eos_id if eos else None


class Builder:
    """Makes samples of one target length."""

    def __init__(
        self, store: Store, tokenizer: BaseTokenizer, target: int, separator: str, *, bos: bool = False,
        eos: bool = False,
    ) -> None:  # fmt: skip
        self.store, self.tokenizer, self.row_target = store, tokenizer, target
        self.separator = separator.encode()
        ends = around(tokenizer, bos=bos, eos=eos)
        self._before, self._after = (np.array([] if token is None else [token], np.uint32) for token in ends)
        self.target = target - len(self._before) - len(self._after)
        """Tokens of the text."""
        self.places = Places(tokenizer)

    def build(self, segments: Sequence[Segment]) -> Sample | None:
        """The sample, or None if it does not reach T."""
        texts, places, held = [], [], 0
        most = self.target * MOST_BYTES_A_TOKEN
        kept: list[Segment] = []
        for segment in segments:
            if held > most:
                break
            text = self.store.passage(segment.chunk, segment.end, most)
            places.append((held, held + len(text)))
            texts.append(text)
            kept.append(segment)
            held += len(text) + len(self.separator)
        data = self.separator.join(texts)
        ids = encode(self.tokenizer, data)
        if len(ids) < self.target:
            return None
        data, ids, aligned = self._cut(data, ids)
        spans = np.minimum(np.array(places, np.int64), len(data))
        inside = spans[:, 0] < len(data)
        spans, kept = spans[inside], [s for s, keep in zip(kept, inside.tolist(), strict=True) if keep]
        tokens = np.minimum(aligned.tokens(spans), self.target)
        visible = tokens[:, 0] < tokens[:, 1]
        tokens += len(self._before)
        characters = np.cumsum((np.frombuffer(data, np.uint8) & 0xC0) != 0x80)
        chars = np.concatenate([[0], characters])[spans]
        kept = [s for s, keep in zip(kept, visible.tolist(), strict=True) if keep]
        whole = np.concatenate([self._before, ids[: self.target], self._after])
        return Sample(data, whole, len(ids), kept, chars[visible], tokens[visible], len(self._after))

    def _cut(self, data: bytes, ids: U32) -> tuple[bytes, U32, Aligned]:
        """The shortest prefix of whole characters at the end of a token that still encodes to T tokens."""
        data, ids = self.places.shortened(data, ids, self.target)
        aligned = self.places.of(data, ids)
        for number in range(self.target, len(ids) + 1):
            stop = aligned.stop(number)
            while stop < len(data) and data[stop] & 0xC0 == 0x80:
                stop += 1
            again = encode(self.tokenizer, data[:stop])
            if len(again) >= self.target:
                return data[:stop], again, self.places.of(data[:stop], again)
        return data, ids, aligned

    def row(self, sample: Sample, name: str, seed: int, method: str, *, text: bool) -> dict[str, Any]:
        """The sample as provenance: one JSON object, with its text if wanted."""
        spans: list[dict[str, Any]] = []
        sources: dict[str, int] = {}
        licences: dict[str, int] = {}
        known: dict[int, dict[str, Any]] = {}
        columns = zip(sample.segments, sample.chars.tolist(), sample.tokens.tolist(), strict=True)
        for segment, chars, tokens in columns:
            number = int(self.store.document_of(segment.chunk))
            if number not in known:
                known[number] = self.store.document(number)
            about = known[number]
            size = tokens[1] - tokens[0]
            sources[about["source"]] = sources.get(about["source"], 0) + size
            span: dict[str, Any] = {"role": segment.role, "doc_id": about["id"], "chunk_id": segment.chunk}
            if segment.end > segment.chunk + 1:
                span["chunks"] = segment.end - segment.chunk
            if segment.role == "negative":
                span |= {"rank": segment.rank, "score": round(segment.score / SCALE**2, 6)}
                if segment.refill:
                    span["refill"] = True
            if "licence" in about:
                licences[about["licence"]] = licences.get(about["licence"], 0) + size
                span["licence"] = about["licence"]
            spans.append({**span, "chars": chars, "tokens": tokens})
        body = {"text": sample.text.decode()} if text else {}
        return {
            **body, "id": name, "n_tokens": sample.n_tokens, "target": self.row_target, "method": method,
            **({"behind": sample.behind} if sample.behind else {}),
            "seed": self.store.document(seed)["id"], "seed_source": self.store.document(seed)["source"],
            "seed_chunks": self.store.document(seed)["chunks"],
            "spans": spans, "sources": sources,
            **({"licences": licences} if licences else {}),
        }  # fmt: skip
