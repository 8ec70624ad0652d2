// SPDX-License-Identifier: MIT
/// Attention over int8 keys and values (tensor/kv_panels.hpp): the steps of kernel/attention.hpp, whose products read
/// the stored codes in place.
///
///     s = (q' . codes of k) * scale of k            q' turned in f32, once for each segment
///     w = 2^(s - max);  sum += w
///     o += (w * scale of v) . codes of v
///
/// `compute_type::automatic`: q' is rounded to 16-bit fixed point, one step for each row and segment, and w * scale to
/// the same, one step for each row and 128 keys; products and sums are then exact in integers (simd/dot_int8.hpp), so
/// that rounding is at most 1.54e-5 of a row's largest element and the integers are the same on every instruction set.
/// `compute_type::f32`: rows stay floats, codes are widened. `compute_type::many_rows` on tile registers is elsewhere
/// (kernel/attention.hpp, with codes as bf16). All are tested against one double reference that reads
/// the same codes (tests/kernel/attention_int8_test.cpp). The sum of weights is taken before they meet the scales of
/// values, in f32: a rounded product with a scale is no weight.
#pragma once

#include <numbers>

#include "../simd/dot_int8.hpp"
#include "attention_plan.hpp"
#include "attention_rows.hpp"
#include "softmax.hpp"

