"""A checkpoint: a directory with config.json and safetensors, single or sharded.

    checkpoint = open_checkpoint("Llama-3.2-1B")       # headers only, torch is not imported
    checkpoint.names(), checkpoint.shape(name), checkpoint.dtype(name)
    checkpoint.read("model.norm.weight")                # torch.Tensor, finite, in memory of its own
    for name, tensor in checkpoint.tensors(): ...       # one tensor in memory at a time

Pickles (.bin, .pt) run code when they are read: refused by name.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtool.core.checkpoint.dtypes import torch_dtype
from llmtool.core.checkpoint.layout import EMBEDDING, HEAD, named_apart, stacks_of, tied_by_head
from llmtool.core.checkpoint.override import overridden
from llmtool.core.checkpoint.safetensors_file import SafetensorsFile, TensorEntry
from llmtool.core.checkpoint.wrapper import text_config, text_entries, with_ties
from llmtool.core.run.errors import UserError, closest
from llmtool.core.run.journal import recover
from llmtool.core.run.json_file import read_json_object

if TYPE_CHECKING:
    import torch

CONFIG = "config.json"
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
ADAPTER, BEGUN = "adapter_config.json", "train.json"
"""What stands in a directory that is no checkpoint: of an adapter of PEFT; of a run of training, from its beginning."""
ADAPTED = "adapter_model*"
"""An adapter's weights; its config alone changes nothing."""
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "encoder.json",
    "vocab.bpe",
    "chat_template.*",
    "additional_chat_templates/*.jinja",
    "tokenization_*.py",
    "llmtool.json",
)
CARRIED = (
    *TOKENIZER,
    "generation_config.json",
    "LICENSE*",
    "NOTICE*",
    "USE_POLICY*",
)
"""Files that belong to the model whatever becomes of its weights: tokenizer, generation defaults, licence."""

RECOMPUTED = ".rotary_emb.inv_freq"
"""Suffix of buffers in old Llama checkpoints that follow from the config; transformers ignores them too."""


