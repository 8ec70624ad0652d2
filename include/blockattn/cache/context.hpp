// SPDX-License-Identifier: MIT
/// A context: blocks end to end, at whatever positions they now hold, and a private tail of question and answer.
///
/// Placing a block stores a handle and a start; no key and no value is copied or written (DESIGN, section 3).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "../core/config.hpp"
#include "../core/result.hpp"
#include "../tensor/kv_panels.hpp"
#include "block.hpp"
#include "context_pieces.hpp"
#include "context_sequence.hpp"
#include "context_tail.hpp"
#include "storage.hpp"

namespace blockattn::inline v0 {

/// A sequence of block placements and *runs* of tail tokens, whose keys and values it owns. A value: a copy shares the
/// blocks and copies the tail.
///
/// The tail is one buffer in panel layout with `room` slots. A run begins at a multiple of 16 slots, so that the key
/// tiles of a run, and with them the bits of its results, do not depend on runs before it; closing a run therefore
/// costs up to 15 slots. Blocks appended after a run close it; the next prefilled token opens another.
///
/// A tail token depends on all that stands before it: an edit of blocks drops the runs after it and returns their
/// tokens, in order, for another prefill.
///
/// Errors leave the context as it was. Memory that runs out is `out_of_memory` from edits and from make(), and
/// std::bad_alloc from constructors and fork(), as in std containers. One thread at a time for each context; contexts
/// that share blocks are independent. Edits are linear in the number of blocks.
template <class Allocator = std::allocator<std::byte>>
class basic_context {
 public:
  using allocator_type = Allocator;

  /// An empty context. Allocates and zeroes the tail. Requires `layout.rope`.
  explicit basic_context(context_layout layout, context_options options = {}, const Allocator& allocator = Allocator())
      : tail_(layout.shape, options.room, allocator),
        sequence_(std::move(layout), options.position, tail_.slots(), allocator),
        ids_(allocator),
        logits_(sequence_.layout().vocab, 0.0f, allocator) {
    BLOCKATTN_EXPECTS(sequence_.layout().rope != nullptr);
    ids_.reserve(tail_.slots());
  }

  /// The same, with errors: `invalid_argument` for a layout that no model has, `unsupported` for int8 keys on the key
  /// side (they move without being rounded again on the query side only), `out_of_memory`.
  [[nodiscard]] static result<basic_context> make(context_layout layout, context_options options = {},
                                                  const Allocator& allocator = Allocator()) {
    if (layout.rope == nullptr)
      return fail(errc::invalid_argument, "context layout: expected rope frequencies, found null");
    if (layout.shape.payload_bytes(1) == 0)
      return fail(errc::invalid_argument, "context layout: expected layers, heads and dims, found ",
                  layout.shape.layers, ", ", layout.shape.kv_heads, ", ", layout.shape.head_dim);
    if (layout.shape.type == dtype::i8 && options.position == position_policy::key_side)
      return fail(errc::unsupported,
                  "context layout: key_side would round int8 keys again; expected query_side or none");
    return guarded([&]() -> result<basic_context> { return basic_context(std::move(layout), options, allocator); });
  }

  basic_context(const basic_context& other)
      : basic_context(other, allocator_traits::select_on_container_copy_construction(other.get_allocator())) {}
  basic_context(const basic_context& other, const Allocator& allocator)
      : tail_(other.tail_, allocator),
        sequence_(other.sequence_, allocator),
        ids_(allocator),
        logits_(other.logits_, allocator),
        has_logits_(other.has_logits_) {
    ids_.reserve(tail_.slots());
    ids_.assign(other.ids_.begin(), other.ids_.end());
  }
  /// Leaves `other` empty and without room.
  basic_context(basic_context&& other) noexcept
      : tail_(std::move(other.tail_)),
        sequence_(std::move(other.sequence_)),
        ids_(std::move(other.ids_)),
        logits_(std::move(other.logits_)),
        reserved_(std::exchange(other.reserved_, 0)),
        has_logits_(std::exchange(other.has_logits_, false)) {}
  /// Assignment keeps the allocator of the target.
  basic_context& operator=(const basic_context& other) {
    if (this != &other) *this = basic_context(other, get_allocator());
    return *this;
  }
  basic_context& operator=(basic_context&& other) noexcept(allocator_traits::is_always_equal::value) {
    if (this == &other) return *this;
    if (get_allocator() != other.get_allocator()) return *this = basic_context(other, get_allocator());
    tail_ = std::move(other.tail_);
    sequence_ = std::move(other.sequence_);
    ids_.swap(other.ids_);
    other.ids_.clear();
    logits_.swap(other.logits_);
    other.logits_.clear();
    reserved_ = std::exchange(other.reserved_, 0);
    has_logits_ = std::exchange(other.has_logits_, false);
    return *this;
  }
  ~basic_context() = default;

