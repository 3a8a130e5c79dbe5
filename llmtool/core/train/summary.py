"""What people see of a run at its end: a figure of the losses and the rate, a table, and TensorBoard on request."""

from pathlib import Path
from typing import Any

from llmtool.core.run.console import Console
from llmtool.core.run.extras import require
from llmtool.core.run.figures import save_figure
from llmtool.core.run.wording import counted, seconds
from llmtool.core.train.metrics import read_rows

UNITS = (("billion tokens", 1e9), ("million tokens", 1e6), ("thousand tokens", 1e3), ("tokens", 1))
INK = ("#1f4e79", "#c8501e", "#3a7d44", "#7a4f9a", "#a07800", "#555555")


def draw(log: Path, path: Path, console: Console) -> bool:
    """Training loss, held-out losses and the learning rate over tokens; False where there is no matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        console.detail("no figure of the loss: pip install 'llmtool[plots]'")
        return False
    rows = read_rows(log)
    most = rows[-1]["tokens"]
    unit, scale = next((pair for pair in UNITS if most >= 2 * pair[1]), UNITS[-1])
    tokens = [row["tokens"] / scale for row in rows]
    sheet: Any = Figure(figsize=(8, 5.2), layout="constrained")
    losses, rate = sheet.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [4, 1]})
    losses.plot(tokens, [row["loss"] for row in rows], color=INK[0], alpha=0.25, linewidth=0.8)
    alone = "o" if len(rows) == 1 else None
    losses.plot(tokens, smoothed([row["loss"] for row in rows]), color=INK[0], linewidth=1.4, marker=alone,
                label="training, smoothed")  # fmt: skip
    names = list(dict.fromkeys(name for row in rows for name in row.get("eval", {})))
    for number, name in enumerate(names):
        at = [row for row in rows if name in row.get("eval", {})]
        x, y = [row["tokens"] / scale for row in at], [row["eval"][name]["loss"] for row in at]
        losses.plot(x, y, color=INK[(number + 1) % len(INK)], marker="o", markersize=3, label=name)
    late = sorted(row["loss"] for row in rows[len(rows) // 50 :])
    losses.set_ylim(late[0] - 0.05 * (late[-1] - late[0]) - 0.02, late[-1] + 0.05 * (late[-1] - late[0]) + 0.02)
    losses.set_ylabel("loss, nats a token")
    steps = counted(rows[-1]["step"], "step")
    losses.set_title(f"{log.parent.name}: {steps}, {most:,} tokens", loc="left", fontsize=11)
    losses.legend(frameon=False)
    rate.plot(tokens, [row["lr"] for row in rows], color=INK[5])
    rate.set_ylabel("learning rate")
    rate.set_xlabel(unit)
    rate.set_ylim(bottom=0)
    for axes in (losses, rate):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
        axes.set_axisbelow(True)
    save_figure(sheet, path)
    return True


def smoothed(values: list[float]) -> list[float]:
    """Running mean over about a fiftieth of the run."""
    mean, out, least = 0.0, [], 1 / max(1.0, len(values) / 50)
    for number, value in enumerate(values, 1):
        mean += (value - mean) * max(least, 1 / number)
        out.append(mean)
    return out


def show(log: Path, console: Console) -> None:
    """The run in a table: losses at its quarters."""
    rows = read_rows(log)
    span = max(1, min(MEAN, len(rows) // 4))
    picked = sorted({max(0, round(len(rows) * part / 4) - 1) for part in range(5)})
    names = list(dict.fromkeys(name for row in rows for name in row.get("eval", {})))
    table = []
    for place in picked:
        row = rows[place]
        near = rows[max(0, place - span + 1) : place + 1]
        loss = sum(r["loss"] for r in near) / len(near)
        held = [_nearest(rows, place, name) for name in names]
        table.append([f"{row['step']:,}", _amount(row["tokens"]), f"{row['lr']:.2g}", f"{loss:.4f}", *held])
    bits = [
        f"{name} {found['bits_per_byte']:.3f} bits/byte"
        for name, found in rows[-1].get("eval", {}).items()
        if "bits_per_byte" in found
    ]
    means = f"training: the mean of the last {span} steps (of one at step 1)" if span > 1 else "training: of that step"
    held_out = ["held out: of the last evaluation"] if names else []
    heads = ["step", "tokens", "rate", "training", *names]
    console.table("Loss", heads, table, "; ".join([means, *held_out, times(rows), *bits]))


MEAN = 10
"""Steps whose mean the table shows, or a quarter of a short run's."""


def times(rows: list[dict[str, Any]]) -> str:
    """Where a run's time went: updates, evaluations, and the rest, which is saving; and the rate of updates alone."""
    before, updates, tokens = 0, 0.0, 0
    for row in rows:
        updates += (row["tokens"] - before) / row["tokens_per_s"]
        tokens, before = row["tokens"], row["tokens"]
    evaluations = sum(row.get("eval_seconds", 0.0) for row in rows)
    rest = max(0.0, rows[-1]["time"] - updates - evaluations)
    said = [f"{seconds(updates)} of updates, {tokens / updates:,.0f} tokens/s"]
    said += [f"{seconds(evaluations)} of evaluation"] if evaluations else []
    said += [f"{rest:,.0f} s of saving and writing"] if rest >= 1 else []
    return ", ".join(said)


def _amount(tokens: int) -> str:
    return f"{tokens / 1e6:,.2f}M" if tokens >= 10**6 else f"{tokens:,}"


def _nearest(rows: list[dict[str, Any]], place: int, name: str) -> str:
    """The held-out loss at the last evaluation up to a row."""
    for row in reversed(rows[: place + 1]):
        if name in row.get("eval", {}):
            return f"{row['eval'][name]['loss']:.4f}"
    return "-"


class Board:
    """Rows as TensorBoard events."""

    def __init__(self, folder: Path) -> None:
        require("tensorboard", extra="logs", why="for --tensorboard")
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder))

    def write(self, row: dict[str, Any]) -> None:
        """A row's numbers; lists by position stay in metrics.jsonl."""
        for key in ("loss", "lr", "grad_norm", "tokens_per_s"):
            self._writer.add_scalar(key, row[key], row["step"])
        for name, value in row.get("figures", {}).items():
            values = {name: value} if isinstance(value, float) else {f"{name}/{i}": v for i, v in enumerate(value)}
            for key, number in values.items():
                self._writer.add_scalar(key, number, row["step"])
        for name, found in row.get("eval", {}).items():
            self._writer.add_scalar(f"eval/{name}/loss", found["loss"], row["step"])
        if "eval" in row:
            self._writer.flush()

    def close(self) -> None:
        """Write what is still held."""
        self._writer.close()
