"""`llmtool data check`: one example with the trained tokens marked, and what became of the rows."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llmtool.commands.posttrain.data import Reader, count_lines, open_reader
from llmtool.commands.posttrain.settings import CheckSettings
from llmtool.core.run.console import QUIET, Console
from llmtool.core.run.extras import require
from llmtool.core.run.wording import counted

if TYPE_CHECKING:
    from llmtool.core.train.sft.example import Example

SCHEMA = "llmtool.data-check/1"
OPEN, CLOSE = "⟦", "⟧"


def check(
    inputs: Sequence[str], settings: CheckSettings | None = None, *, console: Console = QUIET, **named_settings: Any
) -> dict[str, Any]:
    """Counts, the share of packed rows that holds tokens, and the kept example number `row` in pieces."""
    require("torch", extra="models", why="to pack rows as training does")
    from llmtool.core.train.sft.batches import PackedExamples

    asked = CheckSettings.of(settings, named_settings)
    options = asked.reading()
    reader = open_reader(inputs, options)
    examples, counts = reader.examples(inputs, console)
    warnings = reader.warnings(counts)
    for warning in warnings:
        console.warn(warning)
    report: dict[str, Any] = {
        "schema": SCHEMA, "counts": counts.to_json(), "lines": count_lines(counts), "warnings": warnings,
        "template": reader.template.where if reader.template else None, "length": options.places, "example": None,
    }  # fmt: skip
    if not counts.kept:
        return report
    packed = PackedExamples(examples, options.places, 1, asked.seed, packing=options.packing)
    shown = min(asked.row, len(examples)) - 1
    return {
        **report, "packed_rows": len(packed.packed), "fill": packed.fill, "longest": max(examples.lengths),
        "example": pieces(examples[shown], reader),
    }  # fmt: skip


def pieces(example: "Example", reader: Reader) -> list[dict[str, Any]]:
    """Runs of tokens that are trained or not, decoded as one text: special tokens are shown, and every space."""
    stream, runs = reader.tokenizer.decode_stream(), list[dict[str, Any]]()
    for token, trained in zip(example.ids.tolist(), example.trained.tolist(), strict=True):
        if not runs or runs[-1]["trained"] != trained:
            runs.append({"trained": trained, "tokens": 0, "text": ""})
        runs[-1]["tokens"] += 1
        runs[-1]["text"] += stream.push(token)
    if runs:
        runs[-1]["text"] += stream.finish()
    return runs


def show(report: dict[str, Any]) -> None:
    """The example on stdout, trained tokens between brackets, and the counts."""
    if report["example"]:
        marked = [f"{OPEN}{p['text']}{CLOSE}" if p["trained"] else p["text"] for p in report["example"]]
        print("".join(marked).rstrip("\n"))
        print(f"\n{OPEN}...{CLOSE}: trained\n")
    if report["template"]:
        print(f"{'template':44} {report['template']}")
    for name, text in report["lines"]:
        print(f"{name:44} {text}")
    if report["example"]:
        print(
            f"{'packed':44} {counted(report['packed_rows'], 'row')} of {report['length']:,}, {report['fill']:.1%} full"
        )
    else:
        print("nothing is trainable")
