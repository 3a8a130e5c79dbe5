#!/usr/bin/env bash
# A vocabulary extended for languages that a model hardly knows, and the model carried along by each way of making the
# new rows: bits a byte on held-out text before and after a short training on the same text, tokens saved.
#
#     recipes/extend.sh CHECKPOINT ENGLISH OUT NAME=TEXT.jsonl...
#
# TEXT: documents {"text": ...}; every tenth is held out. ENGLISH: a control, which should keep its tokens.
# TRAIN_TOKENS and TEST_TOKENS size it, in tokens of the model as it is, as time goes by tokens (of Gujarati one is a
# byte); ADD, DISTIL_ROWS, LR; SEEDS="0 1 2" trains in as many orders. RUN goes before each command (RUN=nice).
# Run again, with more seeds or languages too, it goes on where it stopped; trained models go once they are measured.
# Ends with OUT/extend.json, .md, .png, and run.json, which says what made them.
set -euo pipefail

model=$1 english=$2 out=$3
shift 3
add=${ADD:-2000} train_tokens=${TRAIN_TOKENS:-4096} test_tokens=${TEST_TOKENS:-2048} seeds=${SEEDS:-0} lr=${LR:-1e-4}
distil_rows=${DISTIL_ROWS:-192}
here=$(cd "$(dirname "$0")" && pwd)
run=${RUN:-}

# Two models at a time, each with its own tokenizer, over the same bytes; done says that nothing is left to measure.
report() { echo "$work/$(basename "$1")-$(basename "$2").json"; }
compare() {
    $run llmtool eval loss "$1" --against "$2" --data "test=$work/test.jsonl" --bytes "$(cat "$work/test_bytes")" \
        --json > "$work/report.part"
    mv "$work/report.part" "$(report "$1" "$2")"
}

for named in "$@"; do
    work=$out/${named%%=*}
    [ -e "$work/distil-pieces.json" ] && continue
    mkdir -p "$work"
    python3 "$here/extend_results.py" split "${named#*=}" "$work" "$model" "$train_tokens" "$test_tokens"

    $run llmtool tokenizer extend "$model" "$work/train.jsonl" -o "$work/tokenizer" --add "$add" \
        --control "$english" --held-out "$work/test.jsonl"
    for init in pieces mean zero distil; do
        given=()
        [ "$init" = distil ] && given=(--corpus "$work/train.jsonl" --rows "$distil_rows" --snippets 3 --length 40 --lr 3e-3)
        $run llmtool convert vocab "$model" "$work/$init" --tokenizer "$work/tokenizer" --init "$init" "${given[@]}"
    done
    compare "$model" "$work/pieces"
    compare "$work/mean" "$work/zero"
    compare "$work/distil" "$work/pieces"
done

# The same bytes for all: the unchanged model reads them as more tokens, and so takes more steps.
# Rows of zeros are left out: at the start of a text they are zeros in every layer, and the gradient is not finite.
for seed in $seeds; do
    for named in "$@"; do
        work=$out/${named%%=*}
        for pair in unchanged:pieces mean:distil; do
            trained=()
            for init in ${pair%:*} ${pair#*:}; do
                trained+=("$work/$init-trained-$seed")
            done
            [ -e "$(report "${trained[@]}")" ] && continue
            for init in ${pair%:*} ${pair#*:}; do
                from=$work/$init
                [ "$init" = unchanged ] && from=$model
                $run llmtool train "$work/part.jsonl" -m "$from" -o "$work/$init-trained-$seed" --epochs 1 --length 128 \
                    --batch 256 --lr "$lr" --eval-every 0 --save-every 1000 --seed "$seed" --device cpu -q
            done
            compare "${trained[@]}"
            rm -r "${trained[@]}"
        done
    done
done

python3 "$here/extend_results.py" table "$out" "$model" "add=$add" "train_tokens=$train_tokens" \
    "test_tokens=$test_tokens" "seeds=$seeds" "lr=$lr" "distil_rows=$distil_rows"
