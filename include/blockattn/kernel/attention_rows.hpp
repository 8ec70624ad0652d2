// SPDX-License-Identifier: MIT
/// The query rows of one attention task: stacked and scaled, with their positions, what they see of a step, and their
/// running sums. What is done with keys and values is up to who derives from this: kernel/attention_steps.hpp and
/// kernel/attention_int8.hpp.
#pragma once

#include <cstring>
#include <numbers>

#include "attention_plan.hpp"
#include "softmax.hpp"

namespace blockattn::inline v0 {
inline namespace BLOCKATTN_ISA {

namespace isa_detail {

// Positions of the rows of one register tile.
struct tile_positions {
  std::int64_t low = 0;
  std::int64_t high = 0;
};
// Tiles of sixteen keys of one step.
struct tile_range {
  std::size_t first = 0;
  std::size_t last = 0;
  [[nodiscard]] bool empty() const noexcept { return first >= last; }
};

// The memory of one worker that does not depend on how keys are stored. Arrays of one float a row have room for a whole
// register behind the last one: what works on some of the rows may begin anywhere.
struct row_memory {
  float* queries = nullptr;             // [rows][row_floats], scaled
  float* partners = nullptr;            // the same with the two dims of every rotary pair exchanged
  float* cosines = nullptr;             // [row_floats], of each dim
  float* sines = nullptr;
  float* values = nullptr;              // [rows and a register tile][row_floats], weighted values of all steps so far
  float* max = nullptr;                 // [rows], largest score so far
  float* top = nullptr;                 // [rows], the same with the current step
  float* sum = nullptr;                 // [rows][16], partial sums of weights
  tile_positions* positions = nullptr;  // [register tiles]

  row_memory(scratch_cutter& cut, const attention_shape& shape) noexcept {
    const std::size_t rows = task_tokens(shape) * group_of(shape), width = row_floats(shape);
    queries = cut.take<float>(rows * width);
    partners = cut.take<float>(rows * width);
    cosines = cut.take<float>(width);
    sines = cut.take<float>(width);
    values = cut.take<float>((rows + panel_width) * width);
    max = cut.take<float>(of_rows(rows));
    top = cut.take<float>(of_rows(rows));
    sum = cut.take<float>(rows * panel_width);
    positions = cut.take<tile_positions>(rows);
  }
  [[nodiscard]] static std::size_t of_rows(std::size_t rows) noexcept {
    return round_up(rows, panel_width) + panel_width;
  }
};

// Up to 128 keys of a segment, from key `at` on. No segment: none.
struct segment_step {
  const kv_segment* segment = nullptr;
  std::size_t at = 0;
};

// Few rows read keys and values once, and reading is what takes time: what the next step reads is asked for a few lines at a
// time, between the pieces of this one's work. All at once took longer (docs/dead_ends.md).
class line_asker {
 public:
  void add(const void* run, std::size_t bytes) noexcept {
    const auto* const begin = static_cast<const std::byte*>(run);
    runs_[count_++] = {begin, begin + bytes};
    lines_ += ceil_div(bytes, line);
  }
  /// Between how many pieces of work the lines are shared out.
  void share(std::size_t pieces) noexcept { each_ = ceil_div(lines_, pieces); }
  void ask() noexcept {
    for (std::size_t left = each_; left != 0 && first_ != count_;) {
      lines_of& run = runs_[first_];
      for (; left != 0 && run.at < run.end; run.at += line, --left) prefetch(run.at);
      if (run.at >= run.end) ++first_;
    }
  }

 private:
  static constexpr std::size_t line = 64;
  struct lines_of {
    const std::byte *at = nullptr, *end = nullptr;
  };
  lines_of runs_[4];  // keys, values and the scales of both
  std::size_t first_ = 0, count_ = 0, lines_ = 0, each_ = 0;
};

class stacked_rows {
 public:
  stacked_rows(const attention_job& job, const attention_shape& shape, const attention_task& task,
               const row_memory& memory, const row_tiles& tiles) noexcept
      : job_(job),
        shape_(shape),
        task_(task),
        m_(memory),
        group_(group_of(shape)),
        rows_(task.tokens * group_),
        width_(row_floats(shape)),
        tiles_(tiles) {
    stack_queries();
    find_positions();
    std::fill_n(m_.max, row_memory::of_rows(rows_), no_score);
    std::fill_n(m_.top, row_memory::of_rows(rows_), no_score);
    std::fill_n(m_.sum, rows_ * panel_width, 0.0f);
    std::fill_n(m_.values, rows_ * width_, 0.0f);
  }

  void write_out() const noexcept {
    for (std::size_t r = 0; r < rows_; ++r) {
      float* out = job_.out + token(r) * job_.out_stride + head(r) * shape_.head_dim;
      finish(m_.values + r * width_, reduce_add(load(m_.sum + r * panel_width)), shape_.head_dim, out);
    }
  }

  // Rows of a partial result follow each other: token, then head of the group.
  void write_partial(float* out) const noexcept {
    for (std::size_t r = 0; r < rows_; ++r, out += width_ + panel_width) {
      std::memcpy(out, m_.values + r * width_, width_ * sizeof(float));
      out[width_] = m_.max[r];
      out[width_ + 1] = reduce_add(load(m_.sum + r * panel_width));
    }
  }

 protected:
  // Calls f(step, the one after it) for the steps [first, last) of all segments that some row sees.
  template <class F>
  void for_steps(std::size_t first, std::size_t last, F&& f) const noexcept {
    std::size_t before = 0, steps = 0;  // steps of the segments so far, and of the current one
    segment_step found;
    for (const kv_segment& segment : job_.segments) {
      before += steps;
      steps = steps_of(segment);
      if (before >= last) break;
      if (before + steps <= first) continue;
      const key_range seen = visible_keys(low_, high_, shape_.window, segment.start, segment.tokens);
      if (seen.empty()) continue;
      const std::size_t from =
          std::max(static_cast<std::size_t>(seen.first) / step_keys, std::max(first, before) - before);
      const std::size_t to = std::min(ceil_div(static_cast<std::size_t>(seen.last), step_keys), last - before);
      for (std::size_t s = from; s < to; ++s) {
        const segment_step next{&segment, s * step_keys};
        if (found.segment != nullptr) f(found, next);
        found = next;
      }
    }
    if (found.segment != nullptr) f(found, segment_step{});
  }

  [[nodiscard]] std::size_t token(std::size_t r) const noexcept { return task_.first_token + r / group_; }
  [[nodiscard]] std::size_t head(std::size_t r) const noexcept { return task_.kv_head * group_ + r % group_; }

  // A turn table by dims instead of pairs. Dims that do not turn keep cosine 1, sine 0.
  void spread(const float* table) const noexcept {
    const std::size_t rotary = shape_.rotary_dim, pairs = rotary / 2;
    const bool split = shape_.layout == rope_layout::half_split;
    for (std::size_t m = 0; m < pairs; ++m) {
      const std::size_t i = split ? m : 2 * m, j = split ? m + pairs : 2 * m + 1;
      m_.cosines[i] = m_.cosines[j] = table[m];
      m_.sines[i] = -table[pairs + m];
      m_.sines[j] = table[pairs + m];
    }
    std::fill(m_.cosines + rotary, m_.cosines + width_, 1.0f);
    std::fill(m_.sines + rotary, m_.sines + width_, 0.0f);
  }

  // The tiles of sixteen keys, from the first to the last that its rows see, for each register tile: only those are
  // computed, from a multiple of `whole` on. Gives what any of them computes.
  tile_range choose_key_tiles(std::int64_t start, std::size_t keys, std::size_t whole, tile_range* of) const noexcept {
    tile_range any{step_keys, 0};
    for (std::size_t t = 0; t < tiles_.count; ++t) {
      const tile_positions& at = m_.positions[t];
      const key_range seen = visible_keys(at.low, at.high, shape_.window, start, keys);
      of[t] = {};
      if (seen.empty()) continue;
      of[t].first = static_cast<std::size_t>(seen.first) / panel_width / whole * whole;
      of[t].last = ceil_div(static_cast<std::size_t>(seen.last), panel_width);
      any = {std::min(any.first, of[t].first), std::max(any.last, of[t].last)};
    }
    return any.empty() ? tile_range{} : any;
  }

  // Whether every row sees all `keys` keys from position `start` on, in whole tiles.
  [[nodiscard]] bool sees_all(std::int64_t start, std::size_t keys) const noexcept {
    return keys % panel_width == 0 && low_ - start >= static_cast<std::int64_t>(keys) - 1 &&
           high_ - start < shape_.window;
  }
  // Masks the scores of row r in a range of the tiles of a step; `scores` are those of its first.
  void mask_row(float* scores, std::size_t r, tile_range of, std::int64_t start, std::size_t keys) const noexcept {
    const std::int64_t position = job_.positions[token(r)];
    const std::size_t skipped = of.first * panel_width;
    mask_scores(scores, of.last - of.first,
                visible_keys(position, position, shape_.window, start + static_cast<std::int64_t>(skipped),
                             keys - skipped));
  }

  // Begins to ask for the keys and values of a step, of which there may be none.
  void begin_asking(const segment_step& next) noexcept {
    asker_ = {};
    if (next.segment == nullptr) return;
    const kv_segment& s = *next.segment;
    const kv_shape kv{1, shape_.kv_heads, shape_.head_dim, shape_.type};
    const std::size_t head = task_.kv_head, first = next.at / panel_width;
    const std::size_t tiles = ceil_div(std::min(step_keys, s.tokens - next.at), panel_width);
    const std::size_t key_bytes = kv.key_tile() * kv.element_bytes(), value_bytes = kv.value_tile() * kv.element_bytes();
    asker_.add(s.keys + head * s.key_stride + first * key_bytes, tiles * key_bytes);
    asker_.add(s.values + head * s.value_stride + first * value_bytes, tiles * value_bytes);
    if (shape_.type == dtype::i8) {
      const std::size_t at = head * s.scale_stride + next.at, bytes = tiles * panel_width * sizeof(float);
      asker_.add(s.key_scales + at, bytes);
      asker_.add(s.value_scales + at, bytes);
    }
    asker_.share(2 + 3 * rows_);  // groups of keys, then scores, weights and sums of each row
  }
  // Between two pieces of work.
  BLOCKATTN_INLINE void ask() noexcept { asker_.ask(); }

  // Calls f(row, range) for the rows of register tiles [first, last) that compute some keys of a step.
  template <class F>
  void for_rows(std::size_t first, std::size_t last, const tile_range* ranges, F&& f) const noexcept {
    for (std::size_t t = first; t < last; ++t) {
      if (ranges[t].empty()) continue;
      for (std::size_t r = tiles_.begin(t); r < tiles_.begin(t) + tiles_.size(t); ++r) f(r, ranges[t]);
    }
  }

 private:
  // Queries of the group, scaled; and a copy in which each dim holds its partner in the rotary pair, so that turning
  // is the same two operations for every layout. The softmax works in base 2: hence log2(e).
  void stack_queries() const noexcept {
    const float scale = shape_.scale * std::numbers::log2e_v<float>;
    const std::size_t d = shape_.head_dim, rotary = shape_.rotary_dim, half = rotary / 2;
    for (std::size_t r = 0; r < rows_; ++r) {
      const float* from = job_.queries + token(r) * job_.query_stride + head(r) * d;
      float* q = m_.queries + r * width_;
      float* partner = m_.partners + r * width_;
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
      m_.positions[t] = {*low, *high};
      low_ = t == 0 ? *low : std::min(low_, *low);
      high_ = t == 0 ? *high : std::max(high_, *high);
    }
  }

  const attention_job& job_;

 protected:
  const attention_shape& shape_;
  const attention_task& task_;

 private:
  const row_memory& m_;
  std::size_t group_;

 protected:
  std::size_t rows_;
  std::size_t width_;
  row_tiles tiles_;

 private:
  line_asker asker_;
  std::int64_t low_ = 0;  // smallest and largest position of all rows
  std::int64_t high_ = 0;
};

}  // namespace isa_detail
}  // namespace BLOCKATTN_ISA
}  // namespace blockattn::inline v0
