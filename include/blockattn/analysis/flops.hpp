// SPDX-License-Identifier: MIT
/// How much arithmetic a first token costs: as the paper counts it, and exactly.
///
/// **The paper** (table 3, "FLOPs-TFT") counts two operations for each parameter of a matrix and each token that is
/// computed, the output head for every token included, and nothing for attention:
///
///     F = 2 (N_body + N_head) tokens        N_body = L (2 d H h + 2 d KV h + 3 d ff)        N_head = d V
///
/// It prints truncated digits, and reductions as truncated ratios of the printed cells. `printed_flops` and
/// `printed_reduction` do the same, so that `paper_table` gives every printed cell.
///
/// **The exact count** adds attention, 4 operations for each head dim of each pair of a query and a key it sees, and
/// what moving blocks costs. The final block then grows with the context: for Llama-3.1-8B at 32K it is 1.61e12, not
/// the constant 7.5e11. Norms, activations, softmax's exponentials and the first rotation are in neither count.
#pragma once

#include <array>
#include <charconv>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "../core/config.hpp"
#include "../model/config.hpp"

namespace blockattn::inline v0::analysis {

// ---------------------------------------------------------------------------------------------------- what is counted

/// Parameters of the matrices that every token goes through. Embeddings are looked up, so they count as a head only.
struct matrix_parameters {
  std::uint64_t body = 0;
  std::uint64_t head = 0;

  [[nodiscard]] constexpr std::uint64_t total() const noexcept { return body + head; }
};

[[nodiscard]] constexpr matrix_parameters count_parameters(const model_config& c) noexcept {
  const std::uint64_t d = c.dim, h = c.head_dim;
  const std::uint64_t layer = 2 * d * c.heads * h + 2 * d * c.kv_heads * h + 3 * d * c.ffn;
  return {c.layers * layer, d * c.vocab};
}

/// A prompt in blocks: the lengths of the local blocks, which of them were in the cache, and the final block.
struct request {
  std::vector<std::size_t> blocks;
  std::vector<bool> hit;  // one for each block, or empty: every block was cached
  std::size_t final_tokens = 0;

  [[nodiscard]] std::size_t context_tokens() const noexcept {
    std::size_t sum = 0;
    for (const std::size_t n : blocks) sum += n;
    return sum;
  }
  [[nodiscard]] std::size_t tokens() const noexcept { return context_tokens() + final_tokens; }
  [[nodiscard]] bool is_hit(std::size_t block) const { return hit.empty() || hit[block]; }
  [[nodiscard]] std::size_t missed_tokens() const {
    std::size_t sum = 0;
    for (std::size_t b = 0; b < blocks.size(); ++b) sum += is_hit(b) ? 0 : blocks[b];
    return sum;
  }
};

/// Full attention against Block-Attention, for the same prompt.
struct comparison {
  double full = 0;
  double block = 0;

  /// The share that is saved, 0 to 1; 0 for an empty prompt.
  [[nodiscard]] constexpr double reduction() const noexcept { return full > 0 ? 1.0 - block / full : 0.0; }
};

// ---------------------------------------------------------------------------------------------------- the paper's
// count

/// FLOPs of `tokens` computed tokens. Exact integers: 2^64 is reached by 400 billion parameters over 2e7 tokens.
[[nodiscard]] constexpr std::uint64_t paper_flops(const model_config& c, std::size_t tokens) noexcept {
  return 2 * count_parameters(c).total() * tokens;
}

/// The paper's count of a request; with every block cached the block side is the final block alone.
[[nodiscard]] inline comparison paper_comparison(const model_config& c, const request& r) {
  return {static_cast<double>(paper_flops(c, r.tokens())),
          static_cast<double>(paper_flops(c, r.final_tokens + r.missed_tokens()))};
}

/// Expected FLOPs when each context token is found with probability `hit_rate`: 2N (q + (1 - h)(n - q)).
[[nodiscard]] inline double paper_flops_at(const model_config& c, std::size_t context_tokens, std::size_t final_tokens,
                                           double hit_rate) noexcept {
  const double computed = static_cast<double>(final_tokens) + (1 - hit_rate) * static_cast<double>(context_tokens);
  return 2.0 * static_cast<double>(count_parameters(c).total()) * computed;
}

// ---------------------------------------------------------------------------------------------------- the exact count

/// Floating-point operations by what they are for. Doubles: exact to 2^53, then to one part in 10^16.
struct flop_count {
  double linear = 0;     // matrix products
  double attention = 0;  // scores, and values weighted by them
  double turning = 0;    // keys or queries rotated because a block moved

