"""What a column of a training log means, told from the words of its name.

Programs agree on words, not on names: `train_loss`, `train/CrossEntropyLoss`, `loss_metrics/global_avg_loss`,
`metrics/eval/LanguageCrossEntropy`, `Training Loss` and `lm loss validation` are losses by the same few words. The
tables hold those words; whatever else stands in the name of a loss is the name of an evaluation set.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

Role = Literal["axis", "loss", "rate", "tokens", "seconds", "horizon", "total", "closing", "run"]
LINE = " /line"
"""The line of a file that a record stands in, beside what it holds."""
TOTAL, BAR = " /total", " /bar"
"""After the name of an axis: the other half of `step 20/640`, kept beside it, and that of a bar, which counts anew in
each epoch."""

AXES = (
    "global step", "optimizer step", "num updates", "current steps", "current step", "step", "steps", "iteration",
    "iterations", "iter", "iters", "it", "update", "updates", "batch",
)  # fmt: skip
"""Names of the step, the best first: steps of the optimizer before micro-batches, and before calls of a tracker."""
LEAVES = frozenset({"global step", "step", "iteration", "iter"})
"""Of these, the ones that may stand at the end of a path: `data/step`."""
RUN_WIDE = frozenset({"global", "optimizer", "num", "total", "max"})
"""Words of a step that counts through the run, whatever else is counted."""
TRACKER = "_step"
BESIDE_AXIS = frozenset({"train", "trainer", "training", "time", "progress", "metrics"})
HORIZON = frozenset({"total steps", "max steps", "num training steps", "total iters", "train iters", "total iterations",
                     "max iters", "num iterations"})  # fmt: skip
CLOSING = frozenset({"train runtime", "train train runtime"})
"""Hugging Face's Trainer ends with a row whose train_loss is the mean of the whole run, no point of it."""
ADVERSARIES = frozenset({"disc", "discriminator", "critic", "adv", "adversarial", "d", "fake", "real"})
GENERATORS = frozenset({"gen", "generator", "g"})
"""Of the losses of two networks that play against each other, the one that tells of the model is the generator's."""
RUN = frozenset({"run", "run id", "run name", "experiment", "exp name"})
RANK = ("global rank", "process index", "process rank", "rank", "local rank")
"""Columns that may say which process of a run a row is of, the best first."""
PHASE = frozenset({"split", "phase", "mode", "stage", "subset", "partition"})
"""Columns that say which data the loss of a row is of."""
TRAIN = frozenset({"train", "training", "trl"})
HELD_OUT = frozenset({"val", "valid", "validation", "eval", "evaluation", "test", "dev", "heldout", "tel"})
LOSS = frozenset({"loss", "losses", "nll", "crossentropy", "xent", "trl", "tel"})
BITS = {"bpb": "bits per byte", "bpc": "bits per character", "bpd": "bits per dimension",
        "byte": "bits per byte", "char": "bits per character", "character": "bits per character"}  # fmt: skip
"""Units of a loss to the base 2, by their word; the second line are units only beside the word `bits`."""
PERPLEXITY = frozenset({"ppl", "perplexity"})
FILLER = frozenset({
    "lm", "language", "model", "cross", "entropy", "ce", "ema", "avg", "average", "mean", "global", "total", "step",
    "epoch", "inner", "metrics", "batch", "smooth", "smoothed", "running", "per", "token", "raw", "bits", "byte",
    "value", "reduced", "pretrain", "is", "so", "far",
})  # fmt: skip
NO_LOSS = frozenset({
    "grad", "gradient", "scale", "scaling", "z", "zloss", "aux", "auxiliary", "balance", "balancing", "router", "kl",
    "reward", "policy", "min", "max", "std", "var", "delta", "best", "target", "ratio", "time", "weight", "weights",
    "skipped", "count", "num", "acc", "accuracy", "mtp", "distill", "hella", "every", "interval", "freq", "frequency",
    "over", "gn", "norm", "gnorm", "dloss", "div", "fraction", "zscore",
})  # fmt: skip
"""Words beside "loss" that make it another quantity: `loss scale`, `router_z_loss`, `best_val_loss`, `gn_over_loss`."""
NO_TOKENS = frozenset({
    "per", "sec", "second", "s", "loss", "ppl", "perplexity", "acc", "accuracy", "entropy", "max", "min", "mean", "avg",
    "average", "length", "len", "ratio", "fraction", "rate", "dropped", "error", "id",
})  # fmt: skip
"""Words beside "tokens" that make it no count of those seen: `tokens_per_sec`, `token_acc`, `mean_token_accuracy`."""
_RATE = re.compile(r"lr\d{0,2}|lrm|lrate")
NO_RATE = frozenset({"change", "decay", "warmup", "min", "max", "steps", "scale", "mult", "schedule"})
SECONDS = {
    "time": 1.0, "seconds": 1.0, "wall time": 1.0, "elapsed": 1.0, "elapsed time": 1.0, "train time": 1.0,
    "timestamp": 1.0, "runtime": 1.0, "train time ms": 1e-3, "total time": 1.0,
}  # fmt: skip


