#!/usr/bin/env bash
# One real checkpoint, and what sparse feed-forward layers and shared attention do to it: DSMoE and its baselines at 75,
# 50 and 37.5% of the blocks, UniAttn and its baselines at 20 and 37.5% of the cache, and both together; untrained,
# and, with TOKENS above 0, after so many tokens of full training, for each of SEEDS. Ends in OUT/results.json,
# results.md, share.png, cache.png.
#
#     recipes/real_model.sh CKPT OUT CALIBRATION="a.jsonl b.jsonl" TEXTS="novels=c.jsonl code=d.jsonl"
#         [TRAIN=DATA] [TOKENS=0] [SEEDS="0 1 2"] [DEVICE=cpu] [SCORED=4096] [CALIBRATED=8192] [ONLY=REGEX] [LR=2e-5] [LENGTH=512]
#
# TEXTS are scored and must not be among CALIBRATION and TRAIN. A row at a time: a row whose OUT/rows/NAME.json exists is
# skipped, so a run that was stopped goes on; checkpoints are removed after they were scored (KEEP=1 keeps them).
set -euo pipefail
bold='' plain=''
if [ -t 2 ] && [ -z "${NO_COLOR:-}" ]; then bold=$'\033[1m' plain=$'\033[0m'; fi
if [ $# -lt 2 ]; then echo "usage: $0 CKPT OUT CALIBRATION=FILES TEXTS=NAME=FILE... [NAME=VALUE...]" >&2; exit 2; fi
ckpt=$1 out=$2; shift 2
for setting in "$@"; do
    case $setting in
        CALIBRATION=*|TEXTS=*|TRAIN=*|TOKENS=*|SEEDS=*|DEVICE=*|SCORED=*|CALIBRATED=*|ONLY=*|LR=*|KEEP=*|LENGTH=*)
            declare "${setting%%=*}=${setting#*=}" ;;
        *) echo "error: $setting is no setting of this recipe (see its first lines)" >&2; exit 2 ;;
    esac
done
[ -n "${CALIBRATION:-}" ] && [ -n "${TEXTS:-}" ] || { echo "error: CALIBRATION=... and TEXTS=... are wanted" >&2; exit 2; }
tokens=${TOKENS:-0}
[ "$tokens" = 0 ] || [ -n "${TRAIN:-}" ] || { echo "error: TOKENS=$tokens wants TRAIN=DATA" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$out/rows" "$out/models"
tool() { "${PYTHON:-python3}" -m llmtool "$@"; }
calibration=() texts=()
for file in $CALIBRATION; do calibration+=(--calibration "$file"); done
for text in $TEXTS; do texts+=(--text "$text"); done

score() {  # NAME CHECKPOINT: the row's figures, written when they are whole
    "${PYTHON:-python3}" "$here/real_model_score.py" "$2" "${texts[@]}" --tokens "${SCORED:-4096}" --length "${LENGTH:-512}" \
        --device "${DEVICE:-cpu}" > "$out/rows/$1.part"
    mv "$out/rows/$1.part" "$out/rows/$1.json"
}
wanted() { [[ $1 =~ ${ONLY:-.} ]]; }
complete() {  # NAME: all of its rows are there
    [ -f "$out/rows/$1.json" ] || return 1
    [ "$tokens" = 0 ] && return 0
    for seed in ${SEEDS:-0 1 2}; do [ -f "$out/rows/$1+$tokens+$seed.json" ] || return 1; done
}
row() {  # NAME CHECKPOINT verb...: convert CHECKPOINT by `llmtool convert verb... CHECKPOINT OUTPUT`, score, train, score
    local name=$1 from=$2 model=$out/models/$1 extra=(); shift 2
    if ! wanted "$name" || complete "$name"; then return; fi
    printf '\n%s%s%s\n' "$bold" "$name" "$plain" >&2
    if [ "$1" = none ]; then model=$from; else
        [ -f "$model/run.json" ] || tool convert "$@" "$from" "$model" "${options[@]}"
    fi
    [ -f "$out/rows/$name.json" ] || score "$name" "$model"
    if [ "$tokens" != 0 ]; then
        case $name in dsmoe*) extra=(--set "dsmoe.target-share=0.${name##*-}" --set dsmoe.rate=1.05) ;; esac
        for seed in ${SEEDS:-0 1 2}; do
            [ -f "$out/rows/$name+$tokens+$seed.json" ] && continue
            # The same command resumes; answers alone count where TRAIN is a conversation file (data posttrain makes one).
            tool train "$TRAIN" --output "$out/models/$name+$seed" --model "$model" --tokens "$tokens" --batch 2048 \
                --length "${LENGTH:-512}" --lr "${LR:-2e-5}" --seed "$seed" --device "${DEVICE:-cpu}" --keep 1 "${extra[@]}"
            score "$name+$tokens+$seed" "$out/models/$name+$seed"
            [ -n "${KEEP:-}" ] || rm -r "${out:?}/models/$name+$seed"
        done
    fi
    if [ -z "${KEEP:-}" ] && [ "$model" != "$from" ] && [ "$name" != uniattn-20 ]; then rm -r "$model"; fi
}

