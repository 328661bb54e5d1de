#!/usr/bin/env bash
# Run every step: photos to submission.csv, scores and an HTML report.
#
#   bash run_all.sh                                       drawn sample people; their scores mean nothing
#   DATA_DIR=/my/data bash run_all.sh                     your photos, in one of the layouts of README.md
#   DATA_DIR=/my/data PROFILE=quick RUN=first bash run_all.sh --loss focal
#
# DATA_DIR  folder of photos, only read (default: sample_data, drawn if missing)
# PROFILE   smoke | quick | full (default: smoke for the sample; else full with a GPU, quick without)
# RUN       name of the run; results go to outputs/RUN (default: default, or sample)
# CROP_DIR  folder of the crops (default: crop_images, or crop_images_sample)
# CHECK     0 skips the check of a data set whose faces have not been detected yet
# REPORT    0 skips the last step, the page outputs/RUN/report/index.html
# OFFLINE   1 refuses connections to other machines
# PYTHON    interpreter to use; TORCH_INDEX_URL  further package index for torch
#
# All other flags go to train.py. After a stop, run the same command again: finished work is kept.
set -uo pipefail

# Relative paths are meant from where the command was typed.
[ -z "${DATA_DIR:-}" ] || DATA_DIR=$(cd "$DATA_DIR" 2>/dev/null && pwd || echo "$DATA_DIR")
cd "$(dirname "$0")" || exit
case "${1:-}" in -h | --help) sed -n '2,19s/^# \{0,1\}//p' run_all.sh; exit 0 ;; esac

step() { # step NAME COMMAND...: run it; stop at the first that fails, with its name and its exit code
    local name=$1 began=$SECONDS code
    shift
    printf '\n== %s\n' "$name"
    "$@"
    code=$?
    if [ $code -ne 0 ]; then
        echo "run_all.sh stopped at step '$name' (exit code $code); run it again to go on from there" >&2
        exit $code
    fi
    echo "-- $name: $((SECONDS - began)) s"
}

. scripts/environment.sh
step environment ensure_python requirements.txt

SAMPLE=
if [ -z "${DATA_DIR:-}" ]; then
    SAMPLE=yes
    DATA_DIR=sample_data
    PROFILE=${PROFILE:-smoke}
fi
RUN_DIR=outputs/${RUN:-${SAMPLE:+sample}}
[ "$RUN_DIR" != outputs/ ] || RUN_DIR=outputs/default
CROP_DIR=${CROP_DIR:-crop_images${SAMPLE:+_sample}}
TASKS=$("$PYTHON" -m core.tasks) || exit
TRAIN=(train.py --task $TASKS ${PROFILE:+--profile "$PROFILE"} --crop-dir "$CROP_DIR" --run-dir "$RUN_DIR" "$@")

# A mistyped flag shall stop the run now, not after the faces are found.
step settings "$PYTHON" "${TRAIN[@]}" --show-settings >/dev/null
[ -z "$SAMPLE" ] || step "sample people" "$PYTHON" -m synthesis.drawn.sample --out "$DATA_DIR"
# A data set is looked at once: later runs have its faces already.
[ -n "$SAMPLE" ] || [ "${CHECK:-1}" = 0 ] || [ -e "$CROP_DIR/faces.csv" ] \
    || step "check data" "$PYTHON" -m check_data --data-dir "$DATA_DIR" --crop-dir "$CROP_DIR"
step "detect faces" "$PYTHON" preprocessing/detect_faces.py --data-dir "$DATA_DIR" --crop-dir "$CROP_DIR"
step "crop faces" "$PYTHON" preprocessing/crop_faces.py --crop-dir "$CROP_DIR"
step train "$PYTHON" "${TRAIN[@]}"
step inference "$PYTHON" inference.py --run-dir "$RUN_DIR"
step ensemble "$PYTHON" ensemble.py --run-dir "$RUN_DIR"
step submission "$PYTHON" submission.py --run-dir "$RUN_DIR"
[ "${REPORT:-1}" = 0 ] || step report "$PYTHON" -m reporting --run-dir "$RUN_DIR"

echo
[ -z "$SAMPLE" ] || echo "These are drawn people and a training of seconds: the scores mean nothing. Set DATA_DIR to your photos."
echo "done in $((SECONDS / 60)) min $((SECONDS % 60)) s: $RUN_DIR/submission.csv, scores in $RUN_DIR/scores.json"
[ "${REPORT:-1}" = 0 ] || echo "a page about the run: $RUN_DIR/report/index.html"
