// SPDX-License-Identifier: MIT
/// What makes blocks. A session is one; tests and remote tiers bring their own.
#pragma once

#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "../core/config.hpp"
#include "../core/result.hpp"
#include "../tensor/kv_panels.hpp"
#include "block.hpp"
#include "key.hpp"
#include "storage.hpp"

namespace blockattn::inline v0 {

/// What a store asks of an encoder.
/// - `realm()`: who may share its blocks.
/// - `shape()`: the shape of the keys and values it writes.
/// - `encode_into(lists, payloads)`: encodes each list alone, as local positions 0.., and writes all of
///   `payloads[i]`: shape().payload_bytes(lists[i].size()) bytes on a 64-byte boundary, padding zero. Lists are never
///   empty. Equal lists give equal bytes, alone or beside others.
template <class E>
concept block_encoder = requires(E& e, std::span<const std::span<const token>> lists,
                                 std::span<std::byte* const> payloads) {
  { e.realm() } -> std::convertible_to<const block_realm&>;
  { e.shape() } -> std::convertible_to<kv_shape>;
  { e.encode_into(lists, payloads) } -> std::same_as<result<void>>;
};

/// Encodes one list into a block that no store counts. A list without tokens is a block without bytes; the encoder is
/// not asked. Errors: the encoder's and the storage's.
template <block_encoder E, storage S>
[[nodiscard]] result<block_handle> encode_block(E& encoder, std::span<const token> ids, S& memory) {
  const kv_shape shape = encoder.shape();
  auto slab = memory.allocate(kv_block::memory_bytes(shape, ids.size()));
  if (!slab) return std::move(slab).error();
  std::uint64_t ns = 0;
  if (!ids.empty()) {
    std::byte* const payload = slab->get();
    const auto begin = std::chrono::steady_clock::now();
    if (auto done = encoder.encode_into({&ids, 1}, {&payload, 1}); !done) return std::move(done).error();
    const auto spent = std::chrono::steady_clock::now() - begin;
    ns = static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(spent).count());
  }
  return make_block(key_of(encoder.realm(), ids), shape, ids, std::move(*slab), memory.get_allocator(), ns);
}

/// The same, on the ordinary heap.
template <block_encoder E>
[[nodiscard]] result<block_handle> encode_block(E& encoder, std::span<const token> ids) {
  heap_storage<> memory;
  return encode_block(encoder, ids, memory);
}

}  // namespace blockattn::inline v0
