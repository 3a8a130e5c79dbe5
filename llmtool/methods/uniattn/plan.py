"""Which layers lead and which follow: --groups, --followers, or a plan.json; what that saves in the cache.

{"schema": "llmtool.uniattn-plan/1", "groups": [[16, 17, 18, 19], ...], "kv_saving": 0.1875, "similarity": [...],
 "head_map": {"17": [[16, 3], ...], ...}}
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtool.core.run.errors import UserError
from llmtool.core.run.json_file import read_json_object
from llmtool.core.run.numbers import whole

if TYPE_CHECKING:
    from llmtool.core.model.config import Config
    from llmtool.methods.uniattn.part import Heads

SCHEMA = "llmtool.uniattn-plan/1"
Groups = list[list[int]]
"""[leader, follower, ...] each."""
MOST = 1 << 20
"""Layers: no model has as many."""


def choose(groups: str | None, followers: str | None, plan: Path | None, layers: int) -> Groups:
    """The groups that exactly one of the three options asks for; [] for --followers none."""
    if sum(option is not None for option in (groups, followers, plan)) != 1:
        raise UserError("which layers follow?", hint="give one of --groups G:B:E, --followers LIST, --plan FILE")
    if groups is not None:
        return by_grouping(groups, layers)
    if followers is not None:
        return by_followers(followers, layers)
    assert plan is not None
    return read_plan(plan, layers)


def by_grouping(text: str, layers: int) -> Groups:
    """g:b:e of the paper: layer i leads iff (i - b) % g == 0 or i < b or i >= e.

    Groups without a follower are left out. Followers are enumerated, never counted by a formula: the last group may be
    shorter, and e may lie past the last layer.
    """
    words = text.split(":")
    if len(words) != 3:
        raise UserError(f"--groups {text!r}: wanted three numbers G:B:E", hint="4:16:33")
    group, begin, end = (whole(word.strip(), f"--groups {text}:", high=MOST) for word in words)
    if group < 2:
        raise UserError(f"--groups {text}: groups of {group} share nothing", hint="G is at least 2")
    if begin < 0 or begin >= layers:
        raise UserError(f"--groups {text}: B = {begin} lies past the last layer, which is {layers - 1}")
    if end <= begin:
        raise UserError(f"--groups {text}: E = {end} does not lie behind B = {begin}")
    found = [list(range(first, min(first + group, end, layers))) for first in range(begin, min(end, layers), group)]
    found = [layers_of for layers_of in found if len(layers_of) > 1]
    if not found:
        raise UserError(f"--groups {text} leaves no follower in {layers} layers")
    return found


def by_followers(text: str, layers: int) -> Groups:
    """Comma-separated layers; each run of neighbours follows the layer before it. "none": no groups."""
    if text.strip() == "none":
        return []
    wanted = sorted(whole(word.strip(), "--followers", high=MOST) for word in text.split(","))
    groups: Groups = []
    for layer in wanted:
        if layer < 1:
            raise UserError(f"--followers {text}: layer {layer} has no leader before it", hint="layers count from 0")
        if layer >= layers:
            raise UserError(f"--followers {text}: there is no layer {layer}, the last is {layers - 1}")
        if groups and layer == groups[-1][-1]:
            raise UserError(f"--followers {text}: layer {layer} is named twice")
        if groups and layer == groups[-1][-1] + 1:
            groups[-1].append(layer)
        else:
            groups.append([layer - 1, layer])
    return groups


def read_plan(path: Path, layers: int) -> Groups:
    """The groups of a plan.json, checked."""
    from llmtool.core.model.config import ConfigError
    from llmtool.methods.uniattn.part import check_groups

    facts = _read(path)
    try:
        return sorted(check_groups(facts.get("groups"), layers))
    except ConfigError as error:
        raise UserError(str(error), where=str(path)) from None


def _read(path: Path) -> dict[str, Any]:
    facts = read_json_object(path)
    if facts.get("schema") != SCHEMA:
        hint = "llmtool eval attention -o writes one"
        raise UserError(f"schema {facts.get('schema')!r} is not {SCHEMA}", where=str(path), hint=hint)
    return facts


def has_heads(path: Path) -> bool:
    """Whether a plan.json holds a head map."""
    return _read(path).get("head_map") is not None


def read_heads(path: Path, groups: Groups, config: "Config") -> "dict[int, Heads]":
    """The head map of a plan.json, checked for these groups: follower -> (layer, head) for each of its heads."""
    from llmtool.core.model.config import ConfigError
    from llmtool.methods.uniattn.part import check_heads

    facts = _read(path)
    if facts.get("head_map") is None:
        raise UserError("holds no head_map", where=str(path), hint="llmtool eval attention -o writes one")
    try:
        return {**check_heads(facts["head_map"], groups, config)}
    except ConfigError as error:
        hint = "--heads matched finds one for these groups"
        raise UserError(str(error), where=str(path), hint=hint) from None


def followers_of(groups: Groups) -> dict[int, int]:
    """Follower -> leader, in the order of the layers."""
    return dict(sorted((follower, group[0]) for group in groups for follower in group[1:]))


def kv_saving(groups: Groups, layers: int) -> float:
    """Share of the cache that is not kept: half a layer's for each follower."""
    return len(followers_of(groups)) / (2 * layers)


def to_json(
    groups: Groups,
    layers: int,
    similarity: Sequence[Sequence[float]] | None = None,
    heads: "Mapping[int, Heads] | None" = None,
) -> dict[str, Any]:
    """plan.json."""
    return {
        "schema": SCHEMA,
        "groups": groups,
        "kv_saving": kv_saving(groups, layers),
        "similarity": similarity,
        **({"head_map": {str(layer): [list(pair) for pair in of] for layer, of in heads.items()}} if heads else {}),
    }


def cla_groups(groups: Groups) -> Groups:
    """Groups of cross-layer key-value sharing that save as much: every second follower, which saves keys and values.

    An odd number of followers is rounded down: the baseline then keeps half a layer's cache more.
    """
    kept: set[int] = set(list(followers_of(groups))[::2][: len(followers_of(groups)) // 2])
    shrunk = [[group[0], *(layer for layer in group[1:] if layer in kept)] for group in groups]
    return [group for group in shrunk if len(group) > 1]
