// SPDX-License-Identifier: MIT
/// Rows of weights into the formats that writers write: f32, f16, bf16, and GGUF's Q8_0.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>
#include <string_view>
#include <string>
#include <vector>

#include "../core/element.hpp"
#include "../core/result.hpp"
#include "../model/weights.hpp"
#include "layer_names.hpp"

namespace blockattn::inline v0 {

/// A block of 32 elements as Q8_0: a half d = max |x| / 127 and 32 signed bytes, round(x / d), halves away from zero. An
/// element is off by at most d/2 and what rounding d itself adds: below max |x| * (1/254 + 2^-11) in all. All zero, or so
/// small that d is 0 as a half: zeros.
inline void encode_q8_0(const float* x, std::byte* out) noexcept {
  float most = 0;
  for (std::size_t i = 0; i < 32; ++i) most = std::fmax(most, std::fabs(x[i]));
  const float scale = most / 127.0f;
  const f16 stored = to_f16(scale);
  // Codes by the exact scale, as published converters make them: the bytes agree with theirs.
  const float inverse = scale != 0 ? 1.0f / scale : 0.0f;
  std::memcpy(out, &stored, 2);
  for (std::size_t i = 0; i < 32; ++i) {
    const float code = std::fmin(127.0f, std::fmax(-127.0f, std::round(x[i] * inverse)));
    const auto byte = static_cast<std::int8_t>(code);
    std::memcpy(out + 2 + i, &byte, 1);
  }
}

namespace detail {

// The floats of a plain tensor, exact.
[[nodiscard]] inline result<std::vector<float>> plain_floats(std::string_view name, const tensor_info& info,
                                                             std::span<const std::byte> bytes) {
  std::vector<float> out(info.rows * info.cols);
  if (is_quantized(info.type) || bytes.size() != out.size() * block_bytes(info.type))
    return fail(errc::unsupported, "tensor ", name, ": expected f32, f16 or bf16 to convert, found ", to_string(info.type));
  const std::byte* at = bytes.data();
  for (float& x : out) {
    if (info.type == dtype::f32) {
      std::memcpy(&x, at, 4), at += 4;
    } else {
      std::uint16_t bits = 0;
      std::memcpy(&bits, at, 2), at += 2;
      x = info.type == dtype::f16 ? widen(f16{bits}) : widen(bf16{bits});
    }
  }
  return out;
}

// Whether a file says what a model computes. Frequencies are compared as numbers: a file has several ways to state them,
// in floats.
[[nodiscard]] inline bool computes_the_same(model_config a, model_config b) {
  const auto x = make_frequencies(a), y = make_frequencies(b);
  if (!x || !y) return false;
  const auto close = [](const std::vector<double>& p, const std::vector<double>& q) {
    return std::equal(p.begin(), p.end(), q.begin(), q.end(),
                      [](double u, double v) { return std::fabs(u - v) <= 1e-6 * std::fabs(u); });
  };
  const bool same_rope = close(x->per_position, y->per_position) && close(x->local_per_position, y->local_per_position) &&
                         std::fabs(x->magnitude - y->magnitude) < 1e-6 && a.rope.rotary_dim == b.rope.rotary_dim;
  a.rope = b.rope, a.local_rope = b.local_rope, a.architecture = b.architecture;
  a.context_length = b.context_length;
  for (model_config* c : {&a, &b})
    if (std::all_of(c->windows.begin(), c->windows.end(), [](std::uint32_t w) { return w == 0; })) c->windows.clear();
  return same_rope && a == b;
}

// Reorders the rows of each head's rotary dims from one layout of pairs to the other. Rows are moved as bytes.
inline void reorder_pairs(std::vector<std::byte>& bytes, std::size_t row_bytes, std::size_t head_dim, std::size_t rotary,
                          bool to_neighbours) {
  const std::vector<std::byte> from = bytes;
  const std::size_t heads = bytes.size() / row_bytes / head_dim, half = rotary / 2;
  for (std::size_t h = 0; h < heads; ++h)
    for (std::size_t m = 0; m < half; ++m)
      for (std::size_t k = 0; k < 2; ++k) {
        const std::size_t split = h * head_dim + m + k * half, neighbour = h * head_dim + 2 * m + k;
        const std::size_t source = to_neighbours ? split : neighbour, target = to_neighbours ? neighbour : split;
        std::memcpy(bytes.data() + target * row_bytes, from.data() + source * row_bytes, row_bytes);
      }
}

}  // namespace detail

/// A tensor's rows in another format; unchanged bytes where the format is the same. Plain types are rounded once, to
/// nearest even; Q8_0 as `encode_q8_0` says, and only rows of a multiple of 32. Errors: `unsupported` for a source or
/// target that is not of these.
[[nodiscard]] inline result<std::vector<std::byte>> convert_rows(std::string_view name, const tensor_info& info,
                                                                 std::span<const std::byte> bytes, dtype to) {
  if (info.type == to) return std::vector<std::byte>(bytes.begin(), bytes.end());
  const auto values = detail::plain_floats(name, info, bytes);
  if (!values) return values.error();
  if ((to != dtype::f32 && to != dtype::f16 && to != dtype::bf16 && to != dtype::q8_0) ||
      info.cols % block_elements(to) != 0)
    return fail(errc::unsupported, "tensor ", name, ": expected to be written as f32, f16, bf16 or, in rows of a multiple of 32, q8_0, found ",
                to_string(to), " for rows of ", info.cols);
  std::vector<std::byte> out(values->size() / block_elements(to) * block_bytes(to));
  std::byte* at = out.data();
  for (std::size_t i = 0; i < values->size(); i += block_elements(to), at += block_bytes(to)) {
    const float x = (*values)[i];
    if (to == dtype::q8_0) {
      encode_q8_0(values->data() + i, at);
    } else if (to == dtype::f32) {
      std::memcpy(at, &x, 4);
    } else {
      const std::uint16_t bits = to == dtype::f16 ? to_f16(x).bits : to_bf16(x).bits;
      std::memcpy(at, &bits, 2);
    }
  }
  return out;
}

/// A tensor of a model as a file is to hold it: in another format, and, for what turns (Q and K), in another order of pairs.
/// Errors: those of the source and of `convert_rows`.
template <weights_source W>
[[nodiscard]] result<std::vector<std::byte>> rows_for_file(const W& weights, const std::string& name, const tensor_info& info,
                                                           dtype type, rope_layout layout) {
  const auto loaded = weights.load(name);
  if (!loaded) return loaded.error();
  auto bytes = convert_rows(name, info, loaded->bytes(), type);
  if (!bytes) return bytes;
  const model_config& config = weights.config();
  // Weights of a head's norm are multiplied before pairs turn, so they follow their dims too.
  const bool norm = name.find("q_norm") != std::string::npos || name.find("k_norm") != std::string::npos;
  const bool turns = norm || name.find("q_proj") != std::string::npos || name.find("k_proj") != std::string::npos;
  if (turns && config.rope.layout != layout) {
    // A vector turns its elements; a matrix its rows.
    const std::size_t items = info.rows == 1 ? info.cols : info.rows;
    detail::reorder_pairs(*bytes, bytes->size() / items, config.head_dim, config.rope.rotary_dim,
                          config.rope.layout == rope_layout::half_split);
  }
  weights.release(name);
  return bytes;
}

/// The names of all tensors of a model, in the order of a forward pass.
[[nodiscard]] inline std::vector<std::string> tensor_names(const model_config& c) {
  std::vector<std::string> out{"model.embed_tokens.weight"};
  for (std::uint32_t l = 0; l < c.layers; ++l)
    for (const detail::layer_tensor& t : detail::layer_tensors)
      if (detail::has_tensor(c, t.use)) out.push_back("model.layers." + std::to_string(l) + "." + std::string(t.canonical));
  out.push_back("model.norm.weight");
  if (!c.tied_embeddings) out.push_back("lm_head.weight");
  return out;
}

}  // namespace blockattn::inline v0
