// SPDX-License-Identifier: MIT
/// A Llama and Block-Attention over it, in double and in the plainest form: the oracle of the test-suite and the
/// method as a text. Slow on purpose; every function is const and may run on many threads.
///
/// There are two ways to the same numbers, and the laws in the tests say that they agree:
///
///  - dense: `forward(tokens, positions, allow)` runs a whole sequence under any mask, the paper's block mask included;
///  - blocks: `encode` each local block alone at positions 0.., `place` it anywhere, `extend` the context by the final
///    block, which sees everything. `answer` is that sequence of calls.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "../core/result.hpp"
#include "../model/config.hpp"
#include "../model/weights.hpp"
#include "attention.hpp"
#include "matrix.hpp"
#include "rope.hpp"
#include "weights.hpp"

namespace blockattn::inline v0::reference {

/// Who turns when a block is placed at `start` (paper, equations 1 to 3, and what follows from them).
enum class position {
  key_side,    ///< the keys: K' = R(start) K, as the paper has it
  query_side,  ///< the query, back, once for each block: <R(P - start) q, K> is the same score
  none         ///< nobody: the ablation. Keys stay at their local positions, the final block has its true ones
};

/// Keys and values of one layer, [tokens][kv_heads * head_dim].
struct layer_kv {
  matrix unrotated;  // keys before R: after the bias and the norm over each head
  matrix keys;       // the same keys, embedded at their positions
  matrix values;
};

/// What a forward pass knows: the logits of each of its tokens, and the keys and values that it made.
struct forward_pass {
  matrix logits;  // [tokens][vocab]
  std::vector<layer_kv> layers;
};

/// A block encoded alone: its keys are embedded at 0, 1, ... and know nothing of where it will stand.
struct block {
  std::vector<token> tokens;
  std::vector<layer_kv> layers;
};

/// The sequence so far, as pieces in order: placed blocks, and chunks of the final block.
struct context {
  struct piece {
    std::int64_t start = 0;  // position of its first token in the sequence
    std::int64_t turn = 0;   // what its keys lack: scores need R(turn) on them, or R(-turn) on the query
    std::vector<layer_kv> layers;
  };
  std::vector<piece> pieces;
  std::int64_t tokens = 0;
};

/// RMSNorm of one vector, in place: x <- x / sqrt(mean(x^2) + epsilon) * weights.
inline void rms_norm(std::span<double> x, std::span<const double> weights, double epsilon) {
  const double mean_square = dot(x, x) / static_cast<double>(x.size());
  const double scale = 1.0 / std::sqrt(mean_square + epsilon);
  for (std::size_t d = 0; d < x.size(); ++d) x[d] = x[d] * scale * weights[d];
}

/// RMSNorm of every row.
[[nodiscard]] inline matrix rms_norm_rows(matrix x, std::span<const double> weights, double epsilon) {
  for (std::size_t i = 0; i < x.rows(); ++i) rms_norm(x.row(i), weights, epsilon);
  return x;
}

/// x * sigmoid(x).
[[nodiscard]] inline double silu(double x) { return x / (1.0 + std::exp(-x)); }

/// The approximation of x * Phi(x) by a hyperbolic tangent (Gaussian Error Linear Units, section 2).
[[nodiscard]] inline double gelu_tanh(double x) {
  return 0.5 * x * (1.0 + std::tanh(std::sqrt(2.0 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
}

/// The model: plain matrices, shapes as in `model/weights.hpp`.
class transformer {
 public:
  struct layer_weights {
    std::vector<double> attention_norm;  // [dim]
    matrix query, key, value, output;    // [heads*head_dim | kv_heads*head_dim][dim], [dim][heads*head_dim]
    std::vector<double> query_bias, key_bias, value_bias;  // empty unless qkv_bias
    std::vector<double> query_norm, key_norm;              // [head_dim], empty unless qk_norm
    std::vector<double> ffn_norm;                          // [dim]
    matrix gate, up, down;                                 // [ffn][dim], [ffn][dim], [dim][ffn]
    std::vector<double> attention_post_norm, ffn_post_norm;  // [dim], empty unless post_norms
  };

  /// Widens every tensor of a source. Errors: those of `validate` and `read_matrix`, naming the tensor.
  template <weights_source Source>
  [[nodiscard]] static result<transformer> from(const Source& source) {
    return from(source, source.config());
  }

  /// The same weights under another configuration: another RoPE scaling, or windows.
  template <weights_source Source>
  [[nodiscard]] static result<transformer> from(const Source& source, const model_config& config);

  [[nodiscard]] const model_config& config() const noexcept { return config_; }
  [[nodiscard]] const reference::rope& rope() const noexcept { return rope_; }
  /// The rotation of one layer: layers with a window may have a base of their own.
  [[nodiscard]] const reference::rope& rope(std::size_t layer) const noexcept {
    const bool windowed = layer < config_.windows.size() && config_.windows[layer] > 0;
    return windowed ? local_rope_ : rope_;
  }

  // ------------------------------------------------------------------------------------------------ the dense way

  /// Runs the tokens at these positions under a mask; token i sees token j iff `allow(i, j)` and the window of the
  /// layer reaches. Requires ids in the vocabulary and one position for each.
  [[nodiscard]] forward_pass forward(std::span<const token> tokens, std::span<const std::int64_t> positions,
                                     const mask& allow) const {
    return run(tokens, positions, allow, {});
  }

  /// The same at positions start, start + 1, ...
  [[nodiscard]] forward_pass forward(std::span<const token> tokens, const mask& allow, std::int64_t start = 0) const {
    return forward(tokens, counted(start, tokens.size()), allow);
  }

  // ------------------------------------------------------------------------------------------------ the way of blocks

  /// A local block: causal within itself, at positions 0.., with no view of anything else.
  [[nodiscard]] block encode(std::span<const token> tokens) const {
    return {std::vector<token>(tokens.begin(), tokens.end()), forward(tokens, causal()).layers};
  }

  /// Moves the keys of a block by `offset` positions: equation 3 after equation 2, in one rotation. Values never move.
  [[nodiscard]] std::vector<layer_kv> moved(std::vector<layer_kv> layers, std::int64_t offset) const {
    for (std::size_t l = 0; l < layers.size(); ++l)
      for (std::size_t t = 0; t < layers[l].keys.rows(); ++t)
        for (std::size_t h = 0; h < config_.kv_heads; ++h) rope(l).rotate(head(layers[l].keys, t, h), offset);
    return layers;
  }

  /// Appends a block to the sequence.
  void place(context& sequence, const block& b, position policy) const {
    const std::int64_t start = sequence.tokens;
    switch (policy) {
      case position::key_side: sequence.pieces.push_back({start, 0, moved(b.layers, start)}); break;
      case position::query_side: sequence.pieces.push_back({start, start, b.layers}); break;
      case position::none: sequence.pieces.push_back({start, 0, b.layers}); break;
    }
    sequence.tokens += static_cast<std::int64_t>(b.tokens.size());
  }

  /// Runs tokens of the final block (the question, a chunk of it, or a generated token): they see everything before
  /// them, and become part of the sequence with keys at their true positions.
  forward_pass extend(context& sequence, std::span<const token> tokens) const {
    forward_pass pass = run(tokens, counted(sequence.tokens, tokens.size()), causal(), sequence.pieces);
    sequence.pieces.push_back({sequence.tokens, 0, pass.layers});
    sequence.tokens += static_cast<std::int64_t>(tokens.size());
    return pass;
  }

  /// Block-Attention over a prompt: the last block is the final one; of the others the first `local_blocks` stay
  /// local, and the rest joins the final block (0: ordinary full attention). Returns the pass over the final block.
  /// Errors: `invalid_argument` if there is no final token to answer from, or an id is not in the vocabulary.
  [[nodiscard]] result<forward_pass> answer(std::span<const std::vector<token>> blocks, position policy,
                                            std::size_t local_blocks = std::numeric_limits<std::size_t>::max()) const {
    if (blocks.empty() || blocks.back().empty())
      return fail(errc::invalid_argument, "final block: expected at least one token, found none");
    for (std::size_t b = 0; b < blocks.size(); ++b)
      for (const token t : blocks[b])
        if (t < 0 || static_cast<std::uint32_t>(t) >= config_.vocab)
          return fail(errc::invalid_argument, "block ", b, ": expected token ids below ", config_.vocab, ", found ", t);

    context sequence;
    std::vector<token> final_block;
    for (std::size_t b = 0; b < blocks.size(); ++b) {
      if (b < local_blocks && b + 1 < blocks.size())
        place(sequence, encode(blocks[b]), policy);
      else
        final_block.insert(final_block.end(), blocks[b].begin(), blocks[b].end());
    }
    return extend(sequence, final_block);
  }

 private:
  explicit transformer(const model_config& config)
      : config_(config), rope_(config.rope), local_rope_(config.local_rope ? *config.local_rope : config.rope) {}

  static std::vector<std::int64_t> counted(std::int64_t start, std::size_t n) {
    std::vector<std::int64_t> positions(n);
    std::iota(positions.begin(), positions.end(), start);
    return positions;
  }

  [[nodiscard]] std::span<double> head(matrix& rows, std::size_t row, std::size_t h) const {
    return rows.part(row, h * config_.head_dim, config_.head_dim);
  }
  [[nodiscard]] std::span<const double> head(const matrix& rows, std::size_t row, std::size_t h) const {
    return rows.part(row, h * config_.head_dim, config_.head_dim);
  }

  // Llama, from ids to logits. `before` holds the keys and values of what stands before these tokens.
  [[nodiscard]] forward_pass run(std::span<const token> tokens, std::span<const std::int64_t> positions,
                                 const mask& allow, std::span<const context::piece> before) const {
    BLOCKATTN_EXPECTS(tokens.size() == positions.size());
    const auto epsilon = static_cast<double>(config_.norm_epsilon);
    matrix x(tokens.size(), config_.dim);
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      BLOCKATTN_EXPECTS(tokens[i] >= 0 && static_cast<std::uint32_t>(tokens[i]) < config_.vocab);
      for (std::size_t d = 0; d < config_.dim; ++d)
        x(i, d) = embedding_(static_cast<std::size_t>(tokens[i]), d) * static_cast<double>(config_.embedding_scale);
    }

    forward_pass pass;
    for (std::size_t l = 0; l < layers_.size(); ++l) {
      const layer_weights& w = layers_[l];

      matrix h = rms_norm_rows(x, w.attention_norm, epsilon);
      matrix queries = linear(h, w.query, w.query_bias);
      layer_kv kv{linear(h, w.key, w.key_bias), {}, linear(h, w.value, w.value_bias)};
      if (config_.qk_norm) {
        norm_heads(queries, config_.heads, w.query_norm, epsilon);
        norm_heads(kv.unrotated, config_.kv_heads, w.key_norm, epsilon);
      }
      kv.keys = kv.unrotated;
      embed_heads(l, queries, config_.heads, positions);
      embed_heads(l, kv.keys, config_.kv_heads, positions);
      matrix attended = linear(attend_layer(l, queries, kv, positions, allow, before), w.output);
      if (config_.post_norms) attended = rms_norm_rows(std::move(attended), w.attention_post_norm, epsilon);
      add(x, attended);

      h = rms_norm_rows(x, w.ffn_norm, epsilon);
      matrix gate = linear(h, w.gate);
      const matrix up = linear(h, w.up);
      for (std::size_t i = 0; i < gate.values().size(); ++i) {
        const double g = gate.values()[i];
        gate.values()[i] = (config_.gate == gate_function::gelu_tanh ? gelu_tanh(g) : silu(g)) * up.values()[i];
      }
      matrix down = linear(gate, w.down);
      if (config_.post_norms) down = rms_norm_rows(std::move(down), w.ffn_post_norm, epsilon);
      add(x, down);

      pass.layers.push_back(std::move(kv));
    }
    const matrix normed = rms_norm_rows(x, final_norm_, epsilon);
    pass.logits = linear(normed, config_.tied_embeddings ? embedding_ : lm_head_);
    return pass;
  }

  void norm_heads(matrix& rows, std::size_t heads, std::span<const double> weights, double epsilon) const {
    for (std::size_t i = 0; i < rows.rows(); ++i)
      for (std::size_t h = 0; h < heads; ++h) rms_norm(head(rows, i, h), weights, epsilon);
  }

  void embed_heads(std::size_t layer, matrix& rows, std::size_t heads, std::span<const std::int64_t> positions) const {
    for (std::size_t i = 0; i < rows.rows(); ++i)
      for (std::size_t h = 0; h < heads; ++h) rope(layer).embed(head(rows, i, h), positions[i]);
  }

  // Attention of one layer: one softmax over the keys of all pieces, then those of the new tokens.
  [[nodiscard]] matrix attend_layer(std::size_t layer, const matrix& queries, const layer_kv& fresh,
                                    std::span<const std::int64_t> positions, const mask& allow,
                                    std::span<const context::piece> before) const {
    const double scale = config_.attention_scale > 0 ? static_cast<double>(config_.attention_scale)
                                                     : 1.0 / std::sqrt(static_cast<double>(config_.head_dim));
    const std::int64_t window = config_.window(layer);
    matrix out(queries.rows(), queries.cols());
    for (std::size_t i = 0; i < queries.rows(); ++i) {
      for (std::size_t h = 0; h < config_.heads; ++h) {
        const std::size_t shared = h / (config_.heads / config_.kv_heads);  // grouped queries: heads share keys
        std::vector<double> scores;
        std::vector<std::span<const double>> values;
        const auto see = [&](std::span<const double> query, const layer_kv& kv, std::size_t j) {
          scores.push_back(dot(query, head(kv.keys, j, shared)) * scale);
          values.push_back(head(kv.values, j, shared));
        };

        const std::span<const double> query = head(queries, i, h);
        for (const context::piece& piece : before) {
          std::vector<double> turned(query.begin(), query.end());
          if (piece.turn != 0) rope(layer).rotate(turned, -piece.turn);
          const layer_kv& kv = piece.layers[layer];
          for (std::size_t t = 0; t < kv.keys.rows(); ++t)
            if (positions[i] - (piece.start + static_cast<std::int64_t>(t)) < window) see(turned, kv, t);
        }
        for (std::size_t j = 0; j < fresh.keys.rows(); ++j)
          if (allow(i, j) && positions[i] - positions[j] < window) see(query, fresh, j);

        const partial p = average(std::move(scores), values, config_.head_dim);
        for (std::size_t d = 0; d < config_.head_dim; ++d) head(out, i, h)[d] = p.out[d];
      }
    }
    return out;
  }

  model_config config_;
  reference::rope rope_;
  reference::rope local_rope_;  // of layers with a window
  matrix embedding_;  // [vocab][dim]
  std::vector<layer_weights> layers_;
  std::vector<double> final_norm_;  // [dim]
  matrix lm_head_;                  // [vocab][dim], empty when tied
};

template <weights_source Source>
result<transformer> transformer::from(const Source& source, const model_config& config) {
  if (const auto ok = validate(config); !ok) return ok.error();
  transformer model(config);
  failure first_error;
  bool failed = false;
  const auto keep = [&](auto& into, auto read) {
    if (read.has_value()) {
      into = std::move(*read);
    } else if (!failed) {
      failed = true;
      first_error = read.error();
    }
  };
  const std::size_t dim = config.dim, ffn = config.ffn, d = config.head_dim;
  const std::size_t queries = config.heads * d, keys = config.kv_heads * d;

  keep(model.embedding_, read_matrix(source, "model.embed_tokens.weight", config.vocab, dim));
  for (std::size_t l = 0; l < config.layers && !failed; ++l) {
    const std::string layer = "model.layers." + std::to_string(l) + ".";
    const std::string attention = layer + "self_attn.";
    layer_weights w;
    keep(w.attention_norm, read_vector(source, layer + "input_layernorm.weight", dim));
    keep(w.query, read_matrix(source, attention + "q_proj.weight", queries, dim));
    keep(w.key, read_matrix(source, attention + "k_proj.weight", keys, dim));
    keep(w.value, read_matrix(source, attention + "v_proj.weight", keys, dim));
    keep(w.output, read_matrix(source, attention + "o_proj.weight", dim, queries));
    if (config.qkv_bias) {
      keep(w.query_bias, read_vector(source, attention + "q_proj.bias", queries));
      keep(w.key_bias, read_vector(source, attention + "k_proj.bias", keys));
      keep(w.value_bias, read_vector(source, attention + "v_proj.bias", keys));
    }
    if (config.qk_norm) {
      keep(w.query_norm, read_vector(source, attention + "q_norm.weight", d));
      keep(w.key_norm, read_vector(source, attention + "k_norm.weight", d));
    }
    const std::string after_attention = layer + "post_attention_layernorm.weight";
    if (config.post_norms) {
      keep(w.attention_post_norm, read_vector(source, after_attention, dim));
      keep(w.ffn_norm, read_vector(source, layer + "pre_feedforward_layernorm.weight", dim));
      keep(w.ffn_post_norm, read_vector(source, layer + "post_feedforward_layernorm.weight", dim));
    } else {
      keep(w.ffn_norm, read_vector(source, after_attention, dim));
    }
    keep(w.gate, read_matrix(source, layer + "mlp.gate_proj.weight", ffn, dim));
    keep(w.up, read_matrix(source, layer + "mlp.up_proj.weight", ffn, dim));
    keep(w.down, read_matrix(source, layer + "mlp.down_proj.weight", dim, ffn));
    model.layers_.push_back(std::move(w));
  }
  keep(model.final_norm_, read_vector(source, "model.norm.weight", dim));
  if (!config.tied_embeddings) keep(model.lm_head_, read_matrix(source, "lm_head.weight", config.vocab, dim));
  if (failed) return first_error;
  return model;
}

}  // namespace blockattn::inline v0::reference
