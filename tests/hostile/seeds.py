"""Files that no command of ours writes: logs, corpora and settings of other programs."""

import base64
import csv
import io
import json
import struct
from collections.abc import Iterator
from typing import Any

from tests.hostile.mutations import varint
from tests.methods.temporal_scaling.test_wandb_file import framed, history

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
    bar = "\rEpoch {0}: 5%|# | {1}/20 [00:10<01:00, loss={loss:.4f}, lr={lr:.4f}]"
    bars = "".join(bar.format(number // 20, number % 20 + 1, **row) for number, row in enumerate(rows))
    yield "bars.txt", ("Epoch 1/2\n" + bars).encode()
    yield "columns.json", json.dumps({key: [row[key] for row in rows] for key in rows[0]}).encode()
    long = "".join(f"{key},{row['step']},{row[key]}\n" for row in rows for key in ("loss", "lr"))
    yield "long.csv", ("metric,step,value\n" + long).encode()
    yield (
        "spaces.txt",
        b"# step loss lr\n" + "".join(f"{row['step']} {row['loss']:.4f} {row['lr']:.4f}\n" for row in rows).encode(),
    )
    epochs = "".join(f"{{'loss': {row['loss']:.4f}, 'epoch': {row['step'] / 4e4:.2f}}}\n" for row in rows)
    yield "epochs.txt", epochs.encode()
    anew = "Epoch [{0}/9], Step [{1}/20], Loss: {loss:.4f}\n"
    yield "anew.txt", "".join(anew.format(n // 20 + 1, n % 20 + 1, **row) for n, row in enumerate(rows)).encode()
    ruled = "  E     #    LOSS\n---  ----  ------\n" + "".join(
        f"  0{n:>6}{row['loss']:>8.4f}\n" for n, row in enumerate(rows)
    )
    yield "ruled.txt", ruled.encode()
    sizes = [
        {"run": f"a{n}", "model": {"params": n * 10**8}, "tokens": d * 10**9, "loss": 1.7 + 3 / n + 3 / d}
        for n in (1, 2, 4, 8)
        for d in (1, 3, 9)
    ]
    yield "runs.jsonl", "".join(json.dumps(row) + "\n" for row in sizes).encode()
    yield "events.out.tfevents.1", _events(rows)
    yield "run-1.wandb", framed([history(number, row) for number, row in enumerate(rows)])
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
    yield "runs.parquet", _parquet(sizes)
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
    yield "compiled", _compiled()
    yield "sentencepiece/tokenizer.model", _sentencepiece()
    made = [*(bytes([byte]) for byte in range(256)), b" o", b"ol", b" ol", b"ut"]
    ranks = [(base64.b64encode(token), rank) for rank, token in enumerate(made)]
    yield "cl100k_base.tiktoken", b"".join(b"%s %d\n" % line for line in ranks)
    yield "tekken.json", json.dumps(
        {"config": {"pattern": r"\w+|[^\w\s]|\s+", "num_vocab_tokens": len(made), "default_vocab_size": len(made) + 2,
                    "default_num_special_tokens": 2, "version": "v3"},
         "vocab": [{"rank": rank, "token_bytes": spelt.decode(), "token_str": None} for spelt, rank in ranks]}
    ).encode()  # fmt: skip
    letters = [*map(chr, range(33, 127)), *map(chr, range(161, 256)), "\u0120", "\u010a"]
    tokens = [*letters, "\u0120o", "\u0120ol", "ut", "put", "<|endoftext|>"]
    yield "pair/vocab.json", json.dumps({token: number for number, token in enumerate(tokens)}).encode()
    yield "pair/merges.txt", "#version: 0.2\n\u0120 o\n\u0120o l\nu t\np ut\n".encode()
    yield "pair/added_tokens.json", json.dumps({"<new>": len(tokens)}).encode()
    yield "rows.jsonl", b'{"op": "swiglu", "seconds": 0.1}\n' * 3
    yield "baseline.json", json.dumps(BASELINE).encode()
    left = ".text.txt.abcdefgh.partial"
    yield left, b"new"
    facts = {"schema": "llmtool.commit/1", "files": [[left, "text.txt"]], "work": left, "old": ".text.txt.abcdefgh.old"}
    yield ".text.txt.llmtool-commit", json.dumps(facts).encode()


def _compiled() -> bytes:
    """An entry of the cache of vocabularies."""
    import tempfile
    from pathlib import Path

    from llmtool.core.bpe.compiled import Entry, store_entry
    from llmtool.tokenizer import Tokenizer

    vocabulary = Tokenizer.train_from_documents(["the cat sat on a mat " * 20], 270).definition.vocabulary
    with tempfile.TemporaryDirectory() as folder:
        store_entry(Path(folder) / "kept" / "entry", Entry({}, vocabulary))
        return (Path(folder) / "kept" / "entry").read_bytes()


def _sentencepiece() -> bytes:
    """A tokenizer.model of BPE as sentencepiece writes it: pieces, TrainerSpec, NormalizerSpec."""

    def field(number: int, value: bytes | int | float) -> bytes:
        if isinstance(value, float):
            return bytes([number << 3 | 5]) + struct.pack("<f", value)
        if isinstance(value, int):
            return varint(number << 3) + varint(value)
        return varint(number << 3 | 2) + varint(len(value)) + value

    pieces = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3), ("<user>", 0.0, 4)]
    pieces += [(f"<0x{byte:02X}>", 0.0, 6) for byte in range(256)]
    pieces += [(text, -float(rank), 1) for rank, text in enumerate(("\u2581o", "ld", "\u2581old", "ut", "put"))]
    pieces += [(text, -100.0 - rank, 1) for rank, text in enumerate("\u2581abcdefghijklmnopqrstuvwxyz")]
    body = b"".join(field(1, field(1, t.encode()) + field(2, score) + field(3, kind)) for t, score, kind in pieces)
    training = field(3, 2) + field(35, 1) + field(40, 0) + field(41, 1) + field(42, 2)
    return body + field(2, training) + field(3, field(1, b"identity") + field(3, 1) + field(4, 1) + field(5, 1))


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
        held = b"\x09" + struct.pack("<d", 1e9 + step) + (b"\x10" + varint(step) if step else b"") + payload
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


def _parquet(rows: list[dict[str, Any]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file.getvalue()


def _packed(texts: list[dict[str, Any]]) -> Iterator[tuple[str, bytes]]:
    import tarfile

    import pyarrow as pa

    yield "docs.parquet", _parquet(texts)
    table = pa.Table.from_pylist(texts)
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