  [[nodiscard]] constexpr double total() const noexcept { return linear + attention + turning; }
  friend constexpr flop_count operator+(flop_count a, flop_count b) noexcept {
    return {a.linear + b.linear, a.attention + b.attention, a.turning + b.turning};
  }
  friend constexpr flop_count operator*(double factor, flop_count a) noexcept {
    return {factor * a.linear, factor * a.attention, factor * a.turning};
  }
};

/// Whose logits are computed: the paper's count implies all positions; a first token needs the last only.
enum class logits_of { all, last };

/// What turns when a block is moved: its keys once, or the queries once for each block, or nothing.
enum class turning_of { keys, queries, nothing };

struct exact_options {
  logits_of logits = logits_of::all;
  turning_of turning = turning_of::queries;
};

/// How many (query, key) pairs a causal layer sees over n tokens: n(n+1)/2, or fewer with a sliding window.
[[nodiscard]] constexpr double visible_pairs(std::size_t tokens, std::int64_t window) noexcept {
  const auto n = static_cast<double>(tokens);
  const auto w = static_cast<double>(window);
  if (n <= w) return n * (n + 1) / 2;
  return w * (w + 1) / 2 + (n - w) * w;
}

/// Attention FLOPs of queries [first, last) of a causal sequence, over all layers.
[[nodiscard]] inline double attention_flops(const model_config& c, std::size_t first, std::size_t last) noexcept {
  double pairs = 0;
  for (std::size_t l = 0; l < c.layers; ++l)
    pairs += visible_pairs(last, c.window(l)) - visible_pairs(first, c.window(l));
  return 4.0 * c.heads * c.head_dim * pairs;
}

/// FLOPs of rotating the keys of `tokens` tokens, or their queries: two products and a sum for each dim that turns.
[[nodiscard]] inline double turning_flops(const model_config& c, std::size_t tokens, bool queries) noexcept {
  return 3.0 * c.layers * (queries ? c.heads : c.kv_heads) * c.rope.rotary_dim * static_cast<double>(tokens);
}

/// Ordinary causal prefill of n tokens.
[[nodiscard]] inline flop_count exact_full(const model_config& c, std::size_t tokens,
                                           logits_of logits = logits_of::all) noexcept {
  const matrix_parameters n = count_parameters(c);
  const std::size_t rows = logits == logits_of::all || tokens == 0 ? tokens : 1;
  return {2.0 * static_cast<double>(n.body) * static_cast<double>(tokens) +
              2.0 * static_cast<double>(n.head) * static_cast<double>(rows),
          attention_flops(c, 0, tokens), 0.0};
}

/// Encoding one local block: it sees itself only, and nobody asks for its logits.
[[nodiscard]] inline flop_count exact_encode(const model_config& c, std::size_t tokens) noexcept {
  return {2.0 * static_cast<double>(count_parameters(c).body) * static_cast<double>(tokens),
          attention_flops(c, 0, tokens), 0.0};
}

/// The final block of a request over a context that is there already, and the turning of the blocks in it. The block
/// that stands at position 0 does not turn.
[[nodiscard]] inline flop_count exact_final(const model_config& c, const request& r, exact_options options = {}) {
  flop_count count = exact_full(c, r.final_tokens, options.logits);
  count.attention = attention_flops(c, r.context_tokens(), r.tokens());
  std::size_t start = 0;
  for (const std::size_t tokens : r.blocks) {
    if (start != 0 && tokens != 0) {
      if (options.turning == turning_of::keys) count.turning += turning_flops(c, tokens, false);
      if (options.turning == turning_of::queries) count.turning += turning_flops(c, r.final_tokens, true);
    }
    start += tokens;
  }
  return count;
}

/// A request as it runs: the missing blocks are encoded, then the final block.
[[nodiscard]] inline flop_count exact_block(const model_config& c, const request& r, exact_options options = {}) {
  flop_count count = exact_final(c, r, options);
  for (std::size_t b = 0; b < r.blocks.size(); ++b)
    if (!r.is_hit(b)) count = count + exact_encode(c, r.blocks[b]);
  return count;
}

/// The expectation of `exact_block` when each block is found with probability `hit_rate`.
[[nodiscard]] inline flop_count exact_block_at(const model_config& c, const request& r, double hit_rate,
                                               exact_options options = {}) {
  flop_count encoding;
  for (const std::size_t tokens : r.blocks) encoding = encoding + exact_encode(c, tokens);
  return exact_final(c, r, options) + (1 - hit_rate) * encoding;
}

[[nodiscard]] inline comparison exact_comparison(const model_config& c, const request& r, exact_options options = {}) {
  return {exact_full(c, r.tokens(), options.logits).total(), exact_block(c, r, options).total()};
}

// ---------------------------------------------------------------------------------------------------- the tables

/// Digits and a power of ten: 75 and 10 are 7.5e11.
struct printed_flops {
  std::uint64_t digits = 0;
  int exponent = 0;

