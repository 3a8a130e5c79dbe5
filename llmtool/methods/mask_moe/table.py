"""The table of MaskMoE: which experts each token id sees, layer by layer. Made once, checked, and shipped.

The paper draws V experts for a frequent id and one for a rare one, uniformly; where frequent ends is not published.
What is decided here, and why, stands in docs/methods/mask_moe.md. numpy only.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmtool.core.run.errors import UserError
from llmtool.core.run.wording import counted

Ints = NDArray[np.int64]
Masks = NDArray[np.uint8]
RULES = ("frequent-mass", "min-per-expert", "all", "one", "top-k", "coin")
DRAWS = ("uniform", "balanced")


@dataclass(frozen=True)
class Rule:
    """How many experts an id sees.

    frequent-mass: `visible` for the most frequent ids, until they are `mass` of all occurrences; one for the others.
    min-per-expert: as many as get `least` occurrences each, `visible` at most. all, one, top-k: the same for every id
    (plain routing, a hash layer, DeepSeek-V4's hash_moe). coin: `visible` or one as a coin falls which has the chance
    of frequent-mass, whatever the frequency: the control for whether frequency matters.
    """

    experts: int
    top_k: int = 1
    kind: str = "frequent-mass"
    mass: float = 0.9
    least: int = 1000
    visible: int | None = None
    """None: half of the experts, rounded up, and top_k at least."""
    draw: str = "uniform"
    seed: int = 0

    @property
    def most(self) -> int:
        """V of a frequent id."""
        return self.visible if self.visible is not None else max(self.top_k, -(-self.experts // 2))

    def check(self) -> "Rule":
        """Refuse what cannot be drawn."""
        if not 2 <= self.experts <= 256:
            raise UserError(f"--experts {self.experts}: wanted 2 to 256")
        if not 1 <= self.top_k <= self.experts:
            raise UserError(f"--top-k {self.top_k}: wanted 1 to {self.experts}, the number of experts")
        if not 1 <= self.most <= self.experts:
            raise UserError(f"--visible {self.visible}: wanted 1 to {self.experts}, the number of experts")
        if not 0 < self.mass <= 1:
            raise UserError(f"--frequent-mass {self.mass:g}: wanted a share above 0 and up to 1")
        if self.least < 1:
            raise UserError(f"--min-per-expert {self.least}: wanted 1 or more occurrences")
        return self


def numbers_visible(counts: Ints, rule: Rule, structure: Ints) -> Ints:
    """V of each id [vocabulary]; structure: ids of special tokens, which see every expert where any id may."""
    visible = np.ones(len(counts), dtype=np.int64)
    if rule.kind in ("all", "top-k"):
        visible[:] = rule.experts if rule.kind == "all" else rule.top_k
        return visible
    if rule.kind == "one":
        return visible
    if rule.kind == "min-per-expert":
        visible = np.clip(counts // rule.least, 1, rule.most)
    else:
        order = np.argsort(-counts, kind="stable")
        before = np.concatenate([[0], np.cumsum(counts[order])[:-1]])
        frequent = order[(before < rule.mass * counts.sum()) & (counts[order] > 0)]
        if rule.kind == "coin":
            random = np.random.default_rng([rule.seed, 1])
            seen = np.flatnonzero(counts)
            frequent = random.permutation(seen)[: len(frequent)]
        visible[frequent] = rule.most
    visible[structure] = rule.experts
    return visible


def draw(visible: Ints, counts: Ints, rule: Rule, layer: int) -> NDArray[np.bool_]:
    """The experts that each id sees in one layer, bool [vocabulary, E]; the same for the same (seed, layer)."""
    random = np.random.default_rng([rule.seed, layer])
    keys = random.random((len(visible), rule.experts))
    if rule.draw == "uniform":
        ranks = keys.argsort(1).argsort(1)
        drawn: NDArray[np.bool_] = ranks < visible[:, None]
        return drawn
    # Longest first: each id takes the experts with the least expected load so far, n_t / V for each it sees.
    shown = np.zeros((len(visible), rule.experts), dtype=bool)
    load = np.zeros(rule.experts)
    for token in np.argsort(-counts, kind="stable"):
        taken = np.lexsort((keys[token], load))[: visible[token]]
        shown[token, taken] = True
        load[taken] += counts[token] / visible[token]
    return shown


def pack(shown: NDArray[np.bool_]) -> Masks:
    """bool [..., E] -> uint8 [..., ceil(E / 8)], bit e % 8 of byte e // 8 for expert e."""
    return np.packbits(shown, axis=-1, bitorder="little")


def unpack(masks: Masks, experts: int) -> NDArray[np.bool_]:
    """The reverse."""
    return np.unpackbits(masks, axis=-1, bitorder="little", count=experts).astype(bool)


def make_table(counts: Ints, layers: int, rule: Rule, structure: Ints) -> Masks:
    """Tables of all layers, uint8 [layers, vocabulary, bytes]."""
    visible = numbers_visible(counts, rule.check(), structure)
    return np.stack([pack(draw(visible, counts, rule, layer)) for layer in range(layers)])


def check_table(masks: Masks, experts: int) -> None:
    """Every id of every layer sees an expert, and none that does not exist."""
    if masks.dtype != np.uint8 or masks.ndim != 3 or masks.shape[2] != -(-experts // 8):
        what = f"masks of {masks.dtype} {list(masks.shape)}: wanted uint8 [layers, vocabulary, {-(-experts // 8)}]"
        raise UserError(f"{what} for {experts} experts")
    if experts % 8 and bool((masks[:, :, -1] >> (experts % 8)).any()):
        raise UserError(f"the table shows experts beyond the {experts} there are")
    if not (seen := masks.any(-1)).all():
        layer, token = np.argwhere(~seen)[0]
        raise UserError(f"id {token} sees no expert in layer {layer}")


def tid2eid(masks: Masks, experts: int, top_k: int) -> Ints:
    """DeepSeek-V4's form, int64 [layers, vocabulary, top_k]: the experts of each id, where every id sees top_k."""
    shown = unpack(masks, experts)
    if not (shown.sum(-1) == top_k).all():
        raise UserError(f"--tid2eid: not every id sees exactly {counted(top_k, 'expert')}", hint="--rule top-k")
    return np.nonzero(shown)[2].reshape(*shown.shape[:2], top_k).astype(np.int64)


def carry_rows(masks: Masks, sources: Ints) -> Masks:
    """Tables for another vocabulary: new id i takes the row of old id sources[i], its first old piece."""
    if len(sources) and not 0 <= sources.min() <= sources.max() < masks.shape[1]:
        raise UserError(f"a source id is outside the table's {masks.shape[1]:,} rows")
    return masks[:, sources]


def report(masks: Masks, counts: Ints, rule: Rule, structure: Ints) -> dict[str, Any]:
    """What the table is: classes of ids, loads, experts computed a token."""
    total = max(1, int(counts.sum()))
    visible = numbers_visible(counts, rule, structure)
    classes = []
    for number in np.unique(visible):
        members = visible == number
        classes.append({
            "visible": int(number), "ids": int(members.sum()), "seen": int((counts[members] > 0).sum()),
            "occurrences": float(counts[members].sum() / total),
        })  # fmt: skip
    layers = []
    for layer in range(len(masks)):
        shown = unpack(masks[layer], rule.experts)
        expected = counts / total / shown.sum(1)
        load = (shown * expected[:, None]).sum(0)
        fixed = (shown * np.where(visible == 1, counts / total, 0)[:, None]).sum(0)
        layers.append({"max_over_mean": float(load.max() * rule.experts), "min_over_mean":
                       float(load.min() * rule.experts), "fixed_by_expert": fixed.tolist()})  # fmt: skip
    return {
        "rule": asdict(rule), "vocabulary": len(counts), "tokens": int(counts.sum()), "unseen_ids":
        int((counts == 0).sum()), "classes": classes, "layers": layers, "mean_active_experts":
        float((counts * np.minimum(rule.top_k, visible)).sum() / total), "bytes": masks.nbytes,
    }  # fmt: skip
