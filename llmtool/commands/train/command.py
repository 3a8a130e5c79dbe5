"""What the options of `llmtool train` mean: a model, data, a plan; from Python with the same names."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtool import catalog
from llmtool.commands import sources as named
from llmtool.commands.train.job import SCHEMA, Job, anything, run_job
from llmtool.commands.train.start import Start, find_start, named_options, row_length, tokenizer_files
from llmtool.core.corpus.provenance import InputHashes
from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError, closest
from llmtool.core.run.extras import require

if TYPE_CHECKING:
    from llmtool.core.corpus.token_files import TokenFile
    from llmtool.core.model.config import Config
    from llmtool.core.train.objective import CrossEntropy, Objective, Term

MICRO_TOKENS = 8192
"""Tokens in a forward pass where --micro is not given."""


def train(
    data: Sequence[str],
    output: str | Path,
    *,
    model: str = "1M",
    tokenizer: str | None = None,
    length: int | None = None,
    batch: str | int = 8192,
    micro: int | None = None,
    tokens: str | int | None = None,
    steps: int | None = None,
    epochs: float | None = None,
    optimizer: str = "adamw",
    lr: float | None = None,
    muon_lr: float | None = None,
    weight_decay: float = 0.1,
    beta1: float = 0.9,
    beta2: float = 0.95,
    clip: float = 1.0,
    schedule: str = "cosine",
    warmup: int | None = None,
    final_lr: float = 0.1,
    decay: float = 0.2,
    mask_documents: bool = False,
    valid: Sequence[str] = (),
    holdout: float = 0.0,
    eval_every: int | None = None,
    eval_tokens: str | int = 32768,
    save_every: int | None = None,
    keep: int = 2,
    max_loss_jump: float | None = None,
    settings: Sequence[str] = (),
    overrides: Sequence[str] = (),
    dtype: str = "fp32",
    device: str = "cpu",
    parallel: str = "auto",
    kernels: str = "auto",
    recompute: bool = False,
    compiled: bool = False,
    seed: int = 0,
    threads: int | None = None,
    tensorboard: Path | None = None,
    force: bool = False,
    dry_run: bool = False,
    console: Console | None = None,
    terms: "Mapping[str, Term] | None" = None,
    trainable: Callable[[str], bool] = anything,
) -> dict[str, Any]:
    """Train a model and write it to `output`; options as on the command line (`llmtool train --help`).

    terms, trainable: what a caller in Python adds to the methods' own objectives and limits.
    """
    require("torch", extra="models", why="to train models")
    import torch

    from llmtool.core.kernels.choice import choose, cross_entropy
    from llmtool.core.train.data import RowBatches
    from llmtool.core.train.loop import Plan
    from llmtool.core.train.optimizers import OptimizerSettings
    from llmtool.core.train.schedules import Schedule
    from llmtool.model import find_device

    processes, rank = (int(os.environ.get(name, default)) for name, default in (("WORLD_SIZE", 1), ("RANK", 0)))
    console = console if console and rank == 0 else Console(verbosity=-1)
    if threads:
        torch.set_num_threads(threads)
    trained, held = named.parse_sources(data), named.parse_sources(valid)
    if not trained:
        raise UserError("no data to train on", hint="name files of text or tokens")
    codec = named.find_tokenizer(tokenizer, Path(model), console)
    files = [named.open_source(source, codec, console, threads) for source in trained]
    checks = [named.open_source(source, codec, console, threads) for source in held]
    start = find_start(model, length, codec, None if codec else _vocabulary([*files, *checks]), overrides)
    length = row_length(start, length)
    _check(files, checks, start)
    checks += [_cut(files, number, holdout) for number in range(len(files))] if holdout else []
    source = _mixture(files, [s.weight for s in trained], length, seed, mask_documents)
    rows = _rows(named.count(batch, "--batch"), length)
    batches = RowBatches(source, rows)
    per_epoch = sum(len(file) for file in files)
    steps = _steps(steps, tokens, epochs, batches.tokens, per_epoch)
    asked, micro = micro, micro or _micro(rows, length, processes)
    raw_count = _parameters(start)
    rates = OptimizerSettings(
        optimizer,
        _default_rate(raw_count) if lr is None else lr,
        muon_lr,
        weight_decay,
        beta1,
        beta2,
    ).check()
    shape = Schedule(schedule, steps, _warmup(warmup, steps), final_lr, decay).check()
    plan = Plan(shape, micro, clip, max_loss_jump, _every(eval_every, steps, 20), _every(save_every, steps, 5))
    options = start.take_settings(named_options(settings))
    place = find_device(device)
    choice = choose(kernels, torch.device(place))
    loss_name, loss_code = cross_entropy(kernels, choice)
    described = f"{choice.described}; loss: {loss_name}"
    facts = {
        "model": model, "length": length, "rows": rows, "optimizer": asdict(rates), "plan": asdict(plan),
        "mask_documents": mask_documents, "eval_tokens": str(eval_tokens), "holdout": holdout,
        "valid": [file.fingerprint() for file in checks], "settings": {name: dict(kv) for name, kv in options.items()},
        "dtype": dtype, "recompute": recompute, "compiled": compiled, "seed": seed, "kernels": described,
        **start.describe(),
    }  # fmt: skip
    del facts["plan"]["save_every"]  # how often a run is saved does not change what comes out
    facts["plan"]["micro"] = asked  # else chosen for the number of processes, which may change
    if dry_run:
        return {"schema": SCHEMA, "dry_run": True, "parameters": raw_count, "steps": steps, "tokens":
                steps * batches.tokens, "epochs": steps * batches.tokens / per_epoch, **facts}  # fmt: skip
    if loss_code and compiled:  # a loop over chunks with a comparison at its end is no graph
        loss_code = torch.compiler.disable(loss_code)  # type: ignore[no-untyped-call]
    objective = make_objective(start.config, options, terms, loss_code)
    sets = [named.HeldOut(file, length, named.count(eval_tokens, "--eval-tokens"), mask_documents=mask_documents)
            for file in checks]  # fmt: skip
    sizes = named.token_bytes(codec, start.config.vocab_size)
    paths = [source.path for source in [*trained, *held]]
    with InputHashes(paths) as hashes:
        checkpoint = [start.checkpoint.fingerprint()] if start.checkpoint else []
        job = Job(
            command="train", output=Path(output), config=facts, decoder=start.decoder(seed, choice.kernels),
            raw=start.raw, data=batches, objective=objective, optimizer=rates, plan=plan, trainable=trainable,
            evaluate=lambda trainee: named.evaluate(sets, trainee.losses, micro, trainee.world, sizes),
            files=tokenizer_files(codec, start.checkpoint if tokenizer is None else None),
            read=[*paths, *([tokenizer] if tokenizer else []), *([model] if Path(model).exists() else [])],
            inputs=lambda: [*checkpoint, *hashes.wait()], dtype=dtype, parallel=parallel,  # type: ignore[arg-type]
            recompute=recompute, compiled=compiled, device=place, keep=keep, seed=seed,
            tensorboard=tensorboard, force=force, kernels=described,
        )  # fmt: skip
        return run_job(job, console)


def make_objective(
    config: "Config",
    options: Mapping[str, dict[str, str]],
    extra: "Mapping[str, Term] | None" = None,
    cross_entropy: "CrossEntropy | None" = None,
) -> "Objective":
    """Cross entropy and the terms of the config's methods, with what --set says; settings nobody reads are refused."""
    from llmtool.core.train.objective import Objective, linear_cross_entropy

    known = catalog.options(catalog.OBJECTIVE)
    used = {str(method["name"]): method for method in config.methods if method["name"] in known}
    for name in options:
        if name not in used:
            hint = closest(name, list(used)) or f"the model's methods: {', '.join(used) or 'none'}"
            raise UserError(f"--set {name}.{next(iter(options[name]))}: no such method in use", hint=hint)
    terms = {
        name: catalog.attribute(catalog.OBJECTIVE, name)(config, method, options.get(name, {}))
        for name, method in used.items()
    }
    return Objective({**terms, **(extra or {})}, cross_entropy or linear_cross_entropy)


