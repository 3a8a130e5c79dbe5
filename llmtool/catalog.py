"""The one table of methods, as data: what each is, where it was published, and where its code stands.

`llmtool methods` prints it; the command line takes its choices from it; `resolve` imports a row's code when used.
"""

import importlib
from collections.abc import Mapping
from dataclasses import field
from typing import Any

from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.errors import UserError, closest

TRAINING = "tokenizer training"
ENCODING = "tokenizer encoding"
SCALING = "scaling law"
DATA = "training data"
ARCHITECTURE = "architecture"
"""A class in the method's part.py; an instance is called as change(parts, settings) -> parts (core.model.decoder)."""
OBJECTIVE = "training objective"
"""A function term(config, settings, options) -> core.train.objective.Term: settings is the method's entry in
config.json, options what `llmtool train --set METHOD.KEY=VALUE` gave, as strings. Looked up with `attribute`."""

BALANCE = {"coefficient": "weight of the penalty on experts that are used unequally"}
SKIP = {"skip": "each token's best experts to leave out, so many"}


@dataclass(frozen=True)
class Method:
    """A row: `option` is the method's name on the command line, `command` what makes or uses it, without the program,
    `target` is "module:attribute".

    settings: what --set takes, key -> one line; an architecture's of any command that loads a checkpoint, an
    objective's of those that train.
    """

    name: str
    kind: str
    option: str
    command: str
    paper: str
    target: str
    summary: str
    settings: Mapping[str, str] = field(default_factory=dict)


