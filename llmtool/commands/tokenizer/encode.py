"""Files in, ids out: what `llmtool tokenizer encode` and `decode` do, for any tokenizer."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event
from typing import IO

from llmtool.core.bpe import engine
from llmtool.core.bpe.tokenizer import BaseTokenizer
from llmtool.core.corpus.document import ReadReport
from llmtool.core.corpus.encoding import encode_documents
from llmtool.core.corpus.provenance import InputHashes, describe
from llmtool.core.corpus.readers import Format, TextMode, read_documents, total_bytes
from llmtool.core.corpus.tokenized import (
    IdFormat,
    JsonlWriter,
    LineWriter,
    TokenWriter,
    Totals,
    read_token_documents,
    token_array,
)
from llmtool.core.run.atomic import atomic_file, check_output, refuse_inputs_as_output, require_space
from llmtool.core.run.console import Console, binary_stdout
from llmtool.core.run.errors import UserError
from llmtool.core.run.manifest import Run, manifest_path, refuse_complete


def encode_files(
    tokenizer: BaseTokenizer,
    inputs: Sequence[str],
    output: Path | None,
    *,
    form: IdFormat = "ids",
    eos: bool = False,
    offsets: bool = False,
    allow_special: bool = False,
    field: str = "text",
    text_mode: TextMode = "file",
    input_format: Format = "auto",
    strict: bool = False,
    threads: int | None = None,
    force: bool = False,
    console: Console | None = None,
) -> Totals:
    """Encode documents as a stream and write them in order; stdout when `output` is None.

    offsets: byte range of each id in the (normalized) text, format jsonl only. eos: end each document with the
    tokenizer's end-of-text token.
    """
    console = console or Console(verbosity=-1)
    _check_request(tokenizer, output, form, eos, offsets)
    if output:
        refuse_inputs_as_output(check_output(output), inputs)
    report, totals = ReadReport(), Totals()
    settings = {
        "tokenizer": tokenizer.fingerprint() if output else None, "format": form, "eos": eos, "offsets": offsets,
        "allow_special": allow_special, "field": field, "text_mode": text_mode, "input_format": input_format,
        "strict": strict,
    }  # fmt: skip
    # A special token may hold white space, where a long document would be cut; `none` has no safe cut at all.
    whole = tokenizer.definition.pretokenizer == "none" or (
        allow_special and any(character.isspace() for text in tokenizer.special_tokens for character in text)
    )
    with ExitStack() as stack:
        hashes = stack.enter_context(InputHashes(inputs if output else []))
        run = Run("tokenizer encode", settings, backend=engine.NAME)
        if output and not force:
            refuse_complete(output, run.command, settings, hashes.wait)
        size = total_bytes(inputs)
        if output and size:
            require_space(output, size)
        bar = stack.enter_context(console.progress("encoding", size, "B"))
        documents = read_documents(
            inputs, field=field, text_mode=text_mode, format=input_format, strict=strict, whole=whole,
            report=report, on_bytes=bar.advance,
        )  # fmt: skip
        with _writer(tokenizer, output, form, offsets, eos, run, hashes) as writer:
            for encoded in encode_documents(
                tokenizer, documents, allow_special=allow_special, append_eos=eos, threads=threads
            ):
                writer.write(encoded)
                totals.add(encoded)
    report.say(console)
    return totals


def _check_request(tokenizer: BaseTokenizer, output: Path | None, form: IdFormat, eos: bool, offsets: bool) -> None:
    if offsets and form != "jsonl":
        raise UserError(f"offsets cannot be written in format {form!r}", hint="use --format jsonl")
    if form in ("npy", "bin") and output is None:
        raise UserError(f"format {form!r} cannot go to stdout", hint="name a file: -o train.bin")
    if form in ("npy", "bin") and output and output.suffix != f".{form}":
        raise UserError(f"format {form!r} wants a name that ends in .{form}", where=str(output))
    if eos and tokenizer.eos_id is None:
        raise UserError("the tokenizer names no end-of-text token", hint="train it with --special '<|endoftext|>'")


@contextmanager
def _writer(
    tokenizer: BaseTokenizer,
    output: Path | None,
    form: IdFormat,
    offsets: bool,
    eos: bool,
    run: Run,
    hashes: InputHashes,
) -> Iterator[TokenWriter]:
    def row_writer(file: IO[bytes]) -> TokenWriter:
        return JsonlWriter(file, tokenizer, offsets, eos) if form == "jsonl" else LineWriter(file)

    def seal() -> None:
        assert output is not None
        run.inputs = hashes.wait()
        run.save(manifest_path(output), [output])

    if form in ("npy", "bin") and output:
        with token_array(output, tokenizer, form, {}, seal) as writer:
            yield writer
    elif output:
        with atomic_file(output) as file:
            yield row_writer(file)
            seal()
    else:
        with binary_stdout() as file:
            yield row_writer(file)


def decode_files(
    tokenizer: BaseTokenizer, path: str, output: Path | None, *, text_mode: TextMode = "file", force: bool = False
) -> int:
    """Write the text of each document of ids, exactly its bytes; with text_mode "line" each ends a line.

    Returns the number of documents.
    """
    ending = b"\n" if text_mode == "line" else b""
    if output is not None and output.exists() and not force:
        raise UserError("exists already", where=str(output), hint="use --force to replace it")
    if output is not None:
        refuse_inputs_as_output(check_output(output), [path])
    number = 0
    run = Run("tokenizer decode", {"tokenizer": tokenizer.fingerprint() if output else None, "text_mode": text_mode})
    with ExitStack() as stack:
        file = stack.enter_context(atomic_file(output) if output else binary_stdout())
        for ids in read_token_documents(path, tokenizer):
            number += 1
            try:
                file.write(tokenizer.decode_bytes(ids) + ending)
            except UserError as error:
                raise UserError(error.what, where=f"{path}, document {number}", hint=error.hint) from None
        if output:
            run.inputs = [describe(path, Event(), read_whole=True)]
            run.save(manifest_path(output), [output])
    return number
