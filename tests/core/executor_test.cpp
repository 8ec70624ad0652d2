// SPDX-License-Identifier: MIT
#include <blockattn/core/executor.hpp>
#include <vector>

#include "../support/catch.hpp"

namespace ba = blockattn;

namespace {
struct backwards_executor {  // a user's own: legal, since order is never promised
  std::size_t concurrency() const noexcept { return 3; }
  void for_each(std::size_t n, ba::task_ref task) const {
    for (std::size_t i = n; i-- > 0;) task(i % 3, i);
  }
};
struct no_executor {
  void for_each(std::size_t, ba::task_ref) const {}
};
static_assert(ba::executor<ba::inline_executor>);
static_assert(ba::executor<backwards_executor>);
static_assert(ba::executor<ba::executor_ref>);
static_assert(!ba::executor<no_executor>);
}  // namespace

TEST_CASE("executor: inline_executor runs every task once, in order, as worker 0") {
  const ba::inline_executor e;
  std::vector<std::size_t> seen;
  auto task = [&](std::size_t worker, std::size_t i) {
    CHECK(worker == 0);
    seen.push_back(i);
  };
  e.for_each(4, task);
  CHECK(seen == std::vector<std::size_t>{0, 1, 2, 3});
  e.for_each(0, task);
  CHECK(seen.size() == 4);
}

TEST_CASE("executor: executor_ref forwards to the executor it borrows") {
  backwards_executor own;
  const ba::executor_ref e(own);
  CHECK(e.concurrency() == 3);
  std::vector<std::size_t> seen;
  e.for_each(3, [&](std::size_t worker, std::size_t i) {
    CHECK(worker == i % 3);
    seen.push_back(i);
  });
  CHECK(seen == std::vector<std::size_t>{2, 1, 0});
}

TEST_CASE("executor: one task stays with the caller, none calls nobody") {
  struct refuses {
    std::size_t calls = 0;
    std::size_t concurrency() const noexcept { return 8; }
    void for_each(std::size_t, ba::task_ref) { ++calls; }
  } own;
  const ba::executor_ref e(own);
  std::size_t ran = 0;
  e.for_each(1, [&](std::size_t worker, std::size_t i) {
    CHECK(worker == 0);
    CHECK(i == 0);
    ++ran;
  });
  e.for_each(0, [&](std::size_t, std::size_t) { ++ran; });
  CHECK(ran == 1);
  CHECK(own.calls == 0);
  e.for_each(2, [&](std::size_t, std::size_t) { ++ran; });
  CHECK(own.calls == 1);
}
