// SPDX-License-Identifier: MIT
#include <blockattn/core/memory.hpp>
#include <cstdint>
#include <memory_resource>
#include <type_traits>

#include "../support/catch.hpp"
#include "../support/counting_allocator.hpp"

namespace ba = blockattn;
using blockattn_test::allocation_counter;
using blockattn_test::counting_allocator;
using counted_buffer = ba::aligned_buffer<counting_allocator<std::byte>>;
using counted_arena = ba::arena<counting_allocator<std::byte>>;

namespace {
bool aligned(const void* p) { return reinterpret_cast<std::uintptr_t>(p) % ba::alignment == 0; }
}  // namespace

TEST_CASE("aligned_buffer: is aligned for any size and any allocator") {
  for (const std::size_t bytes : {1u, 63u, 64u, 65u, 1000u}) {
    ba::aligned_buffer<> plain(bytes);
    CHECK(aligned(plain.data()));
    CHECK(plain.size() == bytes);
    CHECK(plain.capacity() >= bytes);
    CHECK(plain.capacity() % ba::alignment == 0);
    CHECK(plain.bytes().size() == bytes);

    // A memory resource gets the alignment by argument, not by luck.
    std::byte memory[4096];
    std::pmr::monotonic_buffer_resource resource(memory + 1, sizeof(memory) - 1, std::pmr::null_memory_resource());
    using allocator = std::pmr::polymorphic_allocator<std::byte>;
    const ba::aligned_buffer<allocator> pmr(bytes, allocator(&resource));
    CHECK(aligned(pmr.data()));
  }
  const ba::aligned_buffer<> none;
  CHECK(none.data() == nullptr);
  CHECK(none.bytes().empty());
}

TEST_CASE("aligned_buffer: lives in a container whose allocator passes itself on") {
  using bytes = std::pmr::polymorphic_allocator<std::byte>;
  std::pmr::monotonic_buffer_resource resource;
  ba::arena<bytes> scratch{bytes(&resource)};
  for (int round = 0; round < 2; ++round) {
    scratch.reset();
    CHECK(scratch.take<float>(100).size() == 100);
    CHECK(scratch.take<float>(1000).size() == 1000);
  }
  std::pmr::vector<ba::aligned_buffer<bytes>> buffers(&resource);
  for (std::size_t n = 1; n < 10; ++n) buffers.emplace_back(n, bytes(&resource));
  CHECK(buffers.back().size() == 9);
}

TEST_CASE("aligned_buffer: owns exactly one allocation, through moves") {
  allocation_counter counter;
  const counting_allocator<std::byte> allocator(counter);
  {
    counted_buffer a(100, allocator);
    CHECK(counter.live() == 1);
    const std::byte* at = a.data();
    counted_buffer b(std::move(a));
    CHECK(b.data() == at);
    CHECK(b.size() == 100);
    CHECK(a.data() == nullptr);
    counted_buffer c(50, allocator);
    c = std::move(b);
    CHECK(c.data() == at);
    CHECK(counter.live() == 1);
    counted_buffer& self = c;
    c = std::move(self);
    CHECK(c.data() == at);
    const counted_buffer empty(0, allocator);
    CHECK(counter.live() == 1);
  }
  CHECK(counter.live() == 0);
  CHECK(counter.live_bytes == 0);
  CHECK_FALSE(std::is_copy_constructible_v<counted_buffer>);
}

TEST_CASE("aligned_buffer: moving between allocators that differ copies the bytes") {
  allocation_counter first, second;
  counted_buffer a(3, counting_allocator<std::byte>(first));
  counted_buffer b(1, counting_allocator<std::byte>(second));
  a.data()[2] = std::byte{42};
  b = std::move(a);
  CHECK(b.size() == 3);
  CHECK(b.data()[2] == std::byte{42});
  CHECK(second.live() == 1);
  CHECK(b.get_allocator() == counting_allocator<std::byte>(second));
}

TEST_CASE("aligned_buffer: a failed allocation leaves nothing behind") {
  allocation_counter counter;
  counter.fail_after(0);
  CHECK_THROWS_AS(counted_buffer(10, counting_allocator<std::byte>(counter)), std::bad_alloc);
  CHECK(counter.live() == 0);
}

