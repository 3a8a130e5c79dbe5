"""The conversions and post-training runs of recipes/uniattn.sh, all in one process: starting torch 45 times is dear.

python recipes/uniattn_runs.py WORK STEPS LR SEED...      runs that are complete are passed over
"""

import json
import sys
from pathlib import Path

from llmtool.commands.convert.uniattn import convert_uniattn
from llmtool.commands.posttrain import sft as posttrain
from llmtool.core.run.console import Console
from llmtool.core.run.errors import ExitCode

GROUPS, LENGTH = "3:2:8", 512
INITS = ("lstsq", "paper", "zero")


def conversations(work: Path) -> Path:
    """The training conversations as text, for calibration: W_c from novels gained little, or lost."""
    path = work / "calibration.txt"
    with path.open("w") as file:
        for line in (work / "train.jsonl").read_text().splitlines():
            for turn in json.loads(line)["messages"]:
                file.write(f"{turn['role'].capitalize()}: {turn['content']}\n")
    return path


def main(work: Path, steps: int, lr: float, seeds: list[int]) -> None:
    """Every variant of every seed, the seeds one after the other."""
    console = Console()
    text = conversations(work)
    for seed in seeds:
        base = work / f"base-{seed}"

        def train(name: str, start: Path, seed: int = seed) -> None:
            output = work / f"{name}-{seed}"
            if (output / "run.json").exists():
                return
            staged = name.startswith("uniattn")
            count = steps if staged else 2 * steps
            run = posttrain.uniattn if staged else posttrain.sft
            report = run(
                start, [str(work / "train.jsonl")], output, console=console, tokenizer=work / "tok.json",
                template="plain", length=LENGTH, drop_overlong=True, valid=[str(work / "valid.jsonl")], batch=1024,
                steps=count, lr=lr, eval_every=steps, save_every=0, seed=seed, device="cpu",
            )  # fmt: skip
            if report["stopped"]:
                raise SystemExit(ExitCode.RESUMABLE)

        def convert(name: str, sharing: str, init: str = "lstsq", seed: int = seed, base: Path = base) -> Path:
            output = work / f"{name}-{seed}-start"
            if not (output / "run.json").exists():
                convert_uniattn(
                    base, output, groups=GROUPS, calibration=[str(text)], samples=128, window=256, init=init,
                    heads="identity", sharing=sharing, seed=seed, device="cpu", console=console,
                )  # fmt: skip
            return output

        train("sft", base)
        for init in INITS:
            train(f"uniattn-{init}", convert(f"uniattn-{init}", "uniattn", init))
        for sharing in ("softmax-only", "cla"):
            train(sharing, convert(sharing, sharing))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), [int(seed) for seed in sys.argv[4:]])
