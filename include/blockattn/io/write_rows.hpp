// SPDX-License-Identifier: MIT
/// Rows of weights into the formats that writers write: f32, f16, bf16, and GGUF's Q8_0.
#pragma once

#include <cmath>
#include <cstring>
#include <span>
#include <string_view>
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
