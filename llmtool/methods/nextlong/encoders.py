"""Sentence encoders on disk, as sentence-transformers lays them out: pooling, prompts, length, dense layers, all read.

modules.json names the steps (a transformer, how its tokens are pooled, dense layers, normalisation);
sentence_bert_config.json says the longest input, config_sentence_transformers.json the prompts. A directory without
them is a plain encoder: the mean of its last hidden states. A chunk longer than the model's input is embedded in
windows, each with the prompt, and their vectors are averaged by length, so that no part of it is left out.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from llmtool.core.run.errors import UserError
from llmtool.core.run.extras import require
from llmtool.core.run.files import unreadable
from llmtool.core.run.json_file import read_json, read_json_object
from llmtool.core.run.record import Record
from llmtool.methods.nextlong.words import I64, U64

LENGTH = 512
"""Tokens of a window where neither the model nor its tokenizer says how many it takes."""

BATCH_TOKENS = {"cpu": 1 << 13, "cuda": 1 << 17}
"""Tokens of a batch, padding included."""

POOLINGS = ("cls", "mean", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
ACTIVATIONS = ("Identity", "Tanh", "ReLU", "GELU")


def _steps(path: Path) -> list[tuple[str, Path]]:
    """(kind, directory) of the model's modules in order."""
    listed = path / "modules.json"
    if not listed.exists():
        return [("Transformer", path), ("Pooling", path)]
    rows = read_json(listed)
    if not isinstance(rows, list):
        raise UserError("not a list of modules", where=str(listed))
    steps = []
    for row in rows:
        module = Record(row, str(listed))
        place = module.text("path")
        if Path(place).is_absolute() or ".." in Path(place).parts or "\0" in place:
            raise UserError(f"a module at {place!r}, outside the model's directory", where=str(listed))
        steps.append((module.text("type").rpartition(".")[2], path / place))
    for kind, _ in steps:
        if kind not in ("Transformer", "Pooling", "Dense", "Normalize"):
            raise UserError(f"a module {kind!r} is not supported", where=str(listed),
                            hint="serve the model and name its endpoint: --embedder http://...")  # fmt: skip
    if not steps or steps[0][0] != "Transformer":
        raise UserError("its first module is no transformer", where=str(listed))
    return steps


def _options(path: Path) -> dict[str, Any]:
    try:
        return read_json_object(path) if path.is_file() else {}
    except OSError as error:  # a name too long to be asked for
        raise unreadable(path, error) from None


def _poolings(directory: Path, root: Path) -> tuple[list[str], bool]:
    """How tokens become one vector, and whether the prompt's count too."""
    if directory == root:
        return ["mean"], True
    options = _options(directory / "config.json")
    flags = {
        "pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean", "pooling_mode_max_tokens": "max",
        "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
        "pooling_mode_weightedmean_tokens": "weightedmean", "pooling_mode_lasttoken": "lasttoken",
    }  # fmt: skip
    asked = options.get("pooling_mode")
    modes = [asked] if isinstance(asked, str) else asked or [name for flag, name in flags.items() if options.get(flag)]
    if not isinstance(modes, list) or not modes or any(mode not in POOLINGS for mode in modes):
        raise UserError(f"pooling {modes} is not known", where=str(directory / "config.json"))
    return list(modes), bool(options.get("include_prompt", True))


def prompt_of(path: Path) -> str:
    """What the model wants in front of a document: its own prompt of that name, else its default one, else nothing."""
    options = _options(path / "config_sentence_transformers.json")
    prompts = Record(options.get("prompts") or {}, f"{path / 'config_sentence_transformers.json'}: prompts")
    for name in ("document", "passage", options.get("default_prompt_name")):
        if isinstance(name, str) and prompts.facts.get(name):
            return prompts.text(name)
    return ""


