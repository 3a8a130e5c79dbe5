"""What the commands of a trial read: text, a model's config, conversations, logs, documents, a GGUF file."""

import importlib.util
import json
import random
from pathlib import Path

from tests.faults.commands import CONFIG


def write_inputs(place: Path) -> None:
    """Text, a model's config, conversations, a log of losses, documents."""
    words = ["old", "output", "or", "new", "one", "stands", "whole", "rerun", "gives", "same", "bytes", "again"]
    rng = random.Random(0)
    lines = [" ".join(rng.choice(words) for _ in range(12)) for _ in range(200)]
    (place / "text.txt").write_text("\n".join(lines))
    (place / "config.json").write_text(json.dumps(CONFIG))
    chats = [
        {"messages": [{"role": "user", "content": a[:20]}, {"role": "assistant", "content": b[:20]}]}
        for a, b in zip(lines[::2], lines[1::2], strict=True)
    ]
    (place / "chat.jsonl").write_text("".join(json.dumps(chat) + "\n" for chat in chats[:40]))
    rows = [{"step": s, "loss": 2 + 8 * s**-0.4, "lr": 1e-3 * (1 - s / 4200)} for s in range(20, 4001, 20)]
    (place / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    losses = {s: [3 + 2 / (i + 1) + 8 * s**-0.4 for i in range(8)] for s in range(100, 4001, 100)}
    at = "".join(json.dumps({"step": s, "lr": 1e-3, "pos_val": row}) + "\n" for s, row in losses.items())
    (place / "positions.jsonl").write_text(at)
    sizes = [(n, d, 1.7 + 400 * n**-0.34 + 410 * d**-0.28) for n in (1e7, 4e7, 2e8) for d in (1e9, 5e9, 2e10, 1e11)]
    runs = "".join(f"{n:.0f},{d:.0f},{loss}\n" for n, d, loss in sizes)
    (place / "runs.csv").write_text("params,tokens,loss\n" + runs)
    texts = ["\n\n".join(rng.choice(lines) for _ in range(5)) for _ in range(60)]
    (place / "corpus.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


def write_gguf(path: Path) -> None:
    """A model of one layer as other programs write it; nothing without the package."""
    if importlib.util.find_spec("gguf") is None:
        return
    import gguf
    import numpy as np

    rng, size, inner = np.random.default_rng(0), 16, 32
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(32)
    writer.add_embedding_length(size)
    writer.add_block_count(1)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(["<s>", *(chr(33 + n) for n in range(90)), "th"])
    writer.add_token_types([3, *[1] * 91])
    writer.add_token_merges(["t h"])
    shapes = {"token_embd": (92, size), "output_norm": (size,), "blk.0.attn_norm": (size,), "blk.0.ffn_norm": (size,)}
    shapes |= {f"blk.0.attn_{part}": (size, size) for part in ("q", "k", "v", "output")}
    shapes |= {"blk.0.ffn_gate": (inner, size), "blk.0.ffn_up": (inner, size), "blk.0.ffn_down": (size, inner)}
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", rng.normal(0, 0.02, shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