namespace blockattn::inline v0 {
inline namespace BLOCKATTN_ISA {

static_assert(step_keys * 127 * fixed_most < std::size_t{1} << 31, "a step's sum of values must fit 32 bits");

// As in kernel/tile.hpp, of the products with codes.
#define BLOCKATTN_INT8_TILE_KERNELS(prefix)                             \
  BLOCKATTN_TILE_KERNELS_OF(prefix, std::int8_t, float, strided)        \
  BLOCKATTN_TILE_KERNELS_OF(prefix, std::int8_t, std::int16_t, strided)
#if defined(BLOCKATTN_COMPILED_KERNELS)
BLOCKATTN_INT8_TILE_KERNELS(extern template)
#endif

namespace isa_detail {

// The memory of one worker.
template <class Row>
struct int8_workspace : row_memory {
  Row* turned = nullptr;      // [rows][row_floats], turned to the current segment
  float* step_of = nullptr;   // [rows], what one unit of `turned` is worth
  float* scores = nullptr;    // [rows][step_keys]
  Row* weights = nullptr;     // [rows][step_keys], times the scales of values
  float* unit = nullptr;      // [rows], what one unit of `weights` is worth
  float* step = nullptr;      // [rows][row_floats], weighted values of one step
  float* factor = nullptr;    // [rows], what the current step multiplies earlier values by
  tile_range* ranges = nullptr;  // [register tiles], keys of the current step

  int8_workspace(scratch_cutter& cut, const attention_shape& shape) noexcept : row_memory(cut, shape) {
    const std::size_t rows = task_tokens(shape) * group_of(shape), width = row_floats(shape);
    turned = cut.take<Row>(rows * width);
    step_of = cut.take<float>(rows);
    scores = cut.take<float>(rows * step_keys);
    if constexpr (std::is_same_v<Row, float>) {
      weights = scores;
    } else {
      weights = cut.take<Row>(rows * step_keys);
    }
    unit = cut.take<float>(rows);
    step = cut.take<float>(rows * width);
    factor = cut.take<float>(row_memory::of_rows(rows));
    ranges = cut.take<tile_range>(rows);
  }
};

BLOCKATTN_INLINE f32x16 magnitude(f32x16 x) noexcept { return max(x, zero16() - x); }

// Rounds `floats` floats whose largest magnitude is `most` to fixed point; returns what one unit is worth. What is
// below 2^-100 in all is zero.
inline float round_to_fixed(const float* in, std::size_t floats, float most, std::int16_t* out) noexcept {
  if (!(most > 0x1p-100f)) {
    std::memset(out, 0, floats * sizeof(std::int16_t));
    return 0.0f;
  }
  const f32x16 scale = broadcast(static_cast<float>(fixed_most) / most);
  for (std::size_t i = 0; i < floats; i += panel_width) store_fixed(out + i, load(in + i) * scale);
  return most / static_cast<float>(fixed_most);
}

// Keys and values of int8; see task_rows in attention.hpp. Row: float or std::int16_t.
template <class Row>
class int8_rows : public stacked_rows {
  using stacked_rows::rows_;
  using stacked_rows::width_;
  static constexpr bool is_fixed = !std::is_same_v<Row, float>;
  static constexpr std::size_t lane = dot_step<std::int8_t, Row>::lane;

 public:
  using workspace = int8_workspace<Row>;

  int8_rows(const attention_job& job, const attention_shape& shape, const attention_task& task,
            const workspace& memory) noexcept
      : stacked_rows(job, shape, task, memory, row_tiles(task.tokens * group_of(shape))), w_(memory) {}

  void attend(std::size_t first, std::size_t last) noexcept {
    for_steps(first, last, [&](const segment_step& now, const segment_step& next) {
      turn_queries(now.segment->turn);
      if (tiles_.count == 1) begin_asking(next);
      attend_step(*now.segment, now.at);
    });
  }

 private:
  void turn_queries(const float* table) noexcept {
    if (is_turned_ && table == table_) return;
    is_turned_ = true;
    table_ = table;
    if (table != nullptr) spread(table);
    alignas(alignment) float row[256];
    for (std::size_t r = 0; r < rows_; ++r) {
      const float* q = w_.queries + r * width_;
      const float* partner = w_.partners + r * width_;
      f32x16 top = zero16();
      for (std::size_t i = 0; i < width_; i += panel_width) {
        f32x16 x = load(q + i);
        if (table != nullptr) x = fma(load(partner + i), load(w_.sines + i), x * load(w_.cosines + i));
        top = max(top, magnitude(x));
        store(row + i, x);
      }
      if constexpr (is_fixed) {
        w_.step_of[r] = round_to_fixed(row, width_, reduce_max(top), w_.turned + r * width_);
      } else {
        std::memcpy(w_.turned + r * width_, row, width_ * sizeof(float));
        w_.step_of[r] = 1.0f;
      }
    }
  }

  // Up to 128 keys of a segment, from key `at` on.
  void attend_step(const kv_segment& segment, std::size_t at) noexcept {
    const kv_shape kv{1, shape_.kv_heads, shape_.head_dim, dtype::i8};
    const std::size_t keys = std::min(step_keys, segment.tokens - at), head = task_.kv_head, tile = at / panel_width;
    const std::int64_t start = segment.start + static_cast<std::int64_t>(at);
    const auto* const k =
        reinterpret_cast<const std::int8_t*>(segment.keys + head * segment.key_stride) + tile * kv.key_tile();
    const auto* const v =
        reinterpret_cast<const std::int8_t*>(segment.values + head * segment.value_stride) + tile * kv.value_tile();
    const std::size_t scales = head * segment.scale_stride + at;
    any_ = choose_key_tiles(start, keys, 1, w_.ranges);
    score(k, kv.key_tile());
    weigh_scores(start, keys, segment.key_scales + scales, segment.value_scales + scales);
    add_values(v, kv.value_tile());
  }

  // Products of queries and codes. Key tiles are the outer loop, as in attention.hpp.
  void score(const std::int8_t* keys, std::size_t key_tile) noexcept {
    const std::size_t groups = tile_groups(tiles_.size(0));
    for (std::size_t g = any_.first; g < any_.last; g += groups) {
      ask();
      for (std::size_t t = 0; t < tiles_.count; ++t) {
        const std::size_t from = std::max(g, w_.ranges[t].first), to = std::min(g + groups, w_.ranges[t].last);
        if (from >= to) continue;
        const std::size_t r = tiles_.begin(t);
        multiply_tile<row_order::strided>(
            tiles_.size(t), to - from,
            tile_operands<std::int8_t, Row>{w_.turned + r * width_, width_, keys + from * key_tile, panel_width * lane,
                                            key_tile, ceil_div(shape_.head_dim, lane),
                                            w_.scores + r * step_keys + from * panel_width, step_keys, false});
      }
    }
  }

  void weigh_scores(std::int64_t start, std::size_t keys, const float* key_scales,
                    const float* value_scales) noexcept {
    const bool all_seen = sees_all(start, keys);
    for_rows(0, tiles_.count, w_.ranges, [&](std::size_t r, tile_range of) {
      float* scores = w_.scores + r * step_keys + of.first * panel_width;
      scale_scores(scores, of.last - of.first, key_scales + of.first * panel_width, w_.step_of[r]);
      if (!all_seen) mask_row(scores, r, of, start, keys);
      w_.top[r] = largest(scores, of.last - of.first, w_.max[r]);
      ask();
    });
    raise(w_.max, w_.top, w_.factor, rows_);
    for_rows(0, tiles_.count, w_.ranges, [&](std::size_t r, tile_range of) {
      const std::size_t offset = r * step_keys + of.first * panel_width;
      w_.unit[r] = weigh(w_.scores + offset, of.last - of.first, w_.max[r], w_.factor[r],
                         value_scales + of.first * panel_width, w_.weights + offset, w_.sum + r * panel_width);
      ask();
    });
  }

  static void scale_scores(float* scores, std::size_t tiles, const float* key_scales, float step) noexcept {
    const f32x16 of_row = broadcast(step);
    for (std::size_t i = 0; i < tiles * panel_width; i += panel_width) {
      f32x16 x = load(scores + i);
      if constexpr (is_fixed) x = fixed_to_float(x) * of_row;
      store(scores + i, x * load(key_scales + i));
    }
  }

  // Weights of a row, times the scales of values. Returns what one unit of them is worth. A NaN among the scales is one
  // of the result: rounding to integers would lose it.
  static float weigh(float* scores, std::size_t tiles, float highest, float factor, const float* value_scales,
                     Row* weights, float* sum) noexcept {
    const f32x16 shift = broadcast(highest);
    f32x16 total = zero16(), top = zero16(), poison = zero16();
    for (std::size_t i = 0; i < tiles * panel_width; i += panel_width) {
      const f32x16 weight = exp2_nonpositive(load(scores + i) - shift);
      const f32x16 x = weight * load(value_scales + i);
      total = total + weight;
      store(scores + i, x);  // the weights themselves if rows are floats
      if constexpr (is_fixed) {
        top = max(top, x);
        poison = poison + (x - x);
      }
    }
    store(sum, fma(load(sum), broadcast(factor), total));
    if constexpr (is_fixed) {
      return round_to_fixed(scores, tiles * panel_width, reduce_max(top), weights) + reduce_add(poison);
    } else {
      (void)weights;
      return 1.0f;
    }
  }

  // o = o * 2^(max before - max) + the products of weights and codes.
  void add_values(const std::int8_t* values, std::size_t value_tile) noexcept {
    const std::size_t groups = tile_groups(tiles_.size(0)), all = width_ / panel_width;
    for (std::size_t g = 0; g < all; g += groups) {
      for (std::size_t t = 0; t < tiles_.count; ++t) {
        const std::size_t from = w_.ranges[t].first, to = w_.ranges[t].last, r = tiles_.begin(t);
        if (from >= to) continue;
        multiply_tile<row_order::strided>(
            tiles_.size(t), std::min(groups, all - g),
            tile_operands<std::int8_t, Row>{w_.weights + r * step_keys + from * panel_width, step_keys,
                                            values + from * value_tile + g * panel_width * lane, width_ * lane,
                                            panel_width * lane, (to - from) * panel_width / lane,
                                            w_.step + r * width_ + g * panel_width, width_, false});
      }
    }
    for_rows(0, tiles_.count, w_.ranges, [&](std::size_t r, tile_range) {
      float* values_of = w_.values + r * width_;
      const float* step = w_.step + r * width_;
      if constexpr (is_fixed) {
        const f32x16 factor = broadcast(w_.factor[r]), unit = broadcast(w_.unit[r]);
        for (std::size_t i = 0; i < width_; i += panel_width)
          store(values_of + i, fma(fixed_to_float(load(step + i)), unit, load(values_of + i) * factor));
      } else {
        fold(values_of, w_.factor[r], step, width_);
      }
      ask();
    });
  }

  const workspace& w_;
  tile_range any_;  // keys that the current step computes for some rows
  bool is_turned_ = false;
  const float* table_ = nullptr;
};

}  // namespace isa_detail
}  // namespace BLOCKATTN_ISA
}  // namespace blockattn::inline v0
