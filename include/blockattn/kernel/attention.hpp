// SPDX-License-Identifier: MIT
/// Block-Attention's assembly (paper, sections 2.4 and 2.5): a query attends to blocks that were encoded apart and
/// whose keys keep the rotation of their own positions 0..m-1.
///
/// The paper turns the keys of a block to the positions that they now hold. A score depends on distance alone,
///
///     <R(P) q, R(s + t) k>  =  <R(P - s) q, R(t) k>,
///
/// so here the *query* turns, by the angle of R(-s), once for each block: stored keys are never written. One streaming
/// softmax runs over all blocks. For the rows of a task:
///
///     for each segment (a placed block, or the request's own tokens):
///       q' = R(-start) q                      turn_queries      (f32, then rounded once to the type of the product)
///       for each step of 128 keys:
///         s = q' K^T                          the register tile
///         s = masked where p > P or P - p >= window
///         w = 2^(s - max), sums rescaled      softmax.hpp
///         o += w V                            the register tile
///     out = o / sum of w
///
/// Numbers. Scores, sums and outputs accumulate in f32; q' and w are rounded to bf16 only where keys are bf16 and the
/// instruction set multiplies bf16 pairs, and over int8 keys on tile registers (`compute_type::many_rows`). Bits of a row
/// depend on its query, its position and its segments, not on workers, on the rows that share its task, or on other jobs. Steps are anchored at the start of a segment. A key that
/// a row does not see weighs exactly nothing in it (its value must be finite where another row of the task sees it);
/// keys before the first and after the last that a task sees are not read, but for the rest of a tile of sixteen.
#pragma once

#include <cstring>
#include <limits>
#include <numbers>

#include "attention_int8.hpp"
#include "attention_plan.hpp"
#include "attention_tasks.hpp"
#include "expand_pairs.hpp"
#include "softmax.hpp"

