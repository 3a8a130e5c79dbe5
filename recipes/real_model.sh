#!/usr/bin/env bash
# One real checkpoint, and what sparse feed-forward layers and shared attention do to it: DSMoE and its baselines at 75,
# 50 and 37.5% of the blocks, UniAttn and its baselines at 20 and 37.5% of the cache, and both together. Each untrained;
# with HEAL=N after N tokens in which its new parts alone move (routers, off_mean, W_c); with TOKENS=N after N tokens of
# full training; for each of SEEDS. Ends in OUT/results.json, results.md, share.png, cache.png.
#
#     recipes/real_model.sh CKPT OUT CALIBRATION="a.jsonl b.jsonl" TEXTS="novels=c.jsonl code=d.jsonl"
#         [TRAIN=DATA] [FORMAT=text|chat] [HEAL=0] [TOKENS=0] [SEEDS="0 1 2"] [DEVICE=cpu] [SCORED=4096] [CALIBRATED=8192]
#         [ONLY=REGEX] [LENGTH=512] [LR=2e-5] [HEAL_LR=2e-4] [PLAN_BY=head-by-head|similarity|error] [TASKS=a,b TASK_FILES=DIR] [KEEP=1]
#
# TEXTS are scored and must not be among CALIBRATION and TRAIN. FORMAT=chat: TRAIN is instruction data, and answers alone
# count. TASKS are lm-eval's, offline (docs/checkpoints.md), where it is installed. A row at a time: a row whose
# OUT/rows/NAME.json exists is skipped and training resumes, so a run that was stopped goes on; checkpoints are removed
# after they were scored (KEEP=1 keeps them). ONLY: rows whose name matches.
set -euo pipefail
bold='' plain=''
if [ -t 2 ] && [ -z "${NO_COLOR:-}" ]; then bold=$'\033[1m' plain=$'\033[0m'; fi
if [ $# -lt 2 ]; then echo "usage: $0 CKPT OUT CALIBRATION=FILES TEXTS=NAME=FILE... [NAME=VALUE...]" >&2; exit 2; fi
ckpt=$1 out=$2; shift 2
for setting in "$@"; do
    case $setting in
        CALIBRATION=*|TEXTS=*|TRAIN=*|FORMAT=*|HEAL=*|TOKENS=*|SEEDS=*|DEVICE=*|SCORED=*|CALIBRATED=*|ONLY=*|LR=*|HEAL_LR=*|KEEP=*|LENGTH=*|PLAN_BY=*|TASKS=*|TASK_FILES=*)
            declare "${setting%%=*}=${setting#*=}" ;;
        *) echo "error: $setting is no setting of this recipe (see its first lines)" >&2; exit 2 ;;
    esac
