"""What to type next: the last line of every command that writes something, with the names that were just used.

One table, so that a walk through the commands is seen in one place.
"""

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from llmtool.commands import places
from llmtool.core.corpus.reading import Reading
from llmtool.core.run.processes import leads

Given = Mapping[str, Any]


def after(words: Sequence[str], given: Given) -> str | None:
    """The command to type after `llmtool WORDS` with these options; None where nothing was written."""
    says = NEXT.get(" ".join(words))
    if not leads():
        return None
    if says is None or given.get("dry_run") or given.get("tune") or str(given.get("output")) == "-":
        return None
    return says(given)


def typed(*words: Any) -> str:
    """A command as a shell takes it."""
    return f"llmtool {' '.join(word if word in SHOWN else shlex.quote(str(word)) for word in words)}"


SHOWN = {"FILE", "DATA", "CKPT", "TEXT"}
"""Words that the reader puts in."""


READING = {
    "field": "--field", "text_mode": "--documents", "document_separator": "--document-separator",
    "format": "--input-format", "include": "--include", "exclude": "--exclude",
}  # fmt: skip
"""Options of Reading that decide which text there is."""
NAMED = 3
"""Inputs that a line names; what a shell's `*.py` stood for is DATA."""


def _output(given: Given, default: Path) -> Path:
    return given.get("output") or default


def _first(given: Given, name: str, default: str) -> str:
    values = given.get(name) or [default]
    return str(values[0]) if str(values[0]) != "-" else default


def _train_tokenizer(given: Given) -> str:
    place, inputs = _output(given, places.TOKENIZER), given.get("inputs") or ["-"]
    data = ["DATA"] if len(inputs) > NAMED or "-" in inputs else inputs
    named = [] if place == places.TOKENIZER else ["--tokenizer", place]
    return typed("train", *data, *named, *_reading(given))


def _reading(given: Given) -> list[Any]:
    """How text was read, as far as it was said: what is read again is read so."""
    found: list[Any] = []
    for name, flag in READING.items():
        values = given.get(name), getattr(Reading(), name)
        said, usual = ([value] if isinstance(value, str) else [*(value or ())] for value in values)
        if said != usual:
            found += [word for value in said for word in (flag, value)]
    return found


def _encode(given: Given) -> str | None:
    place = given.get("output")
    if place is None or given.get("verify"):
        return None
    if given.get("shards"):
        return typed("tokenizer", "encode", *(word for word in given["words given"] if word != "--force"), "--verify")
    if given.get("form") in ("bin", "npy") or (not given.get("form") and str(place).endswith((".bin", ".npy"))):
        return typed("train", place, "--tokenizer", given["tokenizer"])
    return typed("tokenizer", "decode", given["tokenizer"], place)


def _train(given: Given) -> str:
    return typed("generate", _output(given, places.MODEL), "Once upon a time")


def _made(verb: str, *words: str) -> Callable[[Given], str]:
    """The same words for what `convert VERB` has made, CHECKPOINT and OUT among them."""

    def says(given: Given) -> str:
        source = given.get("checkpoint") or given.get("file") or "CKPT"
        out = places.beside(source, verb, given.get("output"))
        return typed(*({"OUT": out, "CHECKPOINT": source}.get(word, word) for word in words))

    return says


def _plan(given: Given) -> str | None:
    if given.get("output") is None:
        return None
    text = _first(given, "data", "FILE")
    return typed("convert", "uniattn", given["checkpoint"], "--plan", given["output"], "--calibration", text)


def _fit(given: Given) -> str | None:
    return typed("scaling", "predict", given["output"]) if given.get("output") else None


def _law(given: Given) -> str | None:
    return (
        typed("scaling", "predict", given["output"], "--params", "7B", "--tokens", "1T")
        if given.get("output")
        else None
    )


def _stage(verb: str, *more: str) -> Callable[[Given], str]:
    return lambda given: typed("data", verb, given.get("directory") or _output(given, places.CHUNKS), *more)


def _token_experts(given: Given) -> str:
    """A checkpoint is cut by the table, a config begins with it; neither is named where --layers said all."""
    table, model = _output(given, places.TABLE), given.get("model")
    if model and Path(model).is_file():
        named = ("--tokenizer", given["tokenizer"]) if given.get("tokenizer") else ()
        return typed("train", "DATA", "--model", model, *named, "--set", f"mask_moe.table={table}")
    return typed("convert", "mask", model or "CKPT", "--table", table)


def _sft(given: Given) -> str:
    out = places.beside(given["checkpoint"], "sft", given.get("output"))
    return typed("convert", "merge-lora", out) if given.get("lora") else typed("generate", out, "--chat")


LOSS = ("eval", "loss", "OUT", "--data", "FILE")
NEXT: dict[str, Callable[[Given], str | None]] = {
    "tokenizer train": _train_tokenizer,
    "tokenizer encode": _encode,
    "tokenizer extend": lambda given: typed(
        "convert", "vocab", "CKPT", "--tokenizer", places.beside(given["tokenizer"], "extended", given.get("output"))
    ),
    "tokenizer trim": lambda given: typed(
        "convert", "vocab", "CKPT", "--tokenizer", places.beside(given["tokenizer"], "trimmed", given.get("output"))
    ),
    "tokenizer export": lambda given: typed(
        "tokenizer", "inspect", places.beside(given["tokenizer"], given["to"], given.get("directory"))
    ) if given["to"] == "hf" else None,
    "train": _train,
    "convert copy": _made("copy", "verify", "CHECKPOINT", "OUT"),
    "convert export": _made("export", "generate", "OUT", "Once upon a time"),
    "convert dsmoe": _made("dsmoe", "eval", "experts", "OUT", "--data", "FILE"),
    "convert dsmoe-baseline": lambda given: _made(given["kind"].replace(":", "-"), *LOSS)(given),
    "convert dense": _made("dense", "verify", "CHECKPOINT", "OUT"),
    "convert uniattn": _made("uniattn", "posttrain", "uniattn", "OUT", "DATA"),
    "convert rope": _made("rope", "train", "DATA", "--model", "OUT"),
    "convert gguf": _made("checkpoint", "generate", "OUT", "Once upon a time"),
    "convert topk": _made("topk", "train", "DATA", "--model", "OUT"),
    "convert cartesian": _made("cartesian", "train", "DATA", "--model", "OUT"),
    "convert mask": _made("mask", "train", "DATA", "--model", "OUT"),
    "convert finedeep": _made("finedeep", "train", "DATA", "--model", "OUT"),
    "convert merge-lora": _made("merged", "generate", "OUT", "--chat"),
    "convert vocab": _made("vocab", "train", "DATA", "--model", "OUT"),
    "eval attention": _plan,
    "scaling fit": _fit,
    "scaling law": _law,
    "data chunk": _stage("embed"),
    "data embed": _stage("index"),
    "data index": _stage("mine"),
    "data mine": _stage("assemble", "-o", "nextlong"),
    "data assemble": lambda given: typed("data", "report", given["output"]),
    "data nextlong": lambda given: typed("data", "report", _output(given, places.LONG)),
    "data token-experts": _token_experts,
    "posttrain sft": _sft,
    "posttrain uniattn": lambda given: typed(
        "generate", places.beside(given["checkpoint"], "posttrained", given.get("output")), "--chat"
    ),
}  # fmt: skip
"""By the words of the command."""
