"""docs/results/kernels/predictions.md: `python -m llmtool.commands.bench.device.predictions > FILE`.

What `bench device` will time and what we say it will take, written before any kernel of ours has met a GPU.
"""

from llmtool.commands.bench.device.plan import CASES, ORDER
from llmtool.core.bench.predict import BELIEVED, LAUNCH, MACHINES, table
from llmtool.core.bench.report import operations
from llmtool.core.kernels.registry import load_spec


def page() -> str:
    """The document."""
    rates = "; ".join(
        f"{name}: copy {each.copy / 1e12:.1f} TB/s, bf16 matmul {operations(each.matmul)}"
        for name, each in MACHINES.items()
    )
    header = [
        "op",
        "case",
        "direction",
        "bound",
        *(f"{name} {what}" for name in MACHINES for what in ("floor", "ours")),
    ]
    lines = [
        "# Predictions",
        "",
        "Written before any kernel of ours was timed on a GPU, so that the first measurement tests them. Microseconds",
        f"a call, bfloat16: launches x {LAUNCH * 1e6:g} + floor / share; the floor is the definition's traffic or",
        f"operations at the machine's ceilings ({rates}).",
        "",
        "| " + " | ".join(header) + " |",
        "|" + "---|" * len(header),
    ]
    cases = {op: [(load_spec(op), shape) for shape in CASES[op]] for op in ORDER}
    lines += ["| " + " | ".join(cells) + " |" for cells in table(cases)]
    lines += ["", "| op | share, forward | training | kernels a call | why |", "|---|---|---|---|---|"]
    for op in ORDER:
        shares, launches, why = BELIEVED[op]
        counts = f"{launches['forward']}, {launches['training']}"
        lines.append(f"| {op} | {shares['forward']:.0%} | {shares['training']:.0%} | {counts} | {why} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
