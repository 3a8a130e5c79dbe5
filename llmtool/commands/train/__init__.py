"""`llmtool train`, callable from Python with the command's names and types.

    from llmtool import train
    report = train(["corpus.bin"], "out", model="3M", tokens="6M", valid=["held_out.jsonl"], tokenizer="bpe.json")

settings  the options: names, types, defaults, help, bounds
command   what they mean: a model, data, a plan
texts     text, tokenised once into the run's directory
start     the model that training starts from: a size, a config, a checkpoint
job       a run in a directory: resumed, watched, finished. Post-training starts from here with data of its own
"""