METHODS = (
    Method(
        "BPE",
        TRAINING,
        "bpe",
        "tokenizer train",
        "Sennrich et al., ACL 2016, arXiv 1508.07909",
        "llmtool.core.bpe.merge_loop:BPE",
        "merge the most frequent adjacent pair, again and again",
    ),
    Method(
        "Scaffold-BPE",
        TRAINING,
        "scaffold",
        "tokenizer train --algorithm scaffold",
        "Lian et al., AAAI 2025, arXiv 2404.17808",
        "llmtool.methods.scaffold_bpe.training:ScaffoldBPE",
        "tokens that only build longer ones leave the vocabulary, frequent ones take their place",
    ),
    Method(
        "BPE merging",
        ENCODING,
        "merge",
        "tokenizer encode",
        "Sennrich et al., ACL 2016, arXiv 1508.07909",
        "llmtool.core.bpe.encoder:Merge",
        "apply merges in the order in which they were learned",
    ),
    Method(
        "LBPE",
        ENCODING,
        "lbpe",
        "tokenizer encode --encoder lbpe",
        "Lian et al., arXiv 2411.05504",
        "llmtool.methods.lbpe.encoder:LBPE",
        "the longest token first, with any BPE vocabulary",
    ),
    Method(
        "UniAttn",
        ARCHITECTURE,
        "uniattn",
        "convert uniattn",
        "Xiong et al., arXiv 2502.00439",
        "llmtool.methods.uniattn.part:UniAttn",
        "later layers reuse an earlier softmax, keep no keys, and are compensated by a linear map",
    ),
    Method(
        "LoRA",
        ARCHITECTURE,
        "lora",
        "posttrain sft --lora",
        "Hu et al., ICLR 2022, arXiv 2106.09685",
        "llmtool.methods.lora.part:LoRA",
        "train two thin matrices beside a frozen one",
    ),
    Method(
        "HARPE",
        ARCHITECTURE,
        "harpe",
        "convert rope",
        "Lian et al., COLING 2025, arXiv 2412.07171",
        "llmtool.methods.harpe.part:Harpe",
        "a rotary base for each head: a longer context in one stage of training",
    ),
    Method(
        "HARPE ramp",
        OBJECTIVE,
        "harpe",
        "train --set",
        "ours, for Lian et al., COLING 2025",
        "llmtool.methods.harpe.objective:term",
        "the bases reached step by step from the model's own, where asked for",
        {"ramp": "steps until the change holds in full"},
    ),
    Method(
        "Cross-layer attention",
        ARCHITECTURE,
        "cla",
        "convert uniattn --sharing cla",
        "Brandon et al., NeurIPS 2024, arXiv 2405.12981",
        "llmtool.methods.uniattn.baselines.cla_part:CrossLayer",
        "later layers reuse an earlier layer's keys and values (compared with UniAttn)",
    ),
    Method(
        "Temporal Scaling Law",
        SCALING,
        "temporal",
        "scaling fit",
        "Xiong et al., EMNLP 2025, arXiv 2404.17785",
        "llmtool.methods.temporal_scaling.positions:TemporalLaw",
        "the loss at each position, and where a run will end, from its early part",
    ),
    Method(
        "NExtLong",
        DATA,
        "nextlong",
        "data nextlong",
        "Gao et al., ICML 2025, arXiv 2501.12766",
        "llmtool.methods.nextlong.assembly:NExtLong",
        "long samples: a document's chunks, each followed by hard negatives from other documents",
    ),
    Method(
        "Concatenation",
        DATA,
        "concat",
        "data nextlong --method concat",
        "the standard way",
        "llmtool.methods.nextlong.baselines.concat:Concat",
        "documents in random order, cut every T tokens",
    ),
    Method(
        "KNN",
        DATA,
        "knn",
        "data nextlong --method knn",
        "Guu et al., ICML 2020, arXiv 2002.08909; as in Shi et al., ICLR 2024",
        "llmtool.methods.nextlong.baselines.knn:Knn",
        "each document with its most similar ones",
    ),
    Method(
        "ICLM",
        DATA,
        "iclm",
        "data nextlong --method iclm",
        "Shi et al., ICLR 2024, arXiv 2310.10638",
        "llmtool.methods.nextlong.baselines.iclm:Iclm",
        "a path over all documents, always to the nearest one not visited yet",
    ),
    Method(
        "Quest",
        DATA,
        "quest",
        "data nextlong --method quest",
        "Gao et al., ICLR 2025, arXiv 2405.19846",
        "llmtool.methods.nextlong.baselines.quest:Quest",
        "documents that share a keyword",
    ),
    Method(
        "DSMoE",
        ARCHITECTURE,
        "dsmoe",
        "convert dsmoe",
        "Lv et al., EMNLP 2025, arXiv 2502.12455",
        "llmtool.methods.dsmoe.part:DSMoE",
        "feed-forward layers cut into experts that sigmoid gates switch, as many as each token needs",
        {"tau": "gates above it are on", "straight-through": "gradients pass closed gates too, while training"},
    ),
    Method(
        "DSMoE sparsity",
        OBJECTIVE,
        "dsmoe",
        "train --set",
        "Lv et al., EMNLP 2025, arXiv 2502.12455",
        "llmtool.methods.dsmoe.objective:term",
        "a penalty on open gates, with the paper's weight or moved toward a target share",
        {
            "coefficient": "weight of the penalty on open gates",
            "target-share": "share of open gates that the weight is moved toward, or keep",
            "rate": "factor by which it moves in a step",
        },
    ),
    Method(
        "LLaMA-MoE",
        ARCHITECTURE,
        "llama_moe",
        "convert dsmoe-baseline topk",
        "Zhu et al., EMNLP 2024, arXiv 2406.16554",
        "llmtool.methods.dsmoe.baselines.llama_moe:LlamaMoE",
        "the same split with a softmax over the top k experts: a baseline of DSMoE",
    ),
    Method(
        "LLaMA-MoE balance",
        OBJECTIVE,
        "llama_moe",
        "train",
        "Zhu et al., EMNLP 2024, arXiv 2406.16554",
        "llmtool.methods.dsmoe.baselines.balance:term",
        "a penalty on experts that are used unequally",
    ),
    Method(
        "Expert balance",
        OBJECTIVE,
        "experts",
        "train --set",
        "Fedus et al., JMLR 2022, arXiv 2101.03961",
        "llmtool.core.train.balance:term",
        "a penalty on unequal use of the experts of a Mixtral or a Qwen3-MoE",
        BALANCE,
    ),
    Method(
        "CartesianMoE",
        ARCHITECTURE,
        "cartesian_moe",
        "convert cartesian",
        "Su et al., NAACL 2025, arXiv 2410.16077",
        "llmtool.methods.cartesian_moe.part:CartesianMoE",
        "two routed sub-layers in place of one: N x N composite experts that share their halves",
        SKIP,
    ),
    Method(
        "CartesianMoE balance",
        OBJECTIVE,
        "cartesian_moe",
        "train --set",
        "Su et al., NAACL 2025, arXiv 2410.16077",
        "llmtool.methods.cartesian_moe.objective:term",
        "a penalty on experts that are used unequally, in both sub-layers",
        BALANCE,
    ),
    Method(
        "CartesianMoE's rivals",
        ARCHITECTURE,
        "cartesian_rival",
        "train --model",
        "as compared in Su et al., NAACL 2025; the control is ours",
        "llmtool.methods.cartesian_moe.baselines.rivals_part:CartesianRival",
        "one routed sub-layer at equal parameters: share, top3, hash, fine, topp; deep: two with one choice",
        SKIP,
    ),
    Method(
        "Rivals' balance",
        OBJECTIVE,
        "cartesian_rival",
        "train --set",
        "Fedus et al., JMLR 2022, arXiv 2101.03961",
        "llmtool.methods.cartesian_moe.baselines.objective:term",
        "a penalty on experts that are used unequally",
        BALANCE,
    ),
    Method(
        "MaskMoE",
        ARCHITECTURE,
        "mask_moe",
        "convert mask",
        "Su et al., arXiv 2407.09816",
        "llmtool.methods.mask_moe.part:MaskMoE",
        "each token id sees some experts only: rare ones a single one, frequent ones several",
        SKIP,
    ),
    Method(
        "MaskMoE balance",
        OBJECTIVE,
        "mask_moe",
        "train --set",
        "Su et al., arXiv 2407.09816",
        "llmtool.methods.mask_moe.objective:term",
        "a penalty on unequal use, by the tokens that have a choice",
        {**BALANCE, "table": "mask.safetensors to begin with, for new weights"},
    ),
    Method(
        "Finedeep",
        ARCHITECTURE,
        "finedeep",
        "convert finedeep",
        "Pan et al., arXiv 2502.12928",
        "llmtool.methods.finedeep.part:Finedeep",
        "a dense layer as M x K small experts in depth and width, all run, gated by their outputs",
    ),
    Method(
        "Finedeep scores",
        OBJECTIVE,
        "finedeep",
        "train --set",
        "Pan et al., arXiv 2502.12928",
        "llmtool.methods.finedeep.objective:term",
        "no loss: the gates as figures, and the ramp from parallel to sequential",
        {"ramp": "steps until the change holds in full"},
    ),
    Method(
        "2:4 pruning",
        ARCHITECTURE,
        "sparse24",
        "convert dsmoe-baseline 2:4",
        "Sun et al. (Wanda), ICLR 2024, arXiv 2306.11695",
        "llmtool.methods.dsmoe.baselines.sparse24:Sparse24",
        "feed-forward weights with two of four zero, kept so in training: a baseline of DSMoE",
    ),
)


def options(kind: str) -> list[str]:
    """Command-line names of the methods of a kind."""
    return [method.option for method in METHODS if method.kind == kind]


def resolve(kind: str, option: str, where: str | None = None) -> Any:
    """An instance of the method's class."""
    return attribute(kind, option, where)()


def attribute(kind: str, option: str, where: str | None = None) -> Any:
    """What the method's row points to."""
    for method in METHODS:
        if (method.kind, method.option) == (kind, option):
            module, _, name = method.target.partition(":")
            return getattr(importlib.import_module(module), name)
    known = options(kind)
    hint = closest(option, known) or f"one of {', '.join(known)}"
    raise UserError(f"{kind} {option!r} is not known", where=where, hint=hint)
