"""What `convert uniattn` and `eval attention` learn from text: rows, the head map, W_c, and the loss on each input."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtool.core.checkpoint.directory import CheckpointReader
from llmtool.core.corpus.calibration import rows_by_input
from llmtool.core.corpus.inputs import without_weights
from llmtool.core.corpus.reading import Reading
from llmtool.core.run.console import Console
from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.errors import UserError
from llmtool.core.run.wording import counted
from llmtool.methods.uniattn import plan
from llmtool.model import build_parts, load_tokenizer

if TYPE_CHECKING:
    import torch

    from llmtool.core.model.config import Config
    from llmtool.methods.uniattn.fitting import Fit, Losses
    from llmtool.methods.uniattn.heads import Criterion, Reach
    from llmtool.methods.uniattn.part import Heads

MATCHED_TOKENS = 4096
"""Tokens that heads are compared on, evenly from each input: twice as many change few heads."""


@dataclass(frozen=True)
class Calibration:
    """Text that W_c is found on: `samples` rows of `window` tokens (None: 1,024, or the model's own limit if less)."""

    inputs: Sequence[str]
    samples: int
    window: int | None
    tokenizer: Path | None
    """Directory of the tokenizer, where it is not the checkpoint's."""
    seed: int
    """Of the rows that are drawn; equally many from each input, or by weight."""
    reading: Reading | None = None

    def rows(
        self, checkpoint: CheckpointReader, config: "Config", console: Console
    ) -> "tuple[torch.Tensor, list[int]]":
        """Ids [N, window], N up to `samples`, and the number of each row's input."""
        import torch

        longest = config.max_position_embeddings
        window = self.window or min(1024, longest)
        if window > longest:
            raise UserError(f"--window {window:,}: the model was made for {longest:,} tokens")
        encode = load_tokenizer(self.tokenizer or checkpoint.path, hint="give --tokenizer").encode_prompt
        found = rows_by_input(
            encode, self.inputs, self.samples * window, window, reading=self.reading, seed=self.seed, joined=True,
            console=console,
        )  # fmt: skip
        if len(found) < self.samples:
            console.warn(
                f"calibration text holds {counted(len(found), 'row')} of {window:,} tokens, not {self.samples}"
            )
        rows = torch.tensor([row for row, _ in found])
        if int(rows.max()) >= config.vocab_size:
            what = f"id {int(rows.max())} is out of range: model.embed_tokens.weight holds {config.vocab_size:,} rows"
            raise UserError(what, where=str(checkpoint.path), hint="is it the tokenizer of this model?")
        return rows, [source for _, source in found]

    def recorded(self) -> dict[str, Any]:
        """For run.json."""
        return {
            "inputs": list(self.inputs), "samples": self.samples, "window": self.window,
            **({"tokenizer": str(self.tokenizer)} if self.tokenizer else {}),
            **(self.reading.facts() if self.reading else {}),
        }  # fmt: skip

    def read(self) -> list[str | Path]:
        """The files that it looks at."""
        return [*without_weights(self.inputs), *([self.tokenizer] if self.tokenizer else [])]


def exact_type(checkpoint: CheckpointReader) -> "torch.dtype":
    """float64 for weights in float64, else float32."""
    import torch

    return torch.float64 if checkpoint.dtype("model.embed_tokens.weight") == "F64" else torch.float32


def match(
    checkpoint: CheckpointReader,
    config: "Config",
    groups: plan.Groups,
    rows: "torch.Tensor",
    criterion: "Criterion",
    reach: "Reach",
    console: Console,
) -> "dict[int, Heads]":
    """Follower -> (layer, head) that each of its heads reads, by the best score on the first rows."""
    from llmtool.methods.uniattn import heads, streaming

    pairs = heads.readable(groups, reach, config.windows)
    some = rows[: max(1, MATCHED_TOKENS // rows.shape[1])]
    model = streaming.Model(config, build_parts(config))
    return heads.best_heads(
        heads.score_heads(checkpoint, model, some, pairs, criterion, console, exact_type(checkpoint)), pairs
    )


def calibrate(
    checkpoint: CheckpointReader,
    config: "Config",
    changed: "Config",
    calibration: Calibration,
    drawn: "tuple[torch.Tensor, list[int]]",
    heads: "dict[int, Heads]",
    fit: "Fit",
    module: Any,
    console: Console,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[int, dict[str, "torch.Tensor"]]]:
    """Of each follower what the fit leaves; of each input the losses; and the followers' new tensors.

    module: a compensation, for the names and shapes of its state; None: there is none.
    """
    from llmtool.methods.uniattn.convert import OUTPUT
    from llmtool.methods.uniattn.fitting import Fitting, compensation_state
    from llmtool.methods.uniattn.streaming import Model

    old, new = Model(config, build_parts(config)), Model(changed, build_parts(changed))
    fitting = Fitting(checkpoint, old, new, heads, *drawn, fit, exact_type(checkpoint))
    layers, states = [], {}
    for found in fitting.run(console):
        state = compensation_state(module, found) if module is not None else {}
        if found.output is not None:
            state[OUTPUT] = found.output.T
        states[found.follower] = {name: value.cpu() for name, value in state.items()}
        layers.append(found.facts())
        console.info(
            f"  layer {found.follower} reads {', '.join(map(str, found.leaders))}: sharing errs by {found.error:.2%} "
            f"of the stream's energy{f', the fit leaves {found.left:.0%} of that' if state else ''}"
        )
    losses = fitting.losses(console)
    say_losses(calibration.inputs, losses, console, fitted=fit.compensated or fit.refit)
    told = [
        {"input": calibration.inputs[one.source], "rows": one.rows, "dense": one.dense, "shared": one.shared,
         "fitted": one.fitted} for one in losses
    ]  # fmt: skip
    return layers, told, states


def say_losses(inputs: Sequence[str], losses: "Sequence[Losses]", console: Console, *, fitted: bool) -> None:
    """Loss before and after on each input, and a warning where the fit did harm."""
    console.info("Nats a token on rows that were not fitted:")
    for one in losses:
        after = f", fitted {one.fitted:.3f} ({one.fitted - one.dense:+.3f})" if fitted else ""
        console.info(
            f"  {inputs[one.source]}: dense {one.dense:.3f}, shared {one.shared:.3f} "
            f"({one.shared - one.dense:+.3f}){after}; {one.rows} row{'s' * (one.rows > 1)}"
        )
    for one in losses if fitted else ():
        if one.worse:
            console.warn(
                f"{inputs[one.source]}: the fit makes the loss worse, {one.shared:.3f} -> {one.fitted:.3f}; more rows "
                "(--samples), more text of this kind, or --sharing softmax-only"
            )
