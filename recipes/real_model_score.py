"""Score one checkpoint of recipes/real_model.sh: loss by text, share of open feed-forward blocks, cache, speed.

Every checkpoint gets the same rows. Loss in nats a predicted token, in rows of LENGTH tokens. Tasks: lm-eval's, on the
exported checkpoint, in a process without a network.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from llmtool import load_model
from llmtool.commands.convert.inspect import describe
from llmtool.core.checkpoint.directory import open_checkpoint
from llmtool.core.corpus.calibration import text_rows
from llmtool.core.run.errors import UserError
from llmtool.methods.dsmoe.part import SparseSwiGLU
from llmtool.methods.dsmoe.report import loss_of, use

WRITTEN = 32
"""Tokens that are written to measure speed."""


def score(checkpoint: Path, texts: dict[str, str], tokens: int, length: int, device: str) -> dict[str, object]:
    """What is measured of one checkpoint."""
    model = load_model(checkpoint, "fp32", device)
    sparse = any(isinstance(part, SparseSwiGLU) for part in model.decoder.modules())
    losses, active, counted, started = {}, {}, 0, time.process_time()
    for name, path in texts.items():
        rows = text_rows(model.tokenizer.encode_prompt, [path], tokens, length, seed=1)
        counted += sum(map(len, rows))
        if sparse:
            usage = use(model.decoder, rows)
            losses[name], active[name] = usage.loss, sum(usage.share) / len(usage.share)
        else:
            losses[name] = loss_of(model.decoder, rows)
    read = counted / (time.process_time() - started)
    prompt = rows[0][:16]
    started = time.process_time()
    for _ in model.generate([prompt], max_new_tokens=WRITTEN, stop=()):
        pass
    facts = describe(open_checkpoint(checkpoint))
    return {
        "loss": losses, "active": active, "tokens": counted, "length": length,
        "read_tokens_per_cpu_second": read, "written_tokens_per_cpu_second": WRITTEN / (time.process_time() - started),
        "kv_bytes_per_token": facts.get("kv_bytes_per_token"), "parameters": facts["parameters"],
    }  # fmt: skip


def run_tasks(checkpoint: Path, names: str, folder: Path, device: str) -> dict[str, dict[str, float]]:
    """Task -> metric -> value, by lm-eval; nothing where it is not installed."""
    if find_spec("lm_eval") is None:
        print("lm-eval is not installed: no tasks (pip install 'lm-eval[hf]')", file=sys.stderr)
        return {}
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    with TemporaryDirectory() as place:
        exported = Path(place) / "export"
        subprocess.run(
            [sys.executable, "-m", "llmtool", "convert", "export", str(checkpoint), str(exported)], check=True
        )
        command = [
            sys.executable, "-m", "lm_eval", "--model", "hf",
            "--model_args", f"pretrained={exported},trust_remote_code=True,dtype=float32", "--tasks", names,
            "--include_path", str(folder), "--device", device, "--output_path", str(Path(place) / "results"),
        ]  # fmt: skip
        subprocess.run(command, check=True, env=offline, stdout=sys.stderr)
        (found,) = (Path(place) / "results").rglob("results_*.json")
        results = json.loads(found.read_text())["results"]
    return {
        task: {name.removesuffix(",none"): value for name, value in metrics.items() if isinstance(value, float)}
        for task, metrics in results.items()
    }


def main() -> None:
    """Print the row as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--text", action="append", required=True, metavar="NAME=PATH")
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tasks")
    parser.add_argument("--task-files", type=Path, default=Path())
    parser.add_argument("--seconds", type=float, help="that making the checkpoint took, for the table")
    given = parser.parse_args()
    texts = dict(text.split("=", 1) for text in given.text)
    row = score(given.checkpoint, texts, given.tokens, given.length, given.device)
    if given.tasks:
        row["tasks"] = run_tasks(given.checkpoint, given.tasks, given.task_files, given.device)
    print(json.dumps({**row, "seconds": given.seconds}, indent=1))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
