// SPDX-License-Identifier: MIT
/// Rows of the tables in docs/: what a test measured on the way, printed where BLOCKATTN_TEST_REPORT is set.
#pragma once

#include <cstdlib>
#include <iomanip>
#include <iostream>

namespace blockattn_test {

/// One row: a model, the form it was read from, what it was compared with, and the largest difference of a logit.
inline void report_difference(const std::string& model, const std::string& form, const char* against, double difference) {
  if (std::getenv("BLOCKATTN_TEST_REPORT") == nullptr) return;
  std::cout << "| " << model << " | " << form << " | " << against << " | " << std::scientific << std::setprecision(1)
            << difference << std::defaultfloat << " |" << std::endl;
}

}  // namespace blockattn_test
