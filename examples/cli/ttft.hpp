// SPDX-License-Identifier: MIT
/// Times from token ids to the first sampled id, three ways on the same tokens: full attention, block attention over an
/// empty store, block attention over a store that has every block. Used by `answer --compare`, `bench` and `demo`.
#pragma once

#include <blockattn/cache/kv_store.hpp>
#include <blockattn/core/thread_executor.hpp>
#include <blockattn/model/session.hpp>

#include <cstring>

#include "models.hpp"
#include "terminal.hpp"

namespace cli {

/// What one answer cost. The fields of T in the JSON of `answer`.
struct timing {
  double ttft_ms = 0;
  double encode_ms = 0;
  double place_ms = 0;  // of ttft_ms: laying the blocks end to end
  double decode_tok_s = 0;
  std::size_t tokens_computed = 0;
  std::size_t tokens_reused = 0;

  [[nodiscard]] json to_json() const {
    return {{"ttft_ms", ttft_ms},
            {"encode_ms", encode_ms},
            {"decode_tok_s", decode_tok_s},
            {"tokens_computed", tokens_computed},
            {"tokens_reused", tokens_reused}};
  }
};

inline std::size_t count_tokens(const token_lists& lists) {
  std::size_t n = 0;
  for (const auto& ids : lists) n += ids.size();
  return n;
}

/// The first token of a question over blocks from a store: hashing, lookup, encoding of what is missing, placing,
/// prefill, sampling. `at` must be a context of the session, kept from earlier questions so that its pages are mapped.
template <class Store>
ba::result<timing> time_block(session& chat, Store& store, ba::context& at, const token_lists& blocks,
                              std::span<const ba::token> question, ba::token& first) {
  timing t;
  // Asked before the clock starts: which lists the store has.
  const auto outcomes = store.explain(std::span<const std::vector<ba::token>>(blocks), chat.realm());
  for (std::size_t i = 0; i < blocks.size(); ++i)
    if (outcomes[i].outcome == ba::block_outcome::hit) t.tokens_reused += blocks[i].size();
  t.tokens_computed = question.size() + count_tokens(blocks) - t.tokens_reused;
  const stopwatch all;
  const auto handles = store.find_or_encode(std::span<const std::vector<ba::token>>(blocks), chat);
  if (!handles) return handles.error();
  t.encode_ms = all.milliseconds();
  if (auto placed = at.assemble(*handles); !placed) return placed.error();
  t.place_ms = all.milliseconds() - t.encode_ms;
  if (auto done = chat.prefill(at, question); !done) return done.error();
  first = ba::greedy{}(at.logits());
  t.ttft_ms = all.milliseconds();
  return t;
}

/// The same tokens by ordinary causal prefill. `at` must have room for all of them.
inline ba::result<timing> time_full(session& chat, ba::context& at, const token_lists& blocks,
                                    std::span<const ba::token> question, ba::token& first) {
  const stopwatch all;
  if (auto empty = at.assemble({}); !empty) return empty.error();
  std::vector<ba::token> ids;
  for (const auto& block : blocks) ids.insert(ids.end(), block.begin(), block.end());
  ids.insert(ids.end(), question.begin(), question.end());
  if (auto done = chat.prefill(at, ids); !done) return done.error();
  first = ba::greedy{}(at.logits());
  timing t;
  t.ttft_ms = all.milliseconds();
  t.tokens_computed = ids.size();
  return t;
}

/// Decodes greedily for a while, to time it.
inline ba::result<double> decode_speed(session& chat, ba::context& at, std::size_t tokens) {
  const stopwatch all;
  for (std::size_t i = 0; i < tokens; ++i)
    if (auto done = chat.decode(at, ba::greedy{}(at.logits())); !done) return done.error();
  return tokens == 0 ? 0.0 : 1000.0 * static_cast<double>(tokens) / all.milliseconds();
}

/// The three ways side by side. `same_bits`: the logits of cold and warm are equal in every bit.
struct comparison {
  timing full, cold, warm;
  bool same_bits = false;

  [[nodiscard]] json to_json() const {
    return {{"full", full.to_json()}, {"cold", cold.to_json()}, {"warm", warm.to_json()}, {"same_bits", same_bits}};
  }
};

inline ba::result<comparison> compare(session& chat, const token_lists& blocks, std::span<const ba::token> question,
                                      const common_options& o, std::size_t decode_tokens = 8) {
  comparison out;
  const std::size_t total = count_tokens(blocks) + question.size();
  auto whole_context = make_context(chat, total, decode_tokens, o);
  if (!whole_context) return std::move(whole_context).error();
  auto block_context = make_context(chat, question.size(), decode_tokens, o);
  if (!block_context) return std::move(block_context).error();
  ba::context& full = *whole_context;
  ba::context& at = *block_context;
  ba::kv_store<> store({.budget_bytes = 2 * (chat.shape().payload_bytes(total) + (blocks.size() + 1) * (1u << 20))});
  ba::token first = 0;

  auto cold = time_block(chat, store, at, blocks, question, first);
  if (!cold) return cold.error();
  out.cold = *cold;
  const std::vector<float> logits(at.logits().begin(), at.logits().end());
  auto warm = time_block(chat, store, at, blocks, question, first);
  if (!warm) return warm.error();
  out.warm = *warm;
  out.same_bits = std::memcmp(logits.data(), at.logits().data(), logits.size() * sizeof(float)) == 0;
  auto speed = decode_speed(chat, at, decode_tokens);
  if (!speed) return speed.error();
  out.cold.decode_tok_s = out.warm.decode_tok_s = *speed;

  auto whole = time_full(chat, full, blocks, question, first);
  if (!whole) return whole.error();
  out.full = *whole;
  speed = decode_speed(chat, full, decode_tokens);
  if (!speed) return speed.error();
  out.full.decode_tok_s = *speed;
  return out;
}

}  // namespace cli