class CheckpointReader:
    """Tensors of one checkpoint by name; `config` is the raw object of config.json.

    `left_out`: number of rotary_emb.inv_freq buffers in the files, which follow from the config and are not shown.
    `wrapper`: model_type of what the model is a part of, "" where it stands alone; see wrapper.py.
    """

    def __init__(
        self, path: Path, config: dict[str, Any], files: Mapping[str, SafetensorsFile], wrapper: str = ""
    ) -> None:
        self.path = path
        if wrapper:
            for file in files.values():
                file.entries = text_entries(file.entries)
            config = with_ties(config, (name for file in files.values() for name in file.entries))
        self.config, self.wrapper = config, wrapper
        for file in files.values():
            file.entries = named_apart(file.entries, config)
        everything = {name: file for file in files.values() for name in file.entries}
        if tied_by_head(everything, config):
            everything[EMBEDDING] = everything.pop(HEAD)
            entries = everything[EMBEDDING].entries
            entries[EMBEDDING] = replace(entries.pop(HEAD), name=EMBEDDING)
        self._file_of = {name: file for name, file in everything.items() if not name.endswith(RECOMPUTED)}
        self.left_out = len(everything) - len(self._file_of)
        self._members = stacks_of(self._file_of, config)
        for ours, members in self._members.items():
            files_of_members = [self._file_of.pop(name) for name in members]
            self._file_of[ours] = files_of_members[0]
        self._stored = everything
        self.files = tuple(file.path for file in files.values())

    def names(self) -> list[str]:
        """Every tensor's name, in the order of the files and of the data in them."""
        return list(self._file_of)

    def __contains__(self, name: str) -> bool:
        return name in self._file_of

    def entry(self, name: str) -> TensorEntry:
        """What the header says of a tensor."""
        file = self.file_of(name)
        if name not in self._members:
            return file.entries[name]
        held = [self._stored[member].entries[member] for member in self._members[name]]
        if len({(entry.shape, entry.kind) for entry in held}) > 1:
            raise UserError(f"{name}: the experts are of unequal shapes or types", where=str(self.path))
        shape, size = held[0].shape, sum(entry.size for entry in held)
        return replace(held[0], name=name, shape=shape if len(held) == 1 and name.endswith("weight") else
                       (len(held), *shape), start=0, stop=size)  # fmt: skip

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor."""
        return self.entry(name).shape

    def dtype(self, name: str) -> str:
        """Element type of a tensor as safetensors writes it: "BF16"."""
        return self.entry(name).kind.code

    def file_of(self, name: str) -> SafetensorsFile:
        """The file that holds a tensor."""
        if name not in self._file_of:
            raise UserError(f"holds no tensor {name!r}", where=str(self.path), hint=closest(name, self.names()))
        return self._file_of[name]

    def read(self, name: str, *, check: bool = True, rows: range | None = None) -> "torch.Tensor":
        """The tensor, on the CPU, in memory of its own; with `check`, NaN and infinity are refused.

        rows: only these of its first dimension, and nothing else is read.
        """
        file = self.file_of(name)
        if name in self._members:
            tensor = self._read_members(name, rows)
        else:
            tensor = file.read(name, rows)
        if check:
            from llmtool.core.checkpoint.dtypes import refuse_not_finite

            refuse_not_finite(tensor, f"{file.path}: {name}")
        return tensor

    def _read_members(self, name: str, rows: range | None = None) -> "torch.Tensor":
        """A tensor that the files hold in pieces: experts one by one, put into one stack."""
        import torch

        members, shape = self._members[name], self.entry(name).shape
        if len(members) == 1 and self._stored[members[0]].entries[members[0]].shape == shape:
            return self._stored[members[0]].read(members[0], rows)
        wanted = members if rows is None else members[rows.start : rows.stop]
        kind = torch_dtype(self.entry(name).kind)
        stack = torch.empty((len(wanted), *shape[1:]), dtype=kind)
        for number, member in enumerate(wanted):
            stack[number] = self._stored[member].read(member)
        return stack

    def tensors(self, names: Iterable[str] | None = None) -> Iterator[tuple[str, "torch.Tensor"]]:
        """(name, tensor) one after the other: a consumer that keeps none has one in memory at a time."""
        for name in self.names() if names is None else names:
            yield name, self.read(name)

    def fingerprint(self) -> dict[str, Any]:
        """The checkpoint as run.json lists an input: the hash is over the hashes of config.json and the weights."""
        files = [self.path / CONFIG, *self.files]
        listing = ""
        for path in files:
            with path.open("rb") as file:
                listing += f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path.name}\n"
        size = sum(path.stat().st_size for path in files)
        digest = hashlib.sha256(listing.encode()).hexdigest()
        return {"path": str(self.path), "files": len(files), "bytes": size, "sha256": digest}

    @cached_property
    def carried_files(self) -> list[Path]:
        """Tokenizer, generation defaults and licence, relative to the checkpoint."""
        found = {file for pattern in CARRIED for file in self.path.glob(pattern) if file.is_file()}
        return sorted(file.relative_to(self.path) for file in found)


def open_checkpoint(path: str | Path, override: Iterable[str] = ()) -> CheckpointReader:
    """Read config.json and every header; whatever is missing, broken or contradictory is one line.

    override: fields of config.json that are given anew, KEY=VALUE each.
    """
    path = Path(path)
    recover(path)
    if not path.is_dir():
        what = "is a file" if path.exists() else "no such directory"
        raise UserError(f"{what}: a checkpoint is a directory", where=str(path), hint=f"with {CONFIG} and {SINGLE}")
    _refuse_others(path)
    raw = read_json_object(path / CONFIG)
    text = text_config(raw)
    config, wrapper = overridden(text or raw, override, str(path / CONFIG)), str(raw["model_type"]) if text else ""
    single, index = path / SINGLE, path / INDEX
    if single.exists() and index.exists():
        raise UserError(f"holds both {SINGLE} and {INDEX}", where=str(path), hint="remove the one that is out of date")
    if single.exists():
        return CheckpointReader(path, config, {SINGLE: SafetensorsFile(single)}, wrapper)
    if index.exists():
        return CheckpointReader(path, config, _read_shards(path, index), wrapper)
    raise _no_weights(path)


def _refuse_others(path: Path) -> None:
    """Name a directory that is something else, and looks to people like a checkpoint."""
    if any((path / name).exists() for name in (SINGLE, INDEX)):
        if (path / ADAPTER).is_file() and (adapters := sorted(path.glob(ADAPTED))):
            # transformers applies it unasked, and so gives other numbers than the weights alone.
            what = f"holds a whole model and an adapter of PEFT beside it ({adapters[0].name}): which is meant?"
            hint = f"merge it with PEFT (merge_and_unload()), or move {ADAPTER} away for the model without it"
            raise UserError(what, where=str(path), hint=hint)
        return
    if (path / ADAPTER).is_file() and not (path / CONFIG).exists():
        base = read_json_object(path / ADAPTER).get("base_model_name_or_path")
        what = f"is an adapter of PEFT for {base if isinstance(base, str) and base else 'another model'}, and no model"
        raise UserError(what, where=str(path), hint="merge it into that model with PEFT first: merge_and_unload()")
    if (path / BEGUN).is_file():
        command = read_json_object(path / BEGUN).get("command")
        what = f"is a run of `llmtool {command if isinstance(command, str) else 'train'}` that has not ended"
        raise UserError(what, where=str(path), hint="the same command goes on, and writes the model at its end")


def _no_weights(path: Path) -> UserError:
    names = sorted(file.name for file in path.iterdir())
    pickles = [name for name in names if name.endswith(PICKLES)]
    if pickles:
        what = f"{pickles[0]} is a pickle, which runs code when it is read: refused"
        return UserError(what, where=str(path), hint="ask for safetensors, or convert it where its author is trusted")
    shards = [name for name in names if name.endswith(".safetensors")]
    if shards:
        return UserError(f"{shards[0]} without {INDEX}", where=str(path), hint="is the download complete?")
    return UserError(f"holds neither {SINGLE} nor {INDEX}", where=str(path))


def _read_shards(path: Path, index: Path) -> dict[str, SafetensorsFile]:
    """Shards by name; the index and the headers must name the same tensors."""
    where = str(index)
    weight_map = read_json_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise UserError("weight_map is not an object of tensor names and files", where=where)
    tensors_of: dict[str, set[str]] = {}
    for name, shard in weight_map.items():
        if not isinstance(shard, str) or Path(shard).name != shard or not shard.endswith(".safetensors"):
            raise UserError(f"{name} is said to be in {shard!r}: not the name of a safetensors file", where=where)
        tensors_of.setdefault(shard, set()).add(name)
    files = {}
    for shard in sorted(tensors_of):
        names = tensors_of[shard]
        if not (path / shard).exists():
            hint = "is the download complete?"
            raise UserError(f"shard {shard} is missing, wanted for {min(names)}", where=where, hint=hint)
        files[shard] = SafetensorsFile(path / shard)
        held = files[shard].entries.keys()
        if missing := names - held:
            raise UserError(f"{min(missing)} is not in {shard}", where=where)
        if unnamed := held - names:
            raise UserError(f"{shard} holds {min(unnamed)}, which the index does not place there", where=where)
    return files


def check_tensors(
    checkpoint: CheckpointReader, expected: Mapping[str, tuple[int, ...]], tied: Mapping[str, str] | None = None
) -> None:
    """Refuse a checkpoint whose tensors are not exactly the `expected` names and shapes.

    tied: alias -> tensor that it shares, {"lm_head.weight": "model.embed_tokens.weight"}. An alias need not be in the
    file; one that is there must hold the same numbers, because readers differ in which of the two they believe.
    """
    tied = tied or {}
    for name, shape in expected.items():
        if name not in checkpoint:
            if name in tied:
                continue
            hint = closest(name, checkpoint.names())
            raise UserError(f"tensor {name} is missing, wanted {list(shape)}", where=str(checkpoint.path), hint=hint)
        if checkpoint.shape(name) != shape:
            where = f"{checkpoint.file_of(name).path}: {name}"
            raise UserError(f"shape {list(checkpoint.shape(name))}, wanted {list(shape)}", where=where)
    for name in checkpoint.names():
        if name in tied:
            _refuse_untied(checkpoint, name, tied[name])
        elif name not in expected:
            where = f"{checkpoint.file_of(name).path}: {name}"
            raise UserError("the model that config.json describes has no such tensor", where=where)


def _refuse_untied(checkpoint: CheckpointReader, alias: str, original: str) -> None:
    where = f"{checkpoint.file_of(alias).path}: {alias}"
    if not checkpoint.read(alias, check=False).equal(checkpoint.read(original, check=False)):
        hint = "set tie_word_embeddings to what the model was trained with"
        raise UserError(f"differs from {original}, but config.json ties them", where=where, hint=hint)
