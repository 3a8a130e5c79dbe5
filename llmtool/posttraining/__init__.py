"""`llmtool posttrain` and `llmtool data check`, callable from Python with the commands' names and types.

data     instruction data, a chat template and a tokenizer -> examples
check    what of the data would be trained
sft      standard supervised fine-tuning, and UniAttn's two stages
"""
