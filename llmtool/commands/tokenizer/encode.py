"""Files in, ids out: what `llmtool tokenizer encode` and `decode` do, for any tokenizer."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import IO, Any, Literal

from llmtool.commands.tokenizer.settings import DecodeSettings, EncodeSettings
from llmtool.core.bpe import engine
from llmtool.core.bpe.lost import Lost
from llmtool.core.bpe.tokenizer import BaseTokenizer
from llmtool.core.corpus.document import Document, ReadReport
from llmtool.core.corpus.encoding import Around, encode_documents
from llmtool.core.corpus.inputs import without_weights
from llmtool.core.corpus.provenance import InputHashes, describe
from llmtool.core.corpus.readers import Reading, read_documents, total_bytes
from llmtool.core.corpus.shards import SETTINGS
from llmtool.core.corpus.token_documents import read_token_documents
from llmtool.core.corpus.tokenized import (
    JsonlWriter,
    LineWriter,
    TokenWriter,
    Totals,
    sidecars,
    token_array,
)
from llmtool.core.run.atomic import atomic_files, require_space
from llmtool.core.run.console import QUIET, Console, binary_stdout
from llmtool.core.run.errors import UserError, closest
from llmtool.core.run.json_file import read_json_object
from llmtool.core.run.manifest import Run, manifest_path
from llmtool.core.run.outputs import claim_file

SPELLED = {"tokenizer": "TOK", "text_mode": "--documents"}
"""Options of settings that are called otherwise."""


def encode_files(
    tokenizer: BaseTokenizer,
    inputs: Sequence[str],
    output: Path | None,
    settings: EncodeSettings | None = None,
    *,
    reading: Reading | None = None,
    read: Sequence[str | Path] = (),
    console: Console = QUIET,
    **named_settings: Any,
) -> Totals:
    """Encode documents as a stream and write them in order; stdout when `output` is None.

    settings, reading: as objects or by their options' names. bos, eos: the tokenizer's own tokens, or any of its added
    ones; bos None says on the console that a tokenizer of which `transformers` gets one gives none here. offsets: byte
    range of each id in the (normalized) text. read: where the tokenizer came from, which no output may replace.
    """
    reading, named_settings = Reading.split(reading, named_settings)
    asked = EncodeSettings.of(settings, named_settings)
    form = asked.form or _form_of(output)
    asked = replace(asked, form=form)
    if asked.part or asked.verify:
        raise UserError("--part and --verify go with --shards", hint=_size_of(output))
    if asked.bin_dtype:
        raise UserError("--bin-dtype goes with --remap", hint="text has none; --format bin writes the narrowest")
    _check_request(output, form, asked.offsets)
    around = token_around(tokenizer, asked, console)
    report, totals, lost = ReadReport(), Totals(), Lost(tokenizer)
    facts = {
        "tokenizer": tokenizer.fingerprint() if output else None, "format": form, "offsets": asked.offsets,
        "bos": around.bos is not None, "eos": around.eos is not None, "bos_token": asked.bos_token,
        "eos_token": asked.eos_token, "allow_special": asked.allow_special, **reading.facts(),
    }  # fmt: skip
    with ExitStack() as stack:
        hashes = stack.enter_context(InputHashes(inputs if output else [], reading))
        run = Run(
            "tokenizer encode", facts, seed=reading.seed, backend=engine.NAME, spelled=SPELLED,
            defaults=asked.defaults(),
            options={**reading.options(), **asked.options(), **tokenizer.definition.options()} if output else {},
        )  # fmt: skip
        if output:
            beside = list(sidecars(output, form).values()) if form in ("npy", "bin") else []
            claim_file(
                output, run, read=[*without_weights(inputs), *read], beside=beside, force=asked.force,
                found=hashes.wait, console=console,
            )  # fmt: skip
        size = total_bytes(inputs, reading)
        if output and size:
            require_space(output, size)
        bar = stack.enter_context(console.progress("encoding", size, "B"))
        documents = read_documents(
            inputs, reading, whole=tokenizer.needs_whole(asked.allow_special), report=report, on_bytes=bar.advance,
        )  # fmt: skip
        with _writer(tokenizer, output, asked, around, run, hashes) as writer:
            for encoded in encode_documents(
                tokenizer, watched(documents, lost), allow_special=asked.allow_special, around=around,
                threads=asked.threads,
            ):  # fmt: skip
                writer.write(encoded)
                totals.add(encoded)
                lost.written(encoded.ids)
    report.say(console)
    lost.say(console)
    return totals


def _size_of(directory: Path | None) -> str:
    """The option that a set of shards was made with; of no set the kind of it."""
    made = directory / SETTINGS if directory else None
    size = read_json_object(made).get("shards") if made and made.is_file() else None
    return f"--shards {size}" if type(size) is int else "--shards SIZE, as the set is made"


def watched(documents: Iterable[Document], lost: Lost) -> Iterator[Document]:
    """The documents; what is left out of each is counted as it passes."""
    for document in documents:
        lost.read(document.text)
        yield document


def _form_of(output: Path | None) -> Literal["ids", "jsonl", "npy", "bin"]:
    """The format that a name asks for by its ending."""
    endings: dict[str, Literal["jsonl", "npy", "bin"]] = {".jsonl": "jsonl", ".npy": "npy", ".bin": "bin"}
    return endings.get(output.suffix, "ids") if output else "ids"


def _check_request(output: Path | None, form: str, offsets: bool) -> None:
    if offsets and form != "jsonl":
        raise UserError(f"offsets cannot be written in format {form!r}", hint="use --format jsonl")
    if form == "mds":
        raise UserError("format 'mds' is written in shards", hint="-o DIR --shards 512MB")
    if form in ("npy", "bin") and output is None:
        raise UserError(f"format {form!r} cannot go to stdout", hint="name a file: -o train.bin")
    if form in ("npy", "bin") and output and output.suffix != f".{form}":
        raise UserError(f"format {form!r} wants a name that ends in .{form}", where=str(output))


def token_around(tokenizer: BaseTokenizer, asked: EncodeSettings, console: Console) -> Around:
    """The ids put around each document, and on the console what `transformers` would put there unasked."""
    bos, bos_token, eos_token = asked.bos, asked.bos_token, asked.eos_token
    if bos is False and bos_token is not None:
        raise UserError("--no-bos and --bos-token contradict each other", hint="drop one of them")
    definition = tokenizer.definition
    before, after = definition.around
    if bos is None and bos_token is None and (before or after):
        spell = definition.vocabulary.spellings
        put = [
            f"{' '.join(spell[number] for number in ids)} {side} each text"
            for ids, side in ((before, "before"), (after, "after")) if ids
        ]  # fmt: skip
        flags = "--bos and --eos put tokens here, --no-bos says that none are wanted"
        console.warn(f"`transformers` would put {' and '.join(put)}; {flags}")
    first = _named(tokenizer, "bos", definition.bos, bos_token) if bos or bos_token is not None else None
    last = _named(tokenizer, "eos", definition.eos, eos_token) if asked.eos or eos_token is not None else None
    return Around(first, last)


def _named(tokenizer: BaseTokenizer, role: str, own: str | None, given: str | None) -> int:
    """Id of the token that was given, else of the tokenizer's own."""
    known = tokenizer.added_tokens
    if given is not None and given not in known:
        hint = closest(given, list(known)) or f"{len(known)} tokens may be named; `tokenizer inspect` lists them"
        raise UserError(f"{given!r} is not an added token of the tokenizer", where=f"--{role}-token", hint=hint)
    token = own if given is None else given
    if token is None:
        kind, name = ("beginning-of-text", "<s>") if role == "bos" else ("end-of-text", "<|endoftext|>")
        hint = f"name one with --{role}-token, or train it with --special '{name}'"
        raise UserError(f"the tokenizer names no {kind} token", hint=hint)
    return known[token]


