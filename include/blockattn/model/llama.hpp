// SPDX-License-Identifier: MIT
/// A Llama: weights bound to a configuration, and its forward pass.
///
/// `bind` checks every name and shape once and repacks the weights for the kernels; afterwards the model is const and
/// any number of sessions may share it. Block-Attention changes nothing here: which keys a row sees is decided by the
/// sources of its sequence (model/pass.hpp), so one forward pass serves full attention, block encoding and the final
/// block alike.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "../core/executor.hpp"
#include "../core/hash.hpp"
#include "../core/memory.hpp"
#include "../kernel/native.hpp"
#include "pass.hpp"
#include "weights.hpp"

namespace blockattn::inline v0 {

struct bind_options {
  compute_type compute = compute_type::automatic;  // f32: never round activations
  std::optional<executor_ref> workers = {};        // packs in parallel, if given
  std::optional<hash128> fingerprint = {};         // instead of hashing all weights: identifies them in block keys
  std::function<void(std::size_t done, std::size_t total)> progress = {};  // tensors packed so far
};

/// A model that sessions share. Thread-safe once bound: all members are const.
template <kernel_set Kernels = native_kernels, class Allocator = std::allocator<std::byte>>
class llama {
 public:
  using kernels = Kernels;

  /// Binds weights. Errors: `bad_format` for a missing tensor, `shape_mismatch`, `unsupported` element types and
  /// `invalid_argument` for a configuration that cannot run; each names the tensor, what was expected and found.
  /// Peak memory: the packed weights and the largest tensor of the source.
  template <weights_source Source>
  [[nodiscard]] static result<llama> bind(const Source& source, const bind_options& options = {},
                                          const Allocator& allocator = Allocator());

  /// That of the source, but for the order of rotary pairs, which is half-split in every bound model.
  [[nodiscard]] const model_config& config() const noexcept { return config_; }
  [[nodiscard]] const std::shared_ptr<const rope_frequencies>& rope() const noexcept { return rope_; }
  /// Identifies the weights and the configuration in block keys.
  [[nodiscard]] hash128 fingerprint() const noexcept { return fingerprint_; }
  [[nodiscard]] compute_type compute() const noexcept { return compute_; }
  /// Bytes of packed weights.
  [[nodiscard]] std::size_t weight_bytes() const noexcept {
    std::size_t sum = 0;
    for (const auto& b : buffers_) sum += b.size();
    return sum;
  }
  /// The shape of keys and values of this model, stored as `type`.
  [[nodiscard]] kv_shape kv(dtype type) const noexcept { return {config_.layers, config_.kv_heads, config_.head_dim, type}; }

  /// How large each key dim of a layer is for an ordinary input, (kv_heads * head_dim) floats: the root mean square
  /// over inputs whose normed elements are independent and of size one. For `key_factors_of`.
  void expected_keys(std::size_t l, float* out) const;

  /// Runs a pass. Takes scratch from `scratch`, which the caller resets between passes; allocates nothing else.
  /// Same bits for any executor, and for a sequence alone or among others.
  template <class ScratchAllocator>
  void forward(const forward_pass& pass, const kv_shape& kv, executor_ref workers,
               arena<ScratchAllocator>& scratch) const;

 private:
  // Matrices that share their input, one below the other: neighbours of one type are one matrix.
  struct stacked_matrix {
    std::array<packed_matrix, 3> part;
    std::size_t parts = 0;

    // Row `row` of the stack, as floats.
    void gather(std::size_t row, float* out) const noexcept {
      std::size_t p = 0;
      while (row >= part[p].rows) row -= part[p++].rows;
      Kernels::gather(part[p], row, out);
    }
  };
  struct layer {
    const float* attention_norm = nullptr;  // (dim)
    stacked_matrix qkv;                     // (heads*head_dim + 2*kv_heads*head_dim, dim)
    const float* qkv_bias = nullptr;        // (qkv.rows), or null
    const float* query_norm = nullptr;      // (head_dim), or null
    const float* key_norm = nullptr;        // (head_dim), or null
    stacked_matrix out;                     // (dim, heads*head_dim)
    const float* ffn_norm = nullptr;        // (dim)
    stacked_matrix gate_up;                 // (2*ffn, dim)
    stacked_matrix down;                    // (dim, ffn)
    // Over what attention and the feed-forward layer add, (dim), or null.
    const float* attention_post_norm = nullptr;
    const float* ffn_post_norm = nullptr;
  };
  template <class Source>
  class binder;