def _vocabulary(files: "Sequence[TokenFile]") -> int:
    return max(int(file.ids[first : first + (1 << 24)].max()) for file in files
               for first in range(0, len(file), 1 << 24)) + 1  # fmt: skip


def _check(files: "Sequence[TokenFile]", checks: "Sequence[TokenFile]", start: Start) -> None:
    from llmtool.core.corpus.token_files import refuse_out_of_range

    for file in [*files, *checks]:
        refuse_out_of_range(file, start.config.vocab_size)


def _cut(files: "list[TokenFile]", number: int, share: float) -> "TokenFile":
    """Take the last part of a source away from training."""
    if not 0 < share < 1:
        raise UserError(f"--holdout {share:g}: wanted a share between 0 and 1")
    file = files[number]
    first = len(file) - max(2, round(share * len(file)))
    files[number] = file.part(0, first)
    return file.part(first, len(file), f"{file.name}-held-out" if len(files) > 1 else "held-out")


def _mixture(files: "Sequence[TokenFile]", weights: Sequence[float], length: int, seed: int, masked: bool) -> Any:
    from llmtool.core.train.data import Mixture, TokenRows

    return Mixture([TokenRows(file, length, seed, mask_documents=masked) for file in files], weights)


def _rows(tokens: int, length: int) -> int:
    if tokens < length:
        raise UserError(f"a batch of {tokens:,} tokens is less than a row of {length:,}", hint="a larger --batch")
    return tokens // length


def _micro(rows: int, length: int, processes: int) -> int:
    """The most rows that give about MICRO_TOKENS in a pass and share out evenly."""
    most = min(rows, max(1, MICRO_TOKENS // length))
    return next((size for size in range(most, 0, -1) if rows % (size * processes) == 0), 1)


def _steps(steps: int | None, tokens: str | int | None, epochs: float | None, batch: int, epoch: int) -> int:
    given = [
        option
        for option, value in (("--steps", steps), ("--tokens", tokens), ("--epochs", epochs))
        if value is not None
    ]
    if len(given) > 1:
        raise UserError(f"{' and '.join(given)} say the same thing twice", hint="give one of them")
    if steps is not None:
        return steps
    wanted = (
        named.count(tokens, "--tokens") if tokens is not None else round((1.0 if epochs is None else epochs) * epoch)
    )
    if wanted < 1:
        raise UserError(f"--epochs {epochs:g} is no token to train on")
    return max(1, wanted // batch)


def _warmup(warmup: int | None, steps: int) -> int:
    return min(steps // 10, 200) if warmup is None else warmup


def _every(every: int | None, steps: int, parts: int) -> int:
    return max(1, steps // parts) if every is None else every


def _parameters(start: Start) -> int:
    from math import prod

    import torch

    from llmtool.core.model.decoder import expected_shapes
    from llmtool.model import build

    with torch.device("meta"):
        return sum(prod(shape) for shape in expected_shapes(build(start.config)).values())


def _default_rate(parameters: int) -> float:
    from llmtool.core.model.new import default_rate

    return default_rate(parameters)
