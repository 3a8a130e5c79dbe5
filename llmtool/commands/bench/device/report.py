"""report.md, tuning.json and figures from rows.jsonl: rewritten after each job, from whatever is there."""

from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from llmtool.commands.bench.device.child import ROWS, Row
from llmtool.core.bench.predict import machine_of, predicted
from llmtool.core.bench.report import COLOURS, duration, operations, size
from llmtool.core.bench.rows import read
from llmtool.core.bench.tune import rows_of
from llmtool.core.kernels.registry import load_spec
from llmtool.core.kernels.spec import Case
from llmtool.core.run.atomic import atomic_file
from llmtool.core.run.figures import save_figure
from llmtool.core.run.json_file import dumps
from llmtool.core.run.wording import counted

REPORT, TUNING = "report.md", "tuning.json"


def write(out: Path) -> None:
    """All of them: at most report.md, tuning.json and three figures beside rows.jsonl and stderr.log."""
    rows = read(out / ROWS)
    with atomic_file(out / REPORT) as file:
        file.write("\n".join(page(rows)).encode() + b"\n")
    tuned = [row for row in of(rows, "tune") if "row" in row]
    if tuned:
        with atomic_file(out / TUNING) as file:
            file.write(dumps(rows_of(device_of(rows), tuned), indent=2).encode() + b"\n")
    if find_spec("matplotlib"):
        figures(rows, out)


def of(rows: Sequence[Row], part: str) -> list[Row]:
    """A part's results: of each unit those after its last beginning."""
    found: dict[tuple[Any, Any], list[Row]] = {}
    for row in rows:
        if row.get("part") == part and "unit" in row:
            key = row["job"], row["unit"]
            if row.get("event") == "begin":
                found[key] = []
            elif "event" not in row:
                found.setdefault(key, []).append(row)
    return [row for each in found.values() for row in each]


def device_of(rows: Sequence[Row]) -> str:
    """As the run began."""
    start = next((row for row in rows if row.get("event") == "start"), None)
    return str(start["identity"]["device"]) if start else "?"


def summary(rows: Sequence[Row]) -> Row:
    """Counts of each part."""
    parts = {}
    for part in dict.fromkeys(row["part"] for row in rows if "part" in row):
        mine = of(rows, part)
        failed = [row for row in mine if "failed" in row or row.get("passed") is False]
        parts[part] = {"rows": len(mine), "failed": len(failed)}
    return {"device": device_of(rows), "parts": parts}


def lines(found: Row) -> str:
    """The summary for people."""
    said = [f"{found['device']}: {found['out']}/{REPORT}"]
    said += [
        f"{part}: {counted(each['rows'], 'row')}, {each['failed']} failed" for part, each in found["parts"].items()
    ]
    return "\n".join([*said, f"left: {', '.join(found['left']) or 'nothing'}"])


def page(rows: Sequence[Row]) -> Iterator[str]:
    """The report."""
    start: Row = next((row["identity"] for row in rows if row.get("event") == "start"), {})
    yield f"# {start.get('device', '?')}"
    yield ""
    yield ", ".join(f"{key} {start.get(key)}" for key in ("torch", "triton", "commit"))
    if start.get("rehearsal"):
        yield "\n**A rehearsal on a CPU: tiny shapes, kernels interpreted. Its times say nothing.**"
    for title, make in SECTIONS.items():
        body = list(make(rows))
        if body:
            yield f"\n## {title}\n"
            yield from body


def markdown(header: Sequence[str], cells: Sequence[Sequence[str]]) -> Iterator[str]:
    """A table; nothing where there is no row."""
    if cells:
        yield "| " + " | ".join(header) + " |"
        yield "|" + "---|" * len(header)
        yield from ("| " + " | ".join(row) + " |" for row in cells)


def processes(rows: Sequence[Row]) -> Iterator[str]:
    """What was run, and what it left."""
    jobs = dict.fromkeys((row["part"], row["job"]) for row in rows if "part" in row)
    cells = []
    for part, job in jobs:
        mine = [row for row in rows if (row.get("part"), row.get("job")) == (part, job)]
        ended = [row for row in mine if row.get("event") == "end"]
        last = next((row for row in reversed(mine) if row.get("event") == "process"), {})
        words = WORDS.get(last.get("status"), f"ended with {last.get('status')}")
        units, wall = len({row["unit"] for row in ended}), sum(row["wall"] for row in ended)
        cells.append([part, job, str(units), f"{wall:.1f} s", words, str(last.get("open") or "")])
    yield from markdown(("part", "job", "units", "time", "last process", "stopped in"), cells)


WORDS = {0: "done", 75: "something is left", -9: "killed at its limit", None: "running, or killed from outside"}


def rates(rows: Sequence[Row]) -> dict[str, Row]:
    """Ceilings by type."""
    return {row["dtype"]: row for row in of(rows, "ceilings") if "copy" in row}