class SentenceEncoder:
    """Texts to vectors: float32 on a CPU (one thread), bfloat16 on a GPU where there is one."""

    def __init__(self, path: Path, prefix: str | None = None) -> None:
        self._torch: Any = require("torch", extra="models", why="for --embedder hf:PATH")
        transformers = require("transformers", extra="hf", why="for --embedder hf:PATH")
        torch = self._torch
        torch.set_num_threads(1)
        steps = _steps(path)
        root = steps[0][1]
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = torch.bfloat16 if self.device == "cuda" else torch.float32
        try:
            self.tokenizer = transformers.AutoTokenizer.from_pretrained(root, local_files_only=True)
            model = transformers.AutoModel.from_pretrained(
                root, local_files_only=True, use_safetensors=True, dtype=dtype
            )
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"not a sentence encoder: {str(error).splitlines()[0]}", where=str(path)) from None
        if not self.tokenizer.is_fast:
            raise UserError("its tokenizer is not a fast one", where=str(path), hint="one with a tokenizer.json")
        self.tokenizer.padding_side = "right"
        self.model = model.eval().to(self.device)
        self.prefix = prompt_of(path) if prefix is None else prefix
        self.length = self._length(_options(root / "sentence_bert_config.json"))
        self.poolings, self._with_prompt = ["mean"], True
        self._heads: list[Any] = []
        for kind, directory in steps[1:]:
            if kind == "Pooling":
                self.poolings, self._with_prompt = _poolings(directory, path)
            elif kind == "Dense":
                self._heads.append(self._dense(directory))
            else:
                self._heads.append(lambda rows: torch.nn.functional.normalize(rows, dim=-1))

    def _length(self, options: dict[str, Any]) -> int:
        """Tokens of an input, special ones included."""
        known = [options.get("max_seq_length"), self.tokenizer.model_max_length]
        config = self.model.config
        if (positions := getattr(config, "max_position_embeddings", None)) is not None:
            behind = (config.pad_token_id or 0) + 1 if config.model_type in ("roberta", "xlm-roberta", "mpnet") else 0
            known.append(positions - behind)  # their positions begin behind the padding's
        sane = [int(number) for number in known if number and 0 < number < 1 << 20]
        return min(sane) if sane else LENGTH

    def _dense(self, directory: Path) -> Any:
        torch = self._torch
        from safetensors.torch import load_file

        options = _options(directory / "config.json")
        name = str(options.get("activation_function", "torch.nn.modules.linear.Identity")).rpartition(".")[2]
        if name not in ACTIVATIONS or not (directory / "model.safetensors").is_file():
            raise UserError(f"a dense layer with {name} is not supported", where=str(directory),
                            hint=f"{', '.join(ACTIVATIONS)}, with model.safetensors")  # fmt: skip
        tensors = {
            key: tensor.float().to(self.device) for key, tensor in load_file(directory / "model.safetensors").items()
        }
        activation = getattr(torch.nn, name)()
        weight, bias = tensors["linear.weight"], tensors.get("linear.bias")
        return lambda rows: activation(torch.nn.functional.linear(rows, weight, bias))

    def windows(self, text: str) -> Iterator[str]:
        """The text in pieces that fit the model with the prompt in front of each."""
        special = self.tokenizer.num_special_tokens_to_add()
        own = len(self.tokenizer(self.prefix, add_special_tokens=False)["input_ids"]) if self.prefix else 0
        room = max(1, self.length - special - own)
        offsets = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        ends = [stop for _, stop in offsets["offset_mapping"]]
        start = 0
        for place in range(room - 1, len(ends) - 1, room):
            if ends[place] > start:
                yield text[start : ends[place]]
                start = ends[place]
        yield text[start:]

    def __call__(self, texts: list[bytes], _hashes: U64, _ends: I64) -> npt.NDArray[Any]:
        """See embedding.Embedder."""
        pieces = [(n, piece) for n, text in enumerate(texts) for piece in self.windows(text.decode("utf-8", "replace"))]
        rows = self.encode([piece for _, piece in pieces])
        out = np.zeros((len(texts), rows.shape[1]), np.float32)
        weights = np.array([len(piece) for _, piece in pieces], np.float32)
        np.add.at(out, [n for n, _ in pieces], rows * weights[:, None])
        return out

    def encode(self, pieces: list[str]) -> npt.NDArray[np.float32]:
        """Vectors of texts that fit the model; of unit length where the model's own have it."""
        torch = self._torch
        order = sorted(range(len(pieces)), key=lambda n: len(pieces[n]))
        found: list[Any] = [None] * len(pieces)
        size = max(1, BATCH_TOKENS[self.device] // self.length)
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            batch = self.tokenizer(
                [self.prefix + pieces[n] for n in chosen], padding=True, truncation=True, max_length=self.length,
                return_tensors="pt",
            ).to(self.device)  # fmt: skip
            with torch.inference_mode():
                hidden = self.model(**batch).last_hidden_state.float()
                rows = self._pool(hidden, batch["attention_mask"])
                for head in self._heads:
                    rows = head(rows)
            for n, row in zip(chosen, rows.cpu().numpy(), strict=True):
                found[n] = row
        return np.asarray(found, np.float32)

    def _pool(self, hidden: Any, mask: Any) -> Any:
        """[B, T, d], [B, T] -> [B, d times poolings]."""
        torch = self._torch
        full = mask
        if self.prefix and not self._with_prompt:
            own = len(self.tokenizer(self.prefix, add_special_tokens=False)["input_ids"])
            special = self.tokenizer.num_special_tokens_to_add() > 0
            mask = mask.clone()
            mask[:, : own + special] = 0
        weights = mask.unsqueeze(-1).float()
        count = weights.sum(1).clamp(min=1e-9)
        last = full.sum(1) - 1
        out = []
        for mode in self.poolings:
            if mode == "cls":
                out.append(hidden[:, 0])
            elif mode == "lasttoken":
                out.append(hidden[torch.arange(len(hidden), device=hidden.device), last])
            elif mode == "max":
                out.append(hidden.masked_fill(weights == 0, -1e9).max(1).values)
            elif mode == "weightedmean":
                by_place = weights * torch.arange(1, hidden.shape[1] + 1, device=hidden.device)[None, :, None]
                out.append((hidden * by_place).sum(1) / by_place.sum(1).clamp(min=1e-9))
            else:
                total = (hidden * weights).sum(1)
                out.append(total / (count.sqrt() if mode == "mean_sqrt_len_tokens" else count))
        return torch.cat(out, 1)