TEST_CASE("arena: hands out aligned, disjoint spans") {
  ba::arena<> arena;
  const auto a = arena.take<float>(3);
  const auto b = arena.take<std::uint8_t>(65);
  const auto c = arena.take<double>(1000);
  CHECK(aligned(a.data()));
  CHECK(aligned(b.data()));
  CHECK(aligned(c.data()));
  CHECK(arena.take<int>(0).empty());
  for (float& x : a) x = 1;
  for (std::uint8_t& x : b) x = 2;
  for (double& x : c) x = 3;
  CHECK(a[2] == 1);
  CHECK(b[64] == 2);
  CHECK(arena.peak_bytes() == 64 + 128 + 8000);
}

TEST_CASE("arena: the second round of the same size allocates nothing") {
  allocation_counter counter;
  counted_arena arena{counting_allocator<std::byte>(counter)};
  const auto round = [&] {
    for (const std::size_t n : {10u, 5000u, 20u, 70000u})
      for (float& x : arena.take<float>(n)) x = 0;
    arena.reset();
  };
  round();
  const std::size_t warm = counter.allocations;
  CHECK(warm > 0);
  for (int i = 0; i < 5; ++i) round();
  CHECK(counter.allocations == warm);
  CHECK(arena.capacity_bytes() >= arena.peak_bytes());
}

TEST_CASE("arena: reserve does the warm-up") {
  allocation_counter counter;
  counted_arena arena{counting_allocator<std::byte>(counter)};
  arena.reserve(1000);
  const std::size_t warm = counter.allocations;
  static_cast<void>(arena.take<std::byte>(500));
  static_cast<void>(arena.take<std::byte>(400));
  CHECK(counter.allocations == warm);
  arena.reset();
  arena.reserve(100);  // never shrinks
  static_cast<void>(arena.take<std::byte>(1000));
  CHECK(counter.allocations == warm);
}

TEST_CASE("config: rounding helpers") {
  CHECK(ba::round_up(0, 64) == 0);
  CHECK(ba::round_up(1, 64) == 64);
  CHECK(ba::round_up(64, 64) == 64);
  CHECK(ba::ceil_div(65, 64) == 2);
  using namespace ba::literals;
  CHECK(3_KiB == 3072);
  CHECK(2_MiB == 2097152);
  CHECK(1_GiB == 1073741824);
}

TEST_CASE("large buffers keep their contents whatever pages they lie on, small ones ask for none", "[memory]") {
  STATIC_REQUIRE(ba::asks_for_large_pages<std::allocator<std::byte>>);
  STATIC_REQUIRE(!ba::asks_for_large_pages<std::pmr::polymorphic_allocator<std::byte>>);
  for (const std::size_t bytes : {std::size_t{1}, (std::size_t{4} << 20) - 64, (std::size_t{9} << 20) + 64}) {
    ba::aligned_buffer<> buffer(bytes);
    for (std::size_t i = 0; i < bytes; i += 4096) buffer.data()[i] = static_cast<std::byte>(i / 4096 % 251);
    ba::ask_for_large_pages(buffer.data(), buffer.size());  // again, on touched memory
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < bytes; i += 4096) wrong += buffer.data()[i] != static_cast<std::byte>(i / 4096 % 251);
    CHECK(wrong == 0);

    // A large one begins on a large page, and moves with its contents.
    if (ba::wants_large_pages(bytes)) CHECK(reinterpret_cast<std::uintptr_t>(buffer.data()) % ba::large_page == 0);
    CHECK(buffer.capacity() >= bytes);
    const std::byte* const at = buffer.data();
    ba::aligned_buffer<> moved(std::move(buffer));
    CHECK(moved.data() == at);
    buffer = ba::aligned_buffer<>(100);
    buffer = std::move(moved);
    CHECK(buffer.data() == at);
    CHECK(moved.data() == nullptr);
  }
  CHECK_FALSE(ba::wants_large_pages(std::size_t{2} << 20));
}
