#!/usr/bin/env bash
# UniAttn at equal training tokens: a model of 1 M parameters is trained on text, then post-trained on instruction data
# as standard SFT, UniAttn (W_c by least squares, the paper's form, or zero), the shared softmax alone, and cross-layer
# key-value sharing at the same saving. Seeds are paired: for each, one base model, and the same rows in the same order
# for every variant.
#
#   recipes/uniattn.sh INSTRUCT.jsonl TEXT [TEXT...]     results in $OUT (uniattn-results), work in $WORK
#
# About 40 minutes of one core. LLMTOOL: how to call llmtool. LR; SEEDS; TOKENS of a base model; STEPS of 1,024 tokens of
# each of UniAttn's two stages, the other variants get twice as many.
set -euo pipefail

[ $# -ge 2 ] || { echo "usage: $0 INSTRUCT.jsonl TEXT [TEXT...]" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
instruct=$1; shift
text=("$@")
OUT=${OUT:-uniattn-results} WORK=${WORK:-uniattn-work} SEEDS=${SEEDS:-0 1 2} TOKENS=${TOKENS:-1M} STEPS=${STEPS:-60}
LR=${LR:-2e-4}
LLMTOOL=${LLMTOOL:-llmtool} PYTHON=${PYTHON:-python}
mkdir -p "$WORK"

# Every eighth row is held out.
awk -v valid="$WORK/valid.jsonl" -v train="$WORK/train.jsonl" \
    '{ print > (NR % 8 == 0 ? valid : train) }' "$instruct"
[ -f "$WORK/tok.json" ] || $LLMTOOL tokenizer train "$@" --vocab-size 2048 --special '<|endoftext|>' -o "$WORK/tok.json"
cat > "$WORK/config.json" <<'JSON'
{"model_type": "llama", "vocab_size": 2048, "hidden_size": 96, "intermediate_size": 224, "num_hidden_layers": 8,
 "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 512,
 "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": true}
JSON

for seed in $SEEDS; do
    [ -f "$WORK/base-$seed/run.json" ] || $LLMTOOL train "${text[@]}" -o "$WORK/base-$seed" --model "$WORK/config.json" \
        --tokenizer "$WORK/tok.json" --length 256 --batch 1024 --tokens "$TOKENS" --lr 3e-3 --seed "$seed" --device cpu
done
# shellcheck disable=SC2086
$PYTHON "$here/uniattn_runs.py" "$WORK" "$STEPS" "$LR" $SEEDS
$PYTHON "$here/uniattn_report.py" "$WORK" "$OUT"
