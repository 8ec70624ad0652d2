// SPDX-License-Identifier: MIT
/// One task of attention over floats, bf16, or int8 codes that become bf16 first: its rows meet the keys and values of
/// the segments, a step of 128 keys at a time (kernel/attention.hpp has the whole).
///
/// The rows go through a step in bands: scores, softmax and values of one band, then of the next. On tile registers a band
/// has sixteen rows; its scores take 8 KiB and its weights replace them, so that they, the keys and the values of the step
/// fit a nearest cache of 48 KiB. Larger bands, or two at a time, are slower (docs/dead_ends.md). No bit depends on it.
#pragma once

#include "attention_rows.hpp"
#include "expand_pairs.hpp"

namespace blockattn::inline v0 {
inline namespace BLOCKATTN_ISA {

namespace isa_detail {

// The memory of one worker.
template <class Row, class Tiles>
struct step_memory : row_memory {
  Row* turned = nullptr;         // [rows and a register tile][operand_elements], turned to the current segment
  float* scores = nullptr;       // [band rows][step_keys]; weights replace them, at the same distance
  Row* weights = nullptr;
  float* factor = nullptr;       // [rows], what the current step multiplies earlier values by
  float* step = nullptr;         // [band rows][row_floats], weighted values of the current step, where they are apart
  tile_range* ranges = nullptr;  // [register tiles], keys of the current step

  step_memory(scratch_cutter& cut, const attention_shape& shape) noexcept : row_memory(cut, shape) {
    const std::size_t rows = task_tokens(shape) * group_of(shape), band = std::min(rows, Tiles::band_rows);
    turned = cut.take<Row>((rows + panel_width) * operand_elements(shape));
    scores = cut.take<float>(band * step_keys);
    weights = reinterpret_cast<Row*>(scores);
    factor = cut.take<float>(of_rows(rows));
    if constexpr (!Tiles::carries_sums) step = cut.take<float>(band * row_floats(shape));
    ranges = cut.take<tile_range>(rows);
  }
};

// The same, with room for the keys and values of one step as pairs of bf16.
template <class Row, class Tiles>
struct expanding_memory : step_memory<Row, Tiles> {
  bf16* pair_keys = nullptr;    // [step_keys/16][dims/2][16][2], dims in whole lanes of four
  bf16* pair_values = nullptr;  // [step_keys/2][row_floats][2]

  expanding_memory(scratch_cutter& cut, const attention_shape& shape) noexcept : step_memory<Row, Tiles>(cut, shape) {
    pair_keys = cut.take<bf16>(step_keys * round_up(shape.head_dim, 4));
    pair_values = cut.take<bf16>(step_keys * row_floats(shape));
  }
};

// `Tiles` multiplies (product_tiles.hpp). Panel: what is stored; of int8, the codes of a step become bf16 first, and their
// scales meet scores and weights.
template <class Panel, class Tiles>
class task_rows : public stacked_rows {
  using row = typename Tiles::row;
  static constexpr std::size_t lane = Tiles::lane;
  static constexpr bool is_coded = std::is_same_v<Panel, std::int8_t>;
  using operand = std::conditional_t<is_coded, bf16, Panel>;

 public:
  using workspace = std::conditional_t<is_coded, expanding_memory<row, Tiles>, step_memory<row, Tiles>>;

  task_rows(const attention_job& job, const attention_shape& shape, const attention_task& task,
            const workspace& memory) noexcept
      : stacked_rows(job, shape, task, memory, Tiles::cut(task.tokens * group_of(shape))),
        w_(memory),
        kv_{1, shape.kv_heads, shape.head_dim, shape.type},
        operand_(operand_elements(shape)),
        product_(tiles_.size(0)),
        is_stream_(Tiles::streams && !is_coded && tiles_.count == 1),
        asks_(Tiles::asks && tiles_.count == 1) {
    if (operand_ != width_) std::fill_n(w_.turned, (rows_ + panel_width) * operand_, row{});
  }

  // The whole of Block-Attention: streaming softmax over the segments, or over steps [first, last) of them.
  void attend(std::size_t first, std::size_t last) noexcept {
    for_steps(first, last, [&](const segment_step& now, const segment_step& next) {
      turn_queries(now.segment->turn);
      if (asks_) begin_asking(next);
      attend_step(begin_step(*now.segment, now.at));
    });
  }

 private:
  // Up to 128 keys of a segment.
  struct key_step {
    std::int64_t start = 0;  // position of the first key
    std::size_t keys = 0;
    tile_range any;          // key tiles that some rows compute
    const operand* key_panels = nullptr;
    const operand* value_panels = nullptr;
    const float* key_scales = nullptr;  // of codes
    const float* value_scales = nullptr;
  };

  // Register tiles [first, last) of the task's rows.
  struct band {
    std::size_t first = 0, last = 0, first_row = 0, rows = 0;
  };

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
    for (std::size_t r = 0; r < rows_; ++r) {
      const float* const q = w_.queries + r * width_;
      const float* const partner = w_.partners + r * width_;
      for (std::size_t i = 0; i < width_; i += panel_width)
        store(w_.turned + r * operand_ + i,
              fma(load(partner + i), load(w_.sines + i), load(q + i) * load(w_.cosines + i)));
    }
  }

  [[nodiscard]] key_step begin_step(const kv_segment& segment, std::size_t at) const noexcept {
    const std::size_t head = task_.kv_head, tile = at / panel_width;
    const auto* const k = reinterpret_cast<const Panel*>(segment.keys + head * segment.key_stride) + tile * kv_.key_tile();
    const auto* const v =
        reinterpret_cast<const Panel*>(segment.values + head * segment.value_stride) + tile * kv_.value_tile();
    key_step step;
    step.start = segment.start + static_cast<std::int64_t>(at);
    step.keys = std::min(step_keys, segment.tokens - at);
    // In whole steps of the product of weights and values: masked scores weigh nothing.
    step.any = choose_key_tiles(step.start, step.keys, Tiles::key_tiles, w_.ranges);
    if constexpr (is_coded) {
      // The rows of a task share what is decoded; tiles that none of them sees are left out.
      const std::size_t tiles = step.any.last - step.any.first, keys = step.any.first * kv_.key_tile();
      const std::size_t values = step.any.first * kv_.value_tile();
      expand_int8(k + keys, tiles * kv_.key_tile() / (4 * panel_width), 1, w_.pair_keys + keys);
      expand_int8(v + values, tiles * panel_width / 4, width_ / panel_width, w_.pair_values + values);
      step.key_panels = w_.pair_keys;
      step.value_panels = w_.pair_values;
      step.key_scales = segment.key_scales + head * segment.scale_stride + at;
      step.value_scales = segment.value_scales + head * segment.scale_stride + at;
    } else {
      step.key_panels = k;
      step.value_panels = v;
    }
    return step;
  }

  void attend_step(const key_step& step) noexcept {
    for (std::size_t t = 0; t < tiles_.count; t += Tiles::band_tiles) {
      band of{t, std::min(t + Tiles::band_tiles, tiles_.count), tiles_.begin(t), 0};
      of.rows = tiles_.begin(of.last - 1) + tiles_.size(of.last - 1) - of.first_row;
      score(step, of);
      weigh_scores(step, of);
      multiply_values(step, of);
    }
  }

  // s = q' K^T. Key tiles are the outer loop: each is read once from memory and then from the nearest cache.
  // The operands of a tile are built in place from scalars. A copy of a struct that was written a moment ago would wait
  // for those writes (store forwarding works for equal widths only), which cost 8 % of the whole.
  void score(const key_step& step, const band& of) noexcept {
    const std::size_t groups = is_stream_ ? stream_tiles : product_.groups();
    for (std::size_t g = step.any.first; g < step.any.last; g += groups) {
      ask();
      for (std::size_t t = of.first; t < of.last; ++t) {
        const std::size_t from = std::max(g, w_.ranges[t].first), to = std::min(g + groups, w_.ranges[t].last);
        if (from >= to) continue;
        const std::size_t r = tiles_.begin(t);
        product_.multiply(tiles_.size(t), to - from, w_.turned + r * operand_, operand_,
                          step.key_panels + from * kv_.key_tile(), panel_width * lane, kv_.key_tile(),
                          ceil_div(shape_.head_dim, lane),
                          w_.scores + (r - of.first_row) * step_keys + from * panel_width, step_keys, false,
                          is_stream_ ? stream_lines : 0);
      }
    }
  }

  // w = 2^(s - max), after the mask. All maxima come first: their chains of dependent operations then overlap.
  void weigh_scores(const key_step& step, const band& of) noexcept {
    const bool all_seen = sees_all(step.start, step.keys);
    for_rows(of.first, of.last, w_.ranges, [&](std::size_t r, tile_range seen) {
      const std::size_t tiles = seen.last - seen.first, first = seen.first * panel_width;
      float* scores = w_.scores + (r - of.first_row) * step_keys + first;
      if constexpr (is_coded) {
        w_.top[r] = scale_scores(scores, tiles, step.key_scales + first, w_.max[r]);
        if (all_seen) return;
      }
      if (!all_seen) mask_row(scores, r, seen, step.start, step.keys);
      w_.top[r] = largest(scores, tiles, w_.max[r]);
      ask();
    });
    // Whole registers of rows: those behind the band keep their maximum.
    const std::size_t end = of.first_row + of.rows;
    for (std::size_t r = end; r < of.first_row + round_up(of.rows, panel_width); ++r) w_.top[r] = w_.max[r];
    raise(w_.max + of.first_row, w_.top + of.first_row, w_.factor + of.first_row, of.rows);
    for_rows(of.first, of.last, w_.ranges, [&](std::size_t r, tile_range seen) {
      const std::size_t i = r - of.first_row, first = seen.first * panel_width;
      const float* scores = w_.scores + i * step_keys + first;
      row* weights = w_.weights + i * weight_stride + first;
      if constexpr (is_coded) {
        weigh_scaled(scores, seen.last - seen.first, w_.max[r], w_.factor[r], step.value_scales + first, weights,
                     w_.sum + r * panel_width);
      } else {
        weigh(scores, seen.last - seen.first, w_.max[r], w_.factor[r], weights, w_.sum + r * panel_width);
      }
      ask();
    });
  }

  // o = o * 2^(max before - max) + w V.
  void multiply_values(const key_step& step, const band& of) noexcept {
    float* const out = Tiles::carries_sums ? w_.values + of.first_row * width_ : w_.step;
    if constexpr (Tiles::carries_sums) {
      // A maximum rarely rises: most steps have nothing to scale.
      bool any = false;
      for (std::size_t r = 0; r < of.rows; ++r) any = any || w_.factor[of.first_row + r] != 1.0f;
      if (any)
        for_rows(of.first, of.last, w_.ranges, [&](std::size_t r, tile_range) {
          scale(w_.values + r * width_, w_.factor[r], width_);
        });
    }
    const std::size_t groups = product_.groups(), all = width_ / panel_width;
    for (std::size_t g = 0; g < all; g += groups) {
      for (std::size_t t = of.first; t < of.last; ++t) {
        const tile_range seen = w_.ranges[t];
        if (seen.empty()) continue;
        const std::size_t r = tiles_.begin(t) - of.first_row;
        product_.multiply(tiles_.size(t), std::min(groups, all - g),
                          w_.weights + r * weight_stride + seen.first * panel_width, weight_stride,
                          step.value_panels + seen.first * kv_.value_tile() + g * panel_width * lane, width_ * lane,
                          panel_width * lane, (seen.last - seen.first) * panel_width / lane,
                          out + r * width_ + g * panel_width, width_, Tiles::carries_sums,
                          is_stream_ ? stream_lines / groups : 0);
      }
    }
    if constexpr (!Tiles::carries_sums)
      for_rows(of.first, of.last, w_.ranges, [&](std::size_t r, tile_range) {
        fold(w_.values + r * width_, w_.factor[r], w_.step + (r - of.first_row) * width_, width_);
        ask();
      });
  }

  // Few rows: key tiles that are read beside each other, and how far ahead keys and values are asked for, in cache lines.
  static constexpr std::size_t stream_tiles = 2, stream_lines = 32;
  // Elements from one row of weights to the next: they lie where its scores were.
  static constexpr std::size_t weight_stride = step_keys * sizeof(float) / sizeof(row);

  const workspace& w_;
  kv_shape kv_;
  std::size_t operand_;
  Tiles product_;
  // Few rows read keys and values once, and reading is what takes time: products ask for what they read next, or steps do.
  bool is_stream_, asks_;
  bool is_turned_ = false;
  const float* table_ = nullptr;
};

}  // namespace isa_detail
}  // namespace BLOCKATTN_ISA
}  // namespace blockattn::inline v0