  /// `"7.5e11"`.
  [[nodiscard]] std::string text() const {
    const std::string all = std::to_string(digits);
    std::string out = all.substr(0, 1);
    if (all.size() > 1) out += "." + all.substr(1);
    return out + "e" + std::to_string(exponent + static_cast<int>(all.size()) - 1);
  }
};

/// The first digits of a count, the rest cut off, as the paper prints.
[[nodiscard]] constexpr printed_flops truncate(std::uint64_t count, int digits) noexcept {
  std::uint64_t limit = 1;
  for (int i = 0; i < digits; ++i) limit *= 10;
  printed_flops out{count, 0};
  while (out.digits >= limit) {
    out.digits /= 10;
    ++out.exponent;
  }
  return out;
}

/// The reduction between two printed cells, cut to one decimal: `"90.1%"`; `"-"` where nothing is saved.
/// Integers throughout: 1 - 7.5e11/1.5e13 is 95.0 exactly, and a double would print 94.9.
[[nodiscard]] inline std::string printed_reduction(printed_flops full, printed_flops block) {
  while (block.exponent > full.exponent && block.digits < (1u << 30)) {
    block.digits *= 10;
    --block.exponent;
  }
  while (full.exponent > block.exponent && full.digits < (1u << 30)) {
    full.digits *= 10;
    --full.exponent;
  }
  if (full.exponent != block.exponent || block.digits >= full.digits) return "-";
  const std::uint64_t per_mille = (full.digits - block.digits) * 1000 / full.digits;
  return std::to_string(per_mille / 10) + "." + std::to_string(per_mille % 10) + "%";
}

/// A column of table 3: a total length, and how many digits the paper prints of its full count.
struct paper_column {
  std::size_t tokens;
  std::string_view label;
  int digits;
};

/// The columns of table 3. (16K alone is printed with three digits.)
inline constexpr std::array<paper_column, 8> paper_columns{{{50, "50", 2},
                                                            {512, "512", 2},
                                                            {1024, "1K", 2},
                                                            {2048, "2K", 2},
                                                            {4096, "4K", 2},
                                                            {8192, "8K", 2},
                                                            {16384, "16K", 3},
                                                            {32768, "32K", 2}}};

/// The question of table 3.
inline constexpr std::size_t paper_question = 50;

/// One column as printed.
struct paper_cells {
  std::string full, block, reduction;
};

[[nodiscard]] inline paper_cells paper_column_cells(const model_config& c, const paper_column& column,
                                                    std::size_t question = paper_question) {
  const printed_flops full = truncate(paper_flops(c, column.tokens), column.digits);
  const printed_flops block = truncate(paper_flops(c, question), 2);
  return {full.text(), block.text(), printed_reduction(full, block)};
}

/// The shape that the paper's figures fit: Llama-3.1-8B.
[[nodiscard]] inline model_config llama_3_1_8b() {
  model_config c;
  c.layers = 32;
  c.dim = 4096;
  c.heads = 32;
  c.kv_heads = 8;
  c.head_dim = 128;
  c.ffn = 14336;
  c.vocab = 128256;
  c.context_length = 131072;
  c.rope.theta = 500000.0;
  c.rope.rotary_dim = 128;
  c.rope.scaling = rope_scaling::llama3;
  c.rope.factor = 8;
  c.rope.original_context = 8192;
  return c;
}

/// A number with this many decimals of its leading digit, rounded: `"7.685e12"`.
[[nodiscard]] inline std::string scientific(double value, int decimals) {
  std::array<char, 64> buffer{};  // to_chars: the same in every locale
  const auto end =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, std::chars_format::scientific, decimals);
  std::string text(buffer.data(), end.ec == std::errc() ? end.ptr : buffer.data());
  const std::size_t e = text.find('e');
  if (e == std::string::npos) return text;
  std::size_t digit = text[e + 1] == '+' || text[e + 1] == '-' ? e + 2 : e + 1;
  while (digit + 1 < text.size() && text[digit] == '0') ++digit;
  return text.substr(0, e + 1) + (text[e + 1] == '-' ? "-" : "") + text.substr(digit);
}

