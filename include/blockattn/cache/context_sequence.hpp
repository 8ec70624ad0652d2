// SPDX-License-Identifier: MIT
/// What stands where in a context: blocks and runs of tail tokens, their positions, and what a block needs for its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "../core/config.hpp"
#include "../tensor/kv_panels.hpp"
#include "block.hpp"
#include "context_pieces.hpp"
#include "storage.hpp"

namespace blockattn::inline v0 {

/// Blocks in order, with runs of tail tokens between them and after them. Two runs never stand side by side. The run
/// after the last block is *open*: it grows and shrinks, the others are fixed.
///
/// Moving leaves an empty sequence. Not thread-safe.
template <class Allocator>
class block_sequence {
 public:
  /// Room for `slots` tail slots, a multiple of 16: as many tokens never cost an allocation later.
  block_sequence(context_layout layout, position_policy position, std::size_t slots, const Allocator& allocator)
      : layout_(std::move(layout)),
        position_(position),
        most_runs_(slots / panel_width),
        placements_(allocator),
        runs_(allocator),
        views_(allocator) {
    runs_.reserve(most_runs_);  // a run takes at least one tile
    views_.reserve(most_runs_);
  }
  block_sequence(const block_sequence& other, const Allocator& allocator)
      : layout_(other.layout_),
        position_(other.position_),
        most_runs_(other.most_runs_),
        placements_(other.placements_, allocator),
        runs_(allocator),
        views_(allocator),
        length_(other.length_) {
    // Turned keys are shared once they are finished; until then each sequence fills its own.
    for (placement& p : placements_)
      if (p.keys != nullptr && !p.keys_ready) p.keys = new_keys(*p.block);
    runs_.reserve(most_runs_);
    runs_.assign(other.runs_.begin(), other.runs_.end());
    views_.reserve(placements_.size() + most_runs_);
    show();
  }
  block_sequence(block_sequence&& other) noexcept
      : layout_(other.layout_),
        position_(other.position_),
        most_runs_(std::exchange(other.most_runs_, 0)),
        placements_(std::move(other.placements_)),
        runs_(std::move(other.runs_)),
        views_(std::move(other.views_)),
        length_(std::exchange(other.length_, 0)) {}
  /// Requires equal allocators.
  block_sequence& operator=(block_sequence&& other) noexcept {
    layout_ = other.layout_;
    position_ = other.position_;
    most_runs_ = std::exchange(other.most_runs_, 0);
    length_ = std::exchange(other.length_, 0);
    // Swapping, as a moved-from vector need not be empty when its allocator does not propagate.
    placements_.swap(other.placements_);
    runs_.swap(other.runs_);
    views_.swap(other.views_);
    other.placements_.clear();
    other.runs_.clear();
    other.views_.clear();
    return *this;
  }
  ~block_sequence() = default;

  [[nodiscard]] const context_layout& layout() const noexcept { return layout_; }
  [[nodiscard]] position_policy position() const noexcept { return position_; }
  [[nodiscard]] std::size_t blocks() const noexcept { return placements_.size(); }
  [[nodiscard]] const block_handle& block(std::size_t i) const noexcept { return placements_[i].block; }
  [[nodiscard]] std::int64_t start(std::size_t i) const noexcept { return placements_[i].start; }
  /// Tokens of the whole sequence.
  [[nodiscard]] std::size_t length() const noexcept { return length_; }
  [[nodiscard]] std::span<const piece_view> pieces() const noexcept { return views_; }

  [[nodiscard]] std::size_t open_tokens() const noexcept { return has_open_run() ? runs_.back().tokens : 0; }
  /// The slot after the last one in use.
  [[nodiscard]] std::size_t end_slot() const noexcept {
    return runs_.empty() ? 0 : runs_.back().slot + runs_.back().tokens;
  }
  /// The slot of the next tail token: behind the open run, or on the next tile.
  [[nodiscard]] std::size_t next_slot() const noexcept {
    return has_open_run() ? end_slot() : round_up(end_slot(), panel_width);
  }
  [[nodiscard]] std::size_t runs() const noexcept { return runs_.size(); }
  /// The number of runs that stand before block i.
  [[nodiscard]] std::size_t runs_before(std::size_t i) const noexcept {
    std::size_t n = 0;
    while (n < runs_.size() && runs_[n].blocks_before <= i) ++n;
    return n;
  }
  /// The tokens of the first `n` runs.
  [[nodiscard]] std::size_t tokens_of_runs(std::size_t n) const noexcept {
    std::size_t sum = 0;
    for (std::size_t r = 0; r < n; ++r) sum += runs_[r].tokens;
    return sum;
  }

