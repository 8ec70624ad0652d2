// SPDX-License-Identifier: MIT
/// A training sample: a context of blocks and the questions that share it, as token ids with the weight of each.
///
/// The rows of a sample are its context blocks, one after another, then its *branches*: final blocks in the sense of the
/// paper (section 2.1), each a question with its answer. A branch sees the whole context and itself causally, never
/// another branch, and its positions begin at the context's length, so each is what inference computes for it alone.
#pragma once

#include <cmath>
#include <cstdint>
#include <string_view>
#include <vector>

#include "../core/config.hpp"
#include "../core/result.hpp"
#include "../model/config.hpp"

namespace blockattn::inline v0 {

/// What a row of the context sees: the context before it, or only its own block before it. Branches see the same in both.
enum class mask_mode : std::uint8_t { full, block };

[[nodiscard]] constexpr std::string_view to_string(mask_mode mode) noexcept {
  return mode == mask_mode::full ? "full" : "block";
}

/// One context and its branches. Ends count tokens from the start of `ids`, each beyond the one before.
struct training_sample {
  std::vector<token> ids;                  // the context's blocks, then the branches
  std::vector<std::uint32_t> block_ends;   // of each context block; empty: no context
  std::vector<std::uint32_t> branch_ends;  // of each branch; the last is ids.size()
  /// Weight of the loss of predicting ids[i], 0 for ignored; one for each id. A token is predicted from the row before it
  /// in its block or branch (mode full: in the context or branch); where there is none its weight is not used.
  std::vector<float> weights;

  /// Tokens of the context.
  [[nodiscard]] std::uint32_t context() const noexcept { return block_ends.empty() ? 0 : block_ends.back(); }
};

/// A sample as it is to be run: under which mask, and how much its loss counts.
struct training_item {
  const training_sample* sample = nullptr;
  mask_mode mode = mask_mode::block;
  float scale = 1;  // multiplies the weights
};

/// Checks a sample against the model it is for. Errors: `invalid_argument` names the list, what was expected and found.
[[nodiscard]] inline result<void> validate(const training_sample& sample, const model_config& config) {
  const std::size_t n = sample.ids.size();
  if (n == 0 || n > (std::size_t{1} << 30))
    return fail(errc::invalid_argument, "sample: expected 1 to 2^30 tokens, found ", n);
  if (sample.weights.size() != n)
    return fail(errc::invalid_argument, "sample weights: expected one for each of ", n, " tokens, found ",
                sample.weights.size());
  if (sample.branch_ends.empty() || sample.branch_ends.back() != n)
    return fail(errc::invalid_argument, "sample branches: expected the last to end at ", n, ", found ",
                sample.branch_ends.empty() ? 0 : sample.branch_ends.back());
  std::uint32_t before = 0;
  for (const auto* ends : {&sample.block_ends, &sample.branch_ends})
    for (const std::uint32_t end : *ends) {
      if (end <= before)
        return fail(errc::invalid_argument, ends == &sample.block_ends ? "sample blocks" : "sample branches",
                    ": expected an end beyond ", before, ", found ", end);
      before = end;
    }
  for (std::size_t i = 0; i < n; ++i) {
    if (sample.ids[i] < 0 || static_cast<std::uint32_t>(sample.ids[i]) >= config.vocab)
      return fail(errc::invalid_argument, "sample token ", i, ": expected an id below ", config.vocab, ", found ",
                  sample.ids[i]);
    if (!std::isfinite(sample.weights[i]))
      return fail(errc::invalid_argument, "sample weight ", i, ": expected a finite number");
  }
  return {};
}

}  // namespace blockattn::inline v0
