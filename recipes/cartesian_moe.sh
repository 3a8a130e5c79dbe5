#!/bin/sh
# CartesianMoE beside its rivals at equal total and active parameters, a dense model, and two sub-layers with one choice
# (the control without which a gain may be the deeper layer's): loss, pairs in use, and each token's best expert off.
#
#   recipes/cartesian_moe.sh OUT                        # small models on the standard library's sources, one core
#   SEEDS="1 2" TOKENS=4M FILES="a.txt b.txt" recipes/cartesian_moe.sh OUT
#
# SEEDS, TOKENS, LR, FILES and VARIANTS (names with commas between) size it; a run that stands is kept. Results:
# OUT/results.json, OUT/results.png and a table on stdout, differences paired by seed with 95% intervals: at this size
# most of them hold 0, and the table says so.
set -eu
OUT=${1:?usage: recipes/cartesian_moe.sh OUT}
HERE=$(cd "$(dirname "$0")" && pwd)
PYTHON=${PYTHON:-python3}
$PYTHON "$HERE/experts_runs.py" cartesian_moe "$OUT"
$PYTHON "$HERE/experts_table.py" "$OUT" "${RIVAL:-share}"
