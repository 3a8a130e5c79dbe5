#!/usr/bin/env bash
# Plain BPE, LBPE, Scaffold-BPE and Scaffold+LBPE trained on real text, looked at, and compared on text they have not
# seen. The text is Python's own standard library; files named after the output directory are trained on as well.
#
#     recipes/demo.sh [OUTDIR [FILE...]]
set -euo pipefail

out=${1:-demo-output}
[ $# -gt 0 ] && shift
if [ -n "${BIN:-}" ]; then PATH="$(cd "$BIN" && pwd):$PATH"; fi
mkdir -p "$out"

library=$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
train=("$library"/*.py)
for package in asyncio concurrent ctypes email encodings idlelib importlib json lib2to3 logging multiprocessing tkinter; do
    if [ -d "$library/$package" ]; then train+=("$library/$package"); fi
done
unseen=()
for package in unittest urllib xml; do unseen+=(--corpus "$library/$package"); done

bold='' plain=''
if [ -t 2 ] && [ -z "${NO_COLOR:-}" ]; then bold=$'\033[1m' plain=$'\033[0m'; fi
step() { printf '\n%s%s%s\n' "$bold" "$*" "$plain" >&2; }

step "1. Train four tokenizers of 8,192 tokens"
for algorithm in bpe lbpe scaffold scaffold-lbpe; do
    llmtool tokenizer train "${train[@]}" "$@" -o "$out/$algorithm.json" --algorithm "$algorithm" \
        --vocab-size 8192 --special '<|endoftext|>' --force
done

text='It serves as a useful guide when making changes.'
step "2. How each cuts a line ( <scaffold> = the parts that are written, [ids] )"
for algorithm in bpe lbpe scaffold scaffold-lbpe; do
    printf '\n%s:\n' "$algorithm"
    llmtool tokenizer inspect "$out/$algorithm.json" "$text"
done

step "3. Encode a file, decode it, compare the bytes"
llmtool tokenizer encode "$out/scaffold.json" "$library/argparse.py" | llmtool tokenizer decode "$out/scaffold.json" |
    cmp - "$library/argparse.py"
echo "argparse.py: the same bytes" >&2
llmtool tokenizer encode "$out/scaffold.json" "${train[@]}" --format bin --eos -o "$out/train.bin" --force

step "4. Compare on text that was not trained on"
llmtool tokenizer compare "$out"/{bpe,lbpe,scaffold,scaffold-lbpe}.json "${unseen[@]}" --plot "$out/compare.png"

step "Made in $out"
ls -1 "$out" >&2
