// SPDX-License-Identifier: MIT
// What int8 keys and values cost trained models: logits against those of other engines in f32, and perplexity.
#include <cmath>
#include <filesystem>

#include "../support/data.hpp"
#include "../support/golden.hpp"
#include "blockattn/io/gguf_weights.hpp"
#include "blockattn/model/calibrate.hpp"
#include "support.hpp"

using namespace blockattn_test;

namespace {

// The mean negative log likelihood of ids[1..] under rows of logits.
double nll(const std::vector<float>& rows, const token_ids& ids, std::size_t vocab) {
  double sum = 0;
  for (std::size_t i = 0; i + 1 < ids.size(); ++i) {
    const float* row = rows.data() + i * vocab;
    double most = row[0], total = 0;
    for (std::size_t v = 1; v < vocab; ++v) most = std::max(most, double{row[v]});
    for (std::size_t v = 0; v < vocab; ++v) total += std::exp(row[v] - most);
    sum += most + std::log(total) - row[static_cast<std::size_t>(ids[i + 1])];
  }
  return sum / static_cast<double>(ids.size() - 1);
}

}  // namespace

TEST_CASE("int8 on trained models: logits and perplexity", "[session][golden][int8]") {
  BLOCKATTN_REQUIRE_DATA(folder);
  struct trained {
    const char* name;
    double logits, nats;  // bounds, about twice what was measured
  };
  // Of logits the largest error of all rows: with heads of 8 dims and 16, one code more or less is much of a key. bf16:
  // 0.12 and 0.06. The likelihood of text hardly moves: by 0.003 nats at most, where bf16 moves it by 0.0005.
  for (const trained& t : {trained{"stories260K", 1.6, 0.006}, trained{"babyllama105", 0.35, 0.002}}) {
    const auto source = ba::gguf_weights::open(folder / "models" / (std::string(t.name) + "-f32.gguf")).value();
    const auto model = ba::llama<>::bind(source, {.compute = ba::compute_type::f32}).value();
    const auto fast = ba::llama<>::bind(source).value();  // 16-bit rows
    const std::size_t vocab = model.config().vocab;
    ba::session<> exact(model, {}, {.kv = ba::dtype::f32}), half(model, {}, {.kv = ba::dtype::bf16});
    const auto c = read_case(folder / "golden/block_attention" / t.name / "three_blocks.json");
    // Text of the model's own kind, and text that it does not expect: the case's ids in another order.
    const auto text =
        nlohmann::json::parse(read_text(folder / "golden/llama2c" / t.name / "case0.json"))["tokens"].get<token_ids>();
    token_ids strange = c.all();
    std::reverse(strange.begin(), strange.end());
    const std::vector<token_ids> samples{c.all()};
    const auto expected = assembled_logits(exact, c.blocks);
    const std::vector<std::pair<const char*, std::shared_ptr<const ba::key_factors>>> kinds{
        {"no factors", nullptr},
        {"from weights", ba::key_factors_of(model).value()},
        {"calibrated", ba::calibrate(model, samples, exact.workers()).value()}};
    const double own = nll(assembled_logits(exact, {text}), text, vocab);
    const double other = nll(assembled_logits(exact, {strange}), strange, vocab);
    const double bf16_error = largest_difference(assembled_logits(half, c.blocks), expected);
    const double bf16_own = nll(assembled_logits(half, {text}), text, vocab) - own;
    for (const auto& [kind, factors] : kinds) {
      for (const auto* m : {&model, &fast}) {
        ba::session<> session(*m, {}, {.kv = ba::dtype::i8, .factors = factors});
        const double error = largest_difference(assembled_logits(session, c.blocks), expected);
        const double own_change = nll(assembled_logits(session, {text}), text, vocab) - own;
        const double other_change = nll(assembled_logits(session, {strange}), strange, vocab) - other;
        const std::string said = std::string(t.name) + ", " + kind + (m == &model ? ", f32" : ", 16-bit") +
                                 ": logits " + std::to_string(error) + " (bf16 " + std::to_string(bf16_error) +
                                 "), nll " + std::to_string(own) + " " + std::to_string(own_change) + " (bf16 " +
                                 std::to_string(bf16_own) + "), of strange text " + std::to_string(other) + " " +
                                 std::to_string(other_change);
        INFO(said);
        CHECK(error < t.logits);
        CHECK(std::abs(own_change) < t.nats);
        CHECK(std::abs(other_change) < 0.08);  // of 10.8 and 5.5
      }
    }
  }
}
