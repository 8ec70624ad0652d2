// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <blockattn/reference/matrix.hpp>
#include <cstddef>

namespace blockattn_test {

/// `count` rows of a matrix, from `first` on.
inline blockattn::reference::matrix rows_of(const blockattn::reference::matrix& m, std::size_t first,
                                            std::size_t count) {
  blockattn::reference::matrix out(count, m.cols());
  for (std::size_t i = 0; i < count; ++i)
    std::copy(m.row(first + i).begin(), m.row(first + i).end(), out.row(i).begin());
  return out;
}

}  // namespace blockattn_test
