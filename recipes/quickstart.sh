#!/usr/bin/env bash
# From text to a model in some minutes of one core: a tokenizer is trained, a model of 1.3M parameters is trained
# with it, scored, sampled, asked for needles, exported, loaded by stock transformers, and its log is fitted.
#
#     recipes/quickstart.sh [OUTDIR [FILE...]]      TOKENS=600K recipes/quickstart.sh    (a quick look)
#
# Without files the text is Python's own standard library. The last 2% of the text are held out; text of another kind,
# on which the model is scored too, is Python's help on its own topics, or what OTHER names.
set -euo pipefail

out=${1:-quickstart-output}
[ $# -gt 0 ] && shift
if [ -n "${BIN:-}" ]; then PATH="$(cd "$BIN" && pwd):$PATH"; fi
# One thread a process: two that spin on busy cores are many times slower than one.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
tokens=${TOKENS:-3M}
mkdir -p "$out"

library=$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
text=("$@")
if [ $# -eq 0 ]; then
    text=("$library"/*.py)
    for package in asyncio concurrent ctypes email encodings http idlelib importlib json logging multiprocessing tkinter \
        unittest urllib xml; do
        if [ -d "$library/$package" ]; then text+=("$library/$package"); fi
    done
fi
other=${OTHER:-$library/pydoc_data/topics.py}

bold='' plain=''
if [ -t 2 ] && [ -z "${NO_COLOR:-}" ]; then bold=$'\033[1m' plain=$'\033[0m'; fi
step() { printf '\n%s%s%s\n' "$bold" "$*" "$plain" >&2; }

step "1. A tokenizer of 4,096 tokens, and the text in them"
llmtool tokenizer train "${text[@]}" -o "$out/bpe.json" --vocab-size 4096 --special '<|endoftext|>' --force
llmtool tokenizer encode "$out/bpe.json" "${text[@]}" --format bin --eos -o "$out/text.bin" --force

step "2. A model of 1.3M parameters on $tokens tokens of it"
llmtool train "$out/text.bin" -o "$out/model" --tokenizer "$out/bpe.json" --model 1.3M --tokens "$tokens" --lr 4e-3 \
    --holdout 0.02 --valid "other=$other" --force

step "3. What it knows: loss by position, and needles"
llmtool eval loss "$out/model" --data "other=$other" --tokens 64K --plot "$out/positions.png"
llmtool eval niah "$out/model" --samples 8 --plot "$out/needles.png"

step "4. What it writes"
llmtool generate "$out/model" 'def __init__(self' --max-tokens 64 --temperature 0.7 --seed 1

step "5. In stock transformers"
llmtool convert export "$out/model" "$out/exported" --force
if python3 -c 'import transformers' 2> /dev/null; then
    python3 - "$out/model" <<'PY'
import sys
from transformers import AutoModelForCausalLM, AutoTokenizer
tokenizer, model = AutoTokenizer.from_pretrained(sys.argv[1]), AutoModelForCausalLM.from_pretrained(sys.argv[1])
ids = tokenizer("import ", return_tensors="pt")
print(tokenizer.decode(model.generate(**ids, max_new_tokens=16, do_sample=False)[0]))
PY
fi

step "6. Where it was going to end, said at 40% of the run"
llmtool scaling fit "$out/model" --metric train --smooth 5 --fit-until 40% --plot "$out/forecast.png" || true
