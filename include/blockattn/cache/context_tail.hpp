// SPDX-License-Identifier: MIT
/// The memory of a context's tail: keys and values of question and answer, one buffer, in panels.
#pragma once

#include <cstddef>
#include <cstring>
#include <limits>
#include <memory>
#include <utility>

#include "../core/config.hpp"
#include "../core/memory.hpp"
#include "../tensor/kv_panels.hpp"

namespace blockattn::inline v0 {

namespace detail {

// Zeroes slots [from, to) of all keys and values of one layer whose room is `room` slots. `to` is a multiple of 16.
inline void clear_slots(const kv_shape& shape, std::byte* layer, std::size_t room, std::size_t from, std::size_t to) {
  constexpr std::size_t lane_bytes = 4;
  const std::size_t key_rows = shape.key_tile() * shape.element_bytes() / (panel_width * lane_bytes);
  const std::size_t dims = shape.value_tile() / panel_width;
  const std::size_t lane = shape.lane(), bytes = shape.element_bytes();
  for (std::size_t head = 0; head < shape.kv_heads; ++head) {
    std::byte* const keys = layer + shape.key_offset(head, room);
    std::byte* const values = layer + shape.value_offset(head, room);
    // Keys: the first tile may hold slots that stay; in each of its rows the slots to clear come last.
    std::size_t slot = from;
    if (const std::size_t kept = slot % panel_width; kept != 0) {
      std::byte* const tile = keys + shape.key_index(slot - kept, 0) * bytes;
      for (std::size_t row = 0; row < key_rows; ++row)
        std::memset(tile + (row * panel_width + kept) * lane_bytes, 0, (panel_width - kept) * lane_bytes);
      slot += panel_width - kept;
    }
    if (slot < to) {
      const std::size_t tiles = (to - slot) / panel_width;
      std::memset(keys + shape.key_index(slot, 0) * bytes, 0, tiles * shape.key_tile() * bytes);
    }
    // Values: a lane may be shared by slots that stay and slots that go.
    slot = from;
    if (const std::size_t kept = slot % lane; kept != 0) {
      std::byte* const group = values + shape.value_index(slot - kept, 0) * bytes;
      for (std::size_t dim = 0; dim < dims; ++dim)
        std::memset(group + dim * lane_bytes + kept * bytes, 0, (lane - kept) * bytes);
      slot += lane - kept;
    }
    std::memset(values + shape.value_index(slot, 0) * bytes, 0, (to - slot) / lane * dims * lane_bytes);
    if (shape.type == dtype::i8) {
      std::memset(layer + shape.key_scale_offset(head, room) + from * sizeof(float), 0, (to - from) * sizeof(float));
      std::memset(layer + shape.value_scale_offset(head, room) + from * sizeof(float), 0, (to - from) * sizeof(float));
    }
  }
}

}  // namespace detail

/// Slots for tail tokens in all layers. It does not know which tokens they hold; it knows which slots were handed out,
/// and gives them zeroed. A copy copies the bytes.
template <class Allocator = std::allocator<std::byte>>
class tail_buffer {
 public:
  /// `room` slots, rounded up to a multiple of 16, zero. Writing the zeroes touches the pages, so that no request pays
  /// for it later. Room that no machine has is a std::bad_alloc.
  tail_buffer(const kv_shape& shape, std::size_t room, const Allocator& allocator)
      : shape_(shape), slots_(slots_for(room)), memory_(bytes_for(shape, slots_), allocator) {
    if (memory_.size() != 0) std::memset(memory_.data(), 0, memory_.size());
  }
  tail_buffer(const tail_buffer& other, const Allocator& allocator)
      : shape_(other.shape_), slots_(other.slots_), dirty_(other.dirty_), memory_(other.memory_.size(), allocator) {
    if (memory_.size() != 0) std::memcpy(memory_.data(), other.memory_.data(), memory_.size());
  }
  tail_buffer(tail_buffer&& other) noexcept
      : shape_(other.shape_),
        slots_(std::exchange(other.slots_, 0)),
        dirty_(std::exchange(other.dirty_, 0)),
        memory_(std::move(other.memory_)) {}
  /// Requires equal allocators.
  tail_buffer& operator=(tail_buffer&& other) noexcept {
    shape_ = other.shape_;
    slots_ = std::exchange(other.slots_, 0);
    dirty_ = std::exchange(other.dirty_, 0);
    memory_ = std::move(other.memory_);
    return *this;
  }
  ~tail_buffer() = default;

  [[nodiscard]] std::size_t slots() const noexcept { return slots_; }
  [[nodiscard]] Allocator get_allocator() const noexcept { return memory_.get_allocator(); }
  [[nodiscard]] std::byte* layer(std::size_t l) noexcept {
    BLOCKATTN_EXPECTS(l < shape_.layers);
    return memory_.data() + l * shape_.layer_bytes(slots_);
  }
  [[nodiscard]] const std::byte* layer(std::size_t l) const noexcept {
    return const_cast<tail_buffer*>(this)->layer(l);
  }

  /// Hands out slots [slot, slot + n). All slots from `used` (<= slot) on are zero then: what dropped tokens left there
  /// would be masked by a kernel, but a NaN among it would not stay behind the mask.
  void hand_out(std::size_t used, std::size_t slot, std::size_t n) noexcept {
    if (used < dirty_)
      for (std::size_t l = 0; l < shape_.layers; ++l)
        detail::clear_slots(shape_, layer(l), slots_, used, round_up(dirty_, panel_width));
    dirty_ = slot + n;
  }

 private:
  // Sizes that do not fit a size_t become sizes that no allocator has.
  static std::size_t slots_for(std::size_t room) noexcept {
    constexpr std::size_t most = std::numeric_limits<std::size_t>::max() / panel_width * panel_width;
    return room > most ? most : round_up(room, panel_width);
  }
  static std::size_t bytes_for(const kv_shape& shape, std::size_t slots) noexcept {
    constexpr std::size_t most = std::numeric_limits<std::size_t>::max() - alignment;
    const std::size_t tiles = slots / panel_width, tile = shape.payload_bytes(panel_width);
    return tile != 0 && tiles > most / tile ? most : tiles * tile;
  }

  kv_shape shape_;
  std::size_t slots_;
  std::size_t dirty_ = 0;  // slots from here on are zero
  aligned_buffer<Allocator> memory_;
};

}  // namespace blockattn::inline v0
