// SPDX-License-Identifier: MIT
/// The state of a training run as a file: weights, both moments and the step, from which it goes on to the same bits.
///
///     "BATRAIN1" | u32 1 | u32 bytes of an element | u64 step | u64 elements | u64 u64 digest of the configuration | zeros to 64
///     weights | first moments | second moments            each `elements` numbers, in the places of `parameters`
///     u64 u64 hash of all before
///
/// Little-endian. Nothing in a file is trusted: its size, digest and hash are checked before a number of it is used.
#pragma once

#include <bit>
#include <cstring>
#include <span>
#include <vector>

#include "../core/hash.hpp"
#include "../model/config.hpp"
#include "parameters.hpp"

namespace blockattn::inline v0 {

static_assert(std::endian::native == std::endian::little, "checkpoints are written as they lie in memory");

/// Identifies a configuration: two that differ in anything training sees differ in it.
[[nodiscard]] inline hash128 config_digest(const model_config& c) {
  hasher h;
  h.number(c.layers).number(c.dim).number(c.heads).number(c.kv_heads).number(c.head_dim).number(c.ffn).number(c.vocab);
  h.number(std::bit_cast<std::uint32_t>(c.norm_epsilon)).number(c.tied_embeddings).number(c.qkv_bias).number(c.qk_norm);
  h.number(std::bit_cast<std::uint32_t>(c.embedding_scale)).number(std::bit_cast<std::uint32_t>(c.score_scale()));
  const rope_config& r = c.rope;
  h.number(r.rotary_dim).number(static_cast<std::uint64_t>(r.layout)).number(static_cast<std::uint64_t>(r.angles));
  h.number(static_cast<std::uint64_t>(r.scaling)).number(r.frequency_divisors.size());
  for (const double x : {r.theta, r.factor, r.original_context, r.low_frequency_factor, r.high_frequency_factor,
                         r.beta_fast, r.beta_slow, r.attention_factor, r.extrapolation})
    h.number(std::bit_cast<std::uint64_t>(x));
  for (const float x : r.frequency_divisors) h.number(std::bit_cast<std::uint32_t>(x));
  return h.finish();
}

/// What a checkpoint holds, as it lies in its bytes.
struct checkpoint_view {
  std::uint64_t step = 0;
  std::span<const std::byte> weights, first, second;
};

namespace detail {
inline constexpr std::size_t checkpoint_head = 64;
inline constexpr char checkpoint_magic[9] = "BATRAIN1";

struct checkpoint_header {
  char magic[8];
  std::uint32_t version, element_bytes;
  std::uint64_t step, elements, digest_low, digest_high;
  std::byte zeros[16];
};
static_assert(sizeof(checkpoint_header) == checkpoint_head);
}  // namespace detail

/// Checks the bytes of a checkpoint of a run in T with `elements` numbers in its buffer. Errors: `bad_format` says what was
/// expected and found; `shape_mismatch` if it is one of another configuration or type.
template <class T>
[[nodiscard]] result<checkpoint_view> read_checkpoint(std::span<const std::byte> bytes, const model_config& config,
                                                      std::size_t elements) {
  constexpr std::size_t head = detail::checkpoint_head, tail = 16;
  if (bytes.size() < head + tail)
    return fail(errc::bad_format, "checkpoint: expected at least ", head + tail, " bytes, found ", bytes.size());
  detail::checkpoint_header h;
  std::memcpy(&h, bytes.data(), head);
  if (std::memcmp(h.magic, detail::checkpoint_magic, 8) != 0)
    return fail(errc::bad_format, "checkpoint: expected a file that begins with ", detail::checkpoint_magic);
  if (h.version != 1) return fail(errc::unsupported, "checkpoint: expected version 1, found ", h.version);
  const hash128 digest = config_digest(config);
  if (h.element_bytes != sizeof(T) || h.elements != elements || h.digest_low != digest.low || h.digest_high != digest.high)
    return fail(errc::shape_mismatch, "checkpoint: expected one of this configuration, of ", elements, " numbers of ",
                sizeof(T), " bytes, found another, of ", h.elements, " of ", h.element_bytes);
  const std::size_t part = elements * sizeof(T);
  if (bytes.size() != head + 3 * part + tail)
    return fail(errc::bad_format, "checkpoint: expected ", head + 3 * part + tail, " bytes, found ", bytes.size());
  std::uint64_t found[2];
  std::memcpy(found, bytes.data() + head + 3 * part, tail);
  const hash128 hash = hasher().bytes(bytes.first(head + 3 * part)).finish();
  if (found[0] != hash.low || found[1] != hash.high)
    return fail(errc::bad_format, "checkpoint: expected the hash of its bytes at its end, found another");
  return checkpoint_view{h.step, bytes.subspan(head, part), bytes.subspan(head + part, part),
                         bytes.subspan(head + 2 * part, part)};
}

/// The bytes of a checkpoint.
template <class T>
[[nodiscard]] std::vector<std::byte> write_checkpoint(const model_config& config, std::uint64_t step,
                                                      std::span<const T> weights, std::span<const T> first,
                                                      std::span<const T> second) {
  BLOCKATTN_EXPECTS(first.size() == weights.size() && second.size() == weights.size());
  const hash128 digest = config_digest(config);
  detail::checkpoint_header h{{}, 1, sizeof(T), step, weights.size(), digest.low, digest.high, {}};
  std::memcpy(h.magic, detail::checkpoint_magic, 8);
  const std::size_t part = weights.size_bytes();
  std::vector<std::byte> out(sizeof(h) + 3 * part + 16);
  std::byte* at = out.data();
  const auto put = [&at](const void* from, std::size_t n) {
    if (n != 0) std::memcpy(at, from, n);
    at += n;
  };
  put(&h, sizeof(h));
  for (const std::span<const T> numbers : {weights, first, second}) put(numbers.data(), part);
  const hash128 hash = hasher().bytes(std::span<const std::byte>(out).first(out.size() - 16)).finish();
  const std::uint64_t last[2] = {hash.low, hash.high};
  put(last, sizeof(last));
  return out;
}

}  // namespace blockattn::inline v0
