"""The files that are read, one a row: what it is, how it is changed, and what reads it.

A reader is called in a directory with `in/` (tests/faults/inputs.py and PREPARE) in which its one file is hostile. It
gives a result, or a UserError. What it gives must be right as far as that can be told: `finite` numbers, no token lost.
"""

import csv
import io
import json
import math
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmtool.core.run.errors import UserError

PREPARE = (
    "tokenizer export in/tok.json in/hf --to hf",
    "tokenizer encode in/tok.json in/text.txt --format npy -o in/ids.npy",
    "tokenizer encode in/tok.json in/text.txt --format jsonl -o in/ids.jsonl",
    "convert copy in/ckpt in/sharded --max-shard-size 8K",
    "scaling fit in/log.jsonl --fit-until 50% -o in/fit.json --law cooldown",
    "scaling fit in/positions.jsonl -o in/temporal.json --law temporal",
    "scaling law in/runs.csv -o in/sizes.json --bootstrap 3",
    "eval attention in/ckpt --data in/text.txt --window 16 --device cpu --kv-saving 33% --samples 1 -o in/plan.json",
    "data nextlong in/corpus.jsonl -o in/long --tokenizer in/tok.json --target 256 --chunk 128 --workers 1",
)
TRAIN: dict[str, Any] = {
    "model": "in/config.json", "tokenizer": "in/tok.json", "batch": 64, "length": 16, "steps": 4, "eval_every": 0,
    "save_every": 2, "device": "cpu", "kernels": "torch",
}  # fmt: skip
MADE = "made"
"""Where a reader may write; emptied before each."""


@dataclass(frozen=True)
class Reader:
    """file: below the trial, the one that is changed. again: what else the reader changes, put back each time.

    cost: one of how many of the sample's tries it gets, for one that takes long.
    """

    name: str
    file: str
    kind: str
    read: Callable[[Path], Any]
    again: str = ""
    cost: int = 1

    @property
    def stream(self) -> bool:
        """Whether text may come from a pipe too, which is waited for."""
        return self.read in (corpus, log, fitted, by_positions, conversations)

    @property
    def optional(self) -> bool:
        """Whether what is no file is as if it were not there."""
        return self.name in OPTIONAL


def finite(value: Any) -> Any:
    """A result without NaN and infinity, which JSON cannot say."""
    if isinstance(value, float):
        assert math.isfinite(value), "a result that is no number"
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ():
        finite(inner)
    return value


def tokenizer(path: Path) -> None:
    from llmtool.tokenizer import Tokenizer

    found = Tokenizer.load(path)
    found.decode(found.encode("old output, né 漢 <|endoftext|>\n 123"))
    found.encode("<|endoftext|> new", allow_special=True)


def settings_of_tokenizer(path: Path) -> None:
    from llmtool.core.train.sft.template_files import find_specials, find_template

    tokenizer(path.parent)
    specials = find_specials(path.parent)
    if path.is_file() and '"chat_template"' in path.read_text(errors="replace"):
        find_template(None, path.parent, specials)


def inspected(path: Path) -> None:
    import llmtool

    report = llmtool.convert.inspect(path.parent)
    said = ("llmtool", "max_position_embeddings")  # as config.json has them; what is no number is printed as null
    finite({key: value for key, value in report.items() if key not in said})


def loaded(path: Path) -> None:
    import torch

    import llmtool

    model = llmtool.load_model(path.parent, device="cpu")
    assert torch.isfinite(model(torch.tensor([[1, 2, 3]]))).all(), "a result that is no number"
    assert isinstance(model.stop_ids, frozenset)


def copied(path: Path) -> None:
    """What is copied can be looked at."""
    import llmtool

    llmtool.convert.copy(path.parent, Path(MADE) / "copy", dry_run=True)
    llmtool.convert.copy(path.parent, Path(MADE) / "copy")
    inspected(Path(MADE) / "copy" / "config.json")


