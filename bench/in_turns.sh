#!/bin/sh
# SPDX-License-Identifier: MIT
# Runs given commands in turns, so that a drift of the machine meets all of them, and compares what they say: medians, extremes, and
# each median as a multiple of the first. A command says the number on the last line of what it prints; with -w its wall time in
# seconds counts instead.
#   sh bench/in_turns.sh [-w] ROUNDS NAME=COMMAND ...
# Commands are lines for `sh`. For instance: sh bench/in_turns.sh 5 \
#   'ours=blockattn bench --shape llama-3.2-1b --context 2048 --no-full --repeats 1 --json | jq .encode_tok_s' \
#   'theirs=llama-bench -m model.gguf -t 2 -p 512 -n 0 -r 1 -o json | jq ".[0].avg_ts"'
set -eu
usage() {
  sed -n '3,9s/^# //p' "$0" >&2
  exit 2
}
wall=
if [ "${1-}" = -w ]; then
  wall=yes
  shift
fi
[ $# -ge 2 ] || usage
rounds=$1
shift
case $rounds in '' | 0 | *[!0-9]*) usage ;; esac
for given; do
  case $given in ?*=?*) ;; *) usage ;; esac
done

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
round=0
while [ "$round" -lt "$rounds" ]; do
  round=$((round + 1))
  for given; do
    name=${given%%=*}
    start=$(date +%s.%N)
    if ! sh -c "${given#*=}" >"$folder/out" 2>"$folder/err"; then
      echo "$name: its command failed in round $round" >&2
      tail -n 5 "$folder/err" >&2
      exit 1
    fi
    end=$(date +%s.%N)
    if [ -n "$wall" ]; then
      value=$(awk -v a="$start" -v b="$end" 'BEGIN { printf "%.3f", b - a }')
    else
      value=$(tail -n 1 "$folder/out" | awk '{ gsub(/^[ \t]+|[ \t\r]+$/, "") } 1')
      if ! echo "$value" | grep -Eq '^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?$'; then
        echo "$name: the last line must be a number, found \"$value\"" >&2
        exit 1
      fi
    fi
    echo "round $round: $name $value" >&2
    printf '%s\t%s\n' "$name" "$value" >>"$folder/values"
  done
done

# Sorted by value, so that the middle of each name's list is its median; names in the order given.
for given; do printf '%s\n' "${given%%=*}"; done >"$folder/names"
sort -t "$(printf '\t')" -k 2,2g "$folder/values" | awk -F '\t' -v names="$folder/names" '
  { count[$1]++; value[$1, count[$1]] = $2 }
  END {
    printf "%-24s %12s %12s %12s %12s\n", "", "median", "least", "most", "of the first"
    while ((getline name < names) > 0) {
      n = count[name]
      median = (value[name, int((n + 1) / 2)] + value[name, int(n / 2) + 1]) / 2
      if (!rows++) first = median
      printf "%-24s %12g %12g %12g %12s\n", name, median, value[name, 1], value[name, n], first ? sprintf("%.3f", median / first) : "-"
    }
  }'
