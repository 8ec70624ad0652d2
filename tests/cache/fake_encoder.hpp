// SPDX-License-Identifier: MIT
/// An encoder without a model: the bytes of a block are a stream seeded by a hash of its tokens. It counts, fails on
/// request, and can be stopped inside an encoding.
#pragma once

#include <algorithm>
#include <atomic>
#include <blockattn/cache/encoder.hpp>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <numeric>
#include <utility>
#include <vector>

namespace blockattn_test {

namespace ba = blockattn;

/// The bytes that a fake encoder writes for these tokens.
inline void fake_payload(const ba::kv_shape& shape, std::span<const ba::token> ids, std::byte* out) {
  std::uint64_t state = ba::hasher().tokens(ids).finish().low;
  for (std::size_t i = 0; i < shape.payload_bytes(ids.size()); ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    out[i] = static_cast<std::byte>(state >> 56);
  }
}

inline bool has_fake_payload(const ba::kv_block& block) {
  std::vector<std::byte> expected(block.payload_bytes());
  fake_payload(block.shape(), block.tokens(), expected.data());
  return std::ranges::equal(block.payload(), expected);
}

class fake_encoder {
 public:
  explicit fake_encoder(ba::kv_shape shape = {2, 2, 8, ba::dtype::bf16}) : shape_(shape) {
    realm_.model = {1, 2};
    realm_.type = shape.type;
  }

  const ba::block_realm& realm() const noexcept { return realm_; }
  ba::kv_shape shape() const noexcept { return shape_; }
  ba::result<void> encode_into(std::span<const std::span<const ba::token>> lists,
                               std::span<std::byte* const> payloads) {
    ++calls;
    if (during) during();
    if (failures > 0) {
      --failures;
      return ba::fail(failing_with, "fake encoder: told to fail");
    }
    for (std::size_t i = 0; i < lists.size(); ++i) {
      fake_payload(shape_, lists[i], payloads[i]);
      aligned = aligned && reinterpret_cast<std::uintptr_t>(payloads[i]) % ba::alignment == 0;
      empty = empty || lists[i].empty();
    }
    encoded += lists.size();
    return {};
  }

  std::size_t calls = 0;         // of encode_into
  std::size_t encoded = 0;       // lists
  std::size_t failures = 0;      // how many of the next calls fail
  ba::errc failing_with = ba::errc::invalid_argument;
  bool aligned = true;           // all payloads were on a 64-byte boundary
  bool empty = false;            // a list without tokens was given
  std::function<void()> during;  // called inside encode_into

  ba::block_realm& realm() noexcept { return realm_; }

 private:
  ba::block_realm realm_;
  ba::kv_shape shape_;
};

/// `n` tokens: first, first + 1, ...
inline std::vector<ba::token> tokens_from(ba::token first, std::size_t n) {
  std::vector<ba::token> ids(n);
  std::iota(ids.begin(), ids.end(), first);
  return ids;
}

}  // namespace blockattn_test
