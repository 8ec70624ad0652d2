// SPDX-License-Identifier: MIT
/// The hyperparameters of a Llama-family model, as data. Readers fill it; `validate` refuses what cannot run.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "../core/result.hpp"
#include "../kernel/rope_config.hpp"

namespace blockattn::inline v0 {

/// The function on the gate of the feed-forward layer.
enum class gate_function : std::uint8_t {
  silu,      // x sigmoid(x): Llama and most others
  gelu_tanh  // x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2: Gemma
};

/// Plain numbers and switches; nothing here depends on where the weights came from.
struct model_config {
  std::string architecture = "llama";  // as the file names it
  std::uint32_t layers = 0;
  std::uint32_t dim = 0;       // width of the residual stream
  std::uint32_t heads = 0;     // query heads
  std::uint32_t kv_heads = 0;  // key and value heads; divides heads
  std::uint32_t head_dim = 0;  // even, 2 to 256; not always dim / heads
  std::uint32_t ffn = 0;       // width of the gated feed-forward layer
  std::uint32_t vocab = 0;
  std::uint32_t context_length = 0;  // what the file says; metadata, never a limit
  float norm_epsilon = 1e-5f;
  bool tied_embeddings = false;  // the output head is the embedding matrix
  bool qkv_bias = false;         // Qwen2
  bool qk_norm = false;          // Qwen3, Gemma 3: RMSNorm over each head of q and k, before rotation
  bool post_norms = false;       // Gemma 3: RMSNorm over what each sublayer adds to the residual stream
  gate_function gate = gate_function::silu;
  float embedding_scale = 1;  // of the rows of the embedding matrix as they enter the residual stream
  float attention_scale = 0;  // of scores; 0: 1 / sqrt(head_dim)
  rope_config rope = {};
  std::vector<std::uint32_t> windows = {};  // sliding window of each layer, 0 for none; empty: no layer has one
  std::optional<rope_config> local_rope = {};  // Gemma 3: of layers with a window, which else turn by `rope`

  /// The window of a layer: a key `distance` positions back is visible iff `distance < window`.
  [[nodiscard]] std::int64_t window(std::size_t layer) const noexcept {
    const std::uint32_t w = layer < windows.size() ? windows[layer] : 0;
    return w == 0 ? std::numeric_limits<std::int64_t>::max() : static_cast<std::int64_t>(w);
  }

  /// Whether a layer turns by `local_rope`.
  [[nodiscard]] bool is_local(std::size_t layer) const noexcept {
    return local_rope.has_value() && layer < windows.size() && windows[layer] != 0;
  }
  /// What scores are multiplied with.
  [[nodiscard]] float score_scale() const noexcept {
    return attention_scale > 0 ? attention_scale : 1.0f / std::sqrt(static_cast<float>(head_dim));
  }

  friend bool operator==(const model_config&, const model_config&) = default;
};

/// Frequencies of all layers of a model: those of `rope`, and those of `local_rope` where it has one.
/// Errors: `invalid_argument` names the field that cannot be used.
[[nodiscard]] inline result<rope_frequencies> make_frequencies(const model_config& c) {
  auto out = make_frequencies(c.rope);
  if (!out || !c.local_rope) return out;
  const auto local = make_frequencies(*c.local_rope);
  if (!local) return fail(local.error().code, "local ", local.error().message);
  // One table of a position holds both, side by side, and kernels turn the same pairs by either.
  if (c.local_rope->rotary_dim != c.rope.rotary_dim || c.local_rope->layout != c.rope.layout ||
      c.local_rope->angles != c.rope.angles)
    return fail(errc::invalid_argument, "local rope: expected the pairs of the other layers, found ",
                c.local_rope->rotary_dim, " instead of ", c.rope.rotary_dim, " rotary dims or another layout");
  out->local_per_position = local->per_position;
  out->local_magnitude = local->magnitude;
  return out;
}

/// Checks every number against what the kernels can run.
[[nodiscard]] inline result<void> validate(const model_config& c) {
  const auto need = [](bool ok, const char* what, std::uint64_t found) -> result<void> {
    if (ok) return {};
    return fail(errc::invalid_argument, "model config: ", what, ", found ", found);
  };
  constexpr std::uint32_t limit = 1u << 24;
  if (auto r = need(c.layers >= 1 && c.layers <= 4096, "layers must be 1 to 4096", c.layers); !r) return r;
  if (auto r = need(c.dim >= 1 && c.dim < limit, "dim must be positive and below 2^24", c.dim); !r) return r;
  if (auto r = need(c.heads >= 1 && c.heads <= 65536, "heads must be 1 to 65536", c.heads); !r) return r;
  if (auto r = need(c.kv_heads >= 1 && c.kv_heads <= c.heads && c.heads % c.kv_heads == 0,
                    "kv_heads must divide heads", c.kv_heads);
      !r)
    return r;
  if (auto r = need(c.head_dim >= 2 && c.head_dim <= 256 && c.head_dim % 2 == 0,
                    "head_dim must be even and 2 to 256", c.head_dim);
      !r)
    return r;
  if (auto r = need(c.ffn >= 1 && c.ffn < limit, "ffn must be positive and below 2^24", c.ffn); !r) return r;
  if (auto r = need(c.vocab >= 1 && c.vocab < limit, "vocab must be positive and below 2^24", c.vocab); !r) return r;
  if (auto r = need(c.rope.rotary_dim >= 2 && c.rope.rotary_dim <= c.head_dim && c.rope.rotary_dim % 2 == 0,
                    "rotary_dim must be even and at most head_dim", c.rope.rotary_dim);
      !r)
    return r;
  if (auto r = need(c.windows.empty() || c.windows.size() == c.layers, "windows must be one for each layer",
                    c.windows.size());
      !r)
    return r;
  if (!(c.norm_epsilon >= 0 && c.norm_epsilon < 1))
    return fail(errc::invalid_argument, "model config: norm_epsilon must be in [0, 1), found ", c.norm_epsilon);
  for (const float scale : {c.embedding_scale, c.attention_scale})
    if (!(scale >= 0 && scale < 1e6f))
      return fail(errc::invalid_argument, "model config: scales must be in [0, 10^6), found ", scale);
  const auto frequencies = make_frequencies(c);
  if (!frequencies) return frequencies.error();
  return {};
}

}  // namespace blockattn::inline v0