namespace blockattn::inline v0 {
inline namespace BLOCKATTN_ISA {

namespace isa_detail {

// The rows of one task, and the keys and values that they meet. `Tiles` multiplies (product_tiles.hpp). Panel: what is
// stored; of int8, the codes of a step become bf16 first, and their scales meet scores and weights.
template <class Panel, class Tiles>
class task_rows {
  using row = typename Tiles::row;
  static constexpr std::size_t lane = Tiles::lane;
  static constexpr bool is_coded = std::is_same_v<Panel, std::int8_t>;
  using operand = std::conditional_t<is_coded, bf16, Panel>;

 public:
  using workspace = std::conditional_t<is_coded, expanding_workspace<row, Tiles::band_rows>,
                                       attention_workspace<row, Tiles::band_rows>>;

  task_rows(const attention_job& job, const attention_shape& shape, const attention_task& task,
            const workspace& memory) noexcept
      : job_(job),
        shape_(shape),
        task_(task),
        w_(memory),
        group_(group_of(shape)),
        rows_(task.tokens * group_),
        width_(row_floats(shape)),
        operand_(operand_elements(shape)),
        tiles_(rows_, Tiles::rows),
        product_(tiles_.size(0)) {
    stack_queries();
    find_positions();
    if (operand_ != width_) std::fill_n(w_.turned, (rows_ + 1) * operand_, row{});
    std::fill_n(w_.max, round_up(rows_, panel_width) + panel_width, no_score);
    std::fill_n(w_.top, round_up(rows_, panel_width) + panel_width, no_score);
    std::fill_n(w_.sum, rows_ * panel_width, 0.0f);
    std::fill_n(w_.values, rows_ * width_, 0.0f);
  }

  // The whole of Block-Attention: streaming softmax over the segments, or over steps [first, last) of them.
  void attend(std::size_t first, std::size_t last) noexcept {
    std::size_t before = 0;  // steps of the segments so far
    for (const kv_segment& segment : job_.segments) {
      const std::size_t steps = steps_of(segment);
      const key_range seen = visible_keys(low_, high_, shape_.window, segment.start, segment.tokens);
      if (!seen.empty() && before < last && before + steps > first) {
        // Steps of this segment that some row sees and that belong to this part.
        const std::size_t from =
            std::max(static_cast<std::size_t>(seen.first) / step_keys, std::max(first, before) - before);
        const std::size_t to = std::min(ceil_div(static_cast<std::size_t>(seen.last), step_keys), last - before);
        if (from < to) turn_queries(segment.turn);
        for (std::size_t step = from; step < to; ++step) attend_step(segment, step * step_keys);
      }
      before += steps;
    }
  }

  void write_out() const noexcept {
    for (std::size_t r = 0; r < rows_; ++r) {
      float* out = job_.out + token(r) * job_.out_stride + head(r) * shape_.head_dim;
      finish(w_.values + r * width_, reduce_add(load(w_.sum + r * panel_width)), shape_.head_dim, out);
    }
  }

  // Rows of a partial result follow each other: token, then head of the group.
  void write_partial(float* out) const noexcept {
    for (std::size_t r = 0; r < rows_; ++r, out += width_ + panel_width) {
      std::memcpy(out, w_.values + r * width_, width_ * sizeof(float));
      out[width_] = w_.max[r];
      out[width_ + 1] = reduce_add(load(w_.sum + r * panel_width));
    }
  }

 private:
  [[nodiscard]] std::size_t token(std::size_t r) const noexcept { return task_.first_token + r / group_; }
  [[nodiscard]] std::size_t head(std::size_t r) const noexcept { return task_.kv_head * group_ + r % group_; }

  // Queries of the group, scaled; and a copy in which each dim holds its partner in the rotary pair, so that turning
  // is the same two operations for every layout. The softmax works in base 2: hence log2(e).
  void stack_queries() noexcept {
    const float scale = shape_.scale * std::numbers::log2e_v<float>;
    const std::size_t d = shape_.head_dim, rotary = shape_.rotary_dim, half = rotary / 2;
    for (std::size_t r = 0; r < rows_; ++r) {
      const float* from = job_.queries + token(r) * job_.query_stride + head(r) * d;
      float* q = w_.queries + r * width_;
      float* partner = w_.partners + r * width_;
      for (std::size_t i = 0; i < width_; ++i) q[i] = i < d ? from[i] * scale : 0.0f;
      if (shape_.layout == rope_layout::half_split) {
        for (std::size_t i = 0; i < half; ++i) {
          partner[i] = q[half + i];
          partner[half + i] = q[i];
        }
      } else {
        for (std::size_t i = 0; i < rotary; i += 2) {
          partner[i] = q[i + 1];
          partner[i + 1] = q[i];
        }
      }
      for (std::size_t i = rotary; i < width_; ++i) partner[i] = 0.0f;
    }
  }

  void find_positions() noexcept {
    for (std::size_t t = 0; t < tiles_.count; ++t) {
      const std::size_t first = token(tiles_.begin(t)), last = token(tiles_.begin(t) + tiles_.size(t) - 1);
      const auto [low, high] = std::minmax_element(job_.positions + first, job_.positions + last + 1);
      w_.tiles[t].low = *low;
      w_.tiles[t].high = *high;
      low_ = t == 0 ? *low : std::min(low_, *low);
      high_ = t == 0 ? *high : std::max(high_, *high);
    }
  }

  // q' = R(-start) q for all rows, rounded to the type of the product. One angle vector serves all rows.
  void turn_queries(const float* table) noexcept {
    if (is_turned_ && table == table_) return;
    is_turned_ = true;
    table_ = table;
    if (table == nullptr) {
      for (std::size_t r = 0; r < rows_; ++r)
        for (std::size_t i = 0; i < width_; i += panel_width)
          store(w_.turned + r * operand_ + i, load(w_.queries + r * width_ + i));
      return;
    }
    spread(table);
    for (std::size_t i = 0; i < width_; i += panel_width) {
      const f32x16 c = load(w_.cosines + i), s = load(w_.sines + i);
      for (std::size_t r = 0; r < rows_; ++r) {
        const std::size_t at = r * width_ + i;
        store(w_.turned + r * operand_ + i, fma(load(w_.partners + at), s, load(w_.queries + at) * c));
      }
    }
  }

  // A turn table by dims instead of pairs. Dims that do not turn keep cosine 1, sine 0.
  void spread(const float* table) noexcept {
    const std::size_t rotary = shape_.rotary_dim, pairs = rotary / 2;
    const bool split = shape_.layout == rope_layout::half_split;
    for (std::size_t m = 0; m < pairs; ++m) {
      const std::size_t i = split ? m : 2 * m, j = split ? m + pairs : 2 * m + 1;
      w_.cosines[i] = w_.cosines[j] = table[m];
      w_.sines[i] = -table[pairs + m];
      w_.sines[j] = table[pairs + m];
    }
    std::fill(w_.cosines + rotary, w_.cosines + width_, 1.0f);
    std::fill(w_.sines + rotary, w_.sines + width_, 0.0f);
  }

  // Up to 128 keys of a segment, from key `at` on.
  void attend_step(const kv_segment& segment, std::size_t at) noexcept {
    const kv_shape kv{1, shape_.kv_heads, shape_.head_dim, shape_.type};
    const std::size_t keys = std::min(step_keys, segment.tokens - at);
    const std::int64_t start = segment.start + static_cast<std::int64_t>(at);
    choose_key_tiles(start, keys);
    const Panel* const k = reinterpret_cast<const Panel*>(segment.keys + task_.kv_head * segment.key_stride) +
                           at / panel_width * kv.key_tile();
    const Panel* const v = reinterpret_cast<const Panel*>(segment.values + task_.kv_head * segment.value_stride) +
                           at / panel_width * kv.value_tile();
    const operand *keys_of, *values_of;
    if constexpr (is_coded) {
      // The rows of a task share what is decoded; tiles that none of them sees are left out.
      const std::size_t tiles = last_ - first_;
      expand_int8(k + first_ * kv.key_tile(), tiles * kv.key_tile() / (4 * panel_width), 1,
                  w_.pair_keys + first_ * kv.key_tile());
      expand_int8(v + first_ * kv.value_tile(), tiles * panel_width / 4, width_ / panel_width,
                  w_.pair_values + first_ * kv.value_tile());
      keys_of = w_.pair_keys;
      values_of = w_.pair_values;
      const std::size_t scales = task_.kv_head * segment.scale_stride + at;
      key_scales_ = segment.key_scales + scales;
      value_scales_ = segment.value_scales + scales;
    } else {
      keys_of = k;
      values_of = v;
    }
    // Bands of rows: all of them, or as many as keep their scores in the nearest cache. While a band is weighed, parts of
    // the products of its neighbours are put in between: tile registers multiply beside vector registers.
    const std::size_t bands = ceil_div(tiles_.count, Tiles::band_tiles);
    const auto band_at = [&](std::size_t b) {
      const std::size_t t = b * Tiles::band_tiles, odd = b % 2;
      return band{t, std::min(t + Tiles::band_tiles, tiles_.count), tiles_.begin(t), w_.scores + odd * w_.band_scores,
                  w_.weights + odd * w_.band_scores};
    };
    const std::size_t key_tile = kv.key_tile(), value_tile = kv.value_tile();
    const std::size_t score_parts = ceil_div(last_ - std::min(first_, last_), product_.groups());
    const std::size_t value_parts = ceil_div(width_ / panel_width, product_.groups());
    for (std::size_t part = 0; part < score_parts; ++part) score(band_at(0), keys_of, key_tile, part);
    for (std::size_t b = 0; b <= bands; ++b) {
      // The parts that are left: of the values of the band before, and of the scores of the next.
      const std::size_t before = b == 0 ? 0 : value_parts, all = before + (b + 1 < bands ? score_parts : 0);
      std::size_t done = 0;
      const auto advance = [&](std::size_t to) {
        for (; done < std::min(to, all); ++done)
          done < before ? multiply_values(band_at(b - 1), values_of, value_tile, done)
                        : score(band_at(b + 1), keys_of, key_tile, done - before);
      };
      if (b < bands) weigh_scores(band_at(b), start, keys, all, advance);
      advance(all);
      if (b != 0) fold_values(band_at(b - 1));
    }
  }

  // Row tiles [first, last), the first of their rows, and where their scores and weights are.
  struct band {
    std::size_t first, last, first_row;
    float* scores;
    row* weights;
  };

  // Register tiles compute only the tiles of sixteen keys from the first to the last that their rows see.
  void choose_key_tiles(std::int64_t start, std::size_t keys) noexcept {
    first_ = step_keys;
    last_ = 0;
    for (std::size_t t = 0; t < tiles_.count; ++t) {
      tile_view& tile = w_.tiles[t];
      const key_range seen = visible_keys(tile.low, tile.high, shape_.window, start, keys);
      // In whole steps of the product of weights and values: masked scores weigh nothing.
      constexpr std::size_t whole = Tiles::key_tiles;
      tile.first = seen.empty() ? 0 : static_cast<std::size_t>(seen.first) / panel_width / whole * whole;
      tile.last = seen.empty() ? 0 : ceil_div(static_cast<std::size_t>(seen.last), panel_width);
      first_ = std::min(first_, tile.first);
      last_ = std::max(last_, tile.last);
    }
  }

  // A part of s = q' K^T: some key tiles, for all rows of a band. Each key tile is read once from memory and then from the
  // nearest cache.
  // The operands of a tile are built in place from scalars. A copy of a struct that was written a moment ago would wait
  // for those writes (store forwarding works for equal widths only), which cost 8 % of the whole.
  void score(const band& of, const operand* keys, std::size_t key_tile, std::size_t part) const noexcept {
    const std::size_t groups = product_.groups(), g = first_ + part * groups;
    for (std::size_t t = of.first; t < of.last; ++t) {
      const std::size_t from = std::max(g, w_.tiles[t].first), to = std::min(g + groups, w_.tiles[t].last);
      if (from >= to) continue;
      const std::size_t r = tiles_.begin(t);
      product_.multiply(tiles_.size(t), to - from, w_.turned + r * operand_, operand_, keys + from * key_tile,
                        panel_width * lane, key_tile, ceil_div(shape_.head_dim, lane),
                        of.scores + (r - of.first_row) * step_keys + from * panel_width, step_keys);
    }
  }

  // w = 2^(s - max), after the mask. All maxima come first: their chains of dependent operations then overlap.
  // `advance(n)` is called with a growing part of `parts` while rows are weighed.
  template <class Advance>
  void weigh_scores(const band& of, std::int64_t start, std::size_t keys, std::size_t parts,
                    Advance&& advance) const noexcept {
    const bool all_seen = keys % panel_width == 0 && low_ - start >= static_cast<std::int64_t>(keys) - 1 &&
                          high_ - start < shape_.window;
    for_rows(of, [&](std::size_t r, std::size_t from, std::size_t to) {
      float* scores = of.scores + (r - of.first_row) * step_keys + from * panel_width;
      if constexpr (is_coded) {
        w_.top[r] = scale_scores(scores, to - from, key_scales_ + from * panel_width, w_.max[r]);
        if (all_seen) return;
      }
      if (!all_seen) {
        const std::int64_t position = job_.positions[token(r)];
        const std::size_t skipped = from * panel_width;
        mask_scores(scores, to - from,
                    visible_keys(position, position, shape_.window, start + static_cast<std::int64_t>(skipped),
                                 keys - skipped));
      }
      w_.top[r] = largest(scores, to - from, w_.max[r]);
    });
    // Whole registers of rows: those behind the band keep their maximum.
    const std::size_t end = tiles_.begin(of.last - 1) + tiles_.size(of.last - 1), n = end - of.first_row;
    for (std::size_t r = end; r < of.first_row + round_up(n, panel_width); ++r) w_.top[r] = w_.max[r];
    raise(w_.max + of.first_row, w_.top + of.first_row, w_.factor + of.first_row, n);
    for_rows(of, [&](std::size_t r, std::size_t from, std::size_t to) {
      const std::size_t offset = (r - of.first_row) * step_keys + from * panel_width;
      if constexpr (is_coded) {
        weigh_scaled(of.scores + offset, to - from, w_.max[r], w_.factor[r], value_scales_ + from * panel_width,
                     of.weights + offset, w_.sum + r * panel_width);
      } else {
        weigh(of.scores + offset, to - from, w_.max[r], w_.factor[r], of.weights + offset, w_.sum + r * panel_width);
      }
      advance(parts * (r + 1 - of.first_row) / n);
    });
  }

  // A part of w V: some dims, for all rows of a band.
  void multiply_values(const band& of, const operand* values, std::size_t value_tile, std::size_t part) const noexcept {
    const std::size_t groups = product_.groups(), all = width_ / panel_width, g = part * groups;
    for (std::size_t t = of.first; t < of.last; ++t) {
      const std::size_t from = w_.tiles[t].first, to = w_.tiles[t].last, r = tiles_.begin(t) - of.first_row;
      if (from >= to) continue;
      product_.multiply(tiles_.size(t), std::min(groups, all - g), of.weights + r * step_keys + from * panel_width,
                        step_keys, values + from * value_tile + g * panel_width * lane, width_ * lane,
                        panel_width * lane, (to - from) * panel_width / lane,
                        w_.step + r * width_ + g * panel_width, width_);
    }
  }

  // o = o * 2^(max before - max) + w V.
  void fold_values(const band& of) const noexcept {
    for_rows(of, [&](std::size_t r, std::size_t, std::size_t) {
      fold(w_.values + r * width_, w_.factor[r], w_.step + (r - of.first_row) * width_, width_);
    });
  }

  // Calls f(row, first, last) for the rows of register tiles that see tiles [first, last) of the current step.
  template <class F>
  void for_rows(const band& of, F&& f) const noexcept {
    for (std::size_t t = of.first; t < of.last; ++t) {
      const std::size_t from = w_.tiles[t].first, to = w_.tiles[t].last;
      if (from >= to) continue;
      for (std::size_t r = tiles_.begin(t); r < tiles_.begin(t) + tiles_.size(t); ++r) f(r, from, to);
    }
  }

  const attention_job& job_;
  const attention_shape& shape_;
  const attention_task& task_;
  const workspace& w_;
  std::size_t group_;
  std::size_t rows_;
  std::size_t width_;
  std::size_t operand_;
  row_tiles tiles_;
  Tiles product_;
  std::int64_t low_ = 0;   // smallest and largest position of all rows
  std::int64_t high_ = 0;
  std::size_t first_ = 0;  // key tiles [first, last) that the current step computes for some rows
  std::size_t last_ = 0;
  bool is_turned_ = false;
  const float* table_ = nullptr;
  const float* key_scales_ = nullptr;  // of the current step, if codes are stored
  const float* value_scales_ = nullptr;
};

// Calls f(std::type_identity<Rows>) with what computes keys and values of the shape's type.
template <class F>
void with_rows_of(const attention_shape& shape, F&& f) noexcept {
  if (shape.type == dtype::f32) {
    f(std::type_identity<task_rows<float, vector_tiles<float, float>>>{});
#if BLOCKATTN_HAS_AMX
  } else if (uses_tile_registers(shape.type, shape.compute)) {
    if (shape.type == dtype::bf16) f(std::type_identity<task_rows<bf16, register_tiles>>{});
    else f(std::type_identity<task_rows<std::int8_t, register_tiles>>{});
#endif
  } else if (shape.type == dtype::i8 && shape.compute == compute_type::f32) {
    f(std::type_identity<int8_rows<float>>{});
  } else if (shape.type == dtype::i8) {
    f(std::type_identity<int8_rows<std::int16_t>>{});
  } else {
    f(std::type_identity<task_rows<bf16, vector_tiles<bf16, row_operand_t<bf16>>>>{});
  }
}

}  // namespace isa_detail

/// Bytes of scratch that `attend` needs for these jobs and up to `workers` workers. O(jobs), and O(segments) for jobs
/// of few tokens.
[[nodiscard]] inline std::size_t attend_scratch(std::size_t workers, std::span<const attention_job> jobs,
                                                const attention_shape& shape) noexcept {
  scratch_cutter common, each;
  (void)common.take<job_plan>(jobs.size());
  (void)common.take<float>(attention_plan(jobs, shape, nullptr).partials);
  isa_detail::with_rows_of(shape, [&]<class Rows>(std::type_identity<Rows>) {
    (void)typename Rows::workspace(each, shape);
  });
  return alignment + common.used() + workers * each.used();
}

/// out = softmax(queries keys^T) values, for every job; see `attention_job` for shapes and for what is visible.
///
/// `scratch` holds `attend_scratch(workers.concurrency(), jobs, shape)` bytes, at any address; its contents do not
/// matter. A row that sees no key gives zeros. Empty jobs and empty segments are allowed. Thread-safe for disjoint
/// outputs and scratch. 4 * head_dim operations for each visible key, row and head; tiles of sixteen keys are computed
/// whole.
inline void attend(executor_ref workers, std::span<const attention_job> jobs, const attention_shape& shape,
                   std::span<std::byte> scratch) noexcept {
  BLOCKATTN_EXPECTS(shape.kv_heads != 0 && shape.heads % shape.kv_heads == 0);
  BLOCKATTN_EXPECTS(shape.head_dim % 2 == 0 && shape.head_dim >= 2 && shape.head_dim <= 256);
  BLOCKATTN_EXPECTS(shape.rotary_dim % 2 == 0 && shape.rotary_dim <= shape.head_dim && shape.window >= 1);
  BLOCKATTN_EXPECTS(shape.type == dtype::f32 || shape.type == dtype::bf16 || shape.type == dtype::i8);
  BLOCKATTN_EXPECTS(scratch.size() >= attend_scratch(workers.concurrency(), jobs, shape));
  const auto address = reinterpret_cast<std::uintptr_t>(scratch.data());
  std::byte* const aligned = scratch.data() + (round_up(address, alignment) - address);
  isa_detail::with_rows_of(shape, [&]<class Rows>(std::type_identity<Rows>) {
    isa_detail::attend_tasks<Rows>(workers, jobs, shape, aligned);
  });
}

}  // namespace BLOCKATTN_ISA
}  // namespace blockattn::inline v0
