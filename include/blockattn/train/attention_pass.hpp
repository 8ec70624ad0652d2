// SPDX-License-Identifier: MIT
/// Attention of training and its derivative, over what each group of rows sees and nothing else.
///
///     S = scale Q K^T,  P = softmax(S),  O = P V
///     dV = P^T dO,  dP = dO V^T,  dS = scale P (dP - rowsum(dO O)),  dQ = dS K,  dK = dS^T Q
///
/// No matrix of all rows by all keys is kept: the way back computes P again from the logarithm of each row's sum
/// (Dao et al. 2022, section 3.1). One task has a sample and a head of keys, with all query heads that share it, so that
/// no two tasks add to one gradient; its sums run in the order of heads and rows, whoever runs it.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "batch.hpp"
#include "product.hpp"
#include "row_steps.hpp"

namespace blockattn::inline v0 {
inline namespace BLOCKATTN_ISA {

/// Rows of [queries | keys | values]: heads * head_dim, kv_heads * head_dim and as many again.
struct attention_rows_shape {
  std::size_t heads = 0, kv_heads = 0, head_dim = 0;
  [[nodiscard]] std::size_t width() const noexcept { return (heads + 2 * kv_heads) * head_dim; }
  [[nodiscard]] std::size_t query_width() const noexcept { return heads * head_dim; }
};

namespace isa_detail {
// Rows of one group in a tile.
struct tile_segment {
  std::size_t group = 0;  // of the sample
  row_range rows;         // of the batch
  std::size_t own = 0;    // keys of the group that the last of them sees
};
// Rows that are computed together: they see the same part of the context, and each segment its own group.
struct query_tile {
  row_range rows;
  std::size_t first_segment = 0, last_segment = 0;
  std::size_t context = 0;  // keys of the context they see
  std::size_t own = 0;      // the most that a segment sees of its group
  [[nodiscard]] std::size_t own_at() const noexcept { return round_up(context, 16); }
  [[nodiscard]] std::size_t columns() const noexcept { return own_at() + round_up(own, 16); }
};
}  // namespace isa_detail

/// Scratch of one worker; grows to what the largest sample needs.
template <class T>
struct attention_space {
  growing_array<T> packed, scores, weights, queries;
  std::vector<isa_detail::tile_segment> segments;
  std::vector<isa_detail::query_tile> tiles;
  std::vector<std::size_t> own_at;  // of each group, in `packed`
};

namespace isa_detail {

// One sample and one head of keys.
template <class T>
class attention_pass {
 public:
  attention_pass(const training_batch& batch, const packed_sample& sample, const attention_rows_shape& shape, T scale,
                 std::size_t kv_head, const T* qkv, attention_space<T>& space, product_type type)
      : batch_(batch), sample_(sample), shape_(shape), scale_(scale), kv_head_(kv_head), qkv_(qkv), space_(space),
        type_(type), height_(type == product_type::bf16 ? most_rows : 48) {
    cut();
  }

  // out (rows, heads * head_dim); sums (rows, heads): the logarithm of each row's sum of exponentials.
  void forward(T* out, T* sums) {
    pack({key_factor(true), value_factor(false)});
    const std::size_t d = shape_.head_dim, out_width = shape_.query_width();
    for_tiles([&](const query_tile& t, std::size_t head) {
      const std::size_t columns = t.columns();
      T* const scores = space_.scores.take(height_ * columns);
      T* const to = out + head * d;
      products(t, queries(head), shape_.width(), 0, scores);
      T sum[most_rows];
      for_rows(t, [&](std::size_t r, std::size_t seen, std::size_t own) {
        T* const row = scores + (r - t.rows.first) * columns;
        T* const row_own = row + t.own_at();
        const T top = scale_ * largest_of(row_own, seen, largest_of(row, t.context, std::numeric_limits<T>::lowest()));
        const T all = exp_row(row, t.context, scale_, top) + exp_row(row_own, seen, scale_, top);
        std::fill(row_own + seen, row_own + own, T(0));
        sum[r - t.rows.first] = all;
        sums[r * shape_.heads + head] = top + std::log(all);
      });
      weighted(t, scores, columns, 1, to, out_width);
      for (std::size_t r = t.rows.first; r < t.rows.last; ++r)
        scale_row(to + r * out_width, d, T(1) / sum[r - t.rows.first]);
    });
  }

  // From d_out, the gradient of out, to d_qkv, of which this sample's rows and these heads are written.
  void backward(const T* out, const T* sums, const T* d_out, T* d_qkv) {
    pack({key_factor(true), value_factor(true), key_factor(false)});
    const std::size_t d = shape_.head_dim, width = shape_.width(), out_width = shape_.query_width();
    T* const d_keys = d_qkv + (shape_.heads + kv_head_) * d;
    T* const d_values = d_keys + shape_.kv_heads * d;
    for (std::size_t r = sample_.all.first; r < sample_.all.last; ++r) {
      std::fill_n(d_keys + r * width, d, T(0));
      std::fill_n(d_values + r * width, d, T(0));
    }
    for_tiles([&](const query_tile& t, std::size_t head) {
      const std::size_t columns = t.columns();
      T* const p = space_.scores.take(height_ * columns);    // S, then P
      T* const ds = space_.weights.take(height_ * columns);  // dP, then dS
      products(t, queries(head), width, 0, p);
      products(t, d_out + head * d, out_width, 1, ds);
      for_rows(t, [&](std::size_t r, std::size_t seen, std::size_t own) {
        const std::size_t at = (r - t.rows.first) * columns, own_at = at + t.own_at();
        const T lse = sums[r * shape_.heads + head];
        const T pull = dot_rows(d_out + r * out_width + head * d, out + r * out_width + head * d, d);
        exp_row(p + at, t.context, scale_, lse);
        exp_row(p + own_at, seen, scale_, lse);
        score_row_back(p + at, pull, t.context, ds + at);
        score_row_back(p + own_at, pull, seen, ds + own_at);
        std::fill(p + own_at + seen, p + own_at + own, T(0));
        std::fill(ds + own_at + seen, ds + own_at + own, T(0));
      });
      weighted(t, ds, columns, 2, d_qkv + head * d, width);
      collect(t, p, columns, d_out + head * d, out_width, d_values);
      collect(t, ds, columns, queries(head), width, d_keys);
    });
  }

 protected:
  static constexpr std::size_t most_rows = 64;

  // Groups of more than half a tile are cut alone, others are put together.
  void cut() {
    auto& tiles = space_.tiles;
    auto& segments = space_.segments;
    tiles.clear(), segments.clear();
    for (std::size_t g = sample_.first_group; g < sample_.last_group; ++g) {
      const query_group& group = batch_.groups[g];
      const std::size_t held = group.sees_context ? sample_.context.size() : 0;
      const bool small = group.rows.size() <= height_ / 2;
      for (std::size_t r = group.rows.first; r < group.rows.last;) {
        const std::size_t n = std::min(height_, group.rows.last - r), own = r + n - group.rows.first;
        const bool joins = small && joinable_ && tiles.back().context == held &&
                           tiles.back().rows.size() + n <= height_;
        if (!joins) tiles.push_back({{r, r}, segments.size(), segments.size(), held, 0});
        joinable_ = small;
        query_tile& t = tiles.back();
        segments.push_back({g - sample_.first_group, {r, r + n}, own});
        t.rows.last = r + n;
        t.last_segment = segments.size();
        t.own = std::max(t.own, own);
        r += n;
      }
    }
  }

  [[nodiscard]] const T* queries(std::size_t head) const noexcept { return qkv_ + head * shape_.head_dim; }
  [[nodiscard]] factor<T> key_factor(bool transposed) const noexcept {
    return {qkv_ + (shape_.heads + kv_head_) * shape_.head_dim, shape_.width(), transposed};
  }
  [[nodiscard]] factor<T> value_factor(bool transposed) const noexcept {
    return {qkv_ + (shape_.heads + shape_.kv_heads + kv_head_) * shape_.head_dim, shape_.width(), transposed};
  }

  // Packs these factors of the context, if a branch sees it, and of each group.
  void pack(std::initializer_list<factor<T>> factors) {
    const std::size_t d = shape_.head_dim;
    const auto size = [this](const row_range& rows) { return size_of(rows); };
    kinds_ = factors.size();
    std::size_t total = 0;
    bool seen = false;
    space_.own_at.clear();
    for (std::size_t g = sample_.first_group; g < sample_.last_group; ++g) {
      space_.own_at.push_back(total);
      total += kinds_ * size(batch_.groups[g].rows);
      seen = seen || batch_.groups[g].sees_context;
    }
    context_at_ = total;
    if (seen) total += kinds_ * size(sample_.context);
    T* const to = space_.packed.take(total);
    packed_ = to;
    const auto put = [&](const row_range& rows, T* at) {
      for (factor<T> f : factors) {
        f.data += rows.first * f.stride;
        f.transposed ? pack_factor(f, d, rows.size(), at, type_) : pack_factor(f, rows.size(), d, at, type_);
        at += size(rows);
      }
    };
    for (std::size_t g = sample_.first_group; g < sample_.last_group; ++g)
      put(batch_.groups[g].rows, to + space_.own_at[g - sample_.first_group]);
    if (seen) put(sample_.context, to + context_at_);
  }
  [[nodiscard]] const T* packed_context(std::size_t kind) const noexcept {
    return packed_ + context_at_ + kind * size_of(sample_.context);
  }
  [[nodiscard]] const T* packed_own(std::size_t group, std::size_t kind) const noexcept {
    return packed_ + space_.own_at[group] + kind * size_of(rows_of(group));
  }
  [[nodiscard]] std::size_t size_of(const row_range& rows) const noexcept {
    return round_up(std::max(packed_elements<T>(shape_.head_dim, rows.size(), type_),
                             packed_elements<T>(rows.size(), shape_.head_dim, type_)),
                    16);
  }
  [[nodiscard]] const row_range& rows_of(std::size_t group) const noexcept {
    return batch_.groups[sample_.first_group + group].rows;
  }

  template <class F>
  void for_tiles(F&& f) {
    const std::size_t shared = shape_.heads / shape_.kv_heads;
    for (std::size_t h = 0; h < shared; ++h)
      for (const query_tile& t : space_.tiles) f(t, kv_head_ * shared + h);
  }

  // f(row, keys of its group that it sees, keys that are computed for it).
  template <class F>
  void for_rows(const query_tile& t, F&& f) {
    for (std::size_t s = t.first_segment; s < t.last_segment; ++s) {
      const tile_segment& segment = space_.segments[s];
      for (std::size_t r = segment.rows.first; r < segment.rows.last; ++r)
        f(r, r + 1 - rows_of(segment.group).first, segment.own);
    }
  }

  // x (rows, head_dim) times the packed transpose of keys or values: (tile rows, columns).
  void products(const query_tile& t, const T* x, std::size_t stride, std::size_t kind, T* to) {
    const std::size_t d = shape_.head_dim, columns = t.columns();
    if (t.context != 0)
      multiply_packed<T>({x + t.rows.first * stride, stride}, t.rows.size(), packed_context(kind), d, d, t.context, to,
                         columns, false);
    for (std::size_t s = t.first_segment; s < t.last_segment; ++s) {
      const tile_segment& segment = space_.segments[s];
      multiply_packed<T>({x + segment.rows.first * stride, stride}, segment.rows.size(),
                         packed_own(segment.group, kind), d, d, segment.own,
                         to + (segment.rows.first - t.rows.first) * columns + t.own_at(), columns, false);
    }
  }

  // The columns of a tile times packed keys or values: written to rows of `to`.
  void weighted(const query_tile& t, const T* x, std::size_t columns, std::size_t kind, T* to, std::size_t stride) {
    const std::size_t d = shape_.head_dim;
    if (t.context != 0)
      multiply_packed<T>({x, columns}, t.rows.size(), packed_context(kind), t.context, t.context, d,
                         to + t.rows.first * stride, stride, false);
    for (std::size_t s = t.first_segment; s < t.last_segment; ++s) {
      const tile_segment& segment = space_.segments[s];
      multiply_packed<T>({x + (segment.rows.first - t.rows.first) * columns + t.own_at(), columns}, segment.rows.size(),
                         packed_own(segment.group, kind), rows_of(segment.group).size(), segment.own, d,
                         to + segment.rows.first * stride, stride, t.context != 0);
    }
  }

  // The transpose of a tile times its rows of y (rows, head_dim): added to the rows of the keys, in d_qkv.
  void collect(const query_tile& t, const T* x, std::size_t columns, const T* y, std::size_t y_stride, T* to) {
    const std::size_t d = shape_.head_dim, width = shape_.width(), n = t.rows.size();
    T* const packed = space_.queries.take(packed_elements<T>(height_, d));
    pack_factor<T>({y + t.rows.first * y_stride, y_stride}, n, d, packed);
    if (t.context != 0)
      multiply_packed<T>({x, columns, true}, t.context, packed, n, n, d, to + sample_.context.first * width, width, true);
    for (std::size_t s = t.first_segment; s < t.last_segment; ++s) {
      const tile_segment& segment = space_.segments[s];
      const std::size_t first = segment.rows.first - t.rows.first;
      // Rows `first` on of the packed tile: panels stay a depth of n apart.
      multiply_packed<T>({x + first * columns + t.own_at(), columns, true}, segment.own,
                         packed + first * product_shape<T>::panel, n, segment.rows.size(), d,
                         to + rows_of(segment.group).first * width, width, true);
    }
  }

  // ds <- scale p (dp - pull), where ds holds dp.
  void score_row_back(const T* p, T pull, std::size_t n, T* ds) const noexcept {
    using l = lanes<T>;
    const auto less = l::broadcast(pull), factor = l::broadcast(scale_);
    l::for_each(n, [&](std::size_t i, auto k) BLOCKATTN_LAMBDA_INLINE {
      l::store(ds + i, l::load(p + i, k) * (l::load(ds + i, k) - less) * factor, k);
    });
  }

  const training_batch& batch_;
  const packed_sample& sample_;
  const attention_rows_shape& shape_;
  T scale_;
  std::size_t kv_head_;
  const T* qkv_;
  attention_space<T>& space_;
  product_type type_;
  std::size_t height_;  // rows of a tile
  bool joinable_ = false;  // whether the last tile may take another small group
  std::size_t kinds_ = 0;
  std::size_t context_at_ = 0;
  const T* packed_ = nullptr;
};

}  // namespace isa_detail

}  // namespace BLOCKATTN_ISA
}  // namespace blockattn::inline v0
