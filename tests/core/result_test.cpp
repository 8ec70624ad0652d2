// SPDX-License-Identifier: MIT
#include <blockattn/core/result.hpp>
#include <memory>
#include <string>
#include <vector>

#include "../support/catch.hpp"

namespace ba = blockattn;

namespace {
ba::result<int> half(int x) {
  if (x % 2 != 0) return ba::fail(ba::errc::invalid_argument, "half: expected an even number, found ", x);
  return x / 2;
}
ba::result<void> check(bool ok) {
  if (!ok) return ba::fail(ba::errc::io, "no");
  return {};
}
}  // namespace

TEST_CASE("result: holds a value or an error") {
  const auto good = half(4);
  REQUIRE(good.has_value());
  CHECK(static_cast<bool>(good));
  CHECK(*good == 2);
  CHECK(good.value() == 2);
  CHECK(good.value_or(9) == 2);

  const auto bad = half(3);
  REQUIRE_FALSE(bad.has_value());
  CHECK(bad.error().code == ba::errc::invalid_argument);
  CHECK(bad.error().message == "half: expected an even number, found 3");
  CHECK(bad.value_or(9) == 9);
}

TEST_CASE("result: value() on an error throws it") {
  try {
    static_cast<void>(half(5).value());
    FAIL("value() returned");
  } catch (const ba::exception& e) {
    CHECK(e.code() == ba::errc::invalid_argument);
    CHECK(std::string(e.what()) == "half: expected an even number, found 5");
    CHECK(e.error() == half(5).error());
  }
  CHECK_THROWS_AS(check(false).value(), std::exception);
  CHECK_NOTHROW(check(true).value());
}

TEST_CASE("result: moves what cannot be copied") {
  ba::result<std::unique_ptr<int>> r = std::make_unique<int>(7);
  CHECK(**r == 7);
  const std::unique_ptr<int> taken = std::move(r).value();
  CHECK(*taken == 7);
  ba::result<std::unique_ptr<int>> failed = ba::fail(ba::errc::io, "gone");
  const ba::failure f = std::move(failed).error();
  CHECK(f.message == "gone");
}

TEST_CASE("result: converts what the value converts from") {
  const ba::result<std::string> text = "chars";
  CHECK(text->size() == 5);
  const ba::result<std::vector<int>> list = std::vector<int>{1, 2};
  CHECK(list->back() == 2);
  ba::result<std::string> changed = std::string("a");
  *changed += "b";
  CHECK(changed.value() == "ab");
}

TEST_CASE("result: messages are joined from text and numbers") {
  CHECK(ba::fail(ba::errc::io, "a ", std::string("b "), std::string_view("c "), 1, " ", std::size_t{2}).message ==
        "a b c 1 2");
}

TEST_CASE("result: every code has a name of its own") {
  using enum ba::errc;
  std::vector<std::string> names;
  for (const ba::errc code : {io, bad_format, unsupported, shape_mismatch, invalid_argument, out_of_memory, store_full,
                              context_full, cancelled})
    names.emplace_back(ba::to_string(code));
  CHECK(names.front() == "io");
  for (std::size_t i = 0; i < names.size(); ++i)
    for (std::size_t k = 0; k < i; ++k) CHECK(names[i] != names[k]);
}
