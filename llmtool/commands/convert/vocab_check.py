"""What a change of vocabulary did to a model, measured on text: `convert vocab --check`, and `verify` of two
vocabularies.

(a) ids that both have: the same logits, bit for bit, on text of such ids alone; (b) the probability that new ids, and
rows of no id (padding), take from them; (c) bits a byte of each with its own tokenizer, over the same bytes.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtool.core.bpe.correspondence import correspondence
from llmtool.core.corpus.readers import Reading, read_documents
from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError
from llmtool.model import load_model
from llmtool.tokenizer import Tokenizer

if TYPE_CHECKING:
    import torch

    from llmtool.model import Model

ROWS = 64
"""Rows of old ids that are compared at most."""
ROW = 128
"""Ids in each."""


def check_vocabularies(
    before: Path,
    after: Path,
    texts: Mapping[str, Sequence[bytes]],
    device: str,
    console: Console,
    old: Tokenizer | None = None,
) -> dict[str, Any]:
    """The three figures for each text of --check, and over all; texts: as `pieces_of` reads them."""
    first, second = (load_model(path, device=device) for path in (before, after))
    return compare(first, second, texts, console, old)


def pieces_of(
    texts: Sequence[str], size: int, contexts: Iterable[int], reading: Reading | None
) -> dict[str, list[bytes]]:
    """The first `size` bytes of each text, cut so that models of these context lengths can score a piece."""
    from llmtool.core.eval.same_bytes import PIECE_BYTES, cut_by_bytes

    longest = min(PIECE_BYTES, *(context - 1 for context in contexts))
    found = {}
    for text in texts:
        documents = (document.text for document in read_documents([text], reading, whole=True))
        found[text] = list(cut_by_bytes(documents, longest, size))
        if not found[text]:
            raise UserError("no text to compare on", where=text)
    return found


def compare(
    first: "Model",
    second: "Model",
    texts: Mapping[str, Sequence[bytes]],
    console: Console,
    old: Tokenizer | None = None,
) -> dict[str, Any]:
    """Two models of two vocabularies on the pieces of each text."""
    from llmtool.core.eval.same_bytes import score
    from llmtool.core.train.objective import Batch

    old, new = old or first.tokenizer, second.tokenizer
    found = correspondence(old, new)
    shared = sorted(found.new_of().items())
    others = set(range(second.config.vocab_size)) - {number for _, number in shared}
    added = sorted(others & new.definition.vocabulary.spellings.keys())
    logits, bits = SharedLogits(shared, added, sorted(others.difference(added))), {}
    for text, pieces in texts.items():
        with console.progress(f"scoring {Path(text).name}", 2 * sum(map(len, pieces)), "B") as bar:
            sides = [
                score(lambda ids, labels, model=model: model.losses(Batch(ids, labels)), codec, pieces, bar.advance)  # type: ignore[misc]
                for model, codec in ((first, old), (second, new))
            ]
        bits[Path(text).name] = {"before": sides[0].figures(), "after": sides[1].figures()}
    logits.compare(first, second, (old.encode(piece) for pieces in texts.values() for piece in pieces))
    return {"shared": len(shared), **logits.figures(), "texts": bits}


class SharedLogits:
    """Logits of the ids that both vocabularies have, on rows of such ids alone.

    new, padding: the other rows of the second model's output layer, those of its tokenizer's ids and those of none.
    """

    def __init__(self, shared: Sequence[tuple[int, int]], new: Sequence[int], padding: Sequence[int]) -> None:
        self._shared, self._new, self._padding = shared, new, padding
        self.rows = self.positions = 0
        self.identical = True
        self.largest = self.on_new = self.on_padding = self.cost = self.cost_before = 0.0

    def compare(self, first: "Model", second: "Model", texts: "Iterator[list[int]]") -> None:
        """Run both on up to ROWS rows; the output layer is applied to the same rows of both tables, in one order."""
        import torch

        new_of = dict(self._shared)
        theirs, mine = (torch.tensor([pair[side] for pair in self._shared]) for side in (0, 1))
        added = torch.tensor([*self._new, *self._padding], dtype=torch.int64)
        apart = torch.tensor(sorted(set(range(first.config.vocab_size)) - new_of.keys()), dtype=torch.int64)
        for ids in texts:
            row = ids[:ROW]
            if self.rows >= ROWS:
                return
            if len(row) < 2 or not all(number in new_of for number in row):
                continue
            with torch.no_grad():
                one, _ = first.decoder.hidden(torch.tensor([row], device=first.device))
                other, _ = second.decoder.hidden(torch.tensor([[new_of[i] for i in row]], device=second.device))
                a = _logits(first, one[0], theirs)
                b = _logits(second, other[0], mine)
                new = _logits(second, other[0], added)
                before = _logits(first, one[0], apart)
            self.identical &= torch.equal(a.cpu(), b.cpu())
            self.largest = max(self.largest, float((a.cpu().float() - b.cpu().float()).abs().max()))
            taken = torch.cat((b, new), -1).double().softmax(-1)[:, len(mine) :].sum(0)
            self.on_new += float(taken[: len(self._new)].sum())
            self.on_padding += float(taken[len(self._new) :].sum())
            self.cost += _cost(b, new)
            self.cost_before += _cost(a, before)
            self.rows += 1
            self.positions += len(row)

    def figures(self) -> dict[str, Any]:
        """For the report; cost: what new ids and padding add to the loss of a token of old text, in nats, and what
        the rows of the old model that no shared id has (padding, ids that are gone) had added before."""
        positions = max(1, self.positions)
        return {
            "new": len(self._new), "padding": len(self._padding),
            "positions": self.positions, "identical": self.identical if self.positions else None,
            "largest_difference": self.largest, "mass_on_new": self.on_new / positions,
            "mass_on_padding": self.on_padding / positions, "cost": self.cost / positions,
            "cost_before": self.cost_before / positions,
        }  # fmt: skip


def _cost(shared: "torch.Tensor", others: "torch.Tensor") -> float:
    """Logits [T, n] and [T, m] -> the sum over T of log(1 + sum exp(others) / sum exp(shared)), in nats."""
    import torch

    taken = torch.logsumexp(others.double(), -1) - torch.logsumexp(shared.double(), -1)
    return float(torch.nn.functional.softplus(taken).sum())


def _logits(model: "Model", h: "torch.Tensor", ids: "torch.Tensor") -> "torch.Tensor":
    """h [T, d], ids [n] -> their logits [T, n], as the model scales them."""
    from torch.nn.functional import linear

    from llmtool.core.model.embedding import finish_logits

    return finish_logits(model.config, linear(h, model.decoder.lm_head.weight[ids.to(model.device)]))


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """The check for people."""
    if found["positions"]:
        same = "equal bit for bit" if found["identical"] else f"differ by {found['largest_difference']:.3g} at most"
        yield f"logits of the {found['shared']:,} shared ids, on {found['positions']:,} tokens of old ids: {same}"
    takers = [
        f"{what} take {found[mass]:.3%}"
        for count, what, mass in (("new", "new ids", "mass_on_new"), ("padding", "padding rows", "mass_on_padding"))
        if found[count]
    ]
    if found["positions"] and takers:
        before = f" ({found['cost_before']:.4f} in the old model, by its other rows)" if found["cost_before"] else ""
        yield f"{', '.join(takers)} of the probability there: {found['cost']:.4f} nats a token{before}"
    if not found["positions"]:
        yield "no row of the text holds only ids that both have: logits not compared"
    for name, sides in found["texts"].items():
        old, new = sides["before"], sides["after"]
        yield (
            f"{name}: {old['bits_per_byte']:.4f} -> {new['bits_per_byte']:.4f} bits a byte, "
            f"{old['tokens']:,} -> {new['tokens']:,} tokens, over the same {new['bytes']:,} bytes"
        )