@contextmanager
def _writer(
    tokenizer: BaseTokenizer,
    output: Path | None,
    asked: EncodeSettings,
    around: Around,
    run: Run,
    hashes: InputHashes,
) -> Iterator[TokenWriter]:
    form = asked.written

    def row_writer(file: IO[bytes]) -> TokenWriter:
        if form != "jsonl":
            return LineWriter(file)
        return JsonlWriter(file, tokenizer, asked.offsets, around, asked.allow_special)

    if output:
        with atomic_files() as files:
            if form in ("npy", "bin"):
                ends = {"documents_begin_with": around.bos, "documents_end_with": around.eos}
                with token_array(output, tokenizer, form, ends, files) as writer:
                    yield writer
            else:
                yield row_writer(files.open(output))
            run.inputs = hashes.wait()
            beside = sidecars(output, form).values() if form in ("npy", "bin") else ()
            run.save(manifest_path(output), [output, *beside], files)
    else:
        with binary_stdout() as file:
            yield row_writer(file)


def decode_files(
    tokenizer: BaseTokenizer,
    path: str,
    output: Path | None,
    settings: DecodeSettings | None = None,
    *,
    read: Sequence[str | Path] = (),
    console: Console = QUIET,
    **named_settings: Any,
) -> int:
    """Write the text of each document of ids, exactly its bytes; with text_mode "line" each ends a line.

    Returns the number of documents.
    """
    asked = DecodeSettings.of(settings, named_settings)
    ending = b"\n" if asked.text_mode == "line" else b""
    number = 0
    facts = {"tokenizer": tokenizer.fingerprint() if output else None, **asked.facts()}
    run = Run("tokenizer decode", facts, spelled=SPELLED, defaults=asked.defaults())

    def entries() -> list[dict[str, Any]]:
        return [describe(path, Event(), read_whole=True)]

    if output is not None:
        claim_file(output, run, read=[path, *read], force=asked.force, found=entries, console=console)
    with ExitStack() as stack:
        files = stack.enter_context(atomic_files())
        file = files.open(output) if output else stack.enter_context(binary_stdout())
        for ids in read_token_documents(path, tokenizer):
            number += 1
            try:
                file.write(tokenizer.decode_bytes(ids, whole=True) + ending)
            except UserError as error:
                raise UserError(error.what, where=f"{path}, document {number}", hint=error.hint) from None
        if output and not files.through:
            run.inputs = entries()
            run.save(manifest_path(output), [output], files)
    return number
