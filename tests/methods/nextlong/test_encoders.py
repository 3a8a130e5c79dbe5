"""Sentence encoders on disk by their own settings; an embedding server in OpenAI's form."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmtool.commands import data
from llmtool.core.run.errors import UserError
from llmtool.methods.nextlong import endpoint
from llmtool.methods.nextlong.endpoint import Endpoint
from llmtool.methods.nextlong.words import word_hashes
from tests.methods.nextlong.corpora import corpus

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz:", *(f"##{c}" for c in "aeiou")]
NONE = word_hashes([b""])


def encoder(path: Path, pooling: dict[str, Any] | None, **more: Any) -> Path:
    """A small BERT as sentence-transformers lays it out; without `pooling` a plain directory."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    from safetensors.torch import save_file

    path.mkdir()
    (path / "vocab.txt").write_text("\n".join(WORDS))
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64,
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(path)
    transformers.BertTokenizerFast(str(path / "vocab.txt")).save_pretrained(path)
    if pooling is None:
        return path
    kinds = ["Transformer", "Pooling", *(["Dense"] if "dense" in more else []), "Normalize"]
    rows = [
        {"idx": n, "name": str(n), "path": f"{n}_{kind}" if n else "", "type": f"sentence_transformers.models.{kind}"}
        for n, kind in enumerate(kinds)
    ]
    (path / "modules.json").write_text(json.dumps(rows))
    (path / "1_Pooling").mkdir()
    (path / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (path / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": more.get("length", 16)}))
    if "prompts" in more:
        (path / "config_sentence_transformers.json").write_text(json.dumps({"prompts": more["prompts"]}))
    if "dense" in more:
        (path / "2_Dense").mkdir()
        options = {"in_features": 32, "out_features": 8, "activation_function": "torch.nn.modules.activation.Tanh"}
        (path / "2_Dense" / "config.json").write_text(json.dumps(options))
        save_file({"linear.weight": more["dense"]}, path / "2_Dense" / "model.safetensors")
    return path


def states(path: Path, text: str) -> Any:
    """Last hidden states of one text [T, 32]."""
    import torch
    import transformers

    model, tokenizer = (kind.from_pretrained(path) for kind in (transformers.AutoModel, transformers.AutoTokenizer))
    with torch.inference_mode():
        return model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].numpy()


def unit(rows: Any) -> Any:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


@pytest.mark.parametrize("mode", ["cls_token", "mean_tokens", "max_tokens", "lasttoken", "weightedmean_tokens"])
def test_poolings_by_hand(tmp_path: Path, mode: str) -> None:
    path = encoder(tmp_path / "encoder", {f"pooling_mode_{mode}": True})
    from llmtool.methods.nextlong.encoders import SentenceEncoder

    embed = SentenceEncoder(path)
    found = unit(embed([b"a b c", b"d e f g h i j k"], *NONE))  # padded together
    for row, text in zip(found, ("a b c", "d e f g h i j k"), strict=True):
        hidden = states(path, text)
        places = np.arange(1, len(hidden) + 1)[:, None]
        wanted = {
            "cls_token": hidden[0], "mean_tokens": hidden.mean(0), "max_tokens": hidden.max(0), "lasttoken": hidden[-1],
            "weightedmean_tokens": (hidden * places).sum(0) / places.sum(),
        }[mode]  # fmt: skip
        assert np.allclose(row, unit(wanted), atol=1e-5)


def test_windows_prompts_and_dense_layers(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(1)
    dense = torch.randn(8, 32)
    pooling = {"pooling_mode_mean_tokens": True, "include_prompt": False}
    path = encoder(tmp_path / "encoder", pooling, prompts={"query": "q:", "document": "d:"}, dense=dense, length=8)
    from llmtool.methods.nextlong.encoders import SentenceEncoder

    embed = SentenceEncoder(path)
    assert (embed.prefix, embed.length) == ("d:", 8)
    text = "a b c d e f g h i"
    pieces = list(embed.windows(text))
    assert "".join(pieces) == text  # 8 tokens less [CLS], [SEP], d and : are 4 letters
    assert pieces == ["a b c d", " e f g h", " i"]

    def by_hand(piece: str) -> Any:
        hidden = states(path, "d:" + piece)[3:]  # [CLS] d : are left out
        return unit(np.tanh(hidden.mean(0) @ dense.numpy().T))

    wanted = sum(len(piece) * by_hand(piece) for piece in pieces)
    assert np.allclose(unit(embed([text.encode()], *NONE)[0]), unit(wanted), atol=1e-5)
    assert SentenceEncoder(path, "").prefix == ""
    assert embed([b""], *NONE).shape == (1, 8)


def test_a_plain_encoder_and_what_is_none(tmp_path: Path) -> None:
    path = encoder(tmp_path / "plain", None)
    from llmtool.methods.nextlong.encoders import SentenceEncoder

    embed = SentenceEncoder(path)
    assert embed.length == 64
    texts = [b"a b c", b"x", b"a b c d e f " * 300]
    together = unit(embed(texts, *NONE))
    alone = np.concatenate([unit(embed([text], *NONE)) for text in texts])
    assert np.allclose(together, alone, atol=1e-5)  # padding is not looked at
    corpus(tmp_path / "corpus.jsonl", 4)
    data.chunk([str(tmp_path / "corpus.jsonl")], tmp_path / "work", size=512, workers=1)
    with pytest.raises(UserError, match="not a sentence encoder"):
        data.embed(tmp_path / "work", embedder=f"hf:{tmp_path}")
    (path / "modules.json").write_text('[{"idx": 0, "path": "", "type": "sentence_transformers.models.CLIPModel"}]')
    with pytest.raises(UserError, match="'CLIPModel' is not supported"):
        data.embed(tmp_path / "work", embedder=f"hf:{path}", workers=1)


class Server(BaseHTTPRequestHandler):
    """Counts letters; is busy at first, refuses long texts, answers out of order."""

    busy, limit = 0, 400

    def log_message(self, *arguments: Any) -> None:
        pass

    def answer(self, code: int, body: Any) -> None:
        self.send_response(code)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def do_GET(self) -> None:
        self.answer(200, {"data": [{"id": "letters"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if Server.busy:
            Server.busy -= 1
            return self.answer(503, {"error": "loading"})
        if self.path != "/v1/embeddings" or body["model"] != "letters":
            return self.answer(404, {"error": "no such model"})
        if any(len(text) > Server.limit for text in body["input"]):
            return self.answer(413, {"error": "too long"})
        rows = [[float(text.count(letter)) for letter in "abcdefgh"] for text in body["input"]]
        found = [{"index": n, "embedding": row} for n, row in enumerate(rows)]
        return self.answer(200, {"data": found[::-1]})


@pytest.fixture
def server() -> Iterator[str]:
    running = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{running.server_address[1]}/v1"
    running.shutdown()
    running.server_close()
    thread.join()


def test_an_embedding_server(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "WAITS", (0.01, 0.01, 0.01))
    Server.busy = 2
    embed = Endpoint(server, "a")
    assert embed.model == "letters"
    rows = embed([b"abc", b"hhh", b"b " * 500], *NONE)
    assert rows[:2].tolist() == [[2, 1, 1, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0, 3]]
    assert unit(rows[2])[1] > 0.99  # in halves
    corpus(tmp_path / "corpus.jsonl", 6)
    data.chunk([str(tmp_path / "corpus.jsonl")], tmp_path / "work", size=300, workers=1)
    facts = data.embed(tmp_path / "work", embedder=server, workers=1)
    assert facts["chunks"] > 20
    Server.busy = 9
    with pytest.raises(UserError, match="does not answer: HTTP 503"):
        embed([b"a"], *NONE)
    Server.busy = 0
    with pytest.raises(UserError, match="does not answer: HTTP 404"):
        Endpoint(server + "#other")([b"a"], *NONE)
    with pytest.raises(UserError, match="does not answer"):
        Endpoint("http://127.0.0.1:9/v1#m")([b"a"], *NONE)
    with pytest.raises(UserError, match="no host"):
        data.embed(tmp_path / "work", embedder="http://")
    with pytest.raises(UserError, match="lsa has no prompts"):
        data.embed(tmp_path / "work", embedder_prefix="query: ")
