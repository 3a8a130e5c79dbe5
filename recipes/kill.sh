#!/usr/bin/env bash
# A run is killed with kill -9 at twenty random moments, resumed each time, and must end with the weights of a run that
# nobody touched.
#
#     recipes/kill.sh [OUTDIR [KILLS]]
set -euo pipefail

out=${1:-kill-output}
kills=${2:-20}
if [ -n "${BIN:-}" ]; then PATH="$(cd "$BIN" && pwd):$PATH"; fi
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
rm -rf "$out"
mkdir -p "$out"
library=$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
llmtool tokenizer train "$library/argparse.py" "$library/typing.py" -o "$out/bpe.json" --vocab-size 512 -q

run() {
    exec llmtool train "$library/argparse.py" -o "$out/$1" --tokenizer "$out/bpe.json" --model 100K --length 32 \
        --batch 256 --steps "$2" --save-every 7 --eval-every 50 --holdout 0.1 -q
}
steps=${STEPS:-1500}
(run whole "$steps")
killed=0
log=$out/killed/metrics.jsonl
for ((turn = 0; turn < kills; turn++)); do
    touch "$out/mark"
    (run killed "$steps") &
    # until it trains, or has ended
    while kill -0 $! 2> /dev/null && [ ! "$log" -nt "$out/mark" ]; do sleep 0.05; done
    sleep "0.$((RANDOM % 10))$((RANDOM % 10))"
    if kill -9 $! 2> /dev/null; then killed=$((killed + 1)); fi
    wait $! 2> /dev/null || true
done
if [ ! -f "$out/killed/run.json" ]; then (run killed "$steps"); fi
cmp "$out/whole/model.safetensors" "$out/killed/model.safetensors"
echo "killed $killed times, the same weights, bit for bit"
