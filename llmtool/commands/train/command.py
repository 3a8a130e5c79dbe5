"""What the options of `llmtool train` mean: a model, data, a plan; from Python with the same names."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtool import catalog
from llmtool.commands import places
from llmtool.commands import sources as named
from llmtool.commands.options import method_settings
from llmtool.commands.train.job import SCHEMA, Job, anything, only
from llmtool.commands.train.place import check_board, check_place
from llmtool.commands.train.run import run_job
from llmtool.commands.train.settings import TrainSettings
from llmtool.commands.train.start import Start, find_start, row_length, tokenizer_files
from llmtool.commands.train.texts import Texts, warn_of_training_text
from llmtool.core.corpus.provenance import InputHashes
from llmtool.core.corpus.reading import Reading
from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError, closest
from llmtool.core.run.extras import require
from llmtool.core.run.processes import rank_and_size
from llmtool.core.run.settings import describe
from llmtool.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llmtool.core.corpus.token_files import TokenFile
    from llmtool.core.model.config import Config
    from llmtool.core.train.objective import CrossEntropy, Objective, Term

MICRO_TOKENS = 8192
"""Tokens in a forward pass where --micro is not given."""


def train(
    data: Sequence[str],
    output: str | Path | None = None,
    settings: TrainSettings | None = None,
    *,
    reading: Reading | None = None,
    console: Console | None = None,
    terms: "Mapping[str, Term] | None" = None,
    trainable: Callable[[str], bool] = anything,
    **named_settings: Any,
) -> dict[str, Any]:
    """Train a model and write it to `output`, or to `model`.

    settings: as on the command line (`llmtool train --help`), as an object or by their names. reading: of text. terms,
    trainable: what a caller in Python adds to the methods' own objectives and limits.

    >>> import llmtool
    >>> report = llmtool.train(["corpus.txt"], "trained", model="40K", tokenizer="bpe.json", length=32, steps=2)
    >>> report["step"]
    2
    """
    reading, named_settings = Reading.split(reading, named_settings, TrainSettings)
    asked, output = TrainSettings.of(settings, named_settings), Path(output or places.MODEL)
    reading = replace(reading, seed=asked.seed)
    require("torch", extra="models", why="to train models")
    import torch

    from llmtool.core.checkpoint.written import written_types
    from llmtool.core.kernels.choice import choose, cross_entropy
    from llmtool.core.kernels.cpu import use_threads
    from llmtool.core.train.data import RowBatches
    from llmtool.core.train.evaluations import plan as evaluations_of
    from llmtool.core.train.loop import Plan
    from llmtool.core.train.optimizers import OptimizerSettings
    from llmtool.core.train.schedules import Schedule
    from llmtool.model import find_device, op_sizes

    rank, processes = rank_and_size()
    console = console if console and rank == 0 else Console(verbosity=-1)
    use_threads(asked.threads, by_load=False)
    trained, held = named.parse_sources(data), named.parse_sources(asked.valid)
    if not trained:
        raise UserError("no data to train on", hint="name files of text or tokens")
    asked = replace(asked, tokenizer=_tokenizer(asked, trained))
    codec = named.find_tokenizer(asked.tokenizer, None if asked.model is None else Path(asked.model), console)
    paths = [source.path for source in [*trained, *held]]
    # A method may read a file, as MaskMoE its table: it is an input like the others.
    paths += [
        text
        for values in method_settings(asked.set).values()
        for text in values.values()
        if os.path.isfile(text)  # noqa: PTH113 -- any text: False where it is no path
    ]
    read = [*paths, *(name for name in (asked.tokenizer, asked.model) if name and Path(name).exists())]
    if rank == 0 and not asked.dry_run:
        check_place(output, read, console)
        if asked.tensorboard:
            check_board(asked.tensorboard, read)
    place = None if asked.dry_run else output
    texts = Texts(place, codec, console, asked.threads, asked.bin_dtype, rank == 0)
    files = [texts.open(source, reading) for source in trained]
    checks = [texts.open(source, replace(reading, sample=None)) for source in held]
    warn_of_training_text(files, checks, console)
    vocabulary = None if codec else _vocabulary([*files, *checks])
    asked = replace(asked, model=asked.model or _size(codec, vocabulary))
    start = find_start(str(asked.model), asked.length, codec, vocabulary, asked.overrides)
    length = row_length(start, asked.length)
    _check(files, checks, start)
    if asked.holdout:
        checks += [_cut(files, number, asked.holdout) for number in range(len(files))]
    source = _mixture(files, [s.weight for s in trained], length, asked.seed, asked.mask_documents)
    rows = _rows(named.count(asked.batch, "--batch"), length)
    batches = RowBatches(source, rows)
    per_epoch = sum(len(file) for file in files)
    steps = _steps(asked, batches.tokens, per_epoch)
    micro = asked.micro or _micro(rows, length, processes)
    shapes = _shapes(start)
    parameters, limited = sum(map(prod, shapes.values())), only(asked.only, shapes)
    trained_before = start.checkpoint is not None
    decay = (0.0 if trained_before else 0.1) if asked.weight_decay is None else asked.weight_decay
    rates = OptimizerSettings(
        asked.optimizer, _default_rate(parameters, trained_before) if asked.lr is None else asked.lr, asked.muon_lr,
        decay, asked.beta1, asked.beta2,
    ).check()  # fmt: skip
    warmup = _warmup(steps, trained_before) if asked.warmup is None else asked.warmup
    shape = Schedule(asked.schedule, steps, warmup, asked.final_lr, asked.decay).check()
    held_out = None if asked.eval_tokens is None else named.count(asked.eval_tokens, "--eval-tokens")
    evaluations = evaluations_of(asked.eval_every, held_out, [len(file) for file in checks], steps, batches.tokens)
    save_every = max(1, steps // 5) if asked.save_every is None else asked.save_every
    plan = Plan(shape, micro, asked.clip, asked.max_loss_jump, evaluations.every, save_every)
    used = replace(
        asked, length=length, batch=batches.tokens, steps=steps, lr=rates.lr, warmup=warmup, weight_decay=decay,
        eval_every=evaluations.every, eval_tokens=evaluations.tokens,
    )  # fmt: skip
    options = start.take_settings(method_settings(used.set))
    device = find_device(used.device)
    kind = torch.bfloat16 if used.dtype == "bf16" else torch.float32
    choice = choose(used.kernels, torch.device(device), kind, sizes=op_sizes(start.config), training=True)
    loss_name, loss_code = cross_entropy(used.kernels, choice)
    described = f"{choice.described}; loss: {loss_name}"
    facts = {
        **used.facts(), "valid": [file.fingerprint() for file in checks],
        "set": {name: dict(kv) for name, kv in options.items()}, "kernels": described, **start.describe(),
    }  # fmt: skip
    if used.dry_run:
        return {"schema": SCHEMA, "dry_run": True, "parameters": parameters, "tokens":
                steps * batches.tokens, "epochs": steps * batches.tokens / per_epoch, **facts}  # fmt: skip
    if evaluations.note:
        console.info(evaluations.note)
    objective = make_objective(start.config, options, terms, loss_code)
    sets = [named.HeldOut(file, length, evaluations.tokens, mask_documents=used.mask_documents) for file in checks]
    sizes = named.token_bytes(codec, start.config.vocab_size)
    with InputHashes(paths) as hashes:
        checkpoint = [start.checkpoint.fingerprint()] if start.checkpoint else []
        cut = used.parallel == "fsdp"
        decoder, values = (
            start.shards(used.seed, choice.kernels) if cut else (start.decoder(used.seed, choice.kernels), None)
        )
        job = Job(
            command="train", output=output, settings=used, config=facts,
            decoder=decoder, rows=values, raw=start.raw, data=batches, objective=objective,
            optimizer=rates, plan=plan, trainable=lambda name: trainable(name) and limited(name),
            written=written_types(start.checkpoint, used.save_dtype),
            evaluate=lambda trainee: named.evaluate(sets, trainee.losses, micro, trainee.world, sizes),
            files=tokenizer_files(codec, start.checkpoint if used.tokenizer is None else None), read=read,
            inputs=lambda: [*checkpoint, *hashes.wait()], device=device, tensorboard=used.tensorboard,
            derived=[each.name for each in describe(TrainSettings) if getattr(asked, each.name) is None],
            length=facts["length"], kernels=described, tokenizer=codec.fingerprint() if codec else _tokenizer_of(files),
        )  # fmt: skip
        report = run_job(job, console)
        if rank == 0:
            texts.tidy()
        return report


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
    if config.experts:
        used["experts"] = {}  # the family's own, which no method brought
    for name in options:
        if name not in used:
            hint = closest(name, list(used)) or f"the model's methods: {', '.join(used) or 'none'}"
            raise UserError(f"--set {name}.{next(iter(options[name]))}: no such method in use", hint=hint)
    terms = {
        name: catalog.attribute(catalog.OBJECTIVE, name)(config, method, options.get(name, {}))
        for name, method in used.items()
    }
    return Objective({**terms, **(extra or {})}, cross_entropy or linear_cross_entropy)


def _tokenizer(asked: TrainSettings, sources: Sequence[named.Source]) -> str | None:
    """The one that was named; else, where a new model is asked for, tokenizer.json that stands here, unless all data
    are tokens of another."""
    if asked.tokenizer is not None or (asked.model is not None and Path(asked.model).is_dir()):
        return asked.tokenizer
    here = places.found_tokenizer()
    made_with = [_made_with(source.path, asked.bin_dtype) for source in sources if here]
    if here and all(each is TEXT or each == Tokenizer.load(here).fingerprint() for each in made_with):
        return here
    return None


def wants_tokenizer(data: Sequence[str], asked: TrainSettings) -> bool:
    """Whether a new model is to learn from text, and no tokenizer is named or stands here."""
    if asked.tokenizer is not None or (asked.model is not None and Path(asked.model).exists()):
        return False
    paths = [source.path for source in named.parse_sources(data)]
    texts = [_made_with(path, asked.bin_dtype) is TEXT for path in paths if path != "-" and Path(path).exists()]
    return len(texts) == len(paths) and all(texts) and places.found_tokenizer() is None


TEXT = object()
"""What text was tokenised with."""


def _made_with(path: str, bin_dtype: str | None) -> object:
    from llmtool.core.corpus.token_files import is_token_file, open_tokens

    return open_tokens(path, path, bin_dtype).tokenizer if is_token_file(path) else TEXT


def _size(codec: Tokenizer | None, vocabulary: int | None) -> str:
    """A million parameters, or so many more that the table of tokens is about half of them."""
    tokens = codec.definition.vocabulary.id_limit if codec else vocabulary or 0
    return f"{max(10**6, 128 * tokens) / 1e6:.1f}M".replace(".0M", "M")


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


def _steps(asked: TrainSettings, batch: int, epoch: int) -> int:
    """Updates, from --steps, --tokens or --epochs."""
    given = [name for name in ("steps", "tokens", "epochs") if getattr(asked, name) is not None]
    if len(given) > 1:
        raise UserError(f"--{' and --'.join(given)} say the same thing twice", hint="give one of them")
    if asked.steps is not None:
        return asked.steps
    epochs = 1.0 if asked.epochs is None else asked.epochs
    wanted = round(epochs * epoch) if asked.tokens is None else named.count(asked.tokens, "--tokens")
    if wanted < 1:
        raise UserError(f"--epochs {epochs:g} is no token to train on")
    return max(1, wanted // batch)


def _warmup(steps: int, trained_before: bool) -> int:
    """A tenth of the steps, 200 at most; AdamW's first updates move every weight by the whole rate, so that trained
    weights get 10 steps of it, or half of a run that is shorter than 20."""
    return min(200, max(steps // 10, min(10, steps // 2) if trained_before else 0))


def _tokenizer_of(files: "Sequence[TokenFile]") -> str | None:
    """The hash of the tokenizer that all the data says it was made with."""
    named_hashes = {file.tokenizer for file in files}
    return named_hashes.pop() if len(named_hashes) == 1 else None


def _shapes(start: Start) -> dict[str, tuple[int, ...]]:
    """Each parameter of the model."""
    import torch

    from llmtool.core.model.decoder import expected_shapes
    from llmtool.model import build

    with torch.device("meta"):
        return expected_shapes(build(start.config))


def _default_rate(parameters: int, trained_before: bool) -> float:
    from llmtool.core.model.new import default_rate, fine_tuning_rate

    return fine_tuning_rate(parameters) if trained_before else default_rate(parameters)
