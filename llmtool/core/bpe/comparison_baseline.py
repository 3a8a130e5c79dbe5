"""Has a tokenizer become worse than it was on the same text? A comparison held against an earlier one."""

from pathlib import Path
from typing import Any

from llmtool.core.bpe.comparison import SCHEMA, Comparison
from llmtool.core.run.errors import UserError, closest
from llmtool.core.run.json_file import read_json_object

HINT = "llmtool tokenizer compare ... --json > FILE"
Row = dict[str, Any]


def against(comparison: Comparison, path: Path) -> list[Row]:
    """{"tokenizer", "corpus", "before", "now", "worse"}: bytes a token then and now, by tokenizer and corpus.

    worse: by what share fewer bytes stand in a token. Only what has the same name in both is compared, and only on the
    same number of bytes; `unknown` says what was not.
    """
    report = read_json_object(path)
    if report.get("schema") != SCHEMA or not isinstance(held := report.get("tokenizers"), dict):
        raise UserError(f"no report of the kind {SCHEMA}", where=str(path), hint=HINT)
    rows = []
    for name, measured in comparison.measured.items():
        if name not in held:
            continue
        for corpus, metrics in measured.corpora.items():
            before = _figures(held[name], corpus, path)
            if before is None:
                continue
            if before["bytes"] != metrics.bytes:
                what = f"{corpus} had {before['bytes']:,} bytes and has {metrics.bytes:,}: not the same text"
                raise UserError(what, where=str(path), hint="compare on the text that the baseline was made on")
            then, now = before["bytes_per_token"], metrics.bytes_per_token
            worse = 0.0 if not now or not then else max(0.0, 1 - now / then)
            rows.append({"tokenizer": name, "corpus": corpus, "before": then, "now": now, "worse": worse})
    if not rows:
        near = closest(next(iter(comparison.measured)), list(held))
        raise UserError("has no tokenizer and corpus of these names", where=str(path), hint=near or HINT)
    return rows


def unknown(comparison: Comparison, rows: list[Row]) -> list[str]:
    """Tokenizers and corpora that the earlier report has nothing of: they pass whatever they are."""
    held = {(row["tokenizer"], row["corpus"]) for row in rows}
    every = [(name, corpus) for name, measured in comparison.measured.items() for corpus in measured.corpora]
    return [f"{name} on {corpus}" for name, corpus in every if (name, corpus) not in held]


def _figures(entry: Any, corpus: str, path: Path) -> Row | None:
    corpora = entry.get("corpora") if isinstance(entry, dict) else None
    found = corpora.get(corpus) if isinstance(corpora, dict) else None
    if found is None:
        return None
    figures = [found.get(key) for key in ("bytes", "bytes_per_token")] if isinstance(found, dict) else []
    if not figures or any(isinstance(value, bool) or not isinstance(value, int | float) for value in figures):
        raise UserError(f"{corpus}: bytes and bytes_per_token are not two numbers", where=str(path), hint=HINT)
    return {"bytes": figures[0], "bytes_per_token": figures[1]}
