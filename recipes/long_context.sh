#!/bin/sh
# A longer context in one step: HARPE's bases against PI, YaRN, ABF in one stage and ABF in two, at equal tokens.
#
#   recipes/long_context.sh OUT                                  # a small model on the standard library's sources
#   BASE=../SmolLM2 SHORT=2048 TARGET=8192 FILES=novels.jsonl METHODS="none abf yarn uniform" DATA=concat SEEDS=1 \
#       TOKENS=16384 BATCH=8192 LR=5e-5 LOSS_TOKENS=8192 LENGTHS="2048 8192" DEPTHS=0.5 SAMPLES=1 recipes/long_context.sh OUT
#
# Trained at SHORT, extended to TARGET (8 times as far), on documents in a row and on NExtLong's samples, three seeds.
# BASE_TOKENS, TOKENS, BATCH, SEEDS, METHODS and DATA size the training, LOSS_TOKENS (held out, a model), LENGTHS, DEPTHS
# and SAMPLES (needles) the scores; every step is skipped where its result stands. A BASE is taken for a model of SHORT
# positions, whatever its config.json says: one that was trained on more shows what a swap costs and how fast it heals,
# not what an extension gives; METHODS=none, trained alike without a swap, is then its yardstick. FILES lie anywhere, BASE
# too. Results: OUT/results.json, OUT/results.png and a table on stdout. Perplexity cannot tell HARPE from ABF in the paper either: the
# needles are what is compared, and the table says what three seeds do not resolve.
set -eu
OUT=${1:?usage: recipes/long_context.sh OUT}
HERE=$(cd "$(dirname "$0")" && pwd)
PYTHON=${PYTHON:-python3}
LIBRARY=$($PYTHON -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
here() {  # absolute paths: the recipe works in OUT
    for file in "$@"; do case $file in /*) echo "$file" ;; *) echo "$PWD/$file" ;; esac; done
}
FILES=${FILES:-$(find "$LIBRARY" -name "*.py" ! -path "*/site-packages/*" ! -path "*/test/*" | sort)}
SHORT=${SHORT:-256}
TARGET=${TARGET:-2048}
HALF=$((TARGET / 2))
if [ -z "${BASE:-}" ]; then RANGE=${RANGE:-50K:200K}; else RANGE=${RANGE:-}; fi  # of the bases: what 256 -> 2K wants, or
                                                                                 # what `convert rope` takes by itself
BASE_TOKENS=${BASE_TOKENS:-5M}
TOKENS=${TOKENS:-400000}
BATCH=${BATCH:-8192}
LR=${LR:-1e-3}
SEEDS=${SEEDS:-1 2 3}
METHODS=${METHODS:-pi yarn abf stages uniform paper search}
DATA=${DATA:-concat nextlong}
SAMPLES=${SAMPLES:-16}
LOSS_TOKENS=${LOSS_TOKENS:-65536}
LENGTHS=${LENGTHS:-$SHORT $HALF $TARGET}
DEPTHS=${DEPTHS:-0 0.25 0.5 0.75 1}
llmtool() { $PYTHON -m llmtool "$@"; }

FILES=$(here $FILES)
if [ -n "${BASE:-}" ]; then BASE=$(here "$BASE"); fi
if [ -n "${TOK:-}" ]; then TOK=$(here "$TOK"); fi
needles=
for length in $LENGTHS; do needles="$needles --length $length"; done
for depth in $DEPTHS; do needles="$needles --depth $depth"; done
mkdir -p "$OUT"
cd "$OUT"
[ -f train.jsonl ] || $PYTHON "$HERE/nextlong_documents.py" $FILES
if [ -n "${BASE:-}" ]; then
    TOK=${TOK:-$BASE}
    haystack="--data test.jsonl"  # a model of text is asked in words: ids in no order are nothing that it reads
else
    haystack=
    TOK=tok.json
    BASE=base
    [ -f tok.json ] || llmtool tokenizer train train.jsonl -o tok.json --vocab-size 1024 --special '<|endoftext|>'
    [ -f train.bin ] || llmtool tokenizer encode tok.json train.jsonl --format bin --eos -o train.bin
    [ -f model.json ] || cat > model.json <<JSON
{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 1024, "hidden_size": 128,
 "intermediate_size": 352, "num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 8,
 "max_position_embeddings": $SHORT, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": true,
 "hidden_act": "silu", "attention_bias": false, "mlp_bias": false}
JSON
fi
TRAIN="--tokenizer $TOK --threads 1 --save-every 0 --eval-every 0 -q"
[ -f "$BASE/config.json" ] || llmtool train train.bin -o base --model model.json --length "$SHORT" --batch 4096 \
    --tokens "$BASE_TOKENS" --lr 3e-3 --seed 0 $TRAIN

convert() {  # convert METHOD SOURCE OUT TARGET [BASE OF ABF]
    case $1 in
        none) llmtool convert copy "$2" "$3" --override "max_position_embeddings=$4" -q; return ;;
        pi|yarn|ntk) bases="--method $1" ;;
        abf) bases="--method abf ${5:+--base $5}" ;;
        *) bases="--method harpe --bases $1 ${RANGE:+--range $RANGE}" ;;
    esac
    if [ "$2" = "$BASE" ]; then bases="$bases --override max_position_embeddings=$SHORT"; fi
    llmtool convert rope "$2" "$3" $bases --target "$4" -q
}
number() { $PYTHON -c 'import sys; from llmtool.core.corpus.sizes import parse_size; print(parse_size(sys.argv[1]))' "$1"; }
LOW='' HIGH=''
if [ -n "$RANGE" ]; then LOW=$(number "${RANGE%:*}") HIGH=$(number "${RANGE#*:}"); fi

for seed in $SEEDS; do
    for data in $DATA; do
        from=data-$data-$seed
        [ -f "$from/run.json" ] || llmtool data nextlong train.jsonl -o "$from" --work "work-$seed" --tokenizer "$TOK" \
            --target "$TARGET" --chunk 512 --method "$data" --seed "$seed" --format bin --workers 1 -q > /dev/null
        for method in $METHODS; do
            to=run-$method-$data-$seed
            mid=start-$method-$data-$seed
            [ -f "$to/run.json" ] && continue
            if [ "$method" = stages ]; then  # half of the tokens at half of the target, with the lower base
                [ -f "$mid-1/config.json" ] || convert abf "$BASE" "$mid-1" "$HALF" "$LOW"
                [ -f "$mid-2/run.json" ] || llmtool train "$from/samples.bin" -o "$mid-2" --model "$mid-1" \
                    --length "$HALF" --batch "$BATCH" --tokens $((TOKENS / 2)) --lr "$LR" --weight-decay 0.1 --seed "$seed" $TRAIN
                [ -f "$mid-3/config.json" ] || convert abf "$mid-2" "$mid-3" "$TARGET" "$HIGH"
                llmtool train "$from/samples.bin" -o "$to" --model "$mid-3" --length "$TARGET" --batch "$BATCH" \
                    --tokens $((TOKENS / 2)) --lr "$LR" --weight-decay 0.1 --seed "$seed" $TRAIN
            else
                [ -f "$mid-1/config.json" ] || convert "$method" "$BASE" "$mid-1" "$TARGET" "$HIGH"
                llmtool train "$from/samples.bin" -o "$to" --model "$mid-1" --length "$TARGET" --batch "$BATCH" \
                    --tokens "$TOKENS" --lr "$LR" --weight-decay 0.1 --seed "$seed" $TRAIN
            fi
        done
    done
done
for run in run-*; do
    [ -f "$run/run.json" ] || continue
    if [ ! -f "$run.loss.json" ]; then
        llmtool eval loss "$run" --data test.jsonl --length "$TARGET" --tokens "$LOSS_TOKENS" --json -q > "$run.loss.part"
        mv "$run.loss.part" "$run.loss.json"
    fi
    if [ ! -f "$run.niah.json" ]; then
        llmtool eval niah "$run" $haystack $needles --samples "$SAMPLES" --json -q > "$run.niah.part"
        mv "$run.niah.part" "$run.niah.json"
    fi
done
$PYTHON "$HERE/long_context_table.py" --short "$SHORT" --target "$TARGET"
