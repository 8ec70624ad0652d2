// SPDX-License-Identifier: MIT
// Runs under the thread sanitizer: everything here is about who may touch what, when.
#include <atomic>
#include <blockattn/core/thread_executor.hpp>
#include <thread>
#include <vector>

#include "../support/catch.hpp"
#ifdef _OPENMP
#include <blockattn/core/omp_executor.hpp>
#endif

namespace ba = blockattn;
using namespace std::chrono_literals;

namespace {

// Plain, unsynchronised counters: a task that ran twice or a worker used twice at once is a race and a wrong sum.
template <class Executor>
void check_regions(Executor& e, std::size_t regions) {
  for (std::size_t region = 0; region < regions; ++region) {
    const std::size_t n = region % 37;
    std::vector<int> ran(n, 0);
    std::vector<std::size_t> per_worker(e.concurrency(), 0);
    auto task = [&](std::size_t worker, std::size_t i) {
      ++ran[i];
      ++per_worker[worker];
    };
    e.for_each(n, task);
    std::size_t sum = 0;
    for (const std::size_t count : per_worker) sum += count;
    REQUIRE(sum == n);
    REQUIRE(ran == std::vector<int>(n, 1));
  }
}

}  // namespace

TEST_CASE("thread_executor: runs each task once, however many workers and however long they spin") {
  for (const std::size_t workers : {0u, 1u, 2u, 5u}) {
    for (const std::chrono::nanoseconds spin : {0ns, 20'000ns}) {
      ba::thread_executor e(workers, spin);
      CHECK(e.concurrency() == (workers == 0 ? 1 : workers));
      check_regions(e, 500);
    }
  }
}

TEST_CASE("thread_executor: wakes threads that have gone to sleep") {
  ba::thread_executor e(3, 0ns);
  for (int round = 0; round < 20; ++round) {
    std::this_thread::sleep_for(1ms);
    // Each task waits for all the others, so a region ends only if every worker has come.
    std::atomic<int> here{0};
    auto task = [&](std::size_t, std::size_t) {
      here.fetch_add(1);
      while (here.load() < 3) std::this_thread::yield();
    };
    e.for_each(3, task);
    CHECK(here.load() == 3);
  }
}

TEST_CASE("thread_executor: regions of two threads do not mix") {
  ba::thread_executor e(3);
  std::atomic<bool> inside{false};
  std::atomic<int> overlaps{0};
  std::atomic<std::size_t> total{0};
  const auto caller = [&] {
    for (int region = 0; region < 200; ++region) {
      std::vector<std::size_t> per_worker(e.concurrency(), 0);
      auto task = [&](std::size_t worker, std::size_t i) {
        if (i == 0 && inside.exchange(true)) overlaps.fetch_add(1);
        ++per_worker[worker];
        if (i == 0) inside.store(false);
      };
      e.for_each(8, task);
      std::size_t sum = 0;
      for (const std::size_t count : per_worker) sum += count;
      total.fetch_add(sum);
    }
  };
  std::thread other(caller);
  caller();
  other.join();
  CHECK(total.load() == 2u * 200u * 8u);
  CHECK(overlaps.load() == 0);
}

TEST_CASE("thread_executor: a task may start a region of its own") {
  ba::thread_executor e(3);
  std::vector<std::size_t> sums(6, 0);
  auto outer = [&](std::size_t worker, std::size_t i) {
    auto inner = [&](std::size_t inner_worker, std::size_t k) {
      // Inner tasks stay on the worker that asked, so this needs no lock.
      sums[i] += inner_worker == worker ? k + 1 : 1000;
    };
    e.for_each(4, inner);
  };
  e.for_each(6, outer);
  CHECK(sums == std::vector<std::size_t>(6, 10));
  auto lonely = [&](std::size_t, std::size_t) { e.for_each(4, outer); };
  e.for_each(1, lonely);
  CHECK(sums == std::vector<std::size_t>{20, 20, 20, 20, 10, 10});
}

TEST_CASE("thread_executor: what tasks wrote is seen after the region") {
  ba::thread_executor e(4);
  std::vector<double> data(1000, 1.0);
  for (int region = 0; region < 50; ++region) {
    auto task = [&](std::size_t, std::size_t i) { data[i] += data[i]; };
    e.for_each(data.size(), task);
    double sum = 0;
    for (double& x : data) {
      sum += x;
      x = 1;
    }
    CHECK(sum == 2000);
  }
}

TEST_CASE("thread_executor: moves with its threads") {
  ba::thread_executor a(3);
  ba::thread_executor b = std::move(a);
  check_regions(b, 50);
  b = ba::thread_executor(2);
  CHECK(b.concurrency() == 2);
  check_regions(b, 50);
}

#ifdef _OPENMP
TEST_CASE("omp_executor: runs each task once with exactly the workers it was given") {
  for (const std::size_t workers : {0u, 1u, 2u, 5u}) {
    ba::omp_executor e(workers);
    CHECK(e.concurrency() == (workers == 0 ? 1 : workers));
    check_regions(e, 100);
  }
  CHECK(ba::omp_executor().concurrency() >= 1);
}
#endif