done
[ -n "${CALIBRATION:-}" ] && [ -n "${TEXTS:-}" ] || { echo "error: CALIBRATION=... and TEXTS=... are wanted" >&2; exit 2; }
tokens=${TOKENS:-0} heal=${HEAL:-0} length=${LENGTH:-512} seeds=${SEEDS:-0 1 2}
[ "$tokens$heal" = 00 ] || [ -n "${TRAIN:-}" ] || { echo "error: TOKENS and HEAL want TRAIN=DATA" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
# glibc gives large tensors back to the system and asks for them again: a tenth to a quarter of the time on a CPU.
if [ "${DEVICE:-cpu}" = cpu ]; then export MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=17179869184; fi
mkdir -p "$out/rows" "$out/models"
tool() { "${PYTHON:-python3}" -m llmtool "$@"; }
calibration=() texts=() tasks=()
for file in $CALIBRATION; do calibration+=(--calibration "$file"); done
for text in $TEXTS; do texts+=(--text "$text"); done
if [ -n "${TASKS:-}" ]; then tasks=(--tasks "$TASKS" --task-files "${TASK_FILES:-.}"); fi

score() {  # NAME CHECKPOINT SECONDS: the row's figures, written when they are whole
    "${PYTHON:-python3}" "$here/real_model_score.py" "$2" "${texts[@]}" "${tasks[@]}" --tokens "${SCORED:-4096}" \
        --length "$length" --device "${DEVICE:-cpu}" --seconds "$3" > "$out/rows/$1.part"
    mv "$out/rows/$1.part" "$out/rows/$1.json"
}
wanted() { [[ $1 =~ ${ONLY:-.} ]]; }
new_parts() {  # NAME: what was not in the checkpoint before, as options of `train`
    new=()
    case $1 in *uniattn*) new+=(--only '*.compensation.*') ;; esac
    case $1 in dsmoe*|topk*) new+=(--only '*.mlp.router.*') ;; esac
    case $1 in dsmoe-unit*|dsmoe-best*|dsmoe-contiguous*) new+=(--only '*.mlp.off_mean') ;; esac
}
stages() {  # NAME: the trained rows, heal or all
    new_parts "$1"
    if [ "$heal" != 0 ] && [ ${#new[@]} != 0 ]; then echo "heal$heal"; fi
    if [ "$tokens" != 0 ]; then echo "$tokens"; fi
}
complete() {  # NAME: all of its rows are there
    [ -f "$out/rows/$1.json" ] || return 1
    for stage in $(stages "$1"); do
        for seed in $seeds; do [ -f "$out/rows/$1+$stage+$seed.json" ] || return 1; done
    done
}
train() {  # NAME CHECKPOINT STAGE SEED: the same command resumes
    local output=$out/models/$1+$3+$4 count=${3#heal} extra=(--lr "${LR:-2e-5}")
    if [ "$count" != "$3" ]; then new_parts "$1"; extra=(--lr "${HEAL_LR:-2e-4}" "${new[@]}"); fi
    local share=${1##*-}
    case $1 in dsmoe*) extra+=(--set "dsmoe.target-share=0.$share" --set dsmoe.rate=1.05) ;; esac
    local common=(--output "$output" --batch 2048 --length "$length" --seed "$4" --device "${DEVICE:-cpu}")
    if [ "${FORMAT:-text}" = chat ]; then
        tool posttrain sft "$2" "$TRAIN" "${common[@]}" --steps $((count / 2048)) "${extra[@]}"
    else
        tool train "$TRAIN" --model "$2" "${common[@]}" --tokens "$count" --keep 1 "${extra[@]}"
    fi
}
row() {  # NAME CHECKPOINT verb...: convert CHECKPOINT by `llmtool convert verb... CHECKPOINT OUTPUT`, score, train, score
    local name=$1 from=$2 model=$out/models/$1 begun; shift 2
    if ! wanted "$name" || complete "$name"; then return; fi
    printf '\n%s%s%s\n' "$bold" "$name" "$plain" >&2
    begun=$SECONDS
    if [ "$1" = none ]; then model=$from; elif [ ! -f "$model/run.json" ]; then
        tool convert "$@" "$from" "$model" "${options[@]}"
    fi
    [ -f "$out/rows/$name.json" ] || score "$name" "$model" $((SECONDS - begun))
    for stage in $(stages "$name"); do
        for seed in $seeds; do
            [ -f "$out/rows/$name+$stage+$seed.json" ] && continue
            begun=$SECONDS
            train "$name" "$model" "$stage" "$seed"
            score "$name+$stage+$seed" "$out/models/$name+$stage+$seed" $((SECONDS - begun))
            [ -n "${KEEP:-}" ] || rm -r "${out:?}/models/$name+$stage+$seed"
        done
    done
    if [ -z "${KEEP:-}" ] && [ "$model" != "$from" ] && [ "$name" != uniattn-refit-20 ]; then rm -r "$model"; fi
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
    names=(uniattn uniattn-refit uniattn-identity softmax-matched softmax-only cla)
    for name in "${names[@]}"; do
        if wanted "$name-$saved" && ! complete "$name-$saved" && [ ! -f "$plan" ]; then
            tool eval attention "$ckpt" "${data[@]}" --plan-by "${PLAN_BY:-head-by-head}" --samples 16 \
                --window $((length < 256 ? length : 256)) --kv-saving "0.$saved" --output "$plan"
        fi
    done
    options=(--plan "$plan" "${calibration[@]}" --samples $((3 * ${CALIBRATED:-8192} / length)) --window "$length")
    row "uniattn-$saved" "$ckpt" uniattn --heads matched
    row "uniattn-refit-$saved" "$ckpt" uniattn --heads matched --refit
    row "uniattn-identity-$saved" "$ckpt" uniattn --heads identity
    row "softmax-matched-$saved" "$ckpt" uniattn --heads matched --sharing softmax-only
    options=(--plan "$plan")
    row "softmax-only-$saved" "$ckpt" uniattn --heads identity --sharing softmax-only
    row "cla-$saved" "$ckpt" uniattn --sharing cla
done
if [ -d "$out/models/uniattn-refit-20" ]; then
    options=("${fit[@]}" --share 0.75 --off-mean --refit)
    row "dsmoe-best8+uniattn20-75" "$out/models/uniattn-refit-20" dsmoe
fi
"${PYTHON:-python3}" "$here/real_model_table.py" "$out"