def tensors(path: Path) -> None:
    from llmtool.core.checkpoint.directory import open_checkpoint

    checkpoint = open_checkpoint(path.parent)
    for name, tensor in checkpoint.tensors():
        assert tensor.shape == checkpoint.shape(name)


def mapped_tokens(path: Path) -> None:
    from llmtool.core.corpus.token_files import open_tokens, refuse_out_of_range

    array = _array_of(path)
    file = open_tokens(array)
    refuse_out_of_range(file, 300)
    file.fingerprint()
    assert len(file.documents(0, len(file))) == len(file) == int(file.starts[-1])
    assert int(file.starts[0]) == 0, "tokens before the first document"


def decoded_tokens(path: Path) -> None:
    from llmtool.core.corpus.token_documents import read_token_documents
    from llmtool.tokenizer import Tokenizer

    found = Tokenizer.load("in/tok.json")
    array = _array_of(path)
    documents = list(read_token_documents(str(array), found))
    for ids in documents:
        found.decode(ids)
    if array.suffix == ".bin":
        assert sum(map(len, documents)) == array.stat().st_size // 2, "tokens lost, or given twice"


def _array_of(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(".json").removesuffix(".offsets.npy")) if "." in path.stem else path


def id_map(path: Path) -> None:
    from llmtool.commands.tokenizer.remap import read_map
    from llmtool.tokenizer import Tokenizer

    read_map(path, Tokenizer.load("in/tok.json"))


def prediction(path: Path) -> None:
    import llmtool

    rows = finite(llmtool.scaling.predict(path, at=[3000.0]))["predictions"]
    assert all(0 < row["low"] <= row["value"] <= row["high"] for row in rows), "an interval that holds nothing"


def prediction_elsewhere(path: Path) -> None:
    import llmtool

    finite(llmtool.scaling.predict(path, schedule="linear", horizon=8000.0))


def prediction_of_size(path: Path) -> None:
    import llmtool

    [row] = finite(llmtool.scaling.predict(path, params="1B", tokens="20B"))["predictions"]
    assert 0 < row["low"] <= row["value"] <= row["high"], "an interval that holds nothing"


def resumed(path: Path) -> None:
    """Training goes on from a state, and what it writes is whole."""
    import llmtool
    from llmtool.core.run.errors import CompleteError

    try:
        finite(llmtool.train(["in/ids.bin"], path.parts[0] + "/" + path.parts[1], **TRAIN))
    except CompleteError:
        assert path.parts[1] == "finished"


def claimed(path: Path) -> None:
    """A writer meets the run.json of a file: what it says is complete is success, else it is refused, or replaced."""
    from llmtool.core.run.errors import CompleteError
    from llmtool.core.run.manifest import Run
    from llmtool.core.run.outputs import claim_file

    facts = json.loads(Path("saved", path).read_text())
    for force in (True, False):
        run = Run(facts["command"], facts["config"])
        try:
            claim_file(path.with_name("tok.json"), run, found=lambda: facts["inputs"], force=force)
        except CompleteError:
            assert not force


def claimed_directory(path: Path) -> None:
    from llmtool.core.run.errors import CompleteError
    from llmtool.core.run.manifest import Run
    from llmtool.core.run.outputs import claim_directory

    facts = json.loads(Path("saved", path).read_text())
    for force in (True, False):
        run = Run(facts["command"], facts["config"], kind=facts["kind"])
        try:
            claim_directory(path.parent, run, found=lambda: facts["inputs"], force=force)
        except CompleteError:
            assert not force


def journal(path: Path) -> None:
    from llmtool.core.run.journal import recover

    recover(path.with_name("text.txt"))
    assert Path("in/tok.json").exists(), "a journal that reaches for other files"


def samples(path: Path) -> None:
    import llmtool

    report, _ = llmtool.data.report(Path("in/long"))
    finite(report)
    llmtool.data.show(Path("in/long"), "0", quiet=True)


def stages(path: Path) -> None:
    """The same command again, of which the last step is left to do."""
    import llmtool

    for name in ("done.json", "run.json"):
        Path("in/long", name).unlink()
    llmtool.data.nextlong(
        ["in/corpus.jsonl"], Path("in/long"), tokenizer="in/tok.json", target=256, size=128, workers=1
    )


