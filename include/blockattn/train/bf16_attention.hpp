// SPDX-License-Identifier: MIT
/// Attention of training in products of bf16: the same as train/attention_pass.hpp, with every factor rounded once, where it
/// is made.
///
/// Softmax weights and the gradient of scores leave registers as bf16, in the layout that the next product reads, and never
/// exist as floats. On the way back keys are taken `block` at a time, so that all of it stays in the L2 cache; gradients of
/// keys and values are summed lying across, (head_dim, rows), because then what has a row for each query is the factor whose
/// rows may be paired as they come. They are turned once, at the end.
#pragma once

#include "attention_pass.hpp"

namespace blockattn::inline v0 {
inline namespace BLOCKATTN_ISA {

namespace isa_detail {

BLOCKATTN_INLINE void store_rounded(bf16* p, const f32x16& x) noexcept { v0::store(p, x); }
BLOCKATTN_INLINE void store_rounded(float* p, const f32x16& x) noexcept { v0::store(p, round_to_bf16(x)); }

// out[i] = 2^(factor x[i] + shift), rounded, for n numbers, zeros behind them up to `width`, a multiple of 16; returns the
// sum before rounding. x is readable up to a multiple of 16.
inline float exp2_row(const float* x, std::size_t n, float factor, float shift, bf16_row* out, std::size_t width) noexcept {
  const f32x16 f = broadcast(factor), s = broadcast(shift);
  f32x16 sums = zero16();
  std::size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const f32x16 e = exp2_for_bf16(fma(load(x + i), f, s));
    store_rounded(out + i, e);
    sums = sums + e;
  }
  if (i < n) {
    const f32x16 e = keep_lanes(exp2_for_bf16(fma(load(x + i), f, s)), 0.0f, 0, static_cast<std::ptrdiff_t>(n - i));
    store_rounded(out + i, e);
    sums = sums + e;
    i += 16;
  }
  for (; i < width; i += 16) store_rounded(out + i, zero16());
  return reduce_add(sums);
}

class bf16_attention_pass : attention_pass<float> {
 public:
  bf16_attention_pass(const training_batch& batch, const packed_sample& sample, const attention_rows_shape& shape,
                      float scale, std::size_t kv_head, const float* qkv, attention_space<float>& space)
      : attention_pass<float>(batch, sample, shape, scale, kv_head, qkv, space, product_type::bf16) {}

  // As those of attention_pass.
  void forward(float* out, float* sums) {
    pack({key_factor(true), value_factor(false)});
    room queries_room(space_.queries, room::of<bf16_row>(rows_, deep_) + 2 * room::of<float>(rows_, wide_));
    auto* const q = queries_room.take<bf16_row>(rows_, deep_);
    auto *const o = queries_room.take<float>(rows_, wide_), *const part = queries_room.take<float>(rows_, wide_);
    for_tiles([&](const query_tile& t, std::size_t head) {
      const std::size_t n = t.rows.size(), columns = t.columns(), held = round_up(t.context, bf16_run);
      const std::size_t p_stride = apart(held + round_up(t.own, bf16_run));
      float* const scores = space_.scores.take(rows_ * columns);
      auto* const p = room(space_.weights, room::of<bf16_row>(rows_, p_stride)).take<bf16_row>(rows_, p_stride);
      pack_rows(queries(head), shape_.width(), t.rows, q);
      tiles_.multiply(n, ceil_div(t.context, bf16_group), runs_, q, deep_, context_panels(0), group_, scores, columns, false);
      for_segments(t, [&](const tile_segment& s, std::size_t at) {
        tiles_.multiply(s.rows.size(), ceil_div(s.own, bf16_group), runs_, q + at * deep_, deep_, own_panels(s.group, 0),
                        group_, scores + at * columns + t.own_at(), columns, false);
      });
      float inverse[most_rows];
      for_rows(t, [&](std::size_t r, std::size_t seen, std::size_t own) {
        const std::size_t i = r - t.rows.first;
        const float *const row = scores + i * columns, *const row_own = row + t.own_at();
        const float top = scale_ * largest_of(row_own, seen, largest_of(row, t.context, std::numeric_limits<float>::lowest()));
        const float factor = scale_ * log2e, shift = -top * log2e;
        const float all = exp2_row(row, t.context, factor, shift, p + i * p_stride, held) +
                          exp2_row(row_own, seen, factor, shift, p + i * p_stride + held, round_up(own, bf16_run));
        inverse[i] = 1.0f / all;
        sums[r * shape_.heads + head] = top + std::log(all);
      });
      if (t.context != 0)
        tiles_.multiply(n, wide_ / bf16_group, held / bf16_run, p, p_stride, context_panels(1),
                        bf16_elements(sample_.context.size(), 1), o, wide_, false);
      for_segments(t, [&](const tile_segment& s, std::size_t at) {
        tiles_.multiply(s.rows.size(), wide_ / bf16_group, ceil_div(s.own, bf16_run), p + at * p_stride + held, p_stride,
                        own_panels(s.group, 1), bf16_elements(rows_of(s.group).size(), 1), part, wide_, false);
        join(t, part, s.rows.size() * wide_, o + at * wide_);
      });
      for (std::size_t i = 0; i < n; ++i) {
        float* const to = out + (t.rows.first + i) * shape_.query_width() + head * shape_.head_dim;
        std::copy_n(o + i * wide_, shape_.head_dim, to);
        scale_row(to, shape_.head_dim, inverse[i]);
      }
    });
  }

  void backward(const float* out, const float* sums, const float* d_out, float* d_qkv) {
    pack({key_factor(true), value_factor(true), key_factor(false)});
    const std::size_t d = shape_.head_dim, width = shape_.width(), out_width = shape_.query_width();
    const std::size_t all = sample_.all.size();
    across_ = apart(round_up(all, 16) + 16);
    d_keys_ = space_.scores.take(2 * wide_ * across_);
    d_values_ = d_keys_ + wide_ * across_;
    std::fill_n(d_keys_, 2 * wide_ * across_, 0.0f);
    room all_rooms(space_.weights, 2 * room::of<float>(rows_, block) + room::of<bf16_row>(rows_, block) +
                                       2 * room::of<bf16>(most_rows, block) + 2 * room::of<bf16_row>(rows_, deep_) +
                                       4 * room::of<bf16_row>(wide_, most_rows) + 2 * room::of<float>(rows_, wide_));
    scores_ = all_rooms.take<float>(rows_, block), d_weights_ = all_rooms.take<float>(rows_, block);
    d_scores_ = all_rooms.take<bf16_row>(rows_, block);
    weight_pairs_ = all_rooms.take<bf16>(most_rows, block), d_score_pairs_ = all_rooms.take<bf16>(most_rows, block);
    auto *const q = all_rooms.take<bf16_row>(rows_, deep_), *const d_o = all_rooms.take<bf16_row>(rows_, deep_);
    bf16_row* turned[4];
    for (auto& x : turned) x = all_rooms.take<bf16_row>(wide_, most_rows);
    auto *const dq = all_rooms.take<float>(rows_, wide_), *const part = all_rooms.take<float>(rows_, wide_);
    for_tiles([&](const query_tile& t, std::size_t head) {
      const float *const x = queries(head), *const dy = d_out + head * d, *const y = out + head * d;
      pack_rows(x, width, t.rows, q);
      pack_rows(dy, out_width, t.rows, d_o);
      turn_rows(x, width, t.rows, turned[0]);
      turn_rows(dy, out_width, t.rows, turned[1]);
      for (std::size_t r = t.rows.first; r < t.rows.last; ++r) {
        ask_ahead(y + r * out_width, out_width, d);
        shift_[r - t.rows.first] = -sums[r * shape_.heads + head] * log2e;
        pull_[r - t.rows.first] = dot_rows(dy + r * out_width, y + r * out_width, d);
      }
      if (t.context != 0) {
        const sight keys{context_panels(0), context_panels(1), context_panels(2), bf16_elements(sample_.context.size(), 1),
                         t.context, t.context, 0, sample_.context.first - sample_.all.first};
        unit(keys, {0, t.rows.size()}, q, d_o, turned[0], turned[1], dq);
      }
      for_segments(t, [&](const tile_segment& s, std::size_t at) {
        const bool whole = s.rows.size() == t.rows.size();
        if (!whole) {
          turn_rows(x, width, s.rows, turned[2]);
          turn_rows(dy, out_width, s.rows, turned[3]);
        }
        const row_range& group = rows_of(s.group);
        const sight keys{own_panels(s.group, 0), own_panels(s.group, 1), own_panels(s.group, 2),
                         bf16_elements(group.size(), 1), s.own, s.rows.first + 1 - group.first, 1,
                         group.first - sample_.all.first};
        unit(keys, {at, at + s.rows.size()}, q + at * deep_, d_o + at * deep_, turned[whole ? 0 : 2], turned[whole ? 1 : 3],
             part);
        join(t, part, s.rows.size() * wide_, dq + at * wide_);
      });
      for (std::size_t r = t.rows.first; r < t.rows.last; ++r)
        std::copy_n(dq + (r - t.rows.first) * wide_, d, d_qkv + r * width + head * d);
    });
    float* const d_keys = d_qkv + sample_.all.first * width + (shape_.heads + kv_head_) * d;
    turn_back(d_keys_, d_keys);
    turn_back(d_values_, d_keys + shape_.kv_heads * d);
  }

 private:
  static constexpr float log2e = 1.44269504088896341f;
  static constexpr std::size_t block = 256;                    // keys at a time, on the way back
  static constexpr std::size_t rows_ = most_rows + bf16_group;  // of a tile that begins at any row: whole tiles are written

  // Parts of an array, each on a cache line.
  class room {
   public:
    template <class E>
    [[nodiscard]] static std::size_t of(std::size_t rows, std::size_t cols) noexcept {
      return round_up(rows * cols * sizeof(E), alignment) / sizeof(float);
    }
    room(growing_array<float>& from, std::size_t floats) : at_(from.take(floats)) {}
    template <class E>
    [[nodiscard]] E* take(std::size_t rows, std::size_t cols) noexcept {
      float* const out = at_;
      at_ += of<E>(rows, cols);
      return reinterpret_cast<E*>(out);
    }

   private:
    float* at_;
  };

  // Keys that rows see: the first `first` by their first row, `more` more by each row after it, `keys` by the last.
  struct sight {
    const bf16 *keys_across, *values_across, *keys;  // packed: depths of head_dim, and of keys
    std::size_t key_group;                           // from one group of `keys` to the next
    std::size_t count, first, more;
    std::size_t column;  // of the gradients
  };

  // A stride that is no multiple of 2 KiB, so that sixteen rows do not fall on one set of a cache.
  [[nodiscard]] static std::size_t apart(std::size_t n) noexcept { return n % 512 == 0 ? n + 32 : n; }

  [[nodiscard]] const bf16* context_panels(std::size_t kind) const noexcept {
    return reinterpret_cast<const bf16*>(packed_context(kind));
  }
  [[nodiscard]] const bf16* own_panels(std::size_t group, std::size_t kind) const noexcept {
    return reinterpret_cast<const bf16*>(packed_own(group, kind));
  }
  void pack_rows(const float* x, std::size_t stride, const row_range& rows, bf16_row* out) const noexcept {
    pack_bf16_rows(factor<float>{x + rows.first * stride, stride}, rows.size(), shape_.head_dim, out, deep_, bf16_run);
  }
  void turn_rows(const float* x, std::size_t stride, const row_range& rows, bf16_row* out) const noexcept {
    pack_bf16_rows(factor<float>{x + rows.first * stride, stride, true}, shape_.head_dim, rows.size(), out,
                   round_up(rows.size(), bf16_run), bf16_run);
  }
  // f(segment, its first row in the tile).
  template <class F>
  void for_segments(const query_tile& t, F&& f) const {
    for (std::size_t s = t.first_segment; s < t.last_segment; ++s)
      f(space_.segments[s], space_.segments[s].rows.first - t.rows.first);
  }
  // What rows have from their own group joins what they have from the context, if they see one.
  static void join(const query_tile& t, const float* part, std::size_t n, float* to) noexcept {
    if (t.context == 0) std::copy_n(part, n, to);
    else add_row(to, part, n);
  }

  // The way back between some rows of a tile and what they see: dq is written, gradients of keys and values are added to.
  void unit(const sight& see, const row_range& rows, const bf16_row* q, const bf16_row* d_o, const bf16_row* q_turned,
            const bf16_row* d_o_turned, float* dq) noexcept {
    const std::size_t n = rows.size(), deep = round_up(n, bf16_run), d_groups = wide_ / bf16_group;
    for (std::size_t b = 0; b < see.count; b += block) {
      const std::size_t keys = std::min(block, see.count - b), groups = ceil_div(keys, bf16_group);
      tiles_.multiply(n, groups, runs_, q, deep_, see.keys_across + b * deep_, group_, scores_, block, false);
      tiles_.multiply(n, groups, runs_, d_o, deep_, see.values_across + b * deep_, group_, d_weights_, block, false);
      for (std::size_t i = 0; i < deep; i += 2) {
        const auto visible = [&](std::size_t r) {
          const auto seen = static_cast<std::ptrdiff_t>(r < n ? see.first + see.more * r : 0);
          return seen - static_cast<std::ptrdiff_t>(b);
        };
        pair_of_rows(rows.first, i, visible(i), visible(i + 1), groups, deep, n);
      }
      tiles_.multiply(n, d_groups, ceil_div(keys, bf16_run), d_scores_, block, see.keys + b * bf16_group, see.key_group, dq,
                      wide_, b != 0);
      tiles_.multiply(shape_.head_dim, groups, deep / bf16_run, d_o_turned, deep, weight_pairs_, deep * bf16_group,
                      d_values_ + see.column + b, across_, true);
      tiles_.multiply(shape_.head_dim, groups, deep / bf16_run, q_turned, deep, d_score_pairs_, deep * bf16_group,
                      d_keys_ + see.column + b, across_, true);
    }
  }

  // P and dS of two rows, i and the next, from S and dP: rows of dS, and pairs of both. Row r is row `first + r` of the tile.
  void pair_of_rows(std::size_t first, std::size_t i, std::ptrdiff_t seen, std::ptrdiff_t next_seen, std::size_t groups,
                    std::size_t deep, std::size_t n) noexcept {
    bf16 *p_out = weight_pairs_ + i * bf16_group, *ds_out = d_score_pairs_ + i * bf16_group;
    if (i >= n) {
      const lanes16 none = pair_up(zero16(), zero16());
      for (std::size_t g = 0; g < groups; ++g, p_out += deep * bf16_group, ds_out += deep * bf16_group)
        isa_detail::store(p_out, none), isa_detail::store(ds_out, none);
      return;
    }
    const bool second = i + 1 < n;
    const f32x16 factor = broadcast(scale_ * log2e), scale = broadcast(scale_);
    const f32x16 shift[2] = {broadcast(shift_[first + i]), broadcast(second ? shift_[first + i + 1] : 0.0f)};
    const f32x16 pull[2] = {broadcast(pull_[first + i]), broadcast(second ? pull_[first + i + 1] : 0.0f)};
    const std::ptrdiff_t left[2] = {seen, next_seen};
    const float *const s = scores_ + i * block, *const dp = d_weights_ + i * block;
    bf16_row* const ds_rows = d_scores_ + i * block;
    for (std::size_t g = 0; g < groups; ++g, p_out += deep * bf16_group, ds_out += deep * bf16_group) {
      const std::size_t at = g * bf16_group;
      f32x16 p[2], ds[2];
      unroll<2>([&](auto k) BLOCKATTN_LAMBDA_INLINE {
        p[k] = exp2_for_bf16(fma(load(s + k * block + at), factor, shift[k]));
        ds[k] = p[k] * (load(dp + k * block + at) - pull[k]) * scale;
        const std::ptrdiff_t here = left[k] - static_cast<std::ptrdiff_t>(at);
        if (here < 16) p[k] = keep_lanes(p[k], 0.0f, 0, here), ds[k] = keep_lanes(ds[k], 0.0f, 0, here);
        store_rounded(ds_rows + k * block + at, ds[k]);
      });
      isa_detail::store(p_out, pair_up(p[0], p[1]));
      isa_detail::store(ds_out, pair_up(ds[0], ds[1]));
    }
    if (groups % 2 != 0)
      unroll<2>([&](auto k) BLOCKATTN_LAMBDA_INLINE { store_rounded(ds_rows + k * block + groups * bf16_group, zero16()); });
  }

  // (head_dim, rows) to rows of the sample, in d_qkv.
  void turn_back(const float* from, float* to) const noexcept {
    const std::size_t width = shape_.width();
    for (std::size_t r = 0; r < sample_.all.size(); r += 16)
      for (std::size_t c = 0; c < shape_.head_dim; c += 16) {
        lanes16 lines[16];
        for (std::size_t i = 0; i < 16; ++i)
          lines[i] = load_lanes(reinterpret_cast<const bf16*>(from + (c + i) * across_ + r));
        const std::size_t rows = std::min<std::size_t>(16, sample_.all.size() - r);
        const std::size_t cols = std::min<std::size_t>(16, shape_.head_dim - c);
        float* const at = to + r * width + c;
        if (rows == 16 && cols == 16) {
          turn_lines(lines, reinterpret_cast<bf16*>(at), 2 * width);
          continue;
        }
        alignas(alignment) float copy[16 * 16];
        turn_lines(lines, reinterpret_cast<bf16*>(copy), 32);
        for (std::size_t i = 0; i < rows; ++i) std::copy_n(copy + i * 16, cols, at + i * width);
      }
  }

  std::size_t deep_ = round_up(shape_.head_dim, bf16_run), runs_ = deep_ / bf16_run;  // head_dim as a depth
  std::size_t wide_ = round_up(shape_.head_dim, bf16_group);                          // and as columns
  std::size_t group_ = deep_ * bf16_group;
  bf16_tiles tiles_;
  // Of the way back.
  std::size_t across_ = 0;
  float *d_keys_ = nullptr, *d_values_ = nullptr, *scores_ = nullptr, *d_weights_ = nullptr;
  bf16_row* d_scores_ = nullptr;
  bf16 *weight_pairs_ = nullptr, *d_score_pairs_ = nullptr;
  float shift_[most_rows], pull_[most_rows];  // of each row of the tile
};

}  // namespace isa_detail

}  // namespace BLOCKATTN_ISA
}  // namespace blockattn::inline v0
