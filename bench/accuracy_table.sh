#!/bin/sh
# SPDX-License-Identifier: MIT
# The table in miniature of docs/accuracy.md: trains a base, fine-tunes it for blocks, trains a control as long with full
# attention alone, and measures every row on worlds that no run has seen. Runs that were stopped go on.
#   sh bench/accuracy_table.sh PROGRAM FOLDER [SEED]
# PROGRAM is the built `blockattn`; FOLDER keeps models, checkpoints and logs; another SEED (0) draws weights and worlds anew.
set -eu
[ $# -ge 2 ] || { sed -n '3,7s/^# //p' "$0" >&2; exit 2; }
program=$1
folder=$2
seed=${3:-0}
mkdir -p "$folder"

# Worlds of training, by run; those of `--valid` and of the table have other seeds.
from() { echo "worlds:$((1 + $1 + 10 * seed))"; }
common="--valid worlds:900 --valid-count 40 --valid-every 500 --schedule linear --warmup 100 --beta2 0.98
  --loss dense --products bf16 --seed $seed"
# Fine-tuning asks more of each world: most of a sample is passages, and those are read anyway.
tuning="--steps 4000 --batch-tokens 3072 --questions 40 --lr 1.5e-3 --dense-weight 0.05"
questions=$folder/worlds.jsonl
kinds="one two later refer continued pronoun"
. "$(dirname "$0")/support/table.sh"

train lessons --new 128,6,4,4,384 --pieces 1700 --train "$(from 0)" --mode full --steps 6000 --batch-tokens 2048 --curriculum 0.6 --lr 2e-3 \
  --dense-weight 0.1
train base --model "$folder/lessons.gguf" --train "$(from 2)" --mode full --steps 3000 --batch-tokens 2048 --lr 2e-3 --dense-weight 0.05
# shellcheck disable=SC2086
train tuned --model "$folder/base.gguf" --train "$(from 1)" --mode both $tuning --save-format bf16 --plot "$folder/accuracy.svg"
# The samples of `tuned`, with full attention alone.
# shellcheck disable=SC2086
train control --model "$folder/base.gguf" --train "$(from 1)" --mode full $tuning

[ -f "$folder/worlds.jsonl" ] || "$program" worlds --seed 1001 --count 100 --out "$folder/worlds.jsonl"
echo "| weights, run as | all | one | two | later | refer | continued | pronoun |"
echo "|---|---|---|---|---|---|---|---|"
row "base, full" base --mode full
row "base, blocks without fine-tuning" base
row "tuned, blocks" tuned
row "tuned, full" tuned --mode full
row "tuned, blocks without positions" tuned --position none
row "control, full" control --mode full
row "control, blocks" control
