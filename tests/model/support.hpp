// SPDX-License-Identifier: MIT
/// What the model tests share: assembling a prompt through sessions, the same through the reference, differences.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "../support/catch.hpp"
#include "../support/random_model.hpp"
#include "blockattn/cache/kv_store.hpp"
#include "blockattn/core/thread_executor.hpp"
#include "blockattn/model/random_weights.hpp"
#include "blockattn/model/session.hpp"
#include "blockattn/reference/transformer.hpp"

namespace blockattn_test {

namespace ba = blockattn;

/// What a logit may differ by from an engine that shares no code with ours, weights and keys in f32.
inline constexpr double logit_gate = 1e-3;

using token_lists = std::vector<std::vector<ba::token>>;

/// Random blocks of the given lengths; the last is the final block.
inline token_lists random_blocks(const std::vector<std::size_t>& lengths, std::uint32_t vocab, std::uint64_t seed = 7) {
  random_numbers random(seed);
  token_lists out;
  for (const std::size_t n : lengths) out.push_back(random.tokens(n, vocab));
  return out;
}

/// Logits of every row of the final block, by encoding, assembling and prefilling. All blocks from `local` on join
/// the final block.
template <class Session>
std::vector<float> assembled_logits(Session& session, const token_lists& blocks,
                                    ba::position_policy policy = ba::position_policy::query_side,
                                    std::size_t local = 10000) {
  std::vector<ba::block_handle> handles;
  std::vector<ba::token> last;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    if (i + 1 < blocks.size() && i < local) {
      handles.push_back(session.encode(blocks[i]).value());
    } else {
      last.insert(last.end(), blocks[i].begin(), blocks[i].end());
    }
  }
  ba::context context(session, {.room = last.size() + 16, .position = policy});
  (void)context.assemble(handles).value();
  std::vector<float> logits(last.size() * session.model().config().vocab);
  session.prefill_logits(context, last, logits).value();
  return logits;
}

/// The same by the reference, in double.
inline std::vector<double> reference_logits(const ba::reference::transformer& model, const token_lists& blocks,
                                            ba::reference::position policy = ba::reference::position::key_side,
                                            std::size_t local = 10000) {
  const auto pass = model.answer(blocks, policy, local).value();
  std::vector<double> out;
  for (std::size_t r = 0; r < pass.logits.rows(); ++r)
    for (std::size_t c = 0; c < pass.logits.cols(); ++c) out.push_back(pass.logits(r, c));
  return out;
}

template <class A, class B>
double largest_difference(const A& a, const B& b) {
  REQUIRE(a.size() == b.size());
  double most = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    most = std::max(most, std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
  return most;
}

inline bool same_bytes(std::span<const std::byte> a, std::span<const std::byte> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size()) == 0;
}
inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return same_bytes(std::as_bytes(std::span<const float>(a)), std::as_bytes(std::span<const float>(b)));
}

}  // namespace blockattn_test
