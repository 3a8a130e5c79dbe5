#!/usr/bin/env bash
# A vocabulary extended for a language that a model hardly knows, and the model carried along by each way of making the
# new rows: bits a byte on held-out text before and after a short training on the same text, tokens saved.
#
#     recipes/extend.sh CHECKPOINT ENGLISH OUT NAME=TEXT.jsonl...
#
# TEXT: documents {"text": ...}; every tenth is held out. ENGLISH: a control, which should keep its tokens.
# ADD, TRAIN_BYTES and TEST_BYTES size it, SEEDS="0 1 2" trains in as many orders, LR sets its rate; RUN goes before each
# command (RUN=nice).
# Run again it goes on where it stopped. Ends with OUT/extend.json, .md, .png, and run.json, which says what made them.
set -euo pipefail

model=$1 english=$2 out=$3
shift 3
add=${ADD:-2000} train_bytes=${TRAIN_BYTES:-16000} test_bytes=${TEST_BYTES:-8000} seeds=${SEEDS:-0} lr=${LR:-3e-4}
distil_rows=${DISTIL_ROWS:-192}
here=$(cd "$(dirname "$0")" && pwd)
run=${RUN:-}
inits="pieces mean zero distil"

for named in "$@"; do
    name=${named%%=*} text=${named#*=} work=$out/${named%%=*}
    mkdir -p "$work"
    python3 "$here/extend_results.py" split "$text" "$work" "$train_bytes"

    $run llmtool tokenizer extend "$model" "$work/train.jsonl" -o "$work/tokenizer" --add "$add" \
        --control "$english" --held-out "$work/test.jsonl"
    for init in $inits; do
        given=()
        [ "$init" = distil ] && given=(--corpus "$work/train.jsonl" --rows "$distil_rows" --snippets 3 --length 40 --lr 3e-3)
        $run llmtool convert vocab "$model" "$work/$init" --tokenizer "$work/tokenizer" --init "$init" "${given[@]}"
    done

    # The same bytes for all: the unchanged model reads them as more tokens, and so takes more steps.
    # Rows of zeros are left out: at the start of a text they are zeros in every layer, and the gradient is not finite.
    for seed in $seeds; do
        for init in unchanged pieces mean distil; do
            from=$work/$init
            [ "$init" = unchanged ] && from=$model
            $run llmtool train "$work/part.jsonl" -m "$from" -o "$work/$init-trained-$seed" --epochs 1 --length 128 \
                --batch 256 --lr "$lr" --warmup 2 --eval-every 0 --save-every 1000 --seed "$seed" --device cpu -q
        done
    done

    # Two models at a time, each with its own tokenizer, over the same bytes.
    pairs="$model:pieces mean:zero distil:pieces"
    for seed in $seeds; do
        pairs="$pairs unchanged-trained-$seed:pieces-trained-$seed mean-trained-$seed:distil-trained-$seed"
    done
    for pair in $pairs; do
        one=${pair%:*} other=$work/${pair##*:}
        [ "$one" = "$model" ] || one=$work/$one
        report=$work/$(basename "$one")-${pair##*:}.json
        [ -s "$report" ] && continue
        $run llmtool eval loss "$one" --against "$other" --data "test=$work/test.jsonl" --bytes "$test_bytes" --json \
            > "$report.part"
        mv "$report.part" "$report"
    done
done

python3 "$here/extend_results.py" table "$out" "$model" "add=$add" "train_bytes=$train_bytes" \
    "test_bytes=$test_bytes" "seeds=$seeds" "lr=$lr" "distil_rows=$distil_rows"
