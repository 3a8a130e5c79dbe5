"""The module that a step runs: decoder and objective in one, so that DDP, FSDP2 and torch.compile wrap a forward pass.

one process     Step
DDP             every process holds everything, gradients are averaged while backward runs
FSDP2           parameters, gradients and optimizer state are cut over the processes, block by block
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils import _pytree
from torch.utils.checkpoint import checkpoint

from llmtool.core.model.carry import Carry
from llmtool.core.model.decoder import Decoder
from llmtool.core.run.errors import UserError
from llmtool.core.train.objective import Batch, Figures, Objective, token_losses
from llmtool.core.train.sharding import Rows, fill, shard
from llmtool.core.train.world import World

Parallel = Literal["auto", "none", "ddp", "fsdp"]

# FSDP2 hangs its hooks on the tensors that it finds in a module's arguments and results: it must see those of a carry.
# What may hold tensors goes to the tree, the rest is carried beside it.
_TENSORS = ("positions", "ropes", "masks", "ids", "documents", "shared", "losses")
_REST = ("cache", "options")
_pytree.register_pytree_node(
    Carry,
    lambda carry: ([getattr(carry, name) for name in _TENSORS], [getattr(carry, name) for name in _REST]),
    lambda values, rest: Carry(**dict(zip(_TENSORS, values, strict=True)), **dict(zip(_REST, rest, strict=True))),
    serialized_type_name="llmtool.Carry",
)


class Step(nn.Module):
    """decoder + objective: forward(batch) -> (loss, figures), or the loss of each position."""

    def __init__(self, decoder: Decoder, objective: Objective) -> None:
        super().__init__()
        self.decoder, self.objective = decoder, objective

    def forward(
        self, ids: torch.Tensor, labels: torch.Tensor, documents: torch.Tensor | None,
        read: torch.Tensor | None = None, scale: torch.Tensor | None = None, each: bool = False,
    ) -> tuple[torch.Tensor, Figures]:  # fmt: skip
        """Tensors of a Batch -> (loss, figures); with `each` the cross entropy of each position [B, T] float32."""
        if not each:
            return self.objective.loss(self.decoder, Batch(ids, labels, documents, read, scale))
        h, _ = self.decoder.hidden(ids, documents=documents)
        losses = token_losses(self.decoder, h.flatten(0, 1), labels.flatten(), self.objective.cross_entropy)
        return losses.view(labels.shape), {}


class Trainee:
    """A Step as one of several processes runs it."""

    def __init__(
        self,
        decoder: Decoder,
        objective: Objective,
        world: World,
        *,
        dtype: torch.dtype = torch.float32,
        parallel: Parallel = "auto",
        recompute: bool = False,
        compiled: bool = False,
        rows: Rows | None = None,
    ) -> None:
        """rows: of a decoder on the meta device, which FSDP2 cuts there; where its values come from."""
        if parallel in ("ddp", "fsdp") and not world.distributed:
            raise UserError(f"--parallel {parallel} wants several processes", hint="start them with torchrun")
        if parallel == "none" and world.size > 1:
            raise UserError(f"{world.size} processes, but --parallel none", hint="ddp or fsdp")
        self.decoder, self.objective, self.world = decoder if rows else decoder.to(world.device), objective, world
        self.kind = ("ddp" if world.distributed else "none") if parallel == "auto" else parallel
        self._step = Step(decoder, objective)
        self._autocast = dtype if dtype != torch.float32 and self.kind != "fsdp" else None
        if recompute:
            for block in decoder.model.layers:
                block.forward = partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)
        if self.kind == "fsdp":
            shard(self._step, decoder, world, dtype)
        if rows:
            assert self.kind == "fsdp", "a decoder without values can only be cut"
            fill(decoder, rows, world)
        self._run: Any = self._step
        if compiled:
            self._step.compile(dynamic=False)
        if self.kind == "ddp":
            self._run = DistributedDataParallel(self._step, gradient_as_bucket_view=True)

    def _precision(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.world.device.type, self._autocast) if self._autocast else nullcontext()

    def loss(self, batch: Batch) -> tuple[torch.Tensor, Figures]:
        """As Objective.loss."""
        with self._precision():
            loss, figures = self._run(batch.ids, batch.labels, batch.documents, batch.read, batch.scale)
        return loss, figures

    def losses(self, batch: Batch) -> torch.Tensor:
        """Cross entropy of each position [B, T] float32, 0 where IGNORED; for evaluation, without gradients."""
        batch = batch.to(self.world.device)
        with torch.no_grad(), self._precision():
            # Through the module itself: compiled a second time without gradients, it would cost a minute for seconds.
            call = self._step if self.kind == "fsdp" else self._step.forward
            losses, _ = call(batch.ids, batch.labels, batch.documents, each=True)
        return losses.float()

    @contextmanager
    def micro_batch(self, last: bool) -> Iterator[None]:
        """DDP sends gradients with the last micro-batch; FSDP2 each at once, or memory would hold them all."""
        with nullcontext() if last or self.kind != "ddp" else self._run.no_sync():
            yield

    def clip(self, parameters: list[nn.Parameter], largest: float) -> torch.Tensor:
        """Scale gradients down to this norm; the norm before, a scalar."""
        norm = torch.nn.utils.clip_grad_norm_(parameters, largest if largest > 0 else float("inf"))
        full = getattr(norm, "full_tensor", None)
        return full() if full is not None else norm


def whole_tensors(trainee: Trainee) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor of the checkpoint, gathered one at a time; all processes must go through it together."""
    tied = trainee.decoder.config.tie_word_embeddings
    for name, value in trainee.decoder.state_dict().items():
        if tied and name == "lm_head.weight":
            continue
        full = getattr(value, "full_tensor", None)
        yield name, (full() if full is not None else value).detach().cpu()
