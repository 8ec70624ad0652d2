// SPDX-License-Identifier: MIT
/// Passages for the store's tests: lists of tokens that differ, what one costs, and how one is asked for.
#pragma once

#include <blockattn/cache/kv_store.hpp>
#include <concepts>
#include <cstddef>
#include <vector>

#include "fake_encoder.hpp"

namespace blockattn_test {

/// Bytes of a block of 16 tokens that a fake_encoder made.
inline const std::size_t unit = ba::kv_block::bytes_for({2, 2, 8, ba::dtype::bf16}, 16);

inline std::vector<ba::token> passage(std::integral auto i, std::size_t tokens = 16) {
  return tokens_from(static_cast<ba::token>(1000 * (i + 1)), tokens);
}

/// One passage from a store.
ba::block_handle get(auto& store, fake_encoder& encoder, const std::vector<ba::token>& ids,
                     const ba::kv_request& request = {}) {
  return store.find_or_encode(std::vector<std::vector<ba::token>>{ids}, encoder, request).value().at(0);
}

}  // namespace blockattn_test
