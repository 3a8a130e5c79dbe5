"""`llmtool posttrain` and `llmtool data check`, callable from Python with the commands' names and types.

    from llmtool import posttrain
    posttrain.sft("CKPT", ["chat.jsonl"], "OUT", lr=1e-5)

settings  the options: names, types, defaults, help, bounds
data      instruction data, a chat template and a tokenizer -> examples
check     what of the data would be trained
start     the checkpoint that training starts from, with adapters beside its matrices where LoRA is asked for
sft       standard supervised fine-tuning, and UniAttn's two stages
"""
