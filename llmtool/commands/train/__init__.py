"""`llmtool train`, callable from Python with the command's names and types.

    from llmtool.commands.train import train
    report = train(["corpus.bin"], "out", model="3M", tokens="6M", valid=["held_out.jsonl"], tokenizer="bpe.json")

command   what the options mean: a model, data, a plan
start     the model that training starts from: a size, a config, a checkpoint
sources   data and held-out text
job       a run in a directory: resumed, watched, finished. Post-training starts from here with data of its own
"""

from llmtool.commands.train.command import train
from llmtool.commands.train.job import Job, run_job

__all__ = ["Job", "run_job", "train"]
