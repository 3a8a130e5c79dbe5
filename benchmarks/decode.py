"""Decode beside transformers.generate(): the same weights, prompts and greedy tokens, in one process, taking turns.

    python benchmarks/decode.py [--hidden 128] [--layers 4] [--batches 1 8] [--prompt 8] [--tokens 128] [--repeats 5]

The figure is CPU time on one core (wall clock on a GPU), the least of the repeats: other work slows both.
Weights beyond the processor's caches make both wait for memory and the ratio goes to 1; what differs is the work
beside the matrices. No ratio is printed unless both give the same tokens.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable

import torch
import transformers

from llmtool.core.model.config import parse_config
from llmtool.core.model.decoder import Decoder
from llmtool.core.model.generate import generate
from llmtool.core.run.manifest import git_revision

Rows = list[list[int]]


def make(hidden: int, layers: int, device: str) -> tuple[transformers.LlamaForCausalLM, Decoder]:
    """A Llama of both makes with the same weights."""
    config = transformers.LlamaConfig(
        vocab_size=2048, hidden_size=hidden, intermediate_size=hidden * 8 // 3, num_hidden_layers=layers,
        num_attention_heads=max(2, hidden // 64), num_key_value_heads=max(1, hidden // 128), eos_token_id=None,
        max_position_embeddings=4096,
    )  # fmt: skip
    torch.manual_seed(0)
    stock = transformers.LlamaForCausalLM(config).eval().to(device)
    ours = Decoder(parse_config(config.to_diff_dict())).eval().to(device)
    ours.load_state_dict(stock.state_dict())
    return stock, ours


def seconds(run: Callable[[], Rows], device: str) -> tuple[float, Rows]:
    """Time of one run."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    start = clock()
    rows = run()
    return clock() - start, rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, nargs="+", default=[128, 256])
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--prompt", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true", help="compile our step (and CUDA graphs)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    machine = platform.processor() or platform.machine()
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "git": git_revision()}
    print(json.dumps({"machine": machine, "device": options.device, "dtype": "float32", "threads": 1, **versions}))
    for hidden in options.hidden:
        stock, ours = make(hidden, options.layers, options.device)
        for batch in options.batches:
            compare(stock, ours, batch, options)


def compare(stock: transformers.LlamaForCausalLM, ours: Decoder, batch: int, options: argparse.Namespace) -> None:
    """Print one row; both run in turns."""
    ids = torch.randint(1, 2048, (batch, options.prompt), device=options.device)
    mask = torch.ones_like(ids)
    settings = {"max_new_tokens": options.tokens, "do_sample": False, "pad_token_id": 0}

    def theirs() -> Rows:
        rows: Rows = stock.generate(ids, attention_mask=mask, **settings)[:, options.prompt :].tolist()
        return rows

    def mine() -> Rows:
        steps = generate(ours, ids.tolist(), max_new_tokens=options.tokens, compiled=options.compile)
        return [[token for token in row if token is not None] for row in zip(*steps, strict=True)]

    best = {theirs: float("inf"), mine: float("inf")}
    for _ in range(options.repeats):
        made = {}
        for run in best:
            took, made[run] = seconds(run, options.device)
            best[run] = min(best[run], took)
        if made[theirs] != made[mine]:
            raise SystemExit("the tokens differ: no figures")
    rates = {run: batch * options.tokens / took for run, took in best.items()}
    row = {
        "hidden": ours.config.hidden_size,
        "layers": ours.config.num_hidden_layers,
        "batch": batch,
        "prompt": options.prompt,
        "tokens": options.tokens,
        "transformers_tokens_per_s": round(rates[theirs], 1),
        "llmtool_tokens_per_s": round(rates[mine], 1),
        "ratio": round(rates[mine] / rates[theirs], 2),
    }
    print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
