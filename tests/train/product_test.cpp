// SPDX-License-Identifier: MIT
// Products against plain sums in double, at sizes around every step, and the same bits however the rows are split.
#include "support.hpp"

#include "blockattn/core/element.hpp"

namespace ba = blockattn;
using namespace blockattn_test;

namespace {

// As many workers as it says, one after another: tasks of a region run last first.
struct backward_executor {
  [[nodiscard]] std::size_t concurrency() const noexcept { return 3; }
  void for_each(std::size_t n, ba::task_ref task) const {
    for (std::size_t i = n; i-- > 0;) task(i % 3, i);
  }
};

struct problem {
  std::size_t rows, cols, depth;
  bool a_transposed, b_transposed, accumulate;
};

// With products of bf16 the sums are those of the rounded factors.
template <class T>
void check(const problem& p, double bound, ba::product_type type = ba::product_type::f32) {
  INFO(to_string(type) << ": " <<p.rows << " x " << p.cols << " over " << p.depth << ", transposed " << p.a_transposed << p.b_transposed);
  random_numbers random(p.rows * 100 + p.cols);
  const std::size_t c_stride = p.cols + 3;
  std::vector<T> a(p.rows * p.depth + 1), b(p.depth * p.cols + 1), c(p.rows * c_stride + 1);
  for (auto* v : {&a, &b, &c})
    for (T& x : *v) x = static_cast<T>(static_cast<float>(random.symmetric()));
  const std::vector<T> before = c;
  const ba::factor<T> fa{a.data(), p.a_transposed ? p.rows : p.depth, p.a_transposed};
  const ba::factor<T> fb{b.data(), p.b_transposed ? p.depth : p.cols, p.b_transposed};
  ba::growing_array<T> space;
  ba::inline_executor alone;
  backward_executor backward;
  ba::multiply<T>(alone, space, fa, fb, p.rows, p.cols, p.depth, c.data(), c_stride, p.accumulate, type);
  const auto used = [type](T x) {
    if (type == ba::product_type::f32) return static_cast<double>(x);
    return static_cast<double>(ba::widen(ba::to_bf16(static_cast<float>(x))));
  };
  double worst = 0;
  for (std::size_t i = 0; i < p.rows; ++i)
    for (std::size_t j = 0; j < c_stride; ++j) {
      const std::size_t at = i * c_stride + j;
      if (j >= p.cols) {
        CHECK(c[at] == before[at]);
        continue;
      }
      double sum = p.accumulate ? static_cast<double>(before[at]) : 0;
      for (std::size_t k = 0; k < p.depth; ++k)
        sum += used(p.a_transposed ? a[k * p.rows + i] : a[i * p.depth + k]) *
               used(p.b_transposed ? b[j * p.depth + k] : b[k * p.cols + j]);
      worst = std::max(worst, std::abs(sum - static_cast<double>(c[at])));
    }
  CHECK(c.back() == before.back());
  CHECK(worst < bound);

  std::vector<T> again = before;
  ba::multiply<T>(backward, space, fa, fb, p.rows, p.cols, p.depth, again.data(), c_stride, p.accumulate, type);
  CHECK(again == c);
}

}  // namespace

TEST_CASE("train: products are right at every size and order of factors") {
  for (const auto [rows, cols, depth] : {std::array<std::size_t, 3>{1, 1, 1}, {13, 17, 5}, {49, 33, 257}, {12, 32, 256},
                                         {97, 48, 31}, {5, 70, 300}, {3, 2, 0}})
    for (const bool at : {false, true})
      for (const bool bt : {false, true})
        for (const bool add : {false, true}) {
          check<float>({rows, cols, depth, at, bt, add}, 5e-5);
          check<double>({rows, cols, depth, at, bt, add}, 1e-12);
        }
}

TEST_CASE("train: products of bf16 are those of the rounded factors at every size and order of them") {
  for (const auto [rows, cols, depth] :
       {std::array<std::size_t, 3>{1, 1, 1}, {13, 17, 5}, {49, 33, 257}, {12, 32, 256}, {97, 48, 31}, {5, 70, 300},
        {3, 2, 0}, {65, 16, 32}, {150, 100, 600}, {31, 65, 1057}})
    for (const bool at : {false, true})
      for (const bool bt : {false, true})
        for (const bool add : {false, true}) check<float>({rows, cols, depth, at, bt, add}, 1e-4, ba::product_type::bf16);
}

TEST_CASE("train: an element of a product does not depend on the rows beside it") {
  random_numbers random(3);
  constexpr std::size_t rows = 55, cols = 40, depth = 290;
  std::vector<float> a(rows * depth), b(depth * cols), whole(rows * cols), row(cols);
  for (auto* v : {&a, &b})
    for (float& x : *v) x = static_cast<float>(random.symmetric());
  ba::growing_array<float> space;
  ba::inline_executor alone;
  for (const ba::product_type type : {ba::product_type::f32, ba::product_type::bf16}) {
    ba::multiply<float>(alone, space, {a.data(), depth}, {b.data(), cols}, rows, cols, depth, whole.data(), cols, false, type);
    for (std::size_t r = 0; r < rows; ++r) {
      ba::multiply<float>(alone, space, {a.data() + r * depth, depth}, {b.data(), cols}, 1, cols, depth, row.data(), cols,
                          false, type);
      CHECK(std::equal(row.begin(), row.end(), whole.begin() + static_cast<std::ptrdiff_t>(r * cols)));
    }
  }
}
