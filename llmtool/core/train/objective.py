"""What is minimised, and which parameters may move: plain functions that a method hands to the loop.

The loop knows this contract and no method. Next-token cross entropy is always there; each method of a checkpoint may
add a Term to it, so that objectives compose as the parts of the decoder do.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own abbreviation
from torch.utils.checkpoint import checkpoint

from llmtool.core.model.carry import Carry
from llmtool.core.model.decoder import Decoder
from llmtool.core.model.embedding import finish_logits
from llmtool.core.run.dataclass import dataclass

IGNORED = -100
"""Label of a position whose prediction is not in the loss."""


@dataclass(frozen=True)
class Batch:
    """A micro-batch of packed or padded rows."""

    ids: torch.Tensor
    """[B, T], what the model reads."""
    labels: torch.Tensor
    """[B, T], the next token of each position (shifted already), or IGNORED."""
    documents: torch.Tensor | None = None
    """Number of each token's document [B, T]; None: a row is one document."""
    read: torch.Tensor | None = None
    """Whether a token stands at a position [B, T], and no padding; None: where there is a label."""
    scale: torch.Tensor | None = None
    """What the mean over the targets is multiplied by, a scalar, where micro-batches are weighed by their tokens."""

    @property
    def counted(self) -> torch.Tensor:
        """The positions that means over tokens are taken of, bool [B, T]: those of a prompt are, though no target."""
        return self.labels != IGNORED if self.read is None else self.read

    @property
    def targets(self) -> torch.Tensor:
        """How many positions are in the loss, a scalar."""
        return (self.labels != IGNORED).sum()

    def to(self, device: torch.device) -> "Batch":
        """The batch on another device."""
        found = {name: value for name, value in vars(self).items() if value is not None}
        return replace(self, **{name: value.to(device, non_blocking=True) for name, value in found.items()})


Figures = dict[str, torch.Tensor]
"""Detached scalars, or vectors with one value a layer; the loop averages them over a step as it does the loss."""


class Term:
    """What a method adds; a subclass overrides what it needs. Made by the method's row in the catalog."""

    def add(self, loss: torch.Tensor, figures: Figures, carry: Carry, batch: Batch) -> torch.Tensor:
        """The loss so far -> the loss with this term; carry is what the last block left. May write into figures."""
        return loss

    def trainable(self, name: str) -> bool:
        """Whether the parameter of this name (a checkpoint key) may move; it moves if every term says so."""
        return True

    def vector(self, name: str) -> bool:
        """Whether a parameter of two dimensions is a list of vectors: no weight decay, and not for Muon."""
        return False

    def keep(self) -> None:
        """Told once, before the first step of post-training where no option is given: leave the model as it is."""

    def before_step(self, decoder: Decoder, step: int, steps: int) -> None:
        """Told before the update `step` of `steps`, from 0, the same on every rank: what moves with time moves here."""

    def after_step(self, figures: Mapping[str, Any]) -> None:
        """Told the step's averaged figures after the optimizer, the same on every rank: controllers move here."""

    def at_end(self, figures: Mapping[str, Any]) -> tuple[str, bool] | None:
        """A line for the end of a run, and whether all is as it was asked for; figures: means of the last steps."""
        return None

    def state(self) -> dict[str, Any]:
        """JSON values that a resumed run needs."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""


CrossEntropy = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""(h [N, d], output weight [V, d], labels [N]) -> loss of each position [N] in float32, 0 where IGNORED."""


def linear_cross_entropy(h: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The plain way: all logits at once, softmax in float32."""
    return F.cross_entropy(F.linear(h, weight).float(), labels, ignore_index=IGNORED, reduction="none")


def token_losses(
    decoder: Decoder, h: torch.Tensor, labels: torch.Tensor, cross_entropy: CrossEntropy = linear_cross_entropy
) -> torch.Tensor:
    """Loss of each position [N], in float32: h [N, d] normed states, labels [N]; logits as the model scales them."""
    config, weight = decoder.config, decoder.lm_head.weight
    if config.logits_cap is None:
        return cross_entropy(h if config.logits_divisor == 1 else h / config.logits_divisor, weight, labels)

    def part(h: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        logits = finish_logits(config, F.linear(h, weight)).float()
        return F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="none")

    # A cap is between the product and the softmax, where no fused kernel lets it in: 1,024 rows of logits at a time.
    pieces = zip(torch.split(h, CAPPED_ROWS), torch.split(labels, CAPPED_ROWS), strict=True)
    return torch.cat([checkpoint(part, *piece, use_reentrant=False) for piece in pieces])


CAPPED_ROWS = 1024


class Objective:
    """Mean next-token cross entropy over the micro-batch's targets, and the methods' terms."""

    def __init__(
        self, terms: Mapping[str, Term] | None = None, cross_entropy: CrossEntropy = linear_cross_entropy
    ) -> None:
        self.terms = dict(terms or {})
        """By the method's name."""
        self.cross_entropy = cross_entropy

    def loss(self, decoder: Decoder, batch: Batch) -> tuple[torch.Tensor, Figures]:
        """The scalar to be minimised, and figures; "loss" is the language-modelling part. 0 where nothing is a target.

        The loop weighs micro-batches by their tokens, so that what a term averages over `batch.counted` is a mean over
        the step's tokens; `batch.scale` makes the language-modelling part a mean over the step's targets.
        """
        h, carry = decoder.hidden(batch.ids, documents=batch.documents)
        losses = token_losses(decoder, h.flatten(0, 1), batch.labels.flatten(), self.cross_entropy)
        loss = losses.sum() / batch.targets.clamp(min=1)
        if batch.scale is not None:
            loss = loss * batch.scale
        figures = {"loss": loss.detach()}
        for term in self.terms.values():
            loss = term.add(loss, figures, carry, batch)
        return loss, figures

    def trainable(self, name: str) -> bool:
        """Whether every term lets this parameter move."""
        return all(term.trainable(name) for term in self.terms.values())

    def vector(self, name: str) -> bool:
        """Whether a term says that this parameter is a list of vectors."""
        return any(term.vector(name) for term in self.terms.values())
