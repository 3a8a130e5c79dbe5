#!/bin/sh
# Finedeep's grid: M sub-layers of K experts, other routers, a dense model, and one with twice the layers of half the
# width, which is the honest rival.
#
#   recipes/finedeep.sh OUT                        # small models on the standard library's sources, one core
#   SEEDS="1 2" TOKENS=4M FILES="a.txt b.txt" recipes/finedeep.sh OUT
#
# SEEDS, TOKENS, LR, FILES and VARIANTS (names with commas between) size it; a run that stands is kept. Results:
# OUT/results.json, OUT/results.png and a table on stdout, differences paired by seed with 95% intervals: at this size
# most of them hold 0, and the table says so.
set -eu
OUT=${1:?usage: recipes/finedeep.sh OUT}
HERE=$(cd "$(dirname "$0")" && pwd)
PYTHON=${PYTHON:-python3}
$PYTHON "$HERE/experts_runs.py" finedeep "$OUT"
$PYTHON "$HERE/experts_table.py" "$OUT" "${RIVAL:-dense}"
