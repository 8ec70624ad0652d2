// SPDX-License-Identifier: MIT
/// Several samples as the rows of one pass: where each row stands, which keys it sees, and what it is to predict.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "sample.hpp"

namespace blockattn::inline v0 {

/// Rows [first, last) of a pass.
struct row_range {
  std::size_t first = 0;
  std::size_t last = 0;
  [[nodiscard]] std::size_t size() const noexcept { return last - first; }
};

/// Rows that see each other causally; and the whole context of their sample, if they are a branch.
struct query_group {
  row_range rows;
  bool sees_context = false;
};

/// A sample in a pass. No key of it is seen from outside.
struct packed_sample {
  row_range context;
  row_range all;
  std::size_t first_group = 0, last_group = 0;  // of training_batch::groups
};

/// Row `row` is to predict `id`.
struct training_target {
  std::size_t row = 0;
  token id = 0;
  float weight = 0;         // of the loss, scale included
  std::size_t item = 0;     // which item of the batch
  bool in_branch = false;   // and not in the context
};

/// The rows of a pass. Plain data; attention costs only what groups name: a block-diagonal mask is never materialised.
struct training_batch {
  std::vector<token> ids;
  std::vector<std::uint32_t> positions;
  std::vector<query_group> groups;
  std::vector<packed_sample> samples;
  std::vector<training_target> targets;

  [[nodiscard]] std::size_t rows() const noexcept { return ids.size(); }

  void clear() noexcept {
    ids.clear(), positions.clear(), groups.clear(), samples.clear(), targets.clear();
  }

  /// Leaves out the targets of contexts. Those of branches are the same, in the same order, under either mask.
  void keep_branches() { std::erase_if(targets, [](const training_target& t) { return !t.in_branch; }); }

  /// Appends a sample, which must be valid. Targets of weight 0 are left out.
  void add(const training_item& item) {
    const training_sample& s = *item.sample;
    const std::size_t base = rows(), held = s.context();
    packed_sample packed{{base, base + held}, {base, base + s.ids.size()}, groups.size(), 0};
    ids.insert(ids.end(), s.ids.begin(), s.ids.end());
    for (std::size_t i = 0; i < held; ++i) positions.push_back(static_cast<std::uint32_t>(i));

    // Every run of rows that see each other predicts all its tokens but the first.
    const auto run = [&](std::size_t first, std::size_t last, bool branch) {
      groups.push_back({{base + first, base + last}, branch});
      if (branch)
        for (std::size_t i = first; i < last; ++i) positions.push_back(static_cast<std::uint32_t>(held + i - first));
      for (std::size_t i = first + 1; i < last; ++i)
        if (const float w = item.scale * s.weights[i]; w != 0.0f)
          targets.push_back({base + i - 1, s.ids[i], w, samples.size(), branch});
    };
    if (item.mode == mask_mode::full) {
      if (held != 0) run(0, held, false);
    } else {
      std::size_t first = 0;
      for (const std::uint32_t end : s.block_ends) run(first, end, false), first = end;
    }
    std::size_t first = held;
    for (const std::uint32_t end : s.branch_ends) run(first, end, true), first = end;
    packed.last_group = groups.size();
    samples.push_back(packed);
  }
};

/// The sum of the weights of what an item predicts, in all or in its branches, scale included.
[[nodiscard]] inline double predicted_weight(const training_item& item, bool branches_only = false) {
  training_batch alone;
  alone.add(item);
  if (branches_only) alone.keep_branches();
  double sum = 0;
  for (const training_target& t : alone.targets) sum += static_cast<double>(t.weight);
  return sum;
}

}  // namespace blockattn::inline v0
