"""The expert layer beside transformers' own, forward and in training, on a CPU: our time under theirs, in one run.

    OMP_NUM_THREADS=1 python -m benchmarks.experts [--shapes small,qwen] [--tokens 1,16,256,1024] [--runs 7]

CPU seconds of this process, the least of interleaved runs, as other work on the machine only ever adds. transformers'
Mixtral block runs with each of its implementations ("eager", a loop over experts, and "grouped_mm"); the better one is
the rival. Nothing is printed for a shape whose results differ.
"""

import argparse
import platform
import time
from collections.abc import Callable, Mapping
from functools import partial

import torch
import transformers
from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock

from llmtool.core.model.config import parse_config
from llmtool.core.model.experts import RoutedFFN
from llmtool.core.model.upcycling import run_part
from llmtool.core.run.manifest import git_revision

SHAPES = {"small": (256, 512, 8, 2), "mixtral": (1024, 3584, 8, 2), "qwen": (512, 192, 64, 8)}
"""Name -> hidden, width of an expert, experts, experts a token: an eighth of the real ones and less."""


def pair(shape: str) -> tuple[RoutedFFN, dict[str, torch.nn.Module]]:
    hidden, inner, experts, k = SHAPES[shape]
    raw = {
        "model_type": "mixtral", "vocab_size": 8, "hidden_size": hidden, "intermediate_size": inner,
        "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 8,
        "num_local_experts": experts, "num_experts_per_tok": k,
    }  # fmt: skip
    ours = RoutedFFN(parse_config(raw), 0)
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, 0.0, hidden**-0.5)
    theirs: dict[str, torch.nn.Module] = {}
    for form in ("eager", "grouped_mm"):
        config = transformers.AutoConfig.for_model(**raw)
        config._experts_implementation = form
        block = MixtralSparseMoeBlock(config)
        with torch.no_grad():
            block.gate.weight.copy_(ours.router.weight)
            block.experts.gate_up_proj.copy_(torch.cat([ours.experts.gate, ours.experts.up], 1))
            block.experts.down_proj.copy_(ours.experts.down)
        theirs[form] = block
    return ours, theirs


def train(call: Callable[[], torch.Tensor]) -> None:
    call().square().sum().backward()  # type: ignore[no-untyped-call]


def least(calls: Mapping[str, Callable[[], object]], runs: int) -> dict[str, float]:
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(runs):
        for name, call in calls.items():
            started, repeats = time.process_time(), 0
            while repeats == 0 or time.process_time() - started < 0.02:
                call()
                repeats += 1
            best[name] = min(best[name], (time.process_time() - started) / repeats)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--shapes", default="small,mixtral,qwen")
    parser.add_argument("--tokens", default="1,16,256,1024")
    parser.add_argument("--runs", type=int, default=7)
    arguments = parser.parse_args()
    where = f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} thread, float32"
    print(f"{where}, torch {torch.__version__}, transformers {transformers.__version__}, commit {git_revision()}")
    print(
        "| shape | tokens | forward ms | eager / ours | grouped / ours | training ms | eager / ours | grouped / ours |"
    )
    print("|---" * 8 + "|")
    for shape in arguments.shapes.split(","):
        ours, theirs = pair(shape)
        for tokens in map(int, arguments.tokens.split(",")):
            x = torch.randn(1, tokens, SHAPES[shape][0], generator=torch.Generator().manual_seed(tokens))
            calls: dict[str, Callable[[], torch.Tensor]] = {"ours": partial(run_part, ours, x)}
            calls |= {form: partial(block, x) for form, block in theirs.items()}
            with torch.no_grad():
                wanted = calls["ours"]()
                error = max(float((calls[form]() - wanted).norm() / wanted.norm()) for form in theirs)
                if error > 1e-5:
                    print(f"| {shape} | {tokens} | wrong: {error:.2g} |")
                    continue
                forward = least(calls, arguments.runs)
            trained = least({name: partial(train, call) for name, call in calls.items()}, max(2, arguments.runs // 2))
            cells = [
                f"{1e3 * took['ours']:.3g} | " + " | ".join(f"{took[form] / took['ours']:.2f}" for form in theirs)
                for took in (forward, trained)
            ]
            print(f"| {shape} | {tokens} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