def chunks(path: Path) -> None:
    from llmtool.methods.nextlong.store import Store

    store = Store(Path("in/long/work"))
    store.texts(0, store.chunks)
    for number in range(store.documents):
        store.document(number)


def config(path: Path) -> None:
    command_line(["tokenizer", "train", "in/text.txt", "-o", f"{MADE}/t.json", "--config", str(path)])


def config_of_training(path: Path) -> None:
    command_line(["train", "in/ids.bin", "-o", f"{MADE}/run", "--dry-run", "--config", str(path)])


def command_line(words: list[str]) -> None:
    """As typed; a usage error is an answer."""
    import sys

    from tests.faults.trial import invoke

    held, sys.stdout = sys.stdout, io.StringIO()
    errors, sys.stderr = sys.stderr, io.StringIO()
    try:
        status = invoke(words)
        said = sys.stderr.getvalue()
    finally:
        sys.stdout, sys.stderr = held, errors
    assert status in (0, 1, 2), f"status {status}: {said}"
    assert status != 1 or said.startswith("error: ") or "\nerror: " in said, said
    if status:
        raise UserError("refused on the command line")


def template(path: Path) -> None:
    from llmtool.core.run.worker import Limits
    from llmtool.core.train.sft.conversation import Message
    from llmtool.core.train.sft.template import Specials, Template
    from llmtool.core.train.sft.template_files import _read

    found = Template(_read(path), Specials("<s>", "</s>", {}), str(path), limits=Limits(0.5))
    found.render([Message("user", "a"), Message("assistant", "b")], prompt=False, where="row")


def conversations(path: Path) -> None:
    from llmtool.core.train.sft.formats import read_conversations

    for row in read_conversations([str(path)]):
        json.dumps([message.to_json() for message in row.messages])


def checked(path: Path) -> None:
    from llmtool.commands.posttrain.check import check

    finite(check([str(path)], tokenizer=Path("in/tok.json"), template="plain", length=64))


def log(path: Path) -> None:
    from llmtool.methods.temporal_scaling.logs import read_log

    found = read_log(path)
    finite([found.tokens_per_step, found.seconds_per_step])
    for series in found.losses.values():
        finite(series.values.tolist())
    found.metric()


def fitted(path: Path) -> None:
    import llmtool

    finite(llmtool.scaling.fit([str(path)], law="power", fit_until="60%"))


def by_positions(path: Path) -> None:
    import llmtool

    finite(llmtool.scaling.positions(str(path)))


def by_sizes(path: Path) -> None:
    import llmtool

    finite(llmtool.scaling.law(path, bootstrap=0))


def by_batches(path: Path) -> None:
    import llmtool

    finite(llmtool.scaling.law(path, law="critical-batch"))


def corpus(path: Path) -> None:
    from llmtool.core.corpus.readers import Reading, read_documents
    from llmtool.core.run.errors import UserError

    refused: list[UserError] = []
    for reading in (Reading(), Reading(strict=True), Reading(text_mode="line")):
        try:
            for document in read_documents([str(path)], reading):
                assert isinstance(bytes(document.text), bytes)
        except UserError as error:
            refused.append(error)
    if refused:
        raise refused[-1]


def gguf(path: Path) -> None:
    from llmtool.core.checkpoint.gguf_file import GgufFile

    file = GgufFile(path)
    file.config()
    for _ in file.tensors():
        pass


def gguf_converted(path: Path) -> None:
    import llmtool

    llmtool.convert.gguf(path, Path(MADE) / "gguf")


def plan(path: Path) -> None:
    from llmtool.methods.uniattn.plan import read_plan

    read_plan(path, 3)


def table_of_experts(path: Path) -> None:
    from llmtool.methods.mask_moe.artefact import load_table

    load_table(path).padded(320)


def bases(path: Path) -> None:
    from llmtool.methods.harpe.bases import read

    finite(read(path, 2, 3))


