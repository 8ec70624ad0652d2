// SPDX-License-Identifier: MIT
// A program like any other: a little of each part, with a plain main, with and without exceptions.
#include <blockattn/blockattn.hpp>
#include <blockattn/fwd.hpp>
#include <cmath>
#include <cstdio>

#ifdef HAS_openmp
#include <blockattn/core/omp_executor.hpp>
#endif
#ifdef HAS_io
#include <blockattn/io/gguf.hpp>
#endif
#ifdef HAS_store
#include <blockattn/cache/directory_storage.hpp>
#endif
#ifdef HAS_redis
#include <blockattn/cache/redis_storage.hpp>
#endif
#ifdef HAS_text
#include <blockattn/text/tokenizer.hpp>
#endif

namespace ba = blockattn;

namespace {

int failures = 0;
void check(bool ok, const char* what) {
  if (ok) return;
  std::fprintf(stderr, "wrong: %s\n", what);
  ++failures;
}

template <class Executor>
void count(Executor&& workers) {
  ba::matrix<float> squares(8, 8);
  auto task = [&](std::size_t, std::size_t i) {
    for (std::size_t k = 0; k < 8; ++k) squares(i, k) = static_cast<float>(i * k);
  };
  workers.for_each(8, task);
  check(squares(7, 7) == 49, "an executor");
}

}  // namespace

int main() {
  count(ba::inline_executor());
  count(ba::thread_executor(2));
#ifdef HAS_openmp
  count(ba::omp_executor(2));
#endif

  // 3-4-5: the norm of (3, 4, 3, 4, ...) is sqrt(12.5).
  float x[20], weight[20];
  for (int i = 0; i < 20; ++i) {
    x[i] = i % 2 == 0 ? 3.0f : 4.0f;
    weight[i] = 1;
  }
  ba::native_kernels::rms_norm(x, 20, weight, 0.0f, x);
  check(std::fabs(x[19] - 4 / std::sqrt(12.5f)) < 1e-6f, "a kernel");

  ba::model_config config;
  const auto invalid = ba::validate(config);
  check(!invalid && invalid.error().code == ba::errc::invalid_argument, "a result");
  return failures;
}
