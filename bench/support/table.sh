# SPDX-License-Identifier: MIT
# What the scripts of accuracy tables share; they set `program`, `folder`, `common` (options of every run), `questions` (what rows
# are measured on) and `kinds`. A run keeps its checkpoint, log and model in the folder under its name, and goes on if it was stopped.
support=$(dirname "$0")/support

train() {
  name=$1
  shift
  [ -f "$folder/$name.gguf" ] && return
  # shellcheck disable=SC2086
  "$program" finetune $common "$@" --checkpoint "$folder/$name.run" --log "$folder/$name.log" --save "$folder/$name.gguf.part" >&2
  mv "$folder/$name.gguf.part" "$folder/$name.gguf"
}

# row WHAT MODEL [OPTION ...]: a line of the table.
row() {
  what=$1 model=$2
  shift 2
  "$program" score --model "$folder/$model.gguf" --dataset "$questions" --template plain --max-tokens 5 --kv f32 --json "$@" 2>/dev/null |
    awk -v what="$what" -v kinds="$kinds" -f "$support/score_row.awk"
}