def modules(path: Path) -> None:
    from llmtool.methods.nextlong.encoders import _poolings, _steps, prompt_of

    prompt_of(path.parent)
    for kind, place in _steps(path.parent):
        if kind == "Pooling":
            _poolings(place, path.parent)


def kept_tokens(path: Path) -> None:
    import llmtool.commands.tokenizer.trim as trimming

    command_line(["tokenizer", "trim", "in/tok.json", "--keep", str(path), "-o", f"{MADE}/less", "--force"])
    assert trimming


def bench_rows(path: Path) -> None:
    from llmtool.core.bench.rows import read

    read(path)


def baseline(path: Path) -> None:
    from llmtool.core.bench.baseline import read_baseline, slower

    rows = read_baseline(path, "cpu")
    slower(json.loads(json.dumps(BASELINE))["rows"], rows, 1.1)


BASELINE = {
    "schema": "llmtool.bench-kernels/1", "machine": {"device": "cpu"},
    "rows": [{"op": "swiglu", "dtype": "fp32", "direction": "forward", "implementation": "torch", "own": True,
              "seconds": 0.01, "case": {"tokens": 8}}],
}  # fmt: skip


def seeds() -> Iterator[tuple[str, bytes]]:
    """Files that no command of ours writes: logs, corpora and settings of other programs."""
    rows = [{"step": s, "loss": 2 + 8 * s**-0.4, "lr": 1e-3 * (1 - s / 4200)} for s in range(100, 4001, 100)]
    state = {"max_steps": 4200, "log_history": [{"learning_rate": r["lr"], **r} for r in rows]}
    yield "trainer_state.json", json.dumps(state).encode()
    for name, delimiter in (("log.csv", ","), ("log.tsv", "\t")):
        file = io.StringIO()
        writer = csv.DictWriter(file, ["step", "loss", "lr"], delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
        yield name, file.getvalue().encode()
    head = "| step | loss | lr |\n|---|---|---|\n"
    yield "log.md", (head + "".join(f"| {r['step']} | {r['loss']:.4f} | {r['lr']} |\n" for r in rows)).encode()
    line = "[2025-01-01 00:00:{0:02}] step {step}/4200: loss {loss:.4f} | lr {lr:.2e} | {0}.5s/it\n"
    printed = "".join(line.format(number, **row) for number, row in enumerate(rows))
    yield "log.txt", printed.encode()
    yield "events.out.tfevents.1", _events(rows)
    yield "batches.csv", b"loss,batch,steps\n" + "".join(
        f"{loss},{b},{1000 * (1 + 64 / b):.0f}\n" for loss in ("3.0", "2.5") for b in (8, 32, 128, 512)
    ).encode()  # fmt: skip
    texts: list[dict[str, Any]] = [
        {"id": str(n), "text": f"document {n} né 漢 \n with two lines", "meta": {"n": n}} for n in range(40)
    ]
    yield "docs.jsonl", "".join(json.dumps(row) + "\n" for row in texts).encode()
    yield "docs.json", json.dumps(texts).encode()
    file = io.StringIO()
    csv.writer(file).writerows([("id", "text"), *((row["id"], row["text"]) for row in texts)])
    yield "docs.csv", file.getvalue().encode()
    yield "docs.txt", "\n\n".join(row["text"] for row in texts).encode()
    yield "docs.html", ("<html><body>" + "".join(f"<p>{row['text']}</p>" for row in texts) + "</body></html>").encode()
    yield from _packed(texts)
    yield "sharegpt.jsonl", b'{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}\n' * 5
    yield "alpaca.jsonl", b'{"instruction": "a", "input": "b", "output": "c", "history": [["d", "e"]]}\n' * 5
    yield "pairs.jsonl", b'{"prompt": "a", "completion": "b"}\n' * 5
    call = {"function": {"name": "f", "arguments": '{"a": 1}'}}
    turns = [
        {"role": "system", "content": "s"}, {"role": "user", "content": [{"type": "text", "text": "u"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]}, {"role": "tool", "content": "t"},
        {"role": "assistant", "content": "b", "reasoning_content": "r"},
    ]  # fmt: skip
    row = {"messages": turns, "tools": [{"type": "function", "function": {"name": "f"}}], "documents": []}
    yield "tools.jsonl", (json.dumps(row) + "\n").encode() * 3
    yield (
        "chat.jinja",
        (
            b"{% for m in messages %}<|{{ m['role'] }}|>{{ m.content | trim }}{% generation %}{{ eos_token }}"
            b"{% endgeneration %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
        ),
    )
    yield (
        "options.toml",
        b'vocab-size = 300\nalgorithm = "bpe"\nspecial = ["<a>", "<b>"]\nmin-frequency = 2\nquiet = true\n',
    )
    yield (
        "train.toml",
        b'model = "in/config.json"\nsteps = 4\nlr = 1e-3\nlength = 16\nbatch = 64\nvalid = ["in/ids.bin"]\n',
    )
    yield "keep.txt", b"o\nu\nt\n"
    yield "bases.json", b"[10000.0, 500000]"
    yield "map.npy", _npy(list(range(300)))
    yield "foreign.npy", _npy([1, 2, 3, 200])
    yield "encoder/modules.json", json.dumps(
        [{"idx": n, "name": str(n), "path": p, "type": f"sentence_transformers.models.{k}"}
         for n, (p, k) in enumerate((("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")))]
    ).encode()  # fmt: skip
    yield "encoder/1_Pooling/config.json", b'{"word_embedding_dimension": 8, "pooling_mode_mean_tokens": true}'
    yield "encoder/config_sentence_transformers.json", b'{"prompts": {"document": "d: "}, "default_prompt_name": null}'
    yield "rows.jsonl", b'{"op": "swiglu", "seconds": 0.1}\n' * 3
    yield "baseline.json", json.dumps(BASELINE).encode()
    left = ".text.txt.abcdefgh.partial"
    yield left, b"new"
    facts = {"schema": "llmtool.commit/1", "files": [[left, "text.txt"]], "work": left, "old": ".text.txt.abcdefgh.old"}
    yield ".text.txt.llmtool-commit", json.dumps(facts).encode()


def _npy(ids: list[int]) -> bytes:
    import numpy as np

    file = io.BytesIO()
    np.save(file, np.array(ids, np.int64))
    return file.getvalue()


def _events(rows: list[dict[str, Any]]) -> bytes:
    """As TensorBoard's writer makes them."""
    import numpy as np

    from llmtool.methods.temporal_scaling.logs.tensorboard import masked_checksums

    def field(number: int, content: bytes) -> bytes:
        return bytes([number << 3 | 2, len(content)]) + content

    def event(step: int, payload: bytes) -> bytes:
        held = b"\x09" + struct.pack("<d", 1e9 + step) + (b"\x10" + _varint(step) if step else b"") + payload
        length = struct.pack("<Q", len(held))
        sums = [
            masked_checksums(np.frombuffer(part, np.uint8)[None]).astype("<u4").tobytes() for part in (length, held)
        ]
        return length + sums[0] + held + sums[1]

    def scalars(row: dict[str, Any]) -> bytes:
        values = [field(1, field(1, tag.encode()) + b"\x15" + struct.pack("<f", row[key]))
                  for tag, key in (("train/loss", "loss"), ("train/lr", "lr"))]  # fmt: skip
        return field(5, b"".join(values))

    return event(0, field(3, b"brain.Event:2")) + b"".join(event(row["step"], scalars(row)) for row in rows)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _packed(texts: list[dict[str, Any]]) -> Iterator[tuple[str, bytes]]:
    import tarfile

    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist(texts)
    file = io.BytesIO()
    pq.write_table(table, file)
    yield "docs.parquet", file.getvalue()
    file = io.BytesIO()
    with pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    yield "docs.arrow", file.getvalue()
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for row in texts[:8]:
            for suffix, data in (("txt", row["text"].encode()), ("json", json.dumps(row["meta"]).encode())):
                about = tarfile.TarInfo(f"{row['id']}.{suffix}")
                about.size = len(data)
                tar.addfile(about, io.BytesIO(data))
    yield "docs.tar", file.getvalue()


CHUNKS = str(Path("in", "long", "work", "chunks"))
"""A stage of `data nextlong`."""
OPTIONAL = (
    "tokenizer_config.json", "special_tokens_map.json", "generation_config.json", "metrics.jsonl", "journal",
    "pooling of an encoder", "prompts of an encoder", "rows of a measurement", "state.json",
)  # fmt: skip
"""Files that need not be there; what stands in their place and is none is left alone."""
READERS = (
    Reader("tokenizer of ours", "in/tok.json", "json", tokenizer),
    Reader("tokenizer.json", "in/hf/tokenizer.json", "json", tokenizer),
    Reader("tokenizer_config.json", "in/hf/tokenizer_config.json", "json", settings_of_tokenizer),
    Reader("special_tokens_map.json", "in/hf/special_tokens_map.json", "json", settings_of_tokenizer),
    Reader("config.json", "in/ckpt/config.json", "json", inspected),
    Reader("config.json, loaded", "in/ckpt/config.json", "json", loaded, cost=2),
    Reader("config.json, copied", "in/ckpt/config.json", "json", copied, cost=4),
    Reader("config.json of dsmoe", "in/sparse/config.json", "json", inspected),
    Reader("config.json of dsmoe, loaded", "in/sparse/config.json", "json", loaded, cost=2),
    Reader("config.json of uniattn", "in/shared/config.json", "json", inspected),
    Reader("config.json of lora", "in/adapted/config.json", "json", inspected),
    Reader("generation_config.json", "in/adapted/generation_config.json", "json", loaded, cost=2),
    Reader("safetensors", "in/ckpt/model.safetensors", "safetensors", tensors),
    Reader("safetensors index", "in/sharded/model.safetensors.index.json", "json", tensors),
    Reader("tokens' sidecar, mapped", "in/ids.bin.json", "json", mapped_tokens),
    Reader("tokens' sidecar, decoded", "in/ids.bin.json", "json", decoded_tokens),
    Reader("offsets, mapped", "in/ids.bin.offsets.npy", "npy", mapped_tokens),
    Reader("offsets, decoded", "in/ids.bin.offsets.npy", "npy", decoded_tokens),
    Reader("offsets of npy", "in/ids.npy.offsets.npy", "npy", mapped_tokens),
    Reader("ids.npy of others", "in/foreign.npy", "npy", mapped_tokens),
    Reader("ids in lines", "in/ids.txt", "text", decoded_tokens),
    Reader("ids in jsonl", "in/ids.jsonl", "jsonl", decoded_tokens),
    Reader("map of ids", "in/map.npy", "npy", id_map),
    Reader("fit", "in/fit.json", "json", prediction),
    Reader("fit, elsewhere", "in/fit.json", "json", prediction_elsewhere),
    Reader("fit over positions", "in/temporal.json", "json", prediction),
    Reader("law over sizes", "in/sizes.json", "json", prediction_of_size),
    Reader("state.json", "in/run/checkpoints/00000002/state.json", "sealed", resumed, "in/run", 40),
    Reader("metrics.jsonl", "in/run/metrics.jsonl", "jsonl", resumed, "in/run", 40),
    Reader("train.json", "in/run/train.json", "json", resumed, "in/run", 40),
    Reader("run.json of training", "in/finished/run.json", "json", resumed, "in/finished", 40),
    Reader("run.json of a file", "in/tok.json.run.json", "json", claimed),
    Reader("run.json of a directory", "in/sharded/run.json", "json", claimed_directory),
    Reader("journal", "in/.text.txt.llmtool-commit", "json", journal, "in"),
    Reader("samples", "in/long/samples-00000.jsonl", "jsonl", samples, cost=4),
    Reader("done.json of nextlong", "in/long/done.json", "json", samples, cost=4),
    Reader("settings.json of a stage", f"{CHUNKS}/settings.json", "json", stages, "in/long", 8),
    Reader("marker of a unit", f"{CHUNKS}/00000.done", "json", stages, "in/long", 8),
    Reader("totals of a stage", f"{CHUNKS}/done.json", "json", samples, cost=4),
    Reader("array of a stage", f"{CHUNKS}/00000.bounds.npy", "npy", chunks),
    Reader("documents of a stage", f"{CHUNKS}/00000.docs.jsonl", "jsonl", chunks),
    Reader("table of a stage", f"{CHUNKS}/00000.docs.npy", "npy", chunks),
    Reader("options in TOML", "in/options.toml", "text", config, cost=4),
    Reader("options of train in TOML", "in/train.toml", "text", config_of_training, cost=8),
    Reader("chat template", "in/chat.jinja", "template", template, cost=40),
    Reader("conversations", "in/chat.jsonl", "jsonl", conversations),
    Reader("conversations with tools", "in/tools.jsonl", "jsonl", conversations),
    Reader("conversations of ShareGPT", "in/sharegpt.jsonl", "jsonl", conversations),
    Reader("instructions of Alpaca", "in/alpaca.jsonl", "jsonl", conversations),
    Reader("prompts and completions", "in/pairs.jsonl", "jsonl", conversations),
    Reader("conversations, checked", "in/chat.jsonl", "jsonl", checked, cost=40),
    Reader("log of ours", "in/run/metrics.jsonl", "jsonl", log),
    Reader("log in jsonl", "in/log.jsonl", "jsonl", log),
    Reader("trainer_state.json", "in/trainer_state.json", "json", log),
    Reader("log in CSV", "in/log.csv", "text", log),
    Reader("log in TSV", "in/log.tsv", "text", log),
    Reader("log in Markdown", "in/log.md", "text", log),
    Reader("log as printed", "in/log.txt", "text", log),
    Reader("log of TensorBoard", "in/events.out.tfevents.1", "events", log),
    Reader("log in gzip", "in/log.jsonl", "gzip", log),
    Reader("log, fitted", "in/log.csv", "text", fitted, cost=40),
    Reader("losses by position", "in/positions.jsonl", "jsonl", by_positions, cost=20),
    Reader("table of sizes", "in/runs.csv", "text", by_sizes, cost=20),
    Reader("table of batches", "in/batches.csv", "text", by_batches, cost=4),
    Reader("text", "in/docs.txt", "text", corpus),
    Reader("HTML", "in/docs.html", "text", corpus),
    Reader("JSONL", "in/docs.jsonl", "jsonl", corpus),
    Reader("JSON", "in/docs.json", "json", corpus),
    Reader("CSV", "in/docs.csv", "text", corpus),
    Reader("Parquet", "in/docs.parquet", "bytes", corpus),
    Reader("Arrow", "in/docs.arrow", "bytes", corpus),
    Reader("tar", "in/docs.tar", "bytes", corpus),
    Reader("gzip", "in/docs.jsonl", "gzip", corpus),
    Reader("Zstandard", "in/docs.jsonl", "zstd", corpus),
    Reader("GGUF", "in/model.gguf", "bytes", gguf),
    Reader("GGUF, converted", "in/model.gguf", "bytes", gguf_converted, cost=8),
    Reader("plan of uniattn", "in/plan.json", "json", plan),
    Reader("table of experts", "in/table.safetensors", "safetensors", table_of_experts),
    Reader("bases of harpe", "in/bases.json", "json", bases),
    Reader("modules of an encoder", "in/encoder/modules.json", "json", modules),
    Reader("pooling of an encoder", "in/encoder/1_Pooling/config.json", "json", modules),
    Reader("prompts of an encoder", "in/encoder/config_sentence_transformers.json", "json", modules),
    Reader("tokens to keep", "in/keep.txt", "text", kept_tokens, cost=8),
    Reader("rows of a measurement", "in/rows.jsonl", "jsonl", bench_rows),
    Reader("baseline of a measurement", "in/baseline.json", "json", baseline),
)  # fmt: skip
