#!/bin/sh
# NExtLong against KNN and standard concatenation at equal tokens: a small model, continued at 2K on each, three seeds.
#
#   FILES="books.jsonl code.jsonl" recipes/nextlong.sh OUT
#
# Documents are cut into short ones (1,500 characters), as if no long ones existed. Half an hour of one core; on a
# machine with more, MODEL (a config.json), BASE_TOKENS, MORE_TOKENS and TARGET scale it up. Results: OUT/results.json,
# OUT/results.png, and a table on stdout.
set -eu
OUT=${1:?usage: recipes/nextlong.sh OUT}
HERE=$(cd "$(dirname "$0")" && pwd)
PYTHON=${PYTHON:-python3}
LIBRARY=$($PYTHON -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
FILES=${FILES:-$(find "$LIBRARY" -name "*.py" ! -path "*/site-packages/*" ! -path "*/test/*" | sort)}
TARGET=${TARGET:-2048}
BASE_TOKENS=${BASE_TOKENS:-5M}
MORE_TOKENS=${MORE_TOKENS:-400K}
BATCH=${BATCH:-8192}
SEEDS=${SEEDS:-1 2 3}
METHODS=${METHODS:-concat knn nextlong}
llmtool() { $PYTHON -m llmtool "$@"; }

mkdir -p "$OUT"
cd "$OUT"
[ -f train.jsonl ] || $PYTHON "$HERE/nextlong_documents.py" $FILES
[ -f tok.json ] || llmtool tokenizer train train.jsonl -o tok.json --vocab-size 1024 --special '<|endoftext|>'
[ -f train.bin ] || llmtool tokenizer encode tok.json train.jsonl --format bin --eos -o train.bin
[ -n "${MODEL:-}" ] || [ -f model.json ] || cat > model.json <<'JSON'
{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 1024, "hidden_size": 128,
 "intermediate_size": 352, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4,
 "max_position_embeddings": 4096, "rms_norm_eps": 1e-6, "rope_theta": 50000.0, "tie_word_embeddings": true,
 "hidden_act": "silu", "attention_bias": false, "mlp_bias": false}
JSON
TRAIN="--tokenizer tok.json --threads 1 --save-every 0 --eval-every 0 --dtype fp32 -q"
[ -f base/run.json ] || llmtool train train.bin -o base --model "${MODEL:-model.json}" --length 256 --batch 4096 \
    --tokens "$BASE_TOKENS" --lr 3e-3 --seed 0 $TRAIN

for seed in $SEEDS; do
    for method in $METHODS; do
        name=$method-$seed
        [ -f "data-$name/run.json" ] || llmtool data nextlong train.jsonl -o "data-$name" --work "work-$seed" \
            --tokenizer tok.json --target "$TARGET" --chunk 512 --method "$method" --seed "$seed" --format bin \
            --workers 1 -q > /dev/null
        [ -f "more-$name/run.json" ] || llmtool train "data-$name/samples.bin" -o "more-$name" --model base \
            --length "$TARGET" --batch "$BATCH" --tokens "$MORE_TOKENS" --lr 1e-3 --weight-decay 0.1 --seed "$seed" $TRAIN
    done
done
$PYTHON "$HERE/nextlong_measure.py" --target "$TARGET" --seeds $SEEDS --methods $METHODS
