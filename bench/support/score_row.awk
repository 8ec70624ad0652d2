# SPDX-License-Identifier: MIT
# A row of a table from what `score --json` prints: accuracy in percent with its interval, then of each kind.
#   awk -v what="tuned, blocks" -v kinds="one two" -f score_row.awk
function number(text, key) {
  if (!match(text, key "[0-9.e-]+")) return "nan"
  return substr(text, RSTART + length(key), RLENGTH - length(key))
}
{
  split($0, part, "\"kinds\":{")
  printf "| %s | %.1f (%.1f to %.1f) |", what, 100 * number(part[1], "\"accuracy\":"), 100 * number(part[1], "\"low\":"), 100 * number(part[1], "\"high\":")
  count = split(kinds, name, " ")
  for (k = 1; k <= count; ++k) printf " %.0f |", 100 * number(part[2], "\"" name[k] "\":{\"accuracy\":")
  printf "\n"
}
