// SPDX-License-Identifier: MIT
/// `kv_block`: the keys and values of one passage, encoded once and alone. Immutable, so any number of contexts and
/// threads read it, each at its own offset, without a copy and without a lock (PAPER, invariants 13, 22, 23).
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "../core/config.hpp"
#include "../core/hash.hpp"
#include "../core/result.hpp"
#include "../tensor/kv_panels.hpp"
#include "account.hpp"
#include "key.hpp"

namespace blockattn::inline v0 {

/// What the layers of a block are compared with that was handed out before its bytes were read: a tier that restores
/// lazily gives one with each block. All members are safe from several threads.
class layer_check {
 public:
  virtual ~layer_check() = default;
  /// Whether layer `l` is whole. Reads it unless that was done before.
  [[nodiscard]] virtual bool whole(std::size_t l) const noexcept = 0;
  /// Whether every layer has been read and was whole.
  [[nodiscard]] virtual bool done() const noexcept = 0;
  /// The error for a layer that is not whole, naming where the block came from.
  [[nodiscard]] virtual failure damage(std::size_t l) const = 0;

 protected:
  layer_check() = default;
  layer_check(const layer_check&) = default;
  layer_check& operator=(const layer_check&) = default;
};

/// Keys, rotated at local positions 0..tokens-1, and values of all layers, in the panels of tensor/kv_panels.hpp with
/// room = tokens; and the token ids they belong to.
class kv_block {
 public:
  /// What a block is made of. The two pointers may share one owner; the owner may be a mapping.
  struct parts {
    byte_charge charge;  // first, so that it is given back last
    block_key key;
    kv_shape shape;
    std::shared_ptr<const std::byte> payload;  // shape.payload_bytes(token_count) bytes on a 64-byte boundary
    std::shared_ptr<const token> tokens;       // token_count ids
    std::size_t token_count = 0;
    std::uint64_t encode_ns = 0;
    std::shared_ptr<const layer_check> check = nullptr;  // null: the payload is known to be whole
  };

  explicit kv_block(parts p) noexcept
      : charge_(std::move(p.charge)),
        payload_(std::move(p.payload)),
        tokens_(std::move(p.tokens)),
        token_count_(p.token_count),
        key_(p.key),
        shape_(p.shape),
        encode_ns_(p.encode_ns),
        check_(std::move(p.check)) {}
  kv_block(const kv_block&) = delete;
  kv_block& operator=(const kv_block&) = delete;

  [[nodiscard]] const block_key& key() const noexcept { return key_; }
  [[nodiscard]] std::span<const token> tokens() const noexcept { return {tokens_.get(), token_count_}; }
  [[nodiscard]] const kv_shape& shape() const noexcept { return shape_; }

  /// Keys, then values, of layer `l`: shape().layer_bytes(tokens().size()) bytes on a 64-byte boundary.
  [[nodiscard]] const std::byte* layer(std::size_t l) const noexcept {
    BLOCKATTN_EXPECTS(l < shape_.layers);
    return payload_.get() + l * shape_.layer_bytes(token_count_);
  }
  [[nodiscard]] std::span<const std::byte> payload() const noexcept { return {payload_.get(), payload_bytes()}; }
  [[nodiscard]] std::size_t payload_bytes() const noexcept { return shape_.payload_bytes(token_count_); }

  /// What the block costs a store: the payload, the ids and the bookkeeping.
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_for(shape_, token_count_); }

  /// The measured cost of encoding, in nanoseconds; 0 if unknown.
  [[nodiscard]] std::uint64_t encode_ns() const noexcept { return encode_ns_; }

  /// Whether some layer has not been compared with its checksum yet. Constant time.
  [[nodiscard]] bool unverified() const noexcept { return check_ != nullptr && !check_->done(); }
  /// Whether layer `l` equals its checksum; compared once. A block that was restored lazily must not be read before:
  /// sessions see to it. Complexity: linear in a layer, the first time.
  [[nodiscard]] bool layer_is_whole(std::size_t l) const noexcept {
    BLOCKATTN_EXPECTS(l < shape_.layers);
    return check_ == nullptr || check_->whole(l);
  }
  /// The same for all layers. Errors: `bad_format`, naming the layer and where the block came from; the block must not
  /// be used then.
  [[nodiscard]] result<void> verify() const {
    if (unverified())
      for (std::size_t l = 0; l < shape_.layers; ++l)
        if (!check_->whole(l)) return check_->damage(l);
    return {};
  }

  /// A hash of the payload, computed by the call. Complexity: linear in payload_bytes().
  [[nodiscard]] hash128 checksum() const noexcept { return hasher().bytes(payload()).finish(); }

  /// The account that counts the block's bytes while any handle is held; null if none does.
  [[nodiscard]] const byte_account* counted_by() const noexcept { return charge_.account(); }

  /// Bytes of one allocation that holds a payload and, behind it, the token ids.
  [[nodiscard]] static constexpr std::size_t memory_bytes(const kv_shape& shape, std::size_t tokens) noexcept {
    return shape.payload_bytes(tokens) + round_up(tokens * sizeof(token), alignment);
  }
  /// bytes() of a block that does not exist yet: what a store reserves before it allocates.
  [[nodiscard]] static constexpr std::size_t bytes_for(const kv_shape& shape, std::size_t tokens) noexcept {
    return memory_bytes(shape, tokens) + bookkeeping_bytes;
  }
  /// Room for the block object, its reference counts and its entries in a store's index.
  static constexpr std::size_t bookkeeping_bytes = 512;

 private:
  // The order matters: members die from the last to the first, so bytes are given back after the memory is free.
  byte_charge charge_;
  std::shared_ptr<const std::byte> payload_;
  std::shared_ptr<const token> tokens_;
  std::size_t token_count_;
  block_key key_;
  kv_shape shape_;
  std::uint64_t encode_ns_;
  std::shared_ptr<const layer_check> check_;
};

/// Holding one keeps the block alive, and pins it: a store never evicts a block that somebody holds.
using block_handle = std::shared_ptr<const kv_block>;

/// A block from memory whose payload is written: kv_block::memory_bytes() bytes on a 64-byte boundary. Copies the ids
/// behind the payload. The block object itself comes from `allocator`.
template <class Allocator>
[[nodiscard]] block_handle make_block(const block_key& key, const kv_shape& shape, std::span<const token> ids,
                                      std::shared_ptr<std::byte> memory, const Allocator& allocator,
                                      std::uint64_t encode_ns = 0, byte_charge charge = {}) {
  auto* const copy = reinterpret_cast<token*>(memory.get() + shape.payload_bytes(ids.size()));
  std::copy(ids.begin(), ids.end(), copy);
  std::shared_ptr<const token> tokens(memory, copy);
  return std::allocate_shared<kv_block>(allocator, kv_block::parts{std::move(charge), key, shape, std::move(memory),
                                                                   std::move(tokens), ids.size(), encode_ns,
                                                                   nullptr});
}

}  // namespace blockattn::inline v0
