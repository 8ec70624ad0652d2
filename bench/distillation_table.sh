#!/bin/sh
# SPDX-License-Identifier: MIT
# Ways to fine-tune for blocks, side by side, on bAbI: the paper's recipe, the same with sinks before each passage, and block
# distillation from the base itself, alone and with what belongs to it. Begins from the base of bench/babi_table.sh, in its folder.
#   sh bench/distillation_table.sh PROGRAM FOLDER [SEED]
set -eu
[ $# -ge 2 ] || { sed -n '3,5s/^# //p' "$0" >&2; exit 2; }
program=$1
folder=$2
seed=${3:-0}
[ -f "$folder/base.gguf" ] && [ -f "$folder/test.jsonl" ] || { echo "$folder: expected base.gguf and test.jsonl; run bench/babi_table.sh first" >&2; exit 2; }

common="--model $folder/base.gguf --train stories:$((2 + 10 * seed)) --steps 2000 --valid $folder/valid.jsonl --valid-count 300 --valid-every 500
  --schedule linear --warmup 100 --beta2 0.98 --lr 1e-3 --loss dense --dense-weight 0.05 --products bf16 --batch-tokens 2048
  --template plain --seed $seed"
questions=$folder/test.jsonl
kinds="qa1 qa5 qa6 qa11 qa12"
. "$(dirname "$0")/support/table.sh"
teacher="--teacher $folder/base.gguf"

echo "| way | tokens a second | all | 1 | 5 | 6 | 11 | 12 |"
echo "|---|---|---|---|---|---|---|---|"
way() {
  what=$1 name=$2
  shift 2
  train "$name" "$@"
  speed=$(sed -n 's/.*"tokens_s":\([0-9]*\).*/\1/p' "$folder/$name.log" | tail -n 1)
  row "$what | $speed" "$name"
  row "the same, full | $speed" "$name" --mode full
}
way "answers, both masks (the paper's)" paper --mode both
way "answers, both masks, 4 sinks" sinks --mode both --sinks 4
# shellcheck disable=SC2086
way "distilled, both masks" distilled --mode both $teacher
# shellcheck disable=SC2086
way "distilled, focus 4, answers beside" focused --mode both $teacher --focus 4 --hard 1
# shellcheck disable=SC2086
way "the same, 4 sinks" focused_sinks --mode both $teacher --focus 4 --hard 1 --sinks 4
# shellcheck disable=SC2086
way "the same without sinks, a tenth of the blocks left out" dropped --mode both $teacher --focus 4 --hard 1 --drop-blocks 0.1
way "answers, block mask alone" block_only --mode block