  explicit llama(const Allocator& allocator) : buffers_(allocator) {}

  using buffer = aligned_buffer<Allocator>;
  using buffer_allocator = typename std::allocator_traits<Allocator>::template rebind_alloc<buffer>;

  model_config config_;
  std::shared_ptr<const rope_frequencies> rope_;
  compute_type compute_ = compute_type::automatic;
  hash128 fingerprint_;
  stacked_matrix embedding_;  // (vocab, dim), one part
  stacked_matrix head_;       // (vocab, dim), the same panels as the embedding if tied
  const float* final_norm_ = nullptr;
  std::vector<layer> layers_;
  std::vector<buffer, buffer_allocator> buffers_;  // what all the pointers point into
};

// ---------------------------------------------------------------------------------------------------------------------
// The forward pass.

namespace detail {
// Divides the keys of a row by their factors and multiplies the queries that meet them (model/key_factors.hpp).
inline void fold_factors(float* row, const float* factors, const model_config& c) noexcept {
  const std::size_t d = c.head_dim, group = c.heads / c.kv_heads;
  for (std::size_t h = 0; h < c.heads; ++h, row += d)
    for (std::size_t i = 0; i < d; ++i) row[i] *= factors[h / group * d + i];
  for (std::size_t i = 0; i < c.kv_heads * d; ++i) row[i] /= factors[i];
}
// Small row-wise work in tasks of sixteen rows: one decoded token stays on the calling thread.
template <class F>
void for_rows(executor_ref workers, std::size_t rows, F&& f) {
  constexpr std::size_t step = 16;
  workers.for_each(ceil_div(rows, step), [&](std::size_t, std::size_t task) {
    const std::size_t end = std::min(rows, (task + 1) * step);
    for (std::size_t r = task * step; r < end; ++r) f(r);
  });
}
// Stores the keys and values of all rows in their panels, in tasks that share no tile of 16 tokens.
template <class Kernels>
void store_rows(executor_ref workers, const forward_pass& pass, const kv_shape& kv, std::size_t layer, const float* keys,
                std::size_t stride, std::size_t key_width) {
  constexpr std::size_t step = 4 * panel_width;
  for (const pass_sequence& s : pass.sequences) {
    std::byte* base = s.target + layer * kv.layer_bytes(s.room);
    const std::size_t first = s.slot / step;
    workers.for_each(ceil_div(s.slot + s.rows, step) - first, [&](std::size_t, std::size_t task) {
      const std::size_t begin = std::max(s.slot, (first + task) * step);
      const std::size_t end = std::min(s.slot + s.rows, (first + task + 1) * step);
      const float* k = keys + (s.first_row + begin - s.slot) * stride;
      Kernels::store_kv(kv, k, k + key_width, stride, base, s.room, begin, end - begin);
    });
  }
}
}  // namespace detail

template <kernel_set Kernels, class Allocator>
void llama<Kernels, Allocator>::expected_keys(std::size_t l, float* out) const {
  BLOCKATTN_EXPECTS(l < layers_.size());
  const layer& w = layers_[l];
  const std::size_t first = std::size_t{config_.heads} * config_.head_dim;
  std::vector<float> row(config_.dim);
  for (std::size_t i = 0; i < std::size_t{config_.kv_heads} * config_.head_dim; ++i) {
    if (w.key_norm != nullptr) {
      out[i] = std::abs(w.key_norm[i % config_.head_dim]);
      continue;
    }
    w.qkv.gather(first + i, row.data());
    double sum = w.qkv_bias != nullptr ? std::pow(double{w.qkv_bias[first + i]}, 2) : 0.0;
    for (std::size_t k = 0; k < row.size(); ++k) sum += std::pow(double{row[k]} * w.attention_norm[k], 2);
    out[i] = static_cast<float>(std::sqrt(sum));
  }
}

template <kernel_set Kernels, class Allocator>
template <class ScratchAllocator>
void llama<Kernels, Allocator>::forward(const forward_pass& pass, const kv_shape& kv, executor_ref workers,
                                        arena<ScratchAllocator>& scratch) const {
  const model_config& c = config_;
  const std::size_t rows = pass.ids.size();
  const std::size_t query_width = std::size_t{c.heads} * c.head_dim;
  const std::size_t key_width = std::size_t{c.kv_heads} * c.head_dim;
  const std::size_t qkv_width = query_width + 2 * key_width;
  const std::size_t pairs = rope_->pairs(), table_floats = rope_->table_floats();

  const auto x = scratch.template take<float>(rows * c.dim);              // the residual stream
  const auto normed = scratch.template take<float>(rows * c.dim);
  const auto qkv = scratch.template take<float>(rows * qkv_width);
  const auto attended = scratch.template take<float>(rows * query_width);
  const auto delta = scratch.template take<float>(rows * c.dim);          // what a sublayer adds
  const auto tables = scratch.template take<float>(rows * table_floats);  // cos and sin of each row's position

  detail::for_rows(workers, rows, [&](std::size_t r) {
    Kernels::gather(embedding_.part[0], static_cast<std::size_t>(pass.ids[r]), &x[r * c.dim]);
    if (c.embedding_scale != 1)
      for (std::size_t d = 0; d < c.dim; ++d) x[r * c.dim + d] *= c.embedding_scale;
    scaled_table(*rope_, pass.positions[r], &tables[r * table_floats]);
  });

  // Jobs and segments keep their shape over the layers; only pointers move from one to the next.
  std::size_t sources = 0;
  for (const pass_sequence& s : pass.sequences) sources += s.sources.size();
  const auto segments = scratch.template take<kv_segment>(sources);
  const auto jobs = scratch.template take<attention_job>(pass.sequences.size());
  const bool many = compute_ == compute_type::automatic && !pass.decodes;
  compute_type compute = many ? compute_type::many_rows : compute_;
  attention_shape shape{c.heads, c.kv_heads, c.head_dim, kv.type, c.score_scale(), c.window(0), c.rope.rotary_dim,
                        c.rope.layout, compute};
  const auto aim_at_layer = [&](std::size_t l) {
    std::size_t next = 0;
    const std::size_t turn = rope_->table_offset(c.is_local(l));
    for (std::size_t s = 0; s < pass.sequences.size(); ++s) {
      const pass_sequence& sequence = pass.sequences[s];
      const std::size_t first = next;
      for (const kv_source& from : sequence.sources) segments[next++] = detail::segment_of(from, kv, l, turn);
      jobs[s] = {&qkv[sequence.first_row * qkv_width], qkv_width, &pass.positions[sequence.first_row], sequence.rows,
                 {&segments[first], next - first}, &attended[sequence.first_row * query_width], query_width};
    }
    shape.window = c.window(l);
  };
  std::size_t kernel_scratch = 0;
  for (std::size_t l = 0; l < layers_.size(); ++l) {
    if (l != 0 && c.windows.empty()) break;  // without windows, all layers need the same
    aim_at_layer(l);
    kernel_scratch = std::max(kernel_scratch, Kernels::attend_scratch(workers.concurrency(), jobs, shape));
  }
  // Scratch for a feed-forward layer at once; 0 where it takes its steps one by one.
  const auto layer_scratch = [&](const layer& w, compute_type how, std::size_t n) -> std::size_t {
    if constexpr (native_feed_forward<Kernels>)
      if (w.gate_up.parts == 1 && w.down.parts == 1)
        return Kernels::feed_forward_scratch(workers.concurrency(), w.gate_up.part[0], w.down.part[0], how, n);
    return 0;
  };
  std::size_t gated_rows = pass.logits.size();  // that the steps need room for, at most
  for (const layer& any : layers_) {  // types may differ from layer to layer
    const std::size_t at_once = layer_scratch(any, compute, rows);
    kernel_scratch = std::max({kernel_scratch, at_once, layer_scratch(any, compute_, pass.logits.size())});
    if (at_once == 0) gated_rows = rows;
    for (const stacked_matrix* w : {&any.qkv, &any.out, &any.gate_up, &any.down, &head_})
      for (std::size_t p = 0; p < w->parts; ++p)
        for (const compute_type how : {compute, compute_})
          kernel_scratch = std::max(kernel_scratch, Kernels::project_scratch(workers.concurrency(), w->part[p], how, rows));
  }
  const auto work = scratch.template take<std::byte>(kernel_scratch);
  const auto gate_up = scratch.template take<float>(gated_rows * 2 * c.ffn);

  const auto project = [&](const stacked_matrix& w, const float* in, std::size_t in_stride, std::size_t n, float* out,
                           std::size_t out_stride) {
    for (std::size_t p = 0; p < w.parts; out += w.part[p++].rows)
      Kernels::project(workers, w.part[p], compute, in, in_stride, n, out, out_stride, work);
  };

  // What a sublayer made joins the residual stream, normed before where the model has post norms.
  const auto join = [&](std::size_t r, const float* post_norm) {
    float* const made = &delta[r * c.dim];
    if (post_norm != nullptr) Kernels::rms_norm(made, c.dim, post_norm, c.norm_epsilon, made);
    Kernels::add(&x[r * c.dim], made, c.dim);
  };

  std::size_t live = rows;  // rows that later layers still need
  for (std::size_t l = 0; l < layers_.size(); ++l) {
    const layer& w = layers_[l];

    // Queries, keys and values, rotated to their positions.
    detail::for_rows(workers, rows, [&](std::size_t r) {
      Kernels::rms_norm(&x[r * c.dim], c.dim, w.attention_norm, c.norm_epsilon, &normed[r * c.dim]);
    });
    project(w.qkv, normed.data(), c.dim, rows, qkv.data(), qkv_width);
    const float* const turns = tables.data() + rope_->table_offset(c.is_local(l));
    detail::for_rows(workers, rows, [&](std::size_t r) {
      float* row = &qkv[r * qkv_width];  // (heads + 2 * kv_heads, head_dim)
      if (w.qkv_bias != nullptr) Kernels::add(row, w.qkv_bias, qkv_width);
      if (w.query_norm != nullptr) {
        for (std::size_t h = 0; h < c.heads + c.kv_heads; ++h)
          Kernels::rms_norm(row + h * c.head_dim, c.head_dim, h < c.heads ? w.query_norm : w.key_norm, c.norm_epsilon,
                            row + h * c.head_dim);
      }
      Kernels::turn_row(row, c.heads + c.kv_heads, c.head_dim, turns + r * table_floats, pairs, c.rope.layout);
      if (pass.key_factors != nullptr) detail::fold_factors(row, pass.key_factors + l * key_width, c);
    });
    detail::store_rows<Kernels>(workers, pass, kv, l, qkv.data() + query_width, qkv_width, key_width);

    // A pass that only encodes is done once the last keys and values are stored.
    const bool last = l + 1 == layers_.size();
    if (last && pass.logits.empty()) return;

    aim_at_layer(l);
    Kernels::attend(workers, jobs, shape, work);

    // After the last attention only the rows whose logits are wanted go on.
    if (last) {
      compute = compute_;  // they are few, and computed as decoded rows are
      live = pass.logits.size();
      for (std::size_t i = 0; i < live; ++i) {
        const std::size_t r = pass.logits[i].row;
        std::copy_n(&x[r * c.dim], c.dim, &x[i * c.dim]);
        std::copy_n(&attended[r * query_width], query_width, &attended[i * query_width]);
      }
    }
    project(w.out, attended.data(), query_width, live, delta.data(), c.dim);

    // The gated feed-forward layer.
    detail::for_rows(workers, live, [&](std::size_t r) {
      join(r, w.attention_post_norm);
      Kernels::rms_norm(&x[r * c.dim], c.dim, w.ffn_norm, c.norm_epsilon, &normed[r * c.dim]);
    });
    if (layer_scratch(w, compute, live) != 0) {
      if constexpr (native_feed_forward<Kernels>)
        Kernels::feed_forward(workers, w.gate_up.part[0], w.down.part[0], compute, c.gate == gate_function::gelu_tanh,
                              normed.data(), c.dim, live, delta.data(), c.dim, work);
    } else {
      project(w.gate_up, normed.data(), c.dim, live, gate_up.data(), 2 * std::size_t{c.ffn});
      detail::for_rows(workers, live, [&](std::size_t r) {
        float* row = &gate_up[r * 2 * c.ffn];
        c.gate == gate_function::silu ? Kernels::swiglu(row, row + c.ffn, c.ffn, row)
                                      : Kernels::geglu(row, row + c.ffn, c.ffn, row);
      });
      project(w.down, gate_up.data(), 2 * std::size_t{c.ffn}, live, delta.data(), c.dim);
    }
    detail::for_rows(workers, live, [&](std::size_t r) { join(r, w.ffn_post_norm); });
  }

  detail::for_rows(workers, live, [&](std::size_t r) {
    Kernels::rms_norm(&x[r * c.dim], c.dim, final_norm_, c.norm_epsilon, &normed[r * c.dim]);
  });
  // Rows may go to places far apart; runs that lie side by side are one product.
  for (std::size_t i = 0; i < live;) {
    std::size_t n = 1;
    while (i + n < live && pass.logits[i + n].out == pass.logits[i].out + n * c.vocab) ++n;
    project(head_, &normed[i * c.dim], c.dim, n, pass.logits[i].out, c.vocab);
    i += n;
  }
}

}  // namespace blockattn::inline v0

#include "bind.hpp"
