"""Files in, ids out: what `llmtool tokenizer encode` and `decode` do, for any tokenizer."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event
from typing import IO, Any

from llmtool.core.bpe import engine
from llmtool.core.bpe.tokenizer import BaseTokenizer
from llmtool.core.corpus.document import ReadReport
from llmtool.core.corpus.encoding import Around, encode_documents
from llmtool.core.corpus.inputs import without_weights
from llmtool.core.corpus.provenance import InputHashes, describe
from llmtool.core.corpus.readers import Reading, TextMode, read_documents, total_bytes
from llmtool.core.corpus.tokenized import (
    IdFormat,
    JsonlWriter,
    LineWriter,
    TokenWriter,
    Totals,
    read_token_documents,
    sidecars,
    token_array,
)
from llmtool.core.run.atomic import atomic_files, require_space
from llmtool.core.run.console import Console, binary_stdout
from llmtool.core.run.errors import UserError, closest
from llmtool.core.run.manifest import Run, manifest_path
from llmtool.core.run.outputs import claim_file

SPELLED = {"tokenizer": "TOK", "text_mode": "--documents"}
"""Options of settings that are called otherwise."""


def encode_files(
    tokenizer: BaseTokenizer,
    inputs: Sequence[str],
    output: Path | None,
    *,
    form: IdFormat = "ids",
    bos: bool | None = None,
    eos: bool = False,
    bos_token: str | None = None,
    eos_token: str | None = None,
    offsets: bool = False,
    allow_special: bool = False,
    reading: Reading | None = None,
    threads: int | None = None,
    read: Sequence[str | Path] = (),
    force: bool = False,
    console: Console | None = None,
    **named_reading: Any,
) -> Totals:
    """Encode documents as a stream and write them in order; stdout when `output` is None.

    bos, eos: begin and end each document with the tokenizer's own token, or with bos_token and eos_token, which may be
    any of its added tokens; bos None says on the console that a tokenizer of which `transformers` gets one gives none
    here. offsets: byte range of each id in the (normalized) text, format jsonl only. reading: how text is read, as an
    object or by its options' names. read: where the tokenizer came from, which no output may replace.
    """
    console = console or Console(verbosity=-1)
    reading = Reading.of(reading, named_reading)
    _check_request(output, form, offsets)
    around = token_around(tokenizer, bos, eos, bos_token, eos_token, console)
    report, totals = ReadReport(), Totals()
    settings = {
        "tokenizer": tokenizer.fingerprint() if output else None, "format": form, "offsets": offsets,
        "bos": around.bos is not None, "eos": around.eos is not None, "bos_token": bos_token, "eos_token": eos_token,
        "allow_special": allow_special, **reading.facts(),
    }  # fmt: skip
    with ExitStack() as stack:
        hashes = stack.enter_context(InputHashes(inputs if output else [], reading))
        run = Run("tokenizer encode", settings, seed=reading.seed, backend=engine.NAME, spelled=SPELLED)
        if output:
            beside = list(sidecars(output, form).values()) if form in ("npy", "bin") else []
            claim_file(
                output,
                run,
                read=[*without_weights(inputs), *read],
                beside=beside,
                force=force,
                found=hashes.wait,
                console=console,
            )
        size = total_bytes(inputs, reading)
        if output and size:
            require_space(output, size)
        bar = stack.enter_context(console.progress("encoding", size, "B"))
        documents = read_documents(
            inputs, reading, whole=tokenizer.needs_whole(allow_special), report=report, on_bytes=bar.advance,
        )  # fmt: skip
        with _writer(tokenizer, output, form, offsets, around, run, hashes) as writer:
            for encoded in encode_documents(
                tokenizer, documents, allow_special=allow_special, around=around, threads=threads
            ):
                writer.write(encoded)
                totals.add(encoded)
    report.say(console)
    return totals


def _check_request(output: Path | None, form: IdFormat, offsets: bool) -> None:
    if offsets and form != "jsonl":
        raise UserError(f"offsets cannot be written in format {form!r}", hint="use --format jsonl")
    if form in ("npy", "bin") and output is None:
        raise UserError(f"format {form!r} cannot go to stdout", hint="name a file: -o train.bin")
    if form in ("npy", "bin") and output and output.suffix != f".{form}":
        raise UserError(f"format {form!r} wants a name that ends in .{form}", where=str(output))


def token_around(
    tokenizer: BaseTokenizer,
    bos: bool | None,
    eos: bool,
    bos_token: str | None,
    eos_token: str | None,
    console: Console,
) -> Around:
    """The ids put around each document, and on the console what `transformers` would put there unasked."""
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
        asked = "--bos and --eos put tokens here, --no-bos says that none are wanted"
        console.warn(f"`transformers` would put {' and '.join(put)}; {asked}")
    first = _named(tokenizer, "bos", definition.bos, bos_token) if bos or bos_token is not None else None
    last = _named(tokenizer, "eos", definition.eos, eos_token) if eos or eos_token is not None else None
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
    form: IdFormat,
    offsets: bool,
    around: Around,
    run: Run,
    hashes: InputHashes,
) -> Iterator[TokenWriter]:
    def row_writer(file: IO[bytes]) -> TokenWriter:
        return JsonlWriter(file, tokenizer, offsets, around) if form == "jsonl" else LineWriter(file)

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
    *,
    text_mode: TextMode = "file",
    read: Sequence[str | Path] = (),
    force: bool = False,
    console: Console | None = None,
) -> int:
    """Write the text of each document of ids, exactly its bytes; with text_mode "line" each ends a line.

    Returns the number of documents.
    """
    ending = b"\n" if text_mode == "line" else b""
    number = 0
    settings = {"tokenizer": tokenizer.fingerprint() if output else None, "text_mode": text_mode}
    run = Run("tokenizer decode", settings, spelled=SPELLED)

    def entries() -> list[dict[str, Any]]:
        return [describe(path, Event(), read_whole=True)]

    if output is not None:
        claim_file(output, run, read=[path, *read], force=force, found=entries, console=console)
    with ExitStack() as stack:
        files = stack.enter_context(atomic_files())
        file = files.open(output) if output else stack.enter_context(binary_stdout())
        for ids in read_token_documents(path, tokenizer):
            number += 1
            try:
                file.write(tokenizer.decode_bytes(ids) + ending)
            except UserError as error:
                raise UserError(error.what, where=f"{path}, document {number}", hint=error.hint) from None
        if output and not files.through:
            run.inputs = entries()
            run.save(manifest_path(output), [output], files)
    return number
