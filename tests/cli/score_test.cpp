// SPDX-License-Identifier: MIT
// Likelihoods (PAPER 2.2).
#include "score.hpp"

#include <cmath>

#include "program.hpp"

TEST_CASE("score: the likelihood of a token") {
  const std::vector<float> equal(8, 3.0f);
  CHECK(cli::negative_log_likelihood(equal, 5) == Approx(std::log(8.0)));
  // Sizes where a naive sum of exponentials overflows.
  const std::vector<float> large{1000.0f, 999.0f, -1000.0f};
  CHECK(cli::negative_log_likelihood(large, 0) == Approx(std::log1p(std::exp(-1.0))));
  CHECK(cli::negative_log_likelihood(large, 2) == Approx(2000 + std::log1p(std::exp(-1.0))));
}

