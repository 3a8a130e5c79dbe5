"""`llmtool posttrain` and `llmtool data check`, callable from Python with the commands' names and types.

    from llmtool.commands import posttrain
    posttraining.sft("CKPT", ["chat.jsonl"], "OUT", options=posttraining.Options(lr=1e-5))

data     instruction data, a chat template and a tokenizer -> examples
check    what of the data would be trained
sft      standard supervised fine-tuning, and UniAttn's two stages
"""

from llmtool.commands.posttrain import check
from llmtool.commands.posttrain.data import DataOptions
from llmtool.commands.posttrain.sft import Options, sft, uniattn
from llmtool.commands.posttrain.start import LoraOptions, lora_options

__all__ = ["DataOptions", "LoraOptions", "Options", "check", "lora_options", "sft", "uniattn"]
