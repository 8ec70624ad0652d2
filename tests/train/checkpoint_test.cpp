// SPDX-License-Identifier: MIT
// Checkpoints: damaged, foreign and missing files are typed errors, and leave the run as it was.
#include "../support/temporary_folder.hpp"
#include "support.hpp"

namespace ba = blockattn;
using namespace blockattn_test;

namespace {

std::vector<std::byte> checkpoint_of(const ba::parameters<float>& p, std::uint64_t step = 7) {
  return ba::write_checkpoint<float>(p.config(), step, p.all(), p.all(), p.all());
}

}  // namespace

TEST_CASE("train: a checkpoint holds what was written") {
  const auto p = lively_parameters<float>(odd_config());
  const auto bytes = checkpoint_of(p);
  const auto view = ba::read_checkpoint<float>(bytes, p.config(), p.all().size()).value();
  CHECK(view.step == 7);
  for (const auto part : {view.weights, view.first, view.second})
    CHECK((part.size() == p.all().size_bytes() && std::memcmp(part.data(), p.all().data(), part.size()) == 0));
}

TEST_CASE("train: any changed byte and any other length of a checkpoint is refused") {
  const auto p = lively_parameters<float>(odd_config());
  const auto good = checkpoint_of(p);
  const auto code = [&](std::span<const std::byte> bytes) {
    const auto view = ba::read_checkpoint<float>(bytes, p.config(), p.all().size());
    REQUIRE_FALSE(view.has_value());
    CHECK_FALSE(view.error().message.empty());
    return view.error().code;
  };
  random_numbers random(1);
  for (std::size_t i = 0; i < 300; ++i) {
    auto bad = good;
    const std::size_t at = i < 80 ? i : random.below(bad.size());
    bad[at] ^= static_cast<std::byte>(1 + random.below(255));
    (void)code(bad);
  }
  for (const std::size_t n : {std::size_t{0}, std::size_t{63}, std::size_t{79}, std::size_t{80}, good.size() - 1})
    CHECK(code(std::span(good).first(n)) == ba::errc::bad_format);
  auto longer = good;
  longer.push_back(std::byte{0});
  CHECK(code(longer) == ba::errc::bad_format);
  auto newer = good;
  newer[8] = std::byte{2};
  CHECK(code(newer) == ba::errc::unsupported);
}

TEST_CASE("train: a checkpoint of another configuration is refused, and a failed load changes nothing") {
  ba::model_config other = odd_config();
  other.rope.theta = 50000;
  const temporary_folder folder;
  const auto foreign = folder.file("foreign", checkpoint_of(lively_parameters<float>(other)));
  auto torn_bytes = checkpoint_of(lively_parameters<float>(odd_config()));
  torn_bytes.resize(torn_bytes.size() / 2);
  const auto torn = folder.file("torn", torn_bytes);

  ba::inline_executor workers;
  auto run = ba::trainer<>::make(ba::parameters<>::random(odd_config(), 1).value(), {}, workers).value();
  const auto before = run.parameters();
  CHECK(run.load(foreign).error().code == ba::errc::shape_mismatch);
  CHECK(run.load(torn).error().code == ba::errc::bad_format);
  CHECK(run.load(folder / "none").error().code == ba::errc::io);
  CHECK(run.load(torn).error().message.find("torn") != std::string::npos);
  CHECK((std::ranges::equal(before.all(), run.parameters().all()) && run.steps() == 0));
  CHECK(run.save(folder / "no/such/folder").error().code == ba::errc::io);

  auto wide = ba::trainer<double>::make(ba::parameters<double>::random(odd_config(), 1).value(), {}, workers).value();
  const auto narrow = folder.file("narrow", checkpoint_of(lively_parameters<float>(odd_config())));
  CHECK(wide.load(narrow).error().code == ba::errc::shape_mismatch);
}