options=()
row dense "$ckpt" none
fit=("${calibration[@]}" --calibration-tokens "${CALIBRATED:-8192}")
for share in 75 50 375; do
    options=("${fit[@]}" --share "0.$share" --off-mean)
    row "dsmoe-unit8-$share" "$ckpt" dsmoe
    row "static-plain-$share" "$ckpt" dsmoe-baseline static
    row "dsmoe-unit32-$share" "$ckpt" dsmoe --experts 32
    row "dsmoe-contiguous-$share" "$ckpt" dsmoe --partition contiguous
    options+=(--refit)
    row "dsmoe-best8-$share" "$ckpt" dsmoe
    row "dsmoe-best32-$share" "$ckpt" dsmoe --experts 32
    row "static-best-$share" "$ckpt" dsmoe-baseline static
    options=("${fit[@]}" --share "0.$share")
    row "dsmoe-paperform-$share" "$ckpt" dsmoe --router-init analytic
    row "channels-$share" "$ckpt" dsmoe-baseline channels
    options=(--share "0.$share")
    row "topk-$share" "$ckpt" dsmoe-baseline topk
done
options=("${fit[@]}"); row "two-of-four-50" "$ckpt" dsmoe-baseline 2:4
options=(); row "dsmoe-paper-50" "$ckpt" dsmoe --router-init paper

# UniAttn: runs of layers whose followers hold the wanted part of the cache, planned on the calibration text.
for saved in 20 375; do
    plan=$out/models/plan-$saved.json
    data=(); for file in $CALIBRATION; do data+=(--data "$file"); done
    if { wanted "uniattn-$saved" || wanted "uniattn-refit-$saved" || wanted "uniattn-identity-$saved" ||
         wanted "softmax-matched-$saved" || wanted "softmax-only-$saved" || wanted "cla-$saved"; } && [ ! -f "$plan" ]; then
        tool eval attention "$ckpt" "${data[@]}" --samples 16 --window "${LENGTH:-256}" --kv-saving "0.$saved" --output "$plan"
    fi
    options=(--plan "$plan" "${calibration[@]}" --samples $((3 * ${CALIBRATED:-8192} / ${LENGTH:-512})) --window "${LENGTH:-512}")
    row "uniattn-$saved" "$ckpt" uniattn --heads matched
    row "uniattn-refit-$saved" "$ckpt" uniattn --heads matched --refit
    row "uniattn-identity-$saved" "$ckpt" uniattn --heads identity
    row "softmax-matched-$saved" "$ckpt" uniattn --heads matched --sharing softmax-only
    options=(--plan "$plan")
    row "softmax-only-$saved" "$ckpt" uniattn --heads identity --sharing softmax-only
    row "cla-$saved" "$ckpt" uniattn --sharing cla
done
if [ -d "$out/models/uniattn-20" ]; then
    options=("${fit[@]}" --share 0.75 --off-mean --refit)
    row "dsmoe-best8+uniattn20-75" "$out/models/uniattn-20" dsmoe
fi
"${PYTHON:-python3}" "$here/real_model_table.py" "$out"
