// SPDX-License-Identifier: MIT
/// Where the memory of blocks comes from.
#pragma once

#include <concepts>
#include <cstddef>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

#include "../core/config.hpp"
#include "../core/memory.hpp"
#include "../core/result.hpp"

namespace blockattn::inline v0 {

namespace detail {
// Calls `body`, which returns a result; a std::bad_alloc out of it becomes an error. Without exceptions nothing can be
// caught: whatever the allocator does then, it does.
template <class Body>
auto out_of_memory_as_error([[maybe_unused]] const char* thing, Body&& body) -> decltype(body()) {
#if BLOCKATTN_EXCEPTIONS
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return fail(errc::out_of_memory, thing, ": the allocator has no more memory");
  }
#else
  return body();
#endif
}

// The owner is not the buffer itself: an allocator that passes itself on (pmr) would add an argument to its
// constructor.
template <class Allocator>
struct buffer_owner {
  buffer_owner(std::size_t bytes, const Allocator& allocator) : buffer(bytes, allocator) {}
  aligned_buffer<Allocator> buffer;
};

// Shared bytes on a 64-byte boundary, not initialised; the reference count comes from the allocator too.
template <class Allocator>
[[nodiscard]] std::shared_ptr<std::byte> shared_bytes(std::size_t bytes, const Allocator& allocator) {
  auto owner = std::allocate_shared<buffer_owner<Allocator>>(allocator, bytes, allocator);
  std::byte* const data = owner->buffer.data();
  return {std::move(owner), data};
}
}  // namespace detail

/// What a store asks of its storage.
/// - `allocate(bytes)`: memory on a 64-byte boundary, not initialised, freed with its last owner, which may outlive the
///   storage. Called from several threads at once. Errors: `out_of_memory`.
/// - `get_allocator()`: a std-style allocator for what the store keeps besides.
template <class S>
concept storage = requires(S& s, const S& c, std::size_t bytes) {
  { s.allocate(bytes) } -> std::same_as<result<std::shared_ptr<std::byte>>>;
  typename S::allocator_type;
  { c.get_allocator() } -> std::same_as<typename S::allocator_type>;
};

/// Blocks on the heap, from the caller's allocator. The allocator, and a memory resource behind it, must be
/// thread-safe and must outlive every handle.
template <class Allocator = std::allocator<std::byte>>
class heap_storage {
 public:
  using allocator_type = Allocator;

  heap_storage() requires std::is_default_constructible_v<Allocator>
  = default;
  explicit heap_storage(const Allocator& allocator) noexcept : allocator_(allocator) {}

  [[nodiscard]] result<std::shared_ptr<std::byte>> allocate(std::size_t bytes) {
    return detail::out_of_memory_as_error("heap storage", [&]() -> result<std::shared_ptr<std::byte>> {
      return detail::shared_bytes(bytes, allocator_);
    });
  }
  [[nodiscard]] Allocator get_allocator() const noexcept { return allocator_; }

 private:
  [[no_unique_address]] Allocator allocator_{};
};

/// A borrowed storage of any type: where a request wants blocks that its store has no room for.
class storage_ref {
 public:
  template <class S>
    requires(!std::is_same_v<std::remove_cvref_t<S>, storage_ref> && storage<S>)
  storage_ref(S& s) noexcept
      : object_(static_cast<void*>(std::addressof(s))),
        allocate_([](void* object, std::size_t bytes) { return static_cast<S*>(object)->allocate(bytes); }) {}

  [[nodiscard]] result<std::shared_ptr<std::byte>> allocate(std::size_t bytes) const {
    return allocate_(object_, bytes);
  }

 private:
  void* object_;
  result<std::shared_ptr<std::byte>> (*allocate_)(void*, std::size_t);
};

}  // namespace blockattn::inline v0