  /// An independent context with the same blocks, tail and logits, from the same allocator.
  [[nodiscard]] basic_context fork() const { return basic_context(*this, get_allocator()); }

  // ---- Editing. Errors: `shape_mismatch` and `invalid_argument` name the block or the index.

  /// The context becomes exactly these blocks, without a tail. What stands where it stood keeps what was computed for
  /// it, so that this costs no more than an edit.
  [[nodiscard]] result<std::vector<token>> assemble(std::span<const block_handle> blocks) {
    return guarded([&]() -> result<std::vector<token>> {
      if (auto ok = check_blocks(blocks); !ok) return std::move(ok).error();
      return rebuild(blocks, 0);
    });
  }

  /// Puts another block in the place of block i. An equal block changes nothing and drops nothing.
  [[nodiscard]] result<std::vector<token>> replace(std::size_t i, block_handle block) {
    return guarded([&]() -> result<std::vector<token>> {
      if (auto ok = check_index("replace", i, blocks()); !ok) return std::move(ok).error();
      if (auto ok = check_block(i, block); !ok) return std::move(ok).error();
      if (detail::same_block(block, this->block(i))) return std::vector<token>();
      handles next = current(0);
      next[i] = std::move(block);
      return rebuild(next, sequence_.runs_before(i));
    });
  }

  /// Puts a block directly before block i; with i == blocks(), directly after the last block.
  [[nodiscard]] result<std::vector<token>> insert(std::size_t i, block_handle block) {
    return guarded([&]() -> result<std::vector<token>> {
      if (auto ok = check_index("insert", i, blocks() + 1); !ok) return std::move(ok).error();
      if (auto ok = check_block(i, block); !ok) return std::move(ok).error();
      // A run stands before the block it precedes, but the open run stands after the last block.
      const bool before_open_run = i == blocks() && sequence_.open_tokens() != 0;
      handles next = current(1);
      next.insert(next.begin() + static_cast<std::ptrdiff_t>(i), std::move(block));
      return rebuild(next, sequence_.runs_before(i) - (before_open_run ? 1 : 0));
    });
  }

  /// Removes block i.
  [[nodiscard]] result<std::vector<token>> erase(std::size_t i) {
    return guarded([&]() -> result<std::vector<token>> {
      if (auto ok = check_index("erase", i, blocks()); !ok) return std::move(ok).error();
      handles next = current(0);
      next.erase(next.begin() + static_cast<std::ptrdiff_t>(i));
      return rebuild(next, sequence_.runs_before(i));
    });
  }

  /// Block permutation[i] becomes block i. What stands before the first block that changes is not touched.
  [[nodiscard]] result<std::vector<token>> reorder(std::span<const std::size_t> permutation) {
    return guarded([&]() -> result<std::vector<token>> {
      const std::size_t n = blocks();
      if (permutation.size() != n)
        return fail(errc::invalid_argument, "context: reorder: expected ", n, " indices, found ", permutation.size());
      std::vector<bool> seen(n);
      handles next(get_allocator());
      next.reserve(n);
      std::size_t first = n;  // the first block that changes
      for (const std::size_t from : permutation) {
        if (from >= n || seen[from])
          return fail(errc::invalid_argument, "context: reorder: expected each index below ", n, " once, found ", from,
                      " as number ", next.size());
        seen[from] = true;
        next.push_back(block(from));
        if (first == n && !detail::same_block(next.back(), block(next.size() - 1))) first = next.size() - 1;
      }
      if (first == n) return std::vector<token>();
      return rebuild(next, sequence_.runs_before(first));
    });
  }

