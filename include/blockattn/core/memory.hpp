// SPDX-License-Identifier: MIT
/// Aligned memory from any std-style allocator: an owning buffer, and the arena that gives a session its scratch.
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "config.hpp"
#include "pages.hpp"

namespace blockattn::inline v0 {

/// A cache line: what a payload allocator hands out, so that rebinding keeps the alignment.
struct alignas(alignment) cache_line {
  std::byte bytes[alignment];
};

/// Bytes on a 64-byte boundary, from `Allocator` rebound to `cache_line`. The bytes are not initialised. Large buffers of
/// std::allocator ask for large pages (core/pages.hpp) and begin on one: reading them from end to end is an eighth to a third
/// faster than from elsewhere (docs/performance.md). For that they allocate one more, which is never touched.
///
/// Allocation failure is the allocator's to report (`std::bad_alloc`). Move only; moving keeps the address unless the
/// allocator does not propagate and differs, in which case the move is a copy, as in std containers.
/// There is no `allocator_type` on purpose: a container whose allocator passes itself on (pmr) would add an argument.
template <class Allocator = std::allocator<std::byte>>
class aligned_buffer {
  using line_allocator = typename std::allocator_traits<Allocator>::template rebind_alloc<cache_line>;
  using traits = std::allocator_traits<line_allocator>;

 public:
  aligned_buffer() noexcept(noexcept(Allocator()))
    requires std::is_default_constructible_v<Allocator>
      : allocator_(Allocator()) {}
  explicit aligned_buffer(const Allocator& allocator) noexcept : allocator_(allocator) {}
  explicit aligned_buffer(std::size_t bytes, const Allocator& allocator = Allocator())
      : allocator_(allocator), lines_(ceil_div(bytes, alignment)), size_(bytes) {
    if constexpr (asks_for_large_pages<Allocator> && large_page != 0) {
      if (wants_large_pages(bytes)) {
        lines_ += large_page / alignment;
        data_ = traits::allocate(allocator_, lines_);
        const auto begin = reinterpret_cast<std::uintptr_t>(data());
        skipped_ = (round_up(begin, large_page) - begin) / alignment;
        ask_for_large_pages(data(), size_);
        return;
      }
    }
    if (lines_ != 0) data_ = traits::allocate(allocator_, lines_);
  }
  aligned_buffer(aligned_buffer&& other) noexcept
      : allocator_(other.allocator_),
        data_(std::exchange(other.data_, pointer{})),
        lines_(std::exchange(other.lines_, 0)),
        skipped_(std::exchange(other.skipped_, 0)),
        size_(std::exchange(other.size_, 0)) {}
  aligned_buffer& operator=(aligned_buffer&& other) noexcept(traits::propagate_on_container_move_assignment::value ||
                                                             traits::is_always_equal::value) {
    if (this == &other) return *this;
    if constexpr (traits::propagate_on_container_move_assignment::value) {
      release();
      allocator_ = other.allocator_;
      take(other);
    } else if (allocator_ == other.allocator_) {
      release();
      take(other);
    } else {
      aligned_buffer copy(other.size(), get_allocator());
      if (other.size() != 0) std::memcpy(copy.data(), other.data(), other.size());
      release();
      take(copy);
    }
    return *this;
  }
  ~aligned_buffer() { release(); }

  [[nodiscard]] std::byte* data() noexcept { return data_ ? std::to_address(data_)[skipped_].bytes : nullptr; }
  [[nodiscard]] const std::byte* data() const noexcept { return data_ ? std::to_address(data_)[skipped_].bytes : nullptr; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] std::size_t capacity() const noexcept { return (lines_ - skipped_) * alignment; }
  [[nodiscard]] Allocator get_allocator() const noexcept { return Allocator(allocator_); }
  [[nodiscard]] std::span<std::byte> bytes() noexcept { return {data(), size_}; }
  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return {data(), size_}; }
  /// The buffer as an array of T. T must be an implicit-lifetime type.
  template <class T>
  [[nodiscard]] T* as() noexcept {
    static_assert(std::is_trivially_copyable_v<T>);
    return reinterpret_cast<T*>(data());
  }
  template <class T>
  [[nodiscard]] const T* as() const noexcept {
    static_assert(std::is_trivially_copyable_v<T>);
    return reinterpret_cast<const T*>(data());
  }