def ceilings(rows: Sequence[Row]) -> Iterator[str]:
    """A line a type."""
    for kind, row in rates(rows).items():
        yield f"- {kind}: copy {row['copy'] / 1e12:.3f} TB/s, matmul {operations(row['matmul'])}"


def correctness(rows: Sequence[Row]) -> Iterator[str]:
    """A line for each op, implementation, type and direction; what is wrong in full."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in (*of(rows, "tests"), *of(rows, "big")):
        if "passed" in row:
            kind = str(row.get("dtype", "bfloat16")).removeprefix("torch.")
            what = row.get("implementation", f"{row.get('elements', 0):,} elements")
            groups.setdefault((row["op"], str(what), kind, row["direction"]), []).append(row)
    cells = [
        [*key, f"{sum(row['passed'] for row in mine)} of {len(mine)}",
         f"{max((row['error'] or 0.0) for row in mine):.1e}", f"{mine[0]['tolerance']:.1e}"]
        for key, mine in groups.items()
    ]  # fmt: skip
    yield from markdown(("op", "what", "type", "direction", "right", "largest error", "allowed"), cells)
    for mine in groups.values():
        for row in mine:
            if not row["passed"]:
                yield f"- WRONG: {row['op']} {row['case']} {row['direction']}: {row['reason']}"


def timed(rows: Sequence[Row]) -> list[Row]:
    """Rows of `ops` with floor and share, where the ceilings are known."""
    known = rates(rows)
    made = []
    for row in of(rows, "ops"):
        ceiling = known.get(row.get("dtype", ""))
        if "seconds" in row and ceiling:
            floor = max(row["flops"] / ceiling["matmul"], row["bytes"] / ceiling["copy"])
            made.append({**row, "floor": floor, "share": floor / row["seconds"]})
    return made


def beside(rows: Sequence[Row]) -> Iterator[str]:
    """Ops beside their rivals; what ours was predicted to take."""
    machine, cells, made = machine_of(device_of(rows)), [], timed(rows)
    for row in made:
        same = [r for r in made if all(r[key] == row[key] for key in ("op", "case", "direction"))]
        best = min((r["seconds"] for r in same if r["own"]), default=None)
        belief = predicted(load_spec(row["op"]), Case(row["case"]), row["direction"], machine) if machine else None
        cells.append([
            row["op"], " ".join(f"{k}={v}" for k, v in row["case"].items()), row["direction"], row["implementation"],
            f"{row['error']:.1e}", duration(row["seconds"]), "graph" if row.get("graph") else "calls",
            f"{row['share']:.0%}", "" if row["own"] or not best else f"{row['seconds'] / best:.2f}x",
            duration(belief) if belief and row["implementation"] == "ours" else "", size(row.get("peak_bytes")),
        ])  # fmt: skip
    header = ("op", "case", "direction", "implementation", "error", "time", "timed by", "of ceiling", "ours is faster",
              "predicted", "memory")  # fmt: skip
    yield from markdown(header, cells)


def decoded(rows: Sequence[Row]) -> Iterator[str]:
    """Seconds a token of each model beside dense with torch's operators."""
    mine = [row for row in of(rows, "decode") if "token" in row]
    copy = next((row["copy"] for row in rates(rows).values()), None)
    cells = []
    for row in mine:
        dense = next((r["token"] for r in mine if (r["model"], r["kernels"], r["batch"], r["context"]) ==
                      ("dense", "torch", row["batch"], row["context"])), None)  # fmt: skip
        floor = None if copy is None else (row["weights_read"] + row["cache_bytes"]) / copy
        cells.append([
            row["model"], row["kernels"], str(row["batch"]), f"{row['context']:,}", duration(row["first"]),
            duration(row["token"]), "" if floor is None else f"{duration(floor)} ({floor / row['token']:.0%})",
            "" if dense is None else f"{dense / row['token']:.2f}x", f"{row['ffn_share']:.2f}",
            "graph" if row["graph"] else "calls",
        ])  # fmt: skip
    header = ("model", "kernels", "batch", "context", "first token", "a token", "bound", "of dense, torch",
              "share of FFN used", "timed by")  # fmt: skip
    yield from markdown(header, cells)


def trained(rows: Sequence[Row]) -> Iterator[str]:
    """Tokens a second and MFU."""
    matmul = rates(rows).get("bfloat16", {}).get("matmul")
    cells = [
        [row["variant"], duration(row["seconds"]), f"{row['tokens_per_s']:,.0f}", operations(row["flops_per_s"]),
         "" if not matmul else f"{row['flops_per_s'] / matmul:.0%}", f"{row['loss']:.3f} to {row['loss_after']:.3f}",
         size(row["peak_bytes"])]
        for row in of(rows, "train") if "seconds" in row
    ]  # fmt: skip
    header = ("variant", "a step", "tokens/s", "operations", "of measured matmul", "loss", "memory")
    yield from markdown(header, cells)


