"""Two tokenizers side by side: what `llmtool tokenizer diff` does."""

from collections.abc import Iterator, Sequence
from typing import Any

from llmtool.commands.tokenizer.inspect import show
from llmtool.commands.tokenizer.settings import DiffSettings
from llmtool.core.bpe.difference import Difference, Texts, compare_texts, difference
from llmtool.core.bpe.tokenizer import BaseTokenizer
from llmtool.core.corpus.document import ReadReport
from llmtool.core.corpus.readers import Reading, parse_size, read_documents
from llmtool.core.run.console import Console

SCHEMA = "llmtool.tokenizer-diff/1"
Pairs = Sequence[tuple[bytes, bytes]]


def diff(
    old: BaseTokenizer, new: BaseTokenizer, settings: DiffSettings | None = None, *,
    reading: Reading | None = None, console: Console | None = None, **named: Any,
) -> dict[str, Any]:  # fmt: skip
    """Tokens, ids, merges and settings that differ; with a corpus, texts that are cut otherwise, the worst first."""
    console = console or Console(verbosity=-1)
    reading, named = Reading.split(reading, named)
    asked = DiffSettings.of(settings, named)
    found = difference(old, new)
    report = _facts(found, old, new, asked.show)
    if asked.corpus:
        report["texts"] = _text_facts(_texts(old, new, asked, reading, console))
    return report


def _texts(old: BaseTokenizer, new: BaseTokenizer, asked: DiffSettings, reading: Reading, console: Console) -> Texts:
    read = ReadReport()
    limit = None if asked.limit_bytes is None else parse_size(asked.limit_bytes)
    documents = read_documents(list(asked.corpus), reading, whole=True, limit_bytes=limit, report=read)
    named = ((f"{d.source}:{d.row}" if d.row is not None else d.source, d.text) for d in documents)
    found = compare_texts(old, new, named, asked.show)
    read.say(console)
    return found


def _facts(found: Difference, old: BaseTokenizer, new: BaseTokenizer, most: int) -> dict[str, Any]:
    def tokens(listed: Sequence[tuple[int, bytes]]) -> dict[str, Any]:
        return {
            "number": len(listed),
            "first": [{"id": number, "token": show(token)} for number, token in listed[:most]],
        }

    def merges(listed: Pairs) -> dict[str, Any]:
        return {"number": len(listed), "first": [f"{show(left)} + {show(right)}" for left, right in listed[:most]]}

    return {
        "schema": SCHEMA,
        "sha256": [old.fingerprint(), new.fingerprint()],
        "same_ids": old.fingerprint() == new.fingerprint(),
        "ids": [old.token_count, new.token_count],
        "added": tokens(found.added),
        "gone": tokens(found.gone),
        "renumbered": {
            "number": len(found.renumbered),
            "first": [{"token": show(t), "old": a, "new": b} for t, a, b in found.renumbered[:most]],
        },
        "merges_added": merges(found.merges_added),
        "merges_gone": merges(found.merges_gone),
        "merges_moved": merges(found.merges_moved),
        "settings": {name: list(values) for name, values in found.settings.items()},
    }


def _text_facts(found: Texts) -> dict[str, Any]:
    worst = [
        {"text": each.name, "before": each.before, "after": each.after,
         "old": [show(token) for token in each.old_cut], "new": [show(token) for token in each.new_cut]}
        for each in found.worst
    ]  # fmt: skip
    return {
        "number": found.number, "changed": found.changed, "bytes": found.bytes, "before": found.before,
        "after": found.after, "worst": worst,
    }  # fmt: skip


def lines(report: dict[str, Any]) -> Iterator[str]:
    """The report for people."""
    if report["same_ids"]:
        yield "nothing that decides ids differs"
    yield f"ids             {report['ids'][0]:,} -> {report['ids'][1]:,}"
    for key, name in (("added", "tokens added"), ("gone", "tokens gone")):
        yield f"{name:15} {_listed(report[key], [entry['token'] for entry in report[key]['first']])}"
    moved = [f"{entry['token']} {entry['old']}>{entry['new']}" for entry in report["renumbered"]["first"]]
    yield f"{'renumbered':15} {_listed(report['renumbered'], moved)}"
    for key in ("merges_added", "merges_gone", "merges_moved"):
        yield f"{key.replace('_', ' '):15} {_listed(report[key], report[key]['first'])}"
    for name, (before, after) in report["settings"].items():
        yield f"{name}: {_brief(before)} -> {_brief(after)}"
    if "texts" not in report:
        return
    texts = report["texts"]
    yield (
        f"texts           {texts['changed']:,} of {texts['number']:,} are cut otherwise; "
        f"{texts['before']:,} -> {texts['after']:,} tokens of {texts['bytes']:,} bytes"
    )
    for each in texts["worst"]:
        yield f"  {each['text']}: {each['before']:,} -> {each['after']:,} tokens, first"
        yield f"    {' | '.join(each['old'])}"
        yield f"    {' | '.join(each['new'])}"


def _listed(entry: dict[str, Any], shown: Sequence[str]) -> str:
    more = ", ..." if entry["number"] > len(shown) else ""
    return f"{entry['number']:,}" + (f"  ({', '.join(shown)}{more})" if shown else "")


def _brief(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
