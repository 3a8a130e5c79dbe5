#!/bin/sh
# MaskMoE's tables: a dense base cut into experts by each rule and trained on. All ids see all experts (plain routing),
# one (a hash layer), the frequent ones several, as many as their occurrences feed, or several by a coin. Loss by how
# frequent the id is.
#
#   recipes/mask_moe.sh OUT                        # small models on the standard library's sources, one core
#   SEEDS="1 2" TOKENS=4M FILES="a.txt b.txt" recipes/mask_moe.sh OUT
#
# SEEDS, TOKENS, LR, FILES and VARIANTS (names with commas between) size it; a run that stands is kept. Results:
# OUT/results.json, OUT/results.png and a table on stdout, differences paired by seed with 95% intervals: at this size
# most of them hold 0, and the table says so.
set -eu
OUT=${1:?usage: recipes/mask_moe.sh OUT}
HERE=$(cd "$(dirname "$0")" && pwd)
PYTHON=${PYTHON:-python3}
$PYTHON "$HERE/experts_runs.py" mask_moe "$OUT"
$PYTHON "$HERE/experts_table.py" "$OUT" "${RIVAL:-all}"
