"""The commands that write, one a line: a new writer joins by adding its own.

Each is tried with every call that changes a file failing, and with the process dying there (harness.py). Paths are
relative to a directory with `in/`, which INPUTS make, and `out/`.
"""

from dataclasses import dataclass

CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 300, "hidden_size": 16,
    "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "num_key_value_heads": 2,
    "max_position_embeddings": 32, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
    "tie_word_embeddings": True,
}  # fmt: skip
"""in/config.json: small, for what is tried is the writing."""
TRAIN = "--batch 64 --length 16 --steps 4 --eval-every 0 --device cpu --kernels torch"
SFT = "--template plain --length 32 --batch 64 --steps 2 --device cpu"

INPUTS = (
    "tokenizer train in/text.txt -o in/tok.json --vocab-size 300 --special <|endoftext|>",
    "tokenizer encode in/tok.json in/text.txt --format bin --eos -o in/ids.bin",
    "tokenizer encode in/tok.json in/text.txt -o in/ids.txt",
    f"train in/ids.bin -o in/ckpt --model in/config.json --tokenizer in/tok.json {TRAIN}",
    "convert dsmoe in/ckpt in/sparse --experts 4",
    "convert uniattn in/ckpt in/shared --followers 1 --init zero",
    f"posttrain sft in/ckpt in/chat.jsonl -o in/adapted --lora 2 {SFT}",
    "data token-experts in/ids.bin -o in/table.safetensors --model in/ckpt --experts 4",
)
"""Made once, in this order; beside the files that harness.write_inputs makes."""
CHUNK = "data chunk in/corpus.jsonl -o out/work --chunk 128 --workers 1"
EMBED = "data embed out/work --workers 1"
INDEX = "data index out/work --workers 1"
MINE = "data mine out/work --tokenizer in/tok.json --target 256 --workers 1"


@dataclass(frozen=True)
class Command:
    """words: as typed; {} is what differs between an old output and the new one: `old`, then `new`."""

    words: str
    new: str = ""
    old: str = ""
    grows: bool = False
    """A directory that a run fills step by step: what stands in between is neither old nor new, but can go on."""
    exchanged: bool = False
    """With `grows`: what is to replace an old one is filled beside it, so that over an old one nothing is between."""
    aside: bool = False
    """With `grows`: the old output is kept in OUT/.before until the new one is whole, if it is not in its place."""
    before: tuple[str, ...] = ()
    """What is done in out/ first, undisturbed."""

    @property
    def name(self) -> str:
        """What the test is called."""
        words = self.words.split()
        return " ".join(words[:2] if words[0] not in ("train",) else words[:1])