  /// Puts blocks after all that is there, and so closes the open run.
  [[nodiscard]] result<void> append(std::span<const block_handle> blocks) {
    return guarded([&]() -> result<void> {
      if (blocks.empty()) return {};
      if (auto ok = check_blocks(blocks); !ok) return ok;
      handles next = current(blocks.size());
      next.insert(next.end(), blocks.begin(), blocks.end());
      (void)rebuild(next, sequence_.runs());
      return {};
    });
  }

  /// Takes the last `n` tokens of the open run back. Allocates nothing unless it fails. Errors: `invalid_argument` if
  /// fewer tokens stand after the last block.
  [[nodiscard]] result<void> rewind(std::size_t n) {
    const std::size_t open = sequence_.open_tokens();
    if (n > open)
      return fail(errc::invalid_argument, "context: rewind: expected at most the ", open,
                  " tokens after the last block, found ", n);
    if (n == 0) return {};
    sequence_.shrink(n);
    ids_.resize(ids_.size() - n);
    reserved_ = 0;
    has_logits_ = false;
    return {};
  }

  // ---- Looking.

  [[nodiscard]] std::size_t blocks() const noexcept { return sequence_.blocks(); }
  [[nodiscard]] const block_handle& block(std::size_t i) const noexcept {
    BLOCKATTN_EXPECTS(i < blocks());
    return sequence_.block(i);
  }
  /// The position of the first token of block i.
  [[nodiscard]] std::int64_t start(std::size_t i) const noexcept {
    BLOCKATTN_EXPECTS(i < blocks());
    return sequence_.start(i);
  }
  /// Tokens of the whole sequence: the position of the next one.
  [[nodiscard]] std::size_t tokens() const noexcept { return sequence_.length(); }
  /// The tokens of all runs, in order.
  [[nodiscard]] std::span<const token> tail_tokens() const noexcept { return ids_; }
  /// The tokens after the last block.
  [[nodiscard]] std::span<const token> open_tokens() const noexcept {
    return tail_tokens().last(sequence_.open_tokens());
  }
  /// Tail tokens that can still be appended.
  [[nodiscard]] std::size_t room_left() const noexcept { return tail_.slots() - sequence_.next_slot(); }
  [[nodiscard]] position_policy position() const noexcept { return sequence_.position(); }
  [[nodiscard]] const context_layout& layout() const noexcept { return sequence_.layout(); }
  [[nodiscard]] Allocator get_allocator() const noexcept { return tail_.get_allocator(); }

  /// The logits of the last prefilled position, `vocab` floats; they mean something if has_logits().
  [[nodiscard]] std::span<float> logits() noexcept { return logits_; }
  [[nodiscard]] std::span<const float> logits() const noexcept { return logits_; }
  /// Whether logits() belong to the end of the sequence as it is now. Every change of the sequence ends that.
  [[nodiscard]] bool has_logits() const noexcept { return has_logits_; }

  // ---- For sessions.

  /// The sequence in order. Blocks without tokens are left out. Valid until the next change.
  [[nodiscard]] std::span<const piece_view> pieces() const noexcept { return sequence_.pieces(); }

  /// Layer `l` of the tail: shape.layer_bytes(tail_capacity()) bytes in panels.
  [[nodiscard]] std::byte* tail_layer(std::size_t l) noexcept { return tail_.layer(l); }
  [[nodiscard]] const std::byte* tail_layer(std::size_t l) const noexcept { return tail_.layer(l); }
  /// Slots of the tail: the room that panel offsets of tail_layer() are computed with.
  [[nodiscard]] std::size_t tail_capacity() const noexcept { return tail_.slots(); }

  /// Reserves `n` slots at the end of the open run, or of a new one, and returns the first. They become a part of the
  /// sequence by commit_append(); without it nothing changes. All slots behind the sequence are zero then.
  /// Allocates nothing unless it fails. Errors: `context_full`; `invalid_argument` for n == 0.
  [[nodiscard]] result<std::size_t> begin_append(std::size_t n) {
    if (n == 0) return fail(errc::invalid_argument, "context: append: expected at least 1 token, found 0");
    const std::size_t slot = sequence_.next_slot();
    if (n > tail_.slots() - slot)
      return fail(errc::context_full, "context: expected room for ", n, " tokens, found ", tail_.slots() - slot, " of ",
                  tail_.slots());
    tail_.hand_out(sequence_.end_slot(), slot, n);
    reserved_ = n;
    return slot;
  }