  /// Makes `blocks` the blocks and drops all runs but the first `kept`. Turn tables and turned keys of the old
  /// placements are kept where they fit. Strong guarantee. Complexity: linear in old and new blocks.
  void rebuild(std::span<const block_handle> blocks, std::size_t kept) {
    vector<placement> next(placements_.get_allocator());
    next.reserve(blocks.size());
    std::size_t at = 0, run = 0, old = 0;
    for (const block_handle& block : blocks) {
      while (run < kept && runs_[run].blocks_before <= next.size()) at += runs_[run++].tokens;
      placement p{block, static_cast<std::int64_t>(at)};
      // Both lists are ordered by start: one pass over each finds all that fits.
      while (old < placements_.size() && placements_[old].start < p.start) ++old;
      // R(0) is the identity; a block without tokens has nothing to turn.
      if (const std::size_t m = block->tokens().size(); m != 0) {
        if (at != 0) settle(p, old);
        at += m;
      }
      next.push_back(std::move(p));
    }
    while (run < kept) at += runs_[run++].tokens;
    views_.reserve(next.size() + most_runs_);
    // Nothing below fails.
    placements_.swap(next);
    runs_.resize(kept);
    length_ = at;
    show();
  }

  /// Lets the open run, or a new one, grow by `n` > 0 tokens. Never allocates within the room.
  void grow(std::size_t n) noexcept {
    if (has_open_run()) {
      runs_.back().tokens += n;
      views_.back().tokens += n;
    } else {
      const std::size_t slot = next_slot();
      runs_.push_back({placements_.size(), slot, n});
      views_.push_back({nullptr, n, static_cast<std::int64_t>(length_), nullptr, nullptr, slot});
    }
    length_ += n;
  }
  /// Takes the last `n` tokens of the open run back; n <= open_tokens().
  void shrink(std::size_t n) noexcept {
    if (n == 0) return;
    length_ -= n;
    runs_.back().tokens -= n;
    views_.back().tokens -= n;
    if (runs_.back().tokens != 0) return;
    runs_.pop_back();
    views_.pop_back();
  }

  /// Keys of block i that are to be turned; null if there is nothing to do.
  [[nodiscard]] std::byte* unfinished_keys(std::size_t i) noexcept {
    return placements_[i].keys_ready ? nullptr : placements_[i].keys.get();
  }
  void finish_keys(std::size_t i) noexcept { placements_[i].keys_ready = true; }

 private:
  template <class T>
  using vector = std::vector<T, typename std::allocator_traits<Allocator>::template rebind_alloc<T>>;

  struct placement {
    block_handle block = {};
    std::int64_t start = 0;
    std::shared_ptr<const std::byte> turn = {};  // floats of R(-start); they depend on start alone
    std::shared_ptr<std::byte> keys = {};        // key_side: the block's keys turned by R(start)
    bool keys_ready = false;                     // nobody writes to keys any more
  };
  struct tail_run {
    std::size_t blocks_before = 0;
    std::size_t slot = 0;
    std::size_t tokens = 0;
  };

  bool has_open_run() const noexcept { return !runs_.empty() && runs_.back().blocks_before == placements_.size(); }
  std::shared_ptr<std::byte> new_keys(const kv_block& block) const {
    const kv_shape& s = layout_.shape;
    const std::size_t bytes = s.layers * s.kv_heads * s.key_panel(block.tokens().size()) * s.element_bytes();
    return detail::shared_bytes(bytes, Allocator(placements_.get_allocator()));
  }

  // Finds or makes what a block at p.start needs; `old` is the first old placement that may start there.
  void settle(placement& p, std::size_t old) const {
    if (position_ == position_policy::none) return;
    for (; old < placements_.size() && placements_[old].start == p.start; ++old) {
      const placement& was = placements_[old];
      if (was.turn != nullptr) p.turn = was.turn;
      if (was.keys != nullptr && detail::same_block(was.block, p.block)) {
        p.keys = was.keys;
        p.keys_ready = was.keys_ready;
      }
    }
    if (position_ == position_policy::key_side) {
      if (p.keys == nullptr) p.keys = new_keys(*p.block);
    } else if (p.turn == nullptr) {
      auto turn =
          detail::shared_bytes(layout_.rope->table_floats() * sizeof(float), Allocator(placements_.get_allocator()));
      layout_.rope->cos_sin(-p.start, reinterpret_cast<float*>(turn.get()));
      p.turn = std::move(turn);
    }
  }

  // Writes the views of placements and runs. Their memory is reserved.
  void show() noexcept {
    views_.clear();
    std::size_t run = 0;
    std::int64_t end = 0;
    const auto show_runs_before = [&](std::size_t i) {
      for (; run < runs_.size() && runs_[run].blocks_before <= i; ++run) {
        views_.push_back({nullptr, runs_[run].tokens, end, nullptr, nullptr, runs_[run].slot});
        end += static_cast<std::int64_t>(runs_[run].tokens);
      }
    };
    for (std::size_t i = 0; i < placements_.size(); ++i) {
      show_runs_before(i);
      const placement& p = placements_[i];
      const std::size_t m = p.block->tokens().size();
      end = p.start + static_cast<std::int64_t>(m);
      if (m != 0)
        views_.push_back({p.block.get(), m, p.start, reinterpret_cast<const float*>(p.turn.get()), p.keys.get(), 0});
    }
    show_runs_before(placements_.size());
  }

  context_layout layout_;
  position_policy position_;
  std::size_t most_runs_;
  vector<placement> placements_;
  vector<tail_run> runs_;
  vector<piece_view> views_;  // what pieces() shows
  std::size_t length_ = 0;
};

}  // namespace blockattn::inline v0