COMMANDS = (
    Command("tokenizer train in/text.txt -o out/tok.json --vocab-size {}", "290", "280"),
    Command("tokenizer train in/text.txt -o out/tok.json --vocab-size 290 --curve 280,290 --plot out/curve.png",
            grows=True),  # its figure comes behind it
    Command("tokenizer extend in/tok.json in/text.txt -o out/more --add {}", "9", "5"),
    Command("tokenizer trim in/tok.json in/text.txt -o out/less --to {}", "290", "280"),
    Command("tokenizer encode in/tok.json in/text.txt -o out/ids.txt {}", "--eos"),
    Command("tokenizer encode in/tok.json in/text.txt --format bin -o out/ids.bin {}", "--eos"),
    Command("tokenizer decode in/tok.json in/ids.txt -o out/text {}", "--documents line"),
    Command("tokenizer export in/tok.json out/export --to {}", "hf", "tiktoken"),
    Command("tokenizer compare in/tok.json in/ckpt --corpus in/text.txt --plot out/figure.png {}", "--rare 5"),
    Command("train in/ids.bin in/text.txt -o out/run --model in/config.json --tokenizer in/tok.json --save-every 2 "
            f"{TRAIN} {{}}", "--lr 0.01", "--lr 0.02", grows=True, aside=True),
    Command(f"posttrain sft in/ckpt in/chat.jsonl -o out/run {SFT} {{}}", "--lr 1e-4", "--lr 1e-3", grows=True,
            aside=True),
    Command(f"posttrain uniattn in/shared in/chat.jsonl -o out/run {SFT} {{}}", "--lr 1e-4", "--lr 1e-3", grows=True,
            aside=True),
    Command("tokenizer encode in/tok.json in/text.txt -o out/shards --shards 70K --workers 1 {}", "--eos", grows=True,
            exchanged=True),
    Command("convert copy in/ckpt out/ckpt --dtype {}", "bf16", "fp16"),
    Command("convert dsmoe in/ckpt out/ckpt --experts {}", "4", "2"),
    Command("convert dense in/sparse out/ckpt"),
    Command("convert vocab in/ckpt out/ckpt --tokenizer in/tok.json --multiple {}", "8", "64"),
    Command("convert dsmoe-baseline topk in/ckpt out/ckpt --experts {}", "4", "2"),
    Command("convert uniattn in/ckpt out/ckpt --followers {} --init zero", "1", "2"),
    Command("convert rope in/ckpt out/ckpt --target 64 --method {}", "yarn", "pi"),
    Command("convert topk in/ckpt out/ckpt --experts {}", "4", "2"),
    Command("convert cartesian in/ckpt out/ckpt --layers 1 --experts {}", "4", "2"),
    Command("convert mask in/ckpt out/ckpt --table in/table.safetensors {}", "--shared"),
    Command("convert finedeep in/ckpt out/ckpt --experts {}", "4", "2"),
    Command("convert gguf in/model.gguf out/ckpt --dtype {}", "bf16", "fp16"),
    Command("convert merge-lora in/adapted out/ckpt"),
    Command("convert export in/ckpt out/ckpt --dtype {}", "bf16", "fp16"),
    Command("data nextlong in/corpus.jsonl -o out/long --tokenizer in/tok.json --target 256 --chunk 128 --workers 1 "
            "--format bin {}", "--seed 1", "--seed 2", grows=True, aside=True),
    Command("data nextlong in/corpus.jsonl -o out/long --tokenizer in/tok.json --target 256 --chunk 128 --workers 1 "
            "--method concat --short-data in/text.txt --short-share 0.3 --format mds {}",
            "--seed 1", "--seed 2", grows=True, aside=True),
    Command(CHUNK, grows=True),
    Command("data chunk in/corpus.jsonl -o out/work --workers 1 --chunk {}", "96", "128", grows=True, exchanged=True),
    Command(f"{EMBED} {{}}", "--seed 1", "--seed 2", grows=True, exchanged=True, before=(CHUNK,)),
    Command(f"{INDEX} {{}}", "--seed 1", "--seed 2", grows=True, exchanged=True, before=(CHUNK, EMBED)),
    Command(f"{MINE} {{}}", "--seed 1", "--seed 2", grows=True, before=(CHUNK, EMBED, INDEX)),
    Command("data assemble out/work -o out/long --tokenizer in/tok.json --target 256 --workers 1 --format {}", "bin",
            "jsonl", grows=True, aside=True, before=(CHUNK, EMBED, INDEX, MINE)),
    Command("data token-experts in/ids.bin -o out/table.safetensors --model in/ckpt --experts {}", "4", "2"),
    Command("scaling law in/runs.csv -o out/law.json --plot out/law.png --bootstrap {}", "0", "1"),
    Command("scaling positions in/positions.jsonl --plot out/positions.png"),
    Command("eval loss in/ckpt --data in/ids.bin --device cpu --plot out/loss.png"),
    Command("eval niah in/ckpt --samples 1 --length 32 --depth 0.5 --kind ids --device cpu --plot out/niah.png"),
    Command("eval experts in/sparse --data in/text.txt --tokens 64 --length 16 --device cpu --plot out/experts.png"),
    Command("scaling fit in/log.jsonl --fit-until 50% -o out/law.json --law {}", "cooldown", "power"),
    Command("eval attention in/ckpt --data in/text.txt --window 16 --device cpu --kv-saving 33% --samples {} "
            "-o out/plan.json", "2", "1"),
)  # fmt: skip