  /// Makes tokens whose keys and values were written to the reserved slots a part of the sequence, from the first slot
  /// on; at most as many as were reserved, and the reservation ends. Allocates nothing. Ends has_logits().
  void commit_append(std::span<const token> tokens) noexcept {
    BLOCKATTN_EXPECTS(tokens.size() <= reserved_);
    reserved_ = 0;
    if (tokens.empty()) return;
    sequence_.grow(tokens.size());
    ids_.insert(ids_.end(), tokens.begin(), tokens.end());
    has_logits_ = false;
  }

  /// Says that logits() were written for the end of the sequence.
  void set_has_logits(bool has = true) noexcept { has_logits_ = has; }

  /// The keys that block i needs for its place and that nobody has turned yet: [layers][kv_heads][key_panel(m)]
  /// elements, not initialised. Write all of them, padding zero; then call set_materialised(i). Null if there is
  /// nothing to do: unless key_side, and at start 0, where a turned key is the key.
  [[nodiscard]] std::byte* unmaterialised_keys(std::size_t i) noexcept {
    BLOCKATTN_EXPECTS(i < blocks());
    return sequence_.unfinished_keys(i);
  }
  void set_materialised(std::size_t i) noexcept {
    BLOCKATTN_EXPECTS(i < blocks());
    sequence_.finish_keys(i);
  }

 private:
  using allocator_traits = std::allocator_traits<Allocator>;
  template <class T>
  using vector = std::vector<T, typename allocator_traits::template rebind_alloc<T>>;
  using handles = vector<block_handle>;

  template <class Body>
  static auto guarded(Body&& body) -> decltype(body()) {
    return detail::out_of_memory_as_error("context", std::forward<Body>(body));
  }

  static result<void> check_index(const char* verb, std::size_t i, std::size_t limit) {
    if (i < limit) return {};
    return fail(errc::invalid_argument, "context: ", verb, ": expected an index below ", limit, ", found ", i);
  }
  result<void> check_block(std::size_t i, const block_handle& block) const {
    if (block == nullptr) return fail(errc::invalid_argument, "context: block ", i, ": expected a block, found null");
    const kv_shape &want = layout().shape, &have = block->shape();
    if (want == have) return {};
    return fail(errc::shape_mismatch, "context: block ", i, ": expected ", want.layers, " layers, ", want.kv_heads,
                " heads of ", want.head_dim, " ", to_string(want.type), ", found ", have.layers, " layers, ",
                have.kv_heads, " heads of ", have.head_dim, " ", to_string(have.type),
                want.key_factors != have.key_factors ? ", keys divided by other factors" : "");
  }
  result<void> check_blocks(std::span<const block_handle> blocks) const {
    for (std::size_t i = 0; i < blocks.size(); ++i)
      if (auto ok = check_block(i, blocks[i]); !ok) return ok;
    return {};
  }

  // The handles of all blocks, with room for `more`.
  handles current(std::size_t more) const {
    handles all(get_allocator());
    all.reserve(blocks() + more);
    for (std::size_t i = 0; i < blocks(); ++i) all.push_back(block(i));
    return all;
  }
  // Takes `next` and the first `kept` runs as the sequence. Returns the tokens of the other runs.
  std::vector<token> rebuild(std::span<const block_handle> next, std::size_t kept) {
    const std::size_t kept_tokens = sequence_.tokens_of_runs(kept);
    std::vector<token> dropped(ids_.begin() + static_cast<std::ptrdiff_t>(kept_tokens), ids_.end());
    sequence_.rebuild(next, kept);
    ids_.resize(kept_tokens);
    reserved_ = 0;
    has_logits_ = false;
    return dropped;
  }

  tail_buffer<Allocator> tail_;
  block_sequence<Allocator> sequence_;
  vector<token> ids_;  // of all runs, in order
  vector<float> logits_;
  std::size_t reserved_ = 0;  // by the latest begin_append()
  bool has_logits_ = false;
};

/// A context on the ordinary heap.
using context = basic_context<>;

}  // namespace blockattn::inline v0
