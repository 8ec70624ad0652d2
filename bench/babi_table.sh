#!/bin/sh
# SPDX-License-Identifier: MIT
# Five bAbI tasks with a sentence a block: trains a base with full attention on stories without end, fine-tunes it for blocks on others,
# and measures every row on bAbI's own files, which no run has seen: the last 500 questions of each task. Runs that were stopped go on.
#   sh bench/babi_table.sh PROGRAM FOLDER DATA [SEED]
# PROGRAM is the built `blockattn`; FOLDER keeps models, checkpoints and logs; DATA holds the files of the tasks
# (qa1_..._train.txt of the set with 10,000 questions a task); another SEED (0) draws weights and stories anew.
set -eu
[ $# -ge 3 ] || { sed -n '3,7s/^# //p' "$0" >&2; exit 2; }
program=$1
folder=$2
data=$3
seed=${4:-0}
mkdir -p "$folder"

if [ ! -f "$folder/test.jsonl" ]; then
  rm -f "$folder"/valid.jsonl "$folder"/test.jsonl.part
  for task in 1 5 6 11 12; do
    "$program" babi "$data"/qa"${task}"_*_train.txt --group 1 --out "$folder/task.jsonl"
    sed -n '9401,9460p' "$folder/task.jsonl" >>"$folder/valid.jsonl"
    sed -n '9501,10000p' "$folder/task.jsonl" >>"$folder/test.jsonl.part"
  done
  mv "$folder/test.jsonl.part" "$folder/test.jsonl"
fi

common="--valid $folder/valid.jsonl --valid-count 300 --valid-every 500 --schedule linear --warmup 100 --beta2 0.98
  --loss dense --dense-weight 0.05 --products bf16 --batch-tokens 2048 --template plain --seed $seed"
questions=$folder/test.jsonl
kinds="qa1 qa5 qa6 qa11 qa12"
. "$(dirname "$0")/support/table.sh"

train base --new 128,6,4,4,384 --deviation 0.08 --pieces 900 --train "stories:$((1 + 10 * seed))" --mode full --steps 5000 --curriculum 0.85 --lr 1.5e-3
train tuned --model "$folder/base.gguf" --train "stories:$((2 + 10 * seed))" --mode both --steps 4000 --lr 1e-3

echo "| weights, run as | all | 1 | 5 | 6 | 11 | 12 |"
echo "|---|---|---|---|---|---|---|"
row "base, full" base --mode full
row "base, blocks without fine-tuning" base
row "tuned, blocks" tuned
row "tuned, full" tuned --mode full
row "tuned, blocks without positions" tuned --position none
