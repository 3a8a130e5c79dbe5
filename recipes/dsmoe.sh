#!/usr/bin/env bash
# DSMoE against what its paper compares it with, at one share of active feed-forward weights and equal further tokens:
# a dense model of about a million parameters is trained on real text, converted in each way, and trained on with three
# seeds. Every 20th document is held out. Ends in OUTDIR/results.json, results.md, losses.png, tau.png, experts.png.
#
#     recipes/dsmoe.sh OUTDIR FILE.jsonl...         SEEDS="0 1 2" DENSE_TOKENS=1500K TOKENS=240K SHARE=0.375 ALSO=0
#
# Every step is skipped where its output is complete, so a run that was stopped goes on.
set -euo pipefail
if [ $# -lt 2 ]; then echo "usage: $0 OUTDIR FILE.jsonl..." >&2; exit 2; fi
out=$1; shift
seeds=${SEEDS:-0 1 2}; dense_tokens=${DENSE_TOKENS:-1500K}; tokens=${TOKENS:-240K}; share=${SHARE:-0.375}
also=${ALSO:-0}
here=$(cd "$(dirname "$0")" && pwd)
if [ -n "${BIN:-}" ]; then PATH="$(cd "$BIN" && pwd):$PATH"; fi
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
mkdir -p "$out"
tool() { "${PYTHON:-python3}" -m llmtool "$@"; }
bold='' plain=''
if [ -t 2 ] && [ -z "${NO_COLOR:-}" ]; then bold=$'\033[1m' plain=$'\033[0m'; fi
step() { printf '\n%s%s%s\n' "$bold" "$*" "$plain" >&2; }
done_() { [ -f "$1/run.json" ]; }

step "1. Split, tokenizer"
train=(); valid=()
for file in "$@"; do
    name=$(basename "$file" .jsonl)
    awk 'NR % 20 != 0' "$file" > "$out/$name.train.jsonl"; awk 'NR % 20 == 0' "$file" > "$out/$name.valid.jsonl"
    train+=("$out/$name.train.jsonl"); valid+=("$name=$out/$name.valid.jsonl")
done
[ -f "$out/tok.json" ] || tool tokenizer train "${train[@]}" -o "$out/tok.json" --vocab-size 2048 --special '<|endoftext|>'
[ -f "$out/train.bin" ] || tool tokenizer encode "$out/tok.json" "${train[@]}" --format bin --eos -o "$out/train.bin"
cat > "$out/config.json" <<'JSON'
{"model_type": "llama", "vocab_size": 2048, "hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 5,
 "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 32, "max_position_embeddings": 128,
 "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "tie_word_embeddings": true}
JSON
checks=(); for set in "${valid[@]}"; do checks+=(--valid "$set"); done

further() {  # NAME CHECKPOINT SEED [options]: train on, from a checkpoint, with the seed's order of the data
    local name=$1 from=$2 seed=$3; shift 3
    done_ "$out/$name-$seed" || tool train "$out/train.bin" --output "$out/$name-$seed" --model "$from" --batch 2048 \
        --tokens "$tokens" --lr 1.5e-3 --weight-decay 0.1 --seed "$seed" --eval-tokens 8K --eval-every 100000 --keep 1 "${checks[@]}" "$@"
}

step "2. The dense model"
done_ "$out/dense" || tool train "$out/train.bin" --output "$out/dense" --model "$out/config.json" --tokenizer "$out/tok.json" \
    --batch 2048 --tokens "$dense_tokens" --lr 4e-3 --seed 0 --eval-tokens 8K --eval-every 100000 --keep 1 "${checks[@]}"

step "3. Conversions at $share of the feed-forward weights"
text=(); for file in "${train[@]}"; do text+=(--calibration "$file"); done
done_ "$out/exact" || tool convert dsmoe "$out/dense" "$out/exact"
done_ "$out/analytic" || tool convert dsmoe "$out/dense" "$out/analytic" --router-init analytic --share "$share" "${text[@]}"
done_ "$out/channels" || tool convert dsmoe-baseline channels "$out/dense" "$out/channels" --share "$share" "${text[@]}"
for seed in $seeds; do
    done_ "$out/topk-$seed.start" ||
        tool convert dsmoe-baseline topk "$out/dense" "$out/topk-$seed.start" --share "$share" --seed "$seed"
done

step "4. Further training"
# DSMoE starts from the fitted routers, which open the wanted share from the first step on: a hundred steps are too few
# to bring an exact start there gently (the paper takes 10B tokens). rate: ReMoE's 1.2 is made for runs of 60,000 steps.
target=(--set dsmoe.target-share="$share" --set dsmoe.coefficient=0.1 --set dsmoe.rate=1.05)
for seed in $seeds; do
    further topk "$out/topk-$seed.start" "$seed"
    further dsmoe "$out/analytic" "$seed" "${target[@]}"
    further dsmoe-off "$out/analytic" "$seed" "${target[@]}" --set dsmoe.straight-through=off
    further channels "$out/channels" "$seed"
done
for seed in $also; do  # for orientation: from the exact start, where the controller has to hurry
    hurry=(--set dsmoe.target-share="$share" --set dsmoe.coefficient=0.1)
    further exact "$out/exact" "$seed" "${hurry[@]}"
    further exact-off "$out/exact" "$seed" "${hurry[@]}" --set dsmoe.straight-through=off
    further dense-on "$out/dense" "$seed"
done

step "5. Thresholds, experts, results"
experts=(); for set in "${valid[@]}"; do experts+=(--data "${set#*=}"); done
for seed in $seeds; do
    for name in dsmoe dsmoe-off exact exact-off; do
        { [ -f "$out/$name-$seed/run.json" ] && [ ! -f "$out/$name-$seed.experts.json" ]; } || continue
        tool eval experts "$out/$name-$seed" "${experts[@]}" --tokens 2048 --length 128 --json --quiet \
            --taus 0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9 --plot "$out/$name-$seed.experts.png" > "$out/$name-$seed.part"
        mv "$out/$name-$seed.part" "$out/$name-$seed.experts.json"
    done
done
"${PYTHON:-python3}" "$here/dsmoe_results.py" "$out" --share "$share" --seeds $seeds
