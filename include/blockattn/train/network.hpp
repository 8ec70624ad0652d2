// SPDX-License-Identifier: MIT
/// A Llama that can be differentiated: one pass over a packed batch, forwards to the loss and backwards to the gradient
/// of every weight. The order of steps is that of model/llama.hpp; names of derivatives begin with d_.
///
/// What is kept for the way back, of each layer and row: its input, queries, keys and values, what attention gave, the
/// middle of the residual stream, gate and up. Everything else is computed again, row by row. With `recompute` only the
/// inputs of layers are kept, and each layer runs forwards a second time.
#pragma once

#include <string>
#include <vector>

#include "activations.hpp"
#include "attention.hpp"
#include "head_loss.hpp"
#include "parameters.hpp"

namespace blockattn::inline v0 {

inline namespace BLOCKATTN_ISA {

/// Buffers for passes of one configuration; weights and gradients come with each call and have the places of
/// `parameters`. Not thread-safe. No result depends on the number of workers.
template <class T>
class network {
 public:
  /// Requires a configuration that `validate_trainable` accepts; products of doubles are f32, which means doubles.
  network(const model_config& config, executor_ref workers, bool recompute = false,
          product_type products = product_type::f32);

  [[nodiscard]] const model_config& config() const noexcept { return config_; }

  /// Runs a batch up to the last norm of the rows of its targets: (targets, dim), valid until the next pass.
  const T* forward(const training_batch& batch, const T* weights);

  /// Cross-entropy after `forward`: the sum over targets of weight times -log p(id).
  [[nodiscard]] double loss(const training_batch& batch, const T* weights) {
    return head_loss_.cross_entropy(workers_, space_, products_, config_, batch.targets, normed_out_.data(), weights + head_, T(1),
                                    nullptr, nullptr);
  }
  /// The same, and adds to `gradient` the derivative of `factor` times it. Once after each `forward`.
  double loss_and_gradient(const training_batch& batch, const T* weights, T factor, T* gradient) {
    T* const d_normed = d_normed_.take(batch.targets.size() * config_.dim);
    const double sum = head_loss_.cross_entropy(workers_, space_, products_, config_, batch.targets, normed_out_.data(),
                                                weights + head_, factor, d_normed, gradient + head_);
    backward(batch, weights, d_normed, gradient);
    return sum;
  }

  /// Any other loss on the logits of the targets: `prepare` and `step` as in `head_loss::run`.
  template <class Prepare, class Step>
  double run_head(const training_batch& batch, const T* weights, T* gradient, Prepare&& prepare, Step&& step) {
    const std::size_t live = batch.targets.size(), dim = config_.dim;
    T* const d_normed = gradient == nullptr ? nullptr : d_normed_.take(live * dim);
    const double sum =
        head_loss_.run(workers_, space_, products_, config_.vocab, dim, normed_out_.data(), live, weights + head_, d_normed,
                       gradient == nullptr ? nullptr : gradient + head_, prepare, step);
    if (gradient != nullptr) backward(batch, weights, d_normed, gradient);
    return sum;
  }
  /// Logits of `n` targets from `first` on after `forward`: (n, vocab).
  void logits(std::size_t first, std::size_t n, const T* weights, T* out) {
    multiply<T>(workers_, space_, {normed_out_.data() + first * config_.dim, config_.dim},
                {weights + head_, config_.dim, true}, n, config_.vocab, config_.dim, out, config_.vocab, false, products_);
  }

 private:
  static constexpr std::size_t nowhere = static_cast<std::size_t>(-1);

  // The matrices of a layer, in `packed_`.
  enum : std::size_t { qkv_matrix, out_matrix, gate_up_matrix, down_matrix };

  // Offsets of a layer's tensors.
  struct layer_places {
    std::size_t attention_norm, qkv, qkv_bias, query_norm, key_norm, out, ffn_norm, gate_up, down;
  };

  // f(worker, first row, rows) for each task.
  template <class F>
  void for_parts(std::size_t rows, F&& f) {
    workers_.for_each(ceil_div(rows, together_), [&](std::size_t worker, std::size_t task) {
      const std::size_t first = task * together_;
      f(worker, first, std::min(together_, rows - first));
    });
  }
  // The same with an array of `width` zeros for each task; returns their sum, in order of tasks.
  template <class F>
  const T* for_parts_summing(std::size_t rows, std::size_t width, F&& f);

  void make_turns(const training_batch& batch);
  [[nodiscard]] const T* turn_of(const training_batch& batch, std::size_t r) noexcept {
    return turns_.data() + batch.positions[r] * 2 * rope_.pairs();
  }
  // With `next` null only what is kept is computed.
  void layer(const training_batch& batch, const T* w, std::size_t l, kept_layer<T>& kept, T* next);
  void layer_back(const training_batch& batch, const T* w, std::size_t l, T* dx, T* gradient);
  void backward(const training_batch& batch, const T* w, const T* d_normed, T* gradient);

  // Packs the matrices of a layer for its products: transposed on the way forwards, as they lie on the way back.
  void pack_layer(const T* w, const layer_places& at, bool back);
  // c (rows, cols) (+)= a (rows, depth) times matrix m of `packed_`, on this thread.
  void product(const T* a, std::size_t depth, std::size_t m, std::size_t rows, std::size_t cols, T* c,
               bool accumulate = false) noexcept {
    multiply_packed<T>({a, depth}, rows, packed_[m], depth, depth, cols, c, cols, accumulate, products_);
  }
  // d_weights (a_width, b_width) += a^T b, both (rows, ..), for matrix m. Products of bf16 take what was packed instead.
  void outer(std::size_t m, const T* a, std::size_t a_width, const T* b, std::size_t b_width, std::size_t rows, T* d_weights) {
    if constexpr (std::is_same_v<T, float>) {
      if (early()) return outers_[m].add_to(workers_, d_weights);
    }
    multiply<T>(workers_, space_, {a, a_width, true}, {b, b_width}, a_width, b_width, rows, d_weights, b_width, true);
  }
  // Whether factors of `outer` are packed where their rows are made, `pack_outer`, and need not be kept.
  [[nodiscard]] bool early() const noexcept { return products_ == product_type::bf16; }
  void pack_outer(std::size_t m, const T* a, std::size_t a_width, const T* b, std::size_t b_width, std::size_t first,
                  std::size_t n) const noexcept {
    if constexpr (std::is_same_v<T, float>) {
      if (!early()) return;
      outers_[m].put_a(a, a_width, first, n);
      outers_[m].put_b(b, b_width, first, n);
    }
  }
  void place_outers(std::size_t rows);

  model_config config_;
  executor_ref workers_;
  bool recompute_;
  product_type products_;
  std::size_t together_;  // rows of a task: what it makes of them stays near it
  rope_frequencies rope_;
  attention_rows_shape shape_;
  T epsilon_, score_scale_, embedding_scale_;
  std::vector<layer_places> layers_;
  std::size_t embedding_ = 0, final_norm_ = 0, head_ = 0;

  std::vector<attention_space<T>> spaces_;  // of each worker
  activations<T> rows_;
  std::vector<growing_array<T>> row_spaces_;  // of each worker
  growing_array<T> space_, layer_space_, partials_, normed_out_, scales_out_, d_normed_;
  const T* packed_[4] = {};  // in `layer_space_`
  growing_array<T> outer_space_;
  bf16_outer outers_[4];  // in `outer_space_`
  std::vector<T> turns_;  // of each position: cos[pairs], sin[pairs]
  head_loss<T> head_loss_;
};

template <class T>
network<T>::network(const model_config& config, executor_ref workers, bool recompute, product_type products)
    : config_(config),
      workers_(workers),
      recompute_(recompute),
      products_(products),
      together_(products == product_type::bf16 ? bf16_rows : 48),
      rope_(*make_frequencies(config)),
      shape_{config.heads, config.kv_heads, config.head_dim},
      epsilon_(static_cast<T>(config.norm_epsilon)),
      score_scale_(config.attention_scale > 0 ? static_cast<T>(config.attention_scale)
                                              : T(1) / std::sqrt(static_cast<T>(config.head_dim))),
      embedding_scale_(static_cast<T>(config.embedding_scale)),
      spaces_(workers.concurrency()),
      rows_(config, recompute, products == product_type::f32),
      row_spaces_(workers.concurrency()) {
  const parameters<T> places(config);
  const auto at = [&](const std::string& name) {
    const parameter_place* p = places.find_place(name);
    return p == nullptr ? nowhere : p->offset;
  };
  for (std::size_t l = 0; l < config.layers; ++l) {
    const std::string name = "model.layers." + std::to_string(l) + ".", attention = name + "self_attn.";
    layers_.push_back({at(name + "input_layernorm.weight"), at(attention + "q_proj.weight"), at(attention + "q_proj.bias"),
                       at(attention + "q_norm.weight"), at(attention + "k_norm.weight"), at(attention + "o_proj.weight"),
                       at(name + "post_attention_layernorm.weight"), at(name + "mlp.gate_proj.weight"),
                       at(name + "mlp.down_proj.weight")});
  }
  embedding_ = at("model.embed_tokens.weight");
  final_norm_ = at("model.norm.weight");
  head_ = config.tied_embeddings ? embedding_ : at("lm_head.weight");
}

template <class T>
template <class F>
const T* network<T>::for_parts_summing(std::size_t rows, std::size_t width, F&& f) {
  const std::size_t tasks = ceil_div(rows, together_);
  T* const partials = partials_.take((tasks + 1) * width);
  for_parts(rows, [&](std::size_t worker, std::size_t first, std::size_t n) {
    T* const partial = partials + (first / together_ + 1) * width;
    std::fill_n(partial, width, T(0));
    f(worker, first, n, partial);
  });
  std::fill_n(partials, width, T(0));
  for (std::size_t task = 1; task <= tasks; ++task) add_row(partials, partials + task * width, width);
  return partials;
}

template <class T>
void network<T>::pack_layer(const T* w, const layer_places& at, bool back) {
  const std::size_t dim = config_.dim, ffn = config_.ffn, width = shape_.width(), queries = shape_.query_width();
  struct matrix {
    std::size_t at, rows, cols;
  };
  const matrix all[4] = {{at.qkv, width, dim}, {at.out, dim, queries}, {at.gate_up, 2 * ffn, dim}, {at.down, dim, ffn}};
  packing<T> jobs[4];
  std::size_t sizes[4], total = 0;
  for (std::size_t m = 0; m < 4; ++m) {
    const auto& [offset, rows, cols] = all[m];
    jobs[m] = back ? packing<T>{{w + offset, cols, false}, rows, cols} : packing<T>{{w + offset, cols, true}, cols, rows};
    total += sizes[m] = packed_elements<T>(jobs[m].depth, jobs[m].cols, products_);
  }
  T* to = layer_space_.take(total);
  for (std::size_t m = 0; m < 4; to += sizes[m++]) packed_[m] = jobs[m].to = to;
  pack_factors<T>(workers_, jobs, products_);
}

template <class T>
void network<T>::place_outers(std::size_t rows) {
  const std::size_t dim = config_.dim, ffn = config_.ffn;
  const std::size_t widths[4][2] = {{shape_.width(), dim}, {dim, shape_.query_width()}, {2 * ffn, dim}, {dim, ffn}};
  std::size_t total = 0;
  for (const auto& [a, b] : widths) total += round_up(bf16_outer::bytes(rows, a, b), alignment);
  auto* at = reinterpret_cast<std::byte*>(outer_space_.take(ceil_div(total, sizeof(T))));
  for (std::size_t m = 0; m < 4; ++m) {
    outers_[m] = bf16_outer(at, rows, widths[m][0], widths[m][1]);
    at += round_up(bf16_outer::bytes(rows, widths[m][0], widths[m][1]), alignment);
  }
}

// Tables of all positions of the batch, once for each position there ever was.
template <class T>
void network<T>::make_turns(const training_batch& batch) {
  const std::size_t pairs = rope_.pairs();
  std::size_t most = 0;
  for (const std::uint32_t p : batch.positions) most = std::max<std::size_t>(most, p + std::size_t{1});
  const std::size_t before = turns_.size() / (2 * pairs);
  if (most <= before) return;
  turns_.resize(most * 2 * pairs);
  std::vector<float> table(rope_.table_floats());
  for (std::size_t p = before; p < most; ++p) {
    T* const out = turns_.data() + p * 2 * pairs;
    if (rope_.angles == rope_angles::hf_f32) rope_.cos_sin(static_cast<std::int64_t>(p), table.data());
    for (std::size_t m = 0; m < pairs; ++m) {
      const double angle = static_cast<double>(p) * rope_.per_position[m];
      const bool exact = rope_.angles == rope_angles::exact;
      out[m] = static_cast<T>((exact ? std::cos(angle) : static_cast<double>(table[m])) * rope_.magnitude);
      out[pairs + m] = static_cast<T>((exact ? std::sin(angle) : static_cast<double>(table[pairs + m])) * rope_.magnitude);
    }
  }
}

template <class T>
const T* network<T>::forward(const training_batch& batch, const T* w) {
  const std::size_t rows = batch.rows(), dim = config_.dim;
  make_turns(batch);
  rows_.place(rows);
  T* x = rows_.inputs[0];
  for_parts(rows, [&](std::size_t, std::size_t first, std::size_t n) {
    for (std::size_t r = first; r < first + n; ++r) {
      std::copy_n(w + embedding_ + static_cast<std::size_t>(batch.ids[r]) * dim, dim, x + r * dim);
      if (embedding_scale_ != T(1)) scale_row(x + r * dim, dim, embedding_scale_);
    }
  });
  for (std::size_t l = 0; l < config_.layers; ++l) {
    T* const next = rows_.inputs[l + 1];
    layer(batch, w, l, rows_.kept[recompute_ ? 0 : l], next);
    x = next;
  }
  T* const out = normed_out_.take(batch.targets.size() * dim);
  T* const scales = scales_out_.take(batch.targets.size());
  for_parts(batch.targets.size(), [&](std::size_t, std::size_t first, std::size_t n) {
    for (std::size_t i = first; i < first + n; ++i)
      scales[i] = norm_row(x + batch.targets[i].row * dim, w + final_norm_, dim, epsilon_, out + i * dim);
  });
  return out;
}

template <class T>
void network<T>::layer(const training_batch& batch, const T* w, std::size_t l, kept_layer<T>& kept, T* next) {
  const layer_places& at = layers_[l];
  const std::size_t rows = batch.rows(), dim = config_.dim, ffn = config_.ffn, d = config_.head_dim;
  const std::size_t width = shape_.width(), queries = shape_.query_width(), heads = shape_.heads;
  const std::size_t turned = heads + shape_.kv_heads;
  const T* const x = rows_.inputs[l];
  T *const scales = kept.scales, *const qkv = kept.qkv, *const head_scales = kept.head_scales;
  T* const before = config_.qk_norm ? kept.before_norm : nullptr;
  pack_layer(w, at, false);

  // Queries, keys and values, rotated to their positions.
  for_parts(rows, [&](std::size_t worker, std::size_t first, std::size_t n) {
    T* const normed = row_spaces_[worker].take(together_ * (dim + ffn));
    for (std::size_t i = 0; i < n; ++i)
      scales[first + i] = norm_row(x + (first + i) * dim, w + at.attention_norm, dim, epsilon_, normed + i * dim);
    product(normed, dim, qkv_matrix, n, width, qkv + first * width);
    for (std::size_t r = first; r < first + n; ++r) {
      T* const row = qkv + r * width;
      if (at.qkv_bias != nowhere) add_row(row, w + at.qkv_bias, width);
      if (before != nullptr) {
        std::copy_n(row, turned * d, before + r * turned * d);
        for (std::size_t h = 0; h < turned; ++h)
          head_scales[r * turned + h] =
              norm_row(row + h * d, w + (h < heads ? at.query_norm : at.key_norm), d, epsilon_, row + h * d);
      }
      for (std::size_t h = 0; h < turned; ++h)
        turn<false>(row + h * d, turn_of(batch, r), rope_.pairs(), config_.rope.layout);
    }
  });

  T* const attended = kept.attended;
  attend_training(workers_, spaces_, batch, shape_, score_scale_, qkv, attended, kept.sums, products_);

  // What attention gave joins the residual stream; then the gated feed-forward layer.
  T *const middle = kept.middle, *const gate_up = kept.gate_up;
  for_parts(rows, [&](std::size_t worker, std::size_t first, std::size_t n) {
    T* const normed = row_spaces_[worker].take(together_ * (dim + ffn));
    T *const gated = normed + together_ * dim, *const joined = middle + first * dim;
    std::copy_n(x + first * dim, n * dim, joined);
    product(attended + first * queries, queries, out_matrix, n, dim, joined, true);
    for (std::size_t i = 0; i < n; ++i)
      scales[rows + first + i] = norm_row(joined + i * dim, w + at.ffn_norm, dim, epsilon_, normed + i * dim);
    product(normed, dim, gate_up_matrix, n, 2 * ffn, gate_up + first * 2 * ffn);
    if (next == nullptr) return;
    for (std::size_t i = 0; i < n; ++i) swiglu_row(gate_up + (first + i) * 2 * ffn, ffn, gated + i * ffn);
    std::copy_n(joined, n * dim, next + first * dim);
    product(gated, ffn, down_matrix, n, dim, next + first * dim, true);
  });
}

// dx: the gradient of the layer's output, then of its input.
template <class T>
void network<T>::layer_back(const training_batch& batch, const T* w, std::size_t l, T* dx, T* gradient) {
  const layer_places& at = layers_[l];
  kept_layer<T>& kept = rows_.kept[recompute_ ? 0 : l];
  if (recompute_) layer(batch, w, l, kept, nullptr);
  const std::size_t rows = batch.rows(), dim = config_.dim, ffn = config_.ffn, d = config_.head_dim;
  const std::size_t width = shape_.width(), queries = shape_.query_width(), heads = shape_.heads;
  const std::size_t turned = heads + shape_.kv_heads;
  const T *const x = rows_.inputs[l], *const middle = kept.middle, *const scales = kept.scales;
  const T* const attended = kept.attended;
  T *const normed = rows_.normed, *const gated = rows_.gated;  // null if they are not kept
  T *const d_middle = rows_.d_middle, *const d_attended = rows_.d_attended;
  T* const gate_up = kept.gate_up;  // becomes the gradient of itself
  pack_layer(w, at, true);
  if (early()) place_outers(rows);
  // Of a task: its d_normed, and its rows of `normed` and `gated`, in scratch if they are not kept.
  struct task_rows {
    T *d_normed, *normed, *gated;
  };
  const auto rows_at = [&](std::size_t worker, std::size_t first) {
    T* const here = row_spaces_[worker].take(together_ * (2 * dim + ffn));
    T *const after = here + together_ * dim, *const last = after + together_ * dim;
    return early() ? task_rows{here, after, last} : task_rows{here, normed + first * dim, gated + first * ffn};
  };

  // The feed-forward layer, down to what attention gave.
  const T* sums = for_parts_summing(rows, dim, [&](std::size_t worker, std::size_t first, std::size_t n, T* dw) {
    const auto [d_normed, again, d_gated] = rows_at(worker, first);
    T* const d_out = d_middle + first * dim;
    product(dx + first * dim, dim, down_matrix, n, ffn, d_gated);
    for (std::size_t i = 0; i < n; ++i) {
      swiglu_row_back(gate_up + (first + i) * 2 * ffn, ffn, d_gated + i * ffn);
      norm_row_again(middle + (first + i) * dim, w + at.ffn_norm, dim, scales[rows + first + i], again + i * dim);
    }
    pack_outer(down_matrix, dx + first * dim, dim, d_gated, ffn, first, n);
    pack_outer(gate_up_matrix, gate_up + first * 2 * ffn, 2 * ffn, again, dim, first, n);
    product(gate_up + first * 2 * ffn, 2 * ffn, gate_up_matrix, n, dim, d_normed);
    std::copy_n(dx + first * dim, n * dim, d_out);
    for (std::size_t i = 0; i < n; ++i)
      norm_row_back<true>(d_normed + i * dim, middle + (first + i) * dim, w + at.ffn_norm, dim, scales[rows + first + i],
                          d_out + i * dim, dw);
    product(d_out, dim, out_matrix, n, queries, d_attended + first * queries);
    pack_outer(out_matrix, d_out, dim, attended + first * queries, queries, first, n);
  });
  add_row(gradient + at.ffn_norm, sums, dim);
  outer(down_matrix, dx, dim, gated, ffn, rows, gradient + at.down);
  outer(gate_up_matrix, gate_up, 2 * ffn, normed, dim, rows, gradient + at.gate_up);
  outer(out_matrix, d_middle, dim, attended, queries, rows, gradient + at.out);

  T* const d_qkv = rows_.d_qkv;
  attend_training_back(workers_, spaces_, batch, shape_, score_scale_, kept.qkv, attended, kept.sums,
                       d_attended, d_qkv, products_);

  // Queries, keys and values. Sums: of the norm, the biases, and the norms of heads of queries and of keys.
  const T *const before = kept.before_norm, *const head_scales = kept.head_scales;
  sums = for_parts_summing(rows, dim + width + 2 * d, [&](std::size_t worker, std::size_t first, std::size_t n, T* dw) {
    const auto [d_normed, again, unused] = rows_at(worker, first);
    (void)unused;
    T* const d_bias = dw + dim;
    for (std::size_t r = first; r < first + n; ++r) {
      T* const row = d_qkv + r * width;
      for (std::size_t h = 0; h < turned; ++h) {
        T* const head = row + h * d;
        turn<true>(head, turn_of(batch, r), rope_.pairs(), config_.rope.layout);
        if (config_.qk_norm)
          norm_row_back<false>(head, before + (r * turned + h) * d, w + (h < heads ? at.query_norm : at.key_norm), d,
                               head_scales[r * turned + h], head, d_bias + width + (h < heads ? 0 : d));
      }
      if (at.qkv_bias != nowhere) add_row(d_bias, row, width);
      norm_row_again(x + r * dim, w + at.attention_norm, dim, scales[r], again + (r - first) * dim);
    }
    pack_outer(qkv_matrix, d_qkv + first * width, width, again, dim, first, n);
    product(d_qkv + first * width, width, qkv_matrix, n, dim, d_normed);
    std::copy_n(d_middle + first * dim, n * dim, dx + first * dim);
    for (std::size_t i = 0; i < n; ++i)
      norm_row_back<true>(d_normed + i * dim, x + (first + i) * dim, w + at.attention_norm, dim, scales[first + i],
                          dx + (first + i) * dim, dw);
  });
  add_row(gradient + at.attention_norm, sums, dim);
  if (at.qkv_bias != nowhere) add_row(gradient + at.qkv_bias, sums + dim, width);
  if (config_.qk_norm) {
    add_row(gradient + at.query_norm, sums + dim + width, d);
    add_row(gradient + at.key_norm, sums + dim + width + d, d);
  }
  outer(qkv_matrix, d_qkv, width, normed, dim, rows, gradient + at.qkv);
}

template <class T>
void network<T>::backward(const training_batch& batch, const T* w, const T* d_normed, T* gradient) {
  const std::size_t rows = batch.rows(), dim = config_.dim;
  T* const dx = rows_.d_x;
  for_parts(rows, [&](std::size_t, std::size_t first, std::size_t n) { std::fill_n(dx + first * dim, n * dim, T(0)); });
  const T *const x = rows_.inputs[config_.layers], *const scales = scales_out_.data();
  const T* const sums =
      for_parts_summing(batch.targets.size(), dim, [&](std::size_t, std::size_t first, std::size_t n, T* dw) {
        for (std::size_t i = first; i < first + n; ++i) {
          const std::size_t r = batch.targets[i].row;
          norm_row_back<true>(d_normed + i * dim, x + r * dim, w + final_norm_, dim, scales[i], dx + r * dim, dw);
        }
      });
  add_row(gradient + final_norm_, sums, dim);
  for (std::size_t l = config_.layers; l-- > 0;) layer_back(batch, w, l, dx, gradient);

  // A token may stand in many rows: a task has some columns of all of them.
  constexpr std::size_t columns = 64;
  workers_.for_each(ceil_div(dim, columns), [&](std::size_t, std::size_t task) {
    const std::size_t first = task * columns, n = std::min(columns, dim - first);
    for (std::size_t r = 0; r < rows; ++r) {
      T* const from = dx + r * dim + first;
      if (embedding_scale_ != T(1)) scale_row(from, n, embedding_scale_);
      add_row(gradient + embedding_ + static_cast<std::size_t>(batch.ids[r]) * dim + first, from, n);
    }
  });
}

}  // namespace BLOCKATTN_ISA
}  // namespace blockattn::inline v0