/// A share as a percentage with two decimals, rounded: `"98.70%"`.
[[nodiscard]] inline std::string percent(double share) {
  std::array<char, 64> buffer{};
  const auto end =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), 100 * share, std::chars_format::fixed, 2);
  return std::string(buffer.data(), end.ec == std::errc() ? end.ptr : buffer.data()) + "%";
}

namespace detail {
inline void cell(std::string& line, std::string_view text, std::size_t width) {
  if (text.size() < width) line.append(width - text.size(), ' ');
  line += text;
}
}  // namespace detail

/// Table 3's FLOPs rows, cell for cell, as aligned text.
[[nodiscard]] inline std::string paper_table(const model_config& c = llama_3_1_8b()) {
  std::array<std::string, 4> lines{"total length   ", "FLOPs-TFT full ", "FLOPs-TFT block", "reduction      "};
  for (const paper_column& column : paper_columns) {
    const paper_cells cells = paper_column_cells(c, column);
    detail::cell(lines[0], column.label, 9);
    detail::cell(lines[1], cells.full, 9);
    detail::cell(lines[2], cells.block, 9);
    detail::cell(lines[3], cells.reduction, 9);
  }
  return lines[0] + "\n" + lines[1] + "\n" + lines[2] + "\n" + lines[3] + "\n";
}

/// The exact count for the same lengths: the context is cached and lies in blocks of `block_tokens`.
[[nodiscard]] inline std::string exact_table(const model_config& c = llama_3_1_8b(), std::size_t block_tokens = 512,
                                             std::size_t question = paper_question, exact_options options = {}) {
  BLOCKATTN_EXPECTS(block_tokens > 0);
  std::string out = "  length  full linear  full attn.  block linear  block attn.   turning  reduction\n";
  for (const paper_column& column : paper_columns) {
    request r;
    r.final_tokens = column.tokens < question ? column.tokens : question;
    for (std::size_t left = column.tokens - r.final_tokens; left > 0;) {
      r.blocks.push_back(left < block_tokens ? left : block_tokens);
      left -= r.blocks.back();
    }
    const flop_count full = exact_full(c, column.tokens, options.logits);
    const flop_count block = exact_block(c, r, options);
    detail::cell(out, column.label, 8);
    detail::cell(out, scientific(full.linear, 3), 13);
    detail::cell(out, scientific(full.attention, 2), 12);
    detail::cell(out, scientific(block.linear, 3), 14);
    detail::cell(out, scientific(block.attention, 2), 13);
    detail::cell(out, block.turning > 0 ? scientific(block.turning, 1) : "0", 10);
    detail::cell(out, percent(exact_comparison(c, r, options).reduction()), 11);
    out += "\n";
  }
  return out;
}

}  // namespace blockattn::inline v0::analysis
