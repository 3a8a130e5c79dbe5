"""The report for people: rows of a table."""

from typing import Any


def lines(facts: dict[str, Any]) -> list[list[str]]:
    """The report for people: rows of a table."""
    out = [
        ["samples", ", ".join(f"{number:,} of {int(target):,} tokens" for target, number in facts["targets"].items())],
    ]
    if facts["all_metas_inside"] is not None:
        share = f"{100 * facts['all_metas_inside']:.2f}% of the samples"
        out.append(["all meta-chunks inside the target", share])
    for key, title, form in (
        ("metas", "meta-chunks in a sample", "{:,.0f}"),
        ("dependency_gap", "dependency gap, tokens", "{:,.0f}"),
        ("hardness_margin", "hardness margin, cosine", "{:+.3f}"),
    ):
        if facts[key]:
            text = ", ".join(f"{name} {form.format(facts[key][name])}" for name in ("min", "mean", "p95"))
            out.append([title, text])
    if ranks := facts["similarity_by_rank"]:
        shown = [rank for rank in (1, 2, 4, 8, 16, 32, 64, 128) if rank in ranks]
        out.append(["negatives' similarity by rank", ", ".join(f"{rank}: {ranks[rank]:.3f}" for rank in shown)])
    if facts["same_document_leaks"] is not None:
        out.append(["same-document leaks", f"{facts['same_document_leaks']:,} of {facts['negatives']:,} negatives"])
    if copies := facts.get("copies"):
        text = f"{copies['exact_copies']:,} equal, {copies['near_copies']:,} near of {copies['chunks']:,} chunks"
        out.append(["copies merged before the index", text])
    out += _negatives(facts)
    if facts["unique_negatives"] is not None:
        reuse = ", ".join(f"{n}x: {count:,}" for n, count in facts["reuse"].items())
        out.append(["unique negatives", f"{100 * facts['unique_negatives']:.1f}% (used {reuse})"])
    if "recall" in facts:
        found = facts["recall"]
        out.append([f"recall@{found['k']} of the index", f"{found['recall']:.3f} ({found['index']})"])
    if "dependency" in facts:
        found = facts["dependency"]
        text = "no pair fits into the model's context" if not found["pairs"] else (
            f"{found['gain']:+.4f} nats a token over {found['pairs']} meta-chunks"
            + (f" (standard error {found['standard_error']:.4f})" if found["standard_error"] is not None else "")
        )  # fmt: skip
        out.append(["gain from earlier meta-chunks", text])
    if "contaminated_samples" in facts:
        out.append(["samples with evaluation text", f"{facts['contaminated_samples']:,}"])
    for kind, found in (("", facts), (", packed", facts["packed"] or {})):
        rejects, before = found.get("rejects", {}), found.get("not_candidates") or {}
        if not before:  # an output of before the two were told apart
            before = {why: number for why, number in rejects.items() if why not in _IN_TRIAL}
        out += [[f"never a seed{kind}: {why}", f"{number:,}"] for why, number in before.items()]
        rejects = {why: number for why, number in rejects.items() if why not in before}
        if found.get("tried") is not None:
            accepted = found["tried"] - sum(rejects.values())
            spare = not kind and accepted > found["samples"]
            more = " (many are tried at once; the first are written)" if spare else ""
            out.append([f"seeds accepted{kind}", f"{accepted:,} of {found['tried']:,} tried{more}"])
        out += [[f"rejected{kind}: {why}", f"{number:,}"] for why, number in rejects.items()]
    mix = facts.get("corpus", {}).get("sources", {})
    for name, share in list(facts["sources"].items())[:12]:
        beside = f" ({100 * mix[name]:.1f}% of the corpus)" if name in mix else ""
        out.append([f"source {name}", f"{100 * share:.1f}%{beside}"])
    out += [[f"licence {name}", f"{100 * share:.1f}%"] for name, share in facts["licences"].items()]
    return out


def _negatives(facts: dict[str, Any]) -> list[list[str]]:
    """What is wrong with negatives, over all and by source of the seed."""
    if not facts["pairs"]:
        return []
    many = max(1, facts["negatives"])
    level = f" (least similarity: {facts['min_similarity']:.3f})" if facts["min_similarity"] is not None else ""
    out = [
        ["meta-chunks side by side", f"{facts['zero_gaps']:,} of {facts['pairs']:,} pairs"],
        ["negatives that are not hard", f"{100 * facts['weak'] / many:.2f}%{level}"],
        ["negatives of another meta-chunk", f"{100 * facts['refilled'] / many:.2f}%, where its own ran dry"],
    ]
    if found := facts["repeats"]:
        for title, key, longest in (
            ("negatives with a meta-chunk's text", "with_meta_text", "longest_of_meta"),
            ("negatives with an earlier one's text", "repeated", "longest_repeated"),
        ):
            text = f"{100 * found[key] / found['negatives']:.2f}% ({found['characters']} characters and more; "
            out.append([title, text + f"longest: {found[longest]}+)"])
    shares = {name: _shares(each) for name, each in facts["by_source"].items()}
    for name, found in sorted(shares.items(), key=lambda pair: -sum(pair[1].values()))[:12]:
        if any(found.values()):
            text = ", ".join(f"{what} {100 * share:.1f}%" for what, share in found.items())
            out.append([f"seeds of {name}", text])
    return out


def _shares(each: dict[str, int]) -> dict[str, float]:
    """What is wrong with the samples whose seeds are of one source."""
    figures = {
        "side by side": ("zero_gaps", "pairs"), "not hard": ("weak", "negatives"),
        "found for another": ("refilled", "negatives"), "a meta-chunk's text": ("of_meta", "looked_at"),
        "repeated": ("repeated", "looked_at"),
    }  # fmt: skip
    return {what: each.get(part, 0) / max(1, each.get(whole, 0)) for what, (part, whole) in figures.items()}


_IN_TRIAL = (
    "a chunk is longer than the target", "reaches the target by itself (--keep-long takes it)",
    "too short when joined", "too few hard negatives for the target", "no negative fits behind a meta-chunk",
    "the last meta-chunk does not fit",
    "shorter than the target",
)  # fmt: skip
