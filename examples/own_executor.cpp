// SPDX-License-Identifier: MIT
// Work on threads that your program already has. The library starts none: it cuts work into numbered tasks and hands
// them to an executor, two functions that you write around your pool. Results are the same bits on any of them.
#include <blockattn/blockattn.hpp>
#include <blockattn/model/random_weights.hpp>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <functional>
#include <iostream>
#include <latch>
#include <mutex>
#include <queue>
#include <thread>
#include <vector>

namespace ba = blockattn;

// Stands for the pool of your program: a queue of jobs and some threads.
struct some_pool {
  explicit some_pool(std::size_t n) {
    while (threads.size() < n) threads.emplace_back([this](std::stop_token stop) { work(stop); });
  }
  void submit(std::function<void()> job) {
    const std::lock_guard guard(lock);
    jobs.push(std::move(job));
    wake.notify_one();
  }
  void work(std::stop_token stop) {
    for (std::unique_lock guard(lock); wake.wait(guard, stop, [this] { return !jobs.empty(); }); guard.lock()) {
      const auto job = std::move(jobs.front());
      jobs.pop();
      guard.unlock();
      job();
    }
  }
  std::mutex lock;
  std::condition_variable_any wake;
  std::queue<std::function<void()>> jobs;
  std::vector<std::jthread> threads;  // last: they are asked to stop, and joined, before the rest goes
};

// region: body
// A worker is a number below concurrency() that one thread at a time uses: scratch memory is kept for each. The caller is
// worker 0 and helps. Threads of the pool must not call for_each: they would wait for jobs behind their own.
struct pool_executor {
  some_pool* pool;
  std::size_t concurrency() const noexcept { return pool->threads.size() + 1; }
  void for_each(std::size_t n, ba::task_ref task) const {
    std::atomic<std::size_t> next = 0;
    const auto claim = [&](std::size_t worker) {
      for (std::size_t i = next++; i < n; i = next++) task(worker, i);
    };
    const std::size_t helpers = std::min(pool->threads.size(), n);
    std::latch done{std::ptrdiff_t(helpers)};
    for (std::size_t w = 1; w <= helpers; ++w) pool->submit([&, w] { claim(w), done.count_down(); });
    claim(0);
    done.wait();
  }
};
static_assert(ba::executor<pool_executor>);
// endregion: body

int main() {
  const ba::model_config config{.layers = 2, .dim = 64, .heads = 4, .kv_heads = 2, .head_dim = 16, .ffn = 128,
                                .vocab = 258, .rope = {.rotary_dim = 16}};
  const auto model = ba::llama<>::bind(ba::random_weights(config)).value();
  const std::vector<ba::token> prompt(100, 7);
  some_pool pool(3);
  ba::session with_pool(model, pool_executor{&pool});
  ba::session alone(model);
  ba::context a(with_pool, {.room = 128}), b(alone, {.room = 128});
  with_pool.prefill(a, prompt).value();
  alone.prefill(b, prompt).value();
  const bool same = std::ranges::equal(a.logits(), b.logits());
  std::cout << "4 workers and 1 worker give " << (same ? "the same" : "DIFFERENT") << " logits\n";
  return same ? 0 : 1;
}