@dataclass(frozen=True)
class Meaning:
    """The role of a column. rank: of several with one role, the lowest is taken; metric: of a loss; scale: of seconds,
    or nan where the loss is the logarithm of the value (perplexity); unit: of an axis or a loss, if not the usual."""

    role: Role
    rank: int = 0
    metric: str = ""
    scale: float = 1.0
    unit: str = ""


def words(name: str) -> list[str]:
    """The words of a name, in lower case: at every mark, and where a capital follows a small letter."""
    return re.findall(r"[a-z0-9]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())


@lru_cache(maxsize=4096)  # half of the time that a printed log took to read
def meaning(name: str) -> Meaning | None:
    """What a column holds; None where that is nothing a forecast needs."""
    parts = words(name)
    spelled = " ".join(parts)
    if spelled in CLOSING:
        return Meaning("closing")
    if spelled in RUN:
        return Meaning("run")
    if name.endswith((TOTAL, BAR)):
        return Meaning("total")
    return _axis(name, parts, spelled) or _amount(parts, spelled) or loss(name)


def _axis(name: str, parts: list[str], spelled: str) -> Meaning | None:
    if name.strip().lower() == TRACKER:
        return Meaning("axis", len(AXES))
    if spelled in HORIZON:
        return Meaning("horizon")
    # `time/batch` counts batches, `iter_time` seconds.
    bare = " ".join(part for part in parts if part not in BESIDE_AXIS) if parts[-1:] != ["time"] else ""
    if bare in AXES:
        return Meaning("axis", AXES.index(bare))
    if bare in ("epoch", "epochs"):
        return Meaning("axis", len(AXES) + 2, unit="epoch")
    leaf = " ".join(words(name.rpartition("/")[2]))
    if "/" in name and leaf in LEAVES:
        return Meaning("axis", len(AXES) + 1)
    return None


def _amount(parts: list[str], spelled: str) -> Meaning | None:
    kinds = set(parts)
    if (any(_RATE.fullmatch(part) for part in parts) or "learning rate" in spelled) and not NO_RATE & kinds:
        return Meaning("rate", len(parts) + 100 * ("lrm" in kinds))
    if {"token", "tokens"} & kinds and not NO_TOKENS & kinds:
        return Meaning("tokens", len(parts))
    if (scale := SECONDS.get(spelled)) is not None:
        return Meaning("seconds", 0 if "runtime" in kinds else 1, scale=scale)
    return None


def loss(name: str) -> Meaning | None:
    """The meaning of a column that is a loss: of training, "val", or of the set that its other words name."""
    parts = words(name)
    # `train_losses` is a list of them; under `losses/` TensorBoard's users keep entropies and shares, too.
    kinds = set(parts) if parts[-1:] == ["losses"] else set(parts) - {"losses"}
    bits = next((BITS[part] for part in parts if part in BITS and (part[:2] == "bp" or "bits" in kinds)), "")
    perplexity = bool(PERPLEXITY & kinds)
    if not (LOSS & kinds or {"cross", "entropy"} <= kinds or bits or perplexity) or NO_LOSS & kinds:
        return None
    known = TRAIN | HELD_OUT | LOSS | PERPLEXITY | FILLER | (BITS.keys() if bits else set())
    own = "_".join(part for part in parts if part not in known)
    if TRAIN & kinds:
        metric = f"train_{own}" if own else "train"
    else:
        metric = own or ("val" if HELD_OUT & kinds else "train")
    unit = bits or ("log perplexity" if perplexity else "")
    suffix = "_bpb" if bits else "_ppl" if perplexity else ""
    return Meaning("loss", len(parts), metric + suffix, float("nan") if perplexity else 1.0, unit)