def tuned(rows: Sequence[Row]) -> Iterator[str]:
    """Winners of each kernel beside the fastest rival."""
    cells = []
    for row in of(rows, "tune"):
        if winner := row.get("row"):
            tile = {
                key: value for key, value in winner.items() if key not in ("up_to", "seconds", "rival", "rival_seconds")
            }
            rival = winner.get("rival_seconds")
            cells.append([
                row["op"], row["kernel"], " ".join(f"{k}={v}" for k, v in row["case"].items()),
                " ".join(f"{k}={v}" for k, v in tile.items()), f"{row['timed']} of {row['candidates']}",
                duration(winner["seconds"]), "" if rival is None else f"{winner['rival']} {duration(rival)}",
                "" if rival is None else "ours" if winner["seconds"] < rival else "the rival",
            ])  # fmt: skip
    yield from markdown(("op", "kernel", "case", "best", "tried", "time", "rival", "auto takes"), cells)


def failures(rows: Sequence[Row]) -> Iterator[str]:
    """What failed or was left out, in its own words."""
    for part in dict.fromkeys(row["part"] for row in rows if "part" in row):
        for row in of(rows, part):
            if "failed" in row:
                yield f"- {part} {row['job']}, {row['unit']}, {row.get('implementation', '')}: {row['failed']}"
    skipped = dict.fromkeys(
        f"- {row['op']} {row['implementation']}: {row['skipped']}" for row in of(rows, "ops") if "skipped" in row
    )
    yield from skipped
    for row in rows:
        if row.get("event") == "process" and row.get("open"):
            yield f"- {row['part']} {row['job']}: its process ended with {row['status']} in {row['open']}"


def machine(rows: Sequence[Row]) -> Iterator[str]:
    """What env found."""
    for row in of(rows, "env"):
        for key in ("platform", "python", "cpu", "cores", "versions", "gpu", "has"):
            if key in row:
                yield f"- {key}: {dumps(row[key]) if isinstance(row[key], dict) else row[key]}"


SECTIONS: dict[str, Callable[[Sequence[Row]], Iterator[str]]] = {
    "Processes": processes, "Machine": machine, "Ceilings": ceilings, "Correctness": correctness,
    "Ops beside their rivals": beside, "Decoding, Llama-3.2-1B's shape": decoded, "Training, 1.2B": trained,
    "Launch configurations": tuned, "Failed or left out": failures,
}  # fmt: skip


def figures(rows: Sequence[Row], out: Path) -> None:
    """ops.png, decode.png, train.png, of what there is; drawn again by a later call where matplotlib was missing."""
    shares = [
        (f"{row['op']}\n{row['direction']}", row["implementation"], row["share"] * 100) for row in last_case(rows)
    ]
    tokens = [(f"{row['model']}\nB{row['batch']}, {row['context']:,}", row["kernels"], row["token"] * 1e3)
              for row in of(rows, "decode") if "token" in row]  # fmt: skip
    steps = [(row["variant"], "tokens/s", row["tokens_per_s"]) for row in of(rows, "train") if "tokens_per_s" in row]
    title = device_of(rows)
    for name, bars, label in (("ops", shares, "% of the ceiling"), ("decode", tokens, "ms a token"),
                              ("train", steps, "tokens/s")):  # fmt: skip
        if bars:
            draw(bars, label, f"{title}: {name}", out / f"{name}.png")


def last_case(rows: Sequence[Row]) -> list[Row]:
    """Of each op and direction the largest case."""
    made = timed(rows)
    return [
        row for row in made
        if row["bytes"] == max(r["bytes"] for r in made if (r["op"], r["direction"]) == (row["op"], row["direction"]))
    ]  # fmt: skip


def draw(bars: Sequence[tuple[str, str, float]], label: str, title: str, path: Path) -> None:
    """Bars side by side in each group: (group, name, height)."""
    from matplotlib.figure import Figure

    groups, names = list(dict.fromkeys(b[0] for b in bars)), list(dict.fromkeys(b[1] for b in bars))
    figure = Figure(figsize=(max(5.0, 0.55 * len(bars)), 4.2), layout="constrained")
    axes = figure.add_subplot()
    for index, group in enumerate(groups):
        mine = [b for b in bars if b[0] == group]
        for place, (_, name, height) in enumerate(mine):
            at = index + (place - (len(mine) - 1) / 2) * 0.8 / len(mine)
            axes.bar(at, height, 0.74 / len(mine), color=COLOURS[names.index(name) % len(COLOURS)])
    for name in names:
        axes.bar(0, 0, color=COLOURS[names.index(name) % len(COLOURS)], label=name)
    axes.set_xticks(range(len(groups)), groups, fontsize=7, rotation=30, ha="right")
    axes.set_ylabel(label, fontsize=8)
    axes.set_title(title, fontsize=9, loc="left")
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=7, ncols=4, loc="upper left", bbox_to_anchor=(0, -0.25))
    save_figure(figure, path)
