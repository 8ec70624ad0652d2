// SPDX-License-Identifier: MIT
/// The identity of a block: what was encoded, by what. Never where it stands, never beside whom (PAPER, invariant 21).
#pragma once

#include <bit>
#include <compare>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "../core/config.hpp"
#include "../core/element.hpp"
#include "../core/hash.hpp"
#include "../kernel/rope_config.hpp"
#include "../tensor/kv_panels.hpp"

namespace blockattn::inline v0 {

/// Who may share blocks: encoders whose blocks of equal tokens have equal bytes.
struct block_realm {
  hash128 model;             // fingerprint of the weights and the configuration
  hash128 rope;              // hash_of(rope_config)
  dtype type = dtype::bf16;  // element type of the stored keys and values
  std::uint64_t codec = 0;   // how they are computed and stored; 0: as the model does by itself
  std::vector<token> sinks;  // tokens that every block attends to before its own
  std::string salt;          // separates tenants who must not learn what others asked

  friend bool operator==(const block_realm&, const block_realm&) = default;
};

/// The name of a block in every store. Equal keys mean equal bytes, up to a collision of 128 bits; stores compare the
/// token ids besides.
struct block_key {
  hash128 value;

  friend constexpr auto operator<=>(const block_key&, const block_key&) = default;
};

namespace detail {
// Fields that compare equal must hash equal: both zeros are one.
constexpr std::uint64_t number_bits(double x) noexcept { return x == 0 ? 0 : std::bit_cast<std::uint64_t>(x); }
constexpr std::uint64_t number_bits(float x) noexcept { return x == 0 ? 0 : std::bit_cast<std::uint32_t>(x); }
}  // namespace detail

/// A hash of every field of a rotary configuration. Pinned by golden values.
[[nodiscard]] inline hash128 hash_of(const rope_config& config) noexcept {
  hasher h;
  h.number(detail::number_bits(config.theta)).number(config.rotary_dim);
  h.number(static_cast<std::uint64_t>(config.layout)).number(static_cast<std::uint64_t>(config.angles));
  h.number(static_cast<std::uint64_t>(config.scaling));
  for (const double x :
       {config.factor, config.original_context, config.low_frequency_factor, config.high_frequency_factor,
        config.beta_fast, config.beta_slow, config.attention_factor, config.extrapolation})
    h.number(detail::number_bits(x));
  h.number(config.frequency_divisors.size());
  for (const float x : config.frequency_divisors) h.number(detail::number_bits(x));
  return h.finish();
}

/// The key of a list of tokens. Pinned by golden values: files and other machines know blocks by it.
/// Complexity: linear in the tokens.
[[nodiscard]] inline block_key key_of(const block_realm& realm, std::span<const token> ids) noexcept {
  hasher h;
  h.number(kv_layout_version);
  h.number(realm.model.high).number(realm.model.low).number(realm.rope.high).number(realm.rope.low);
  h.number(static_cast<std::uint64_t>(realm.type)).number(realm.codec);
  h.tokens(realm.sinks).text(realm.salt).tokens(ids);
  return {h.finish()};
}

}  // namespace blockattn::inline v0

template <>
struct std::hash<blockattn::block_key> {
  std::size_t operator()(const blockattn::block_key& key) const noexcept {
    return std::hash<blockattn::hash128>()(key.value);
  }
};