 private:
  using pointer = typename traits::pointer;

  void take(aligned_buffer& other) noexcept {
    data_ = std::exchange(other.data_, pointer{});
    lines_ = std::exchange(other.lines_, 0);
    skipped_ = std::exchange(other.skipped_, 0);
    size_ = std::exchange(other.size_, 0);
  }
  void release() noexcept {
    if (data_) traits::deallocate(allocator_, data_, lines_);
    data_ = pointer{};
    lines_ = skipped_ = size_ = 0;
  }

  [[no_unique_address]] line_allocator allocator_;
  pointer data_{};
  std::size_t lines_ = 0;
  std::size_t skipped_ = 0;  // lines before the first byte
  std::size_t size_ = 0;
};

/// Scratch memory that is handed out in order and taken back all at once.
///
/// `reset()` merges what the last round needed into one buffer, so that a round of the same size allocates nothing:
/// this is how a session stays silent after warm-up. Not thread-safe; one per session.
template <class Allocator = std::allocator<std::byte>>
class arena {
 public:
  explicit arena(const Allocator& allocator = Allocator()) : allocator_(allocator), chunks_(allocator) {}

  /// `n` objects of T on a 64-byte boundary, not initialised. Complexity: constant, but for growth.
  template <class T>
  [[nodiscard]] std::span<T> take(std::size_t n) {
    static_assert(std::is_trivially_copyable_v<T> && alignof(T) <= alignment);
    const std::size_t bytes = round_up(n * sizeof(T), alignment);
    if (bytes == 0) return {};
    if (chunks_.empty() || chunks_.back().size() - used_ < bytes) {
      chunks_.emplace_back(std::max(bytes, chunks_.empty() ? std::size_t{0} : 2 * chunks_.back().size()), allocator_);
      used_ = 0;
    }
    std::byte* at = chunks_.back().data() + used_;
    used_ += bytes;
    total_ += bytes;
    peak_ = std::max(peak_, total_);
    return {reinterpret_cast<T*>(at), n};
  }

  /// Takes everything back. Pointers handed out before become invalid.
  void reset() {
    if (chunks_.size() > 1) {
      chunks_.clear();
      chunks_.emplace_back(peak_, allocator_);
    }
    used_ = total_ = 0;
  }

  /// Makes sure that a round of `bytes` allocates nothing. Call between rounds.
  void reserve(std::size_t bytes) {
    peak_ = std::max(peak_, round_up(bytes, alignment));
    if (chunks_.size() != 1 || chunks_.back().size() < peak_) {
      chunks_.clear();
      chunks_.emplace_back(peak_, allocator_);
    }
    used_ = total_ = 0;
  }

  [[nodiscard]] std::size_t peak_bytes() const noexcept { return peak_; }
  [[nodiscard]] std::size_t capacity_bytes() const noexcept {
    std::size_t sum = 0;
    for (const auto& chunk : chunks_) sum += chunk.size();
    return sum;
  }

 private:
  using buffer = aligned_buffer<Allocator>;
  using buffer_allocator = typename std::allocator_traits<Allocator>::template rebind_alloc<buffer>;

  Allocator allocator_;
  std::vector<buffer, buffer_allocator> chunks_;
  std::size_t used_ = 0;   // bytes of the last chunk that are handed out
  std::size_t total_ = 0;  // bytes handed out since reset
  std::size_t peak_ = 0;   // the most ever handed out in one round
};

}  // namespace blockattn::inline v0
