"""llmtool's loop beside a plain loop of PyTorch and transformers: one model, one data set, step by step in turns.

    python benchmarks/train.py [--hidden 128] [--layers 4] [--steps 12] [--compile] [--dtype fp32] [--device cpu]

Both train from the same weights on the same rows with AdamW (fused), clipping and accumulation, in one process and one
thread. The figure is CPU time (wall clock on a GPU), the median over the steps after the first three: other work on the
machine slows both alike. No ratio is printed unless the losses of every step agree.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
import transformers

from llmtool.core.corpus.token_files import TokenFile
from llmtool.core.kernels.choice import choose, cross_entropy
from llmtool.core.model.config import parse_config
from llmtool.core.model.decoder import Decoder
from llmtool.core.run.manifest import git_revision
from llmtool.core.train.data import RowBatches, TokenRows
from llmtool.core.train.loop import Plan, Row, train
from llmtool.core.train.objective import Objective, linear_cross_entropy
from llmtool.core.train.optimizers import Optimizers, OptimizerSettings
from llmtool.core.train.parallel import Trainee
from llmtool.core.train.schedules import Schedule
from llmtool.core.train.state import Progress
from llmtool.core.train.world import World

WARM = 3
VOCABULARY = 4096


def stock_model(options: argparse.Namespace) -> transformers.LlamaForCausalLM:
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=options.hidden, intermediate_size=32 * round(options.hidden / 12),
        num_hidden_layers=options.layers, num_attention_heads=max(1, options.hidden // 32), max_position_embeddings=
        options.length, tie_word_embeddings=True, use_cache=False,
    )  # fmt: skip
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(config).to(options.device)


def plain_step(
    model: transformers.LlamaForCausalLM, data: RowBatches, options: argparse.Namespace
) -> Callable[[int, float], float]:
    """A step as one writes it by hand."""
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95), fused=True)
    run = torch.compile(model) if options.compile else model
    model.train()

    def step(number: int, rate: float) -> float:
        for group in optimizer.param_groups:
            group["lr"] = rate
        total, parts = 0.0, data.rows // options.micro
        for part in range(parts):
            batch = data.batch(number, range(part * options.micro, (part + 1) * options.micro)).to(options.device)
            with torch.autocast(options.device, torch.bfloat16, enabled=options.dtype == "bf16"):
                # labels are shifted already: transformers takes them so under this name
                loss = run(input_ids=batch.ids, labels=batch.labels, shift_labels=batch.labels).loss / parts
            loss.backward()
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return total

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--micro", type=int, default=8)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    clock = time.process_time if options.device == "cpu" else time.perf_counter
    ids = np.random.default_rng(0).zipf(1.2, 400_000) % VOCABULARY
    file = TokenFile("zipf", ids.astype(np.uint16), np.array([0, len(ids)], np.uint64))
    data = RowBatches(TokenRows(file, options.length, 0, mask_documents=False), options.rows)
    stock = stock_model(options)
    decoder = Decoder(parse_config(stock.config.to_diff_dict()))
    decoder.load_state_dict(stock.state_dict())
    theirs = plain_step(stock, data, options)
    dtype = torch.bfloat16 if options.dtype == "bf16" else torch.float32
    name, loss = cross_entropy("auto", choose("auto", torch.device(options.device)))  # as `llmtool train` does
    if loss and options.compile:
        loss = torch.compiler.disable(loss)  # type: ignore[no-untyped-call]
    objective = Objective({}, loss or linear_cross_entropy)
    trainee = Trainee(decoder, objective, World(options.device), dtype=dtype, compiled=options.compile)
    optimizers = Optimizers(decoder.named_parameters(), OptimizerSettings(lr=1e-3))
    plan = Plan(Schedule("cosine", options.steps), options.micro)
    times: dict[str, list[float]] = {"ours": [], "plain": []}
    losses: list[tuple[float, float]] = []
    began = clock()

    def turn(row: Row) -> None:
        """Ours has just done a step: now theirs does."""
        nonlocal began
        times["ours"].append(clock() - began)
        began = clock()
        loss = theirs(row["step"] - 1, row["lr"])
        times["plain"].append(clock() - began)
        losses.append((row["loss"], loss))
        began = clock()

    train(trainee, data, optimizers, plan, Progress(), record=turn, save=lambda _: None, evaluate=dict)
    tolerance = 1e-4 if options.dtype == "fp32" else 2e-2
    worst = max(abs(a - b) for a, b in losses)
    if not worst < tolerance:
        raise SystemExit(f"the losses differ by {worst:g}: no figures")
    rates = {name: data.tokens / statistics.median(seconds[WARM:]) for name, seconds in times.items()}
    print(json.dumps({
        "machine": platform.processor() or platform.machine(), "device": options.device, "dtype": options.dtype,
        "compiled": options.compile, "loss": name, "threads": 1, "torch": torch.__version__,
        "transformers": transformers.__version__, "git": git_revision(),
        "parameters": sum(p.numel() for p in decoder.parameters()), "tokens_a_step": data.tokens,
        "largest_difference_of_losses": worst, "llmtool_tokens_per_s": round(rates["ours"]),
        "plain_tokens_per_s": round(rates["plain"]), "ratio": round(rates["ours"] / rates["plain"], 3),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
