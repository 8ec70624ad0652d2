// SPDX-License-Identifier: MIT
#include "blockattn/model/sampler.hpp"

#include <array>
#include <limits>
#include <map>

#include "../support/catch.hpp"

namespace ba = blockattn;

namespace {

ba::sampler make(ba::sampler_options options) { return ba::sampler::make(std::move(options)).value(); }

// How often each id is drawn from the same logits.
std::map<ba::token, int> draw(ba::sampler_options options, std::vector<float> logits, int n,
                              std::vector<ba::token> history = {}) {
  auto sample = make(std::move(options));
  std::map<ba::token, int> counts;
  for (int i = 0; i < n; ++i) {
    auto copy = logits;
    ++counts[sample(copy, history)];
  }
  return counts;
}

}  // namespace

TEST_CASE("greedy takes the best, the lowest id among equals", "[sampler]") {
  std::array<float, 5> logits{1, 3, 2, 3, -1};
  CHECK(ba::greedy{}(logits) == 1);
  auto sample = make({});
  CHECK(sample(logits, {}) == 1);
}

TEST_CASE("frequencies follow the softmax at the temperature", "[sampler]") {
  const std::vector<float> logits{std::log(1.0f), std::log(2.0f), std::log(5.0f)};
  const auto counts = draw({.temperature = 1.0f, .seed = 3}, logits, 40000);
  CHECK(counts.at(0) == Approx(5000).epsilon(0.06));
  CHECK(counts.at(1) == Approx(10000).epsilon(0.05));
  CHECK(counts.at(2) == Approx(25000).epsilon(0.03));
  // At temperature 1/2 the odds are squared: 1 : 4 : 25.
  const auto sharp = draw({.temperature = 0.5f, .seed = 4}, logits, 30000);
  CHECK(sharp.at(1) == Approx(4000).epsilon(0.08));
  CHECK(sharp.at(2) == Approx(25000).epsilon(0.03));
}

TEST_CASE("top_k, top_p and min_p keep what they promise", "[sampler]") {
  const std::vector<float> logits{std::log(0.4f), std::log(0.3f), std::log(0.2f), std::log(0.1f)};
  const auto ids = [](const std::map<ba::token, int>& counts) {
    std::vector<ba::token> out;
    for (const auto& [id, n] : counts) out.push_back(id);
    return out;
  };
  using list = std::vector<ba::token>;
  CHECK(ids(draw({.temperature = 1, .top_k = 2}, logits, 2000)) == list{0, 1});
  CHECK(ids(draw({.temperature = 1, .top_k = 100}, logits, 2000)) == list{0, 1, 2, 3});
  CHECK(ids(draw({.temperature = 1, .top_p = 0.65f}, logits, 2000)) == list{0, 1});
  CHECK(ids(draw({.temperature = 1, .top_p = 0.01f}, logits, 200)) == list{0});
  CHECK(ids(draw({.temperature = 1, .min_p = 0.45f}, logits, 2000)) == list{0, 1, 2});
  CHECK(ids(draw({.temperature = 1, .min_p = 1.0f}, logits, 200)) == list{0});
}

TEST_CASE("the same seed draws the same tokens, another seed others", "[sampler]") {
  const std::vector<float> logits(50, 0.0f);
  const auto sequence = [&](std::uint64_t seed) {
    auto sample = make({.temperature = 1, .seed = seed});
    std::vector<ba::token> out;
    for (int i = 0; i < 20; ++i) {
      auto copy = logits;
      out.push_back(sample(copy, {}));
    }
    return out;
  };
  CHECK(sequence(1) == sequence(1));
  CHECK(sequence(1) != sequence(2));
}

TEST_CASE("repetition penalty divides positive and multiplies negative logits of recent ids", "[sampler]") {
  std::vector<float> logits{2.0f, 1.5f, -1.0f};
  auto sample = make({.repetition_penalty = 2.0f, .repetition_window = 2});
  const std::vector<ba::token> history{1, 0, 2, 0, -5, 99};  // the window holds -5 and 99: ids of no logit
  CHECK(sample(logits, history) == 0);
  CHECK(logits == std::vector<float>{2.0f, 1.5f, -1.0f});
  const std::vector<ba::token> recent{0, 2, 0, 2};
  CHECK(sample(logits, recent) == 1);
  CHECK(logits == std::vector<float>{1.0f, 1.5f, -2.0f});
}

TEST_CASE("the hook sees the raw logits and may ban", "[sampler]") {
  std::vector<float> logits{2.0f, 1.0f};
  auto sample = make({.hook = [](std::span<float> raw) { raw[0] = std::numeric_limits<float>::lowest(); }});
  CHECK(sample(logits, {}) == 1);
}

TEST_CASE("NaN is never drawn while something else is there", "[sampler]") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const auto counts = draw({.temperature = 1, .top_k = 3}, {nan, 0.0f, nan, 0.0f, nan}, 500);
  CHECK(counts.count(1) + counts.count(3) == 2);
  CHECK(counts.size() == 2);
}

TEST_CASE("settings out of range are typed errors that name the setting", "[sampler]") {
  const auto message = [](ba::sampler_options options) { return ba::sampler::make(std::move(options)).error().message; };
  const float nan = std::numeric_limits<float>::quiet_NaN();
  CHECK(message({.temperature = -1}).find("temperature") != std::string::npos);
  CHECK(message({.temperature = nan}).find("temperature") != std::string::npos);
  CHECK(message({.top_p = 0}).find("top_p") != std::string::npos);
  CHECK(message({.min_p = 1.5f}).find("min_p") != std::string::npos);
  CHECK(message({.repetition_penalty = 0}).find("repetition_penalty") != std::string::npos);
}
