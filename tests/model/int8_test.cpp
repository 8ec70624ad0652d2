// SPDX-License-Identifier: MIT
// Sessions on int8 keys and values: error against f32, with and without factors of outlier channels; moves that cost
// nothing; the laws of bits; what does not mix.
#include <cmath>
#include <numeric>

#include "blockattn/model/calibrate.hpp"
#include "support.hpp"

#if __has_include(<xxhash.h>)
#include "../support/temporary_folder.hpp"
#include "blockattn/cache/block_file.hpp"
#endif

using namespace blockattn_test;

namespace {

// Random weights whose key biases are large on some dims: the means of 20 to 60 that Qwen2.5's keys have. Queries are
// small there by as much, as they are in a trained model, whose scores are not of the size of its keys.
class outlier_weights {
 public:
  explicit outlier_weights(ba::model_config config, float mean)
      : weights_(std::move(config), ba::dtype::f32, 5, 1.5f), mean_(mean) {}
  [[nodiscard]] const ba::model_config& config() const noexcept { return weights_.config(); }
  [[nodiscard]] std::optional<ba::tensor_info> find(std::string_view name) const { return weights_.find(name); }
  [[nodiscard]] ba::result<ba::tensor_bytes> load(std::string_view name) const {
    auto bytes = weights_.load(name);
    const bool key_bias = name.find("k_proj.bias") != std::string_view::npos;
    const bool query = name.find("q_proj") != std::string_view::npos;
    if (!bytes || (!key_bias && !query)) return bytes;
    std::vector<std::byte> own(bytes->bytes().begin(), bytes->bytes().end());
    auto* x = reinterpret_cast<float*>(own.data());
    const std::size_t d = config().head_dim, cols = find(name)->rows == 1 ? 1 : find(name)->cols;
    for (std::size_t i = 0; i < own.size() / sizeof(float); ++i) {
      // Outlier dims, each with its partner half a head away.
      const std::size_t dim = i / cols % d;
      if (dim % 8 != 3) continue;
      x[i] = key_bias ? (dim < d / 2 ? mean_ : -0.7f * mean_) : x[i] * 2.0f / mean_;
    }
    return ba::tensor_bytes(std::move(own));
  }
  void release(std::string_view) const noexcept {}

 private:
  ba::random_weights weights_;
  float mean_;
};

ba::model_config outlier_config() {
  auto config = small_config(32, 4, 2);
  config.qkv_bias = true;
  config.rope.theta = 1e6;
  return config;
}

double rms(const std::vector<float>& x) {
  double sum = 0;
  for (const float v : x) sum += double{v} * v;
  return std::sqrt(sum / static_cast<double>(x.size()));
}
double rms_difference(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  std::vector<float> d(a.size());
  for (std::size_t i = 0; i < a.size(); ++i) d[i] = a[i] - b[i];
  return rms(d);
}

template <class Model>
ba::session<Model> int8_session(const Model& model, std::shared_ptr<const ba::key_factors> factors = nullptr) {
  return ba::session<Model>(model, {}, {.kv = ba::dtype::i8, .batch_tokens = 48, .factors = std::move(factors)});
}

}  // namespace

TEST_CASE("int8 logits stay near the reference for every head size, layout and grouping", "[session][int8]") {
  struct shape {
    std::uint32_t head_dim, heads, kv_heads;
  };
  for (const shape s : {shape{2, 4, 2}, shape{8, 3, 3}, shape{16, 4, 1}, shape{24, 6, 2}, shape{64, 4, 2}}) {
    for (const auto layout : {ba::rope_layout::half_split, ba::rope_layout::interleaved}) {
      auto config = small_config(s.head_dim, s.heads, s.kv_heads);
      config.rope.layout = layout;
      config.rope.rotary_dim = s.head_dim >= 24 ? s.head_dim / 2 : s.head_dim;  // some dims do not turn
      const random_model weights(config, s.head_dim);
      const auto model = ba::llama<>::bind(weights.source()).value();
      const auto oracle = ba::reference::transformer::from(weights.source()).value();
      const auto blocks = random_blocks({1, 15, 16, 17, 5}, config.vocab, s.head_dim);
      for (const auto& factors : {std::shared_ptr<const ba::key_factors>(), ba::key_factors_of(model).value()}) {
        auto session = int8_session(model, factors);
        INFO("head_dim " << s.head_dim << " factors " << (factors != nullptr));
        CHECK(largest_difference(assembled_logits(session, blocks), reference_logits(oracle, blocks)) < 0.15);
        CHECK(largest_difference(assembled_logits(session, blocks, ba::position_policy::none),
                                 reference_logits(oracle, blocks, ba::reference::position::none)) < 0.15);
      }
    }
  }
}

TEST_CASE("factors hold the error of models with outlier channels down", "[session][int8]") {
  for (const float mean : {20.0f, 60.0f}) {
    const outlier_weights weights(outlier_config(), mean);
    const auto model = ba::llama<>::bind(weights).value();
    const auto blocks = random_blocks({40, 64, 23, 51, 30}, model.config().vocab);
    ba::session<> exact(model, {}, {.kv = ba::dtype::f32}), half(model, {}, {.kv = ba::dtype::bf16});
    const auto expected = assembled_logits(exact, blocks);
    const auto error = [&](auto&& session) {
      return rms_difference(assembled_logits(session, blocks), expected) / rms(expected);
    };
    const std::vector<std::vector<ba::token>> samples = random_blocks({100, 60}, model.config().vocab, 99);
    const double plain = error(int8_session(model));
    const double weighed = error(int8_session(model, ba::key_factors_of(model).value()));
    const double measured = error(int8_session(model, ba::calibrate(model, samples, exact.workers()).value()));
    INFO("mean " << mean << ": without " << plain << ", from weights " << weighed << ", calibrated " << measured
                 << ", bf16 " << error(half));
    CHECK(weighed < plain / 4);
    CHECK(measured < plain / 4);
    CHECK(weighed < 0.02);
    CHECK(measured < 0.02);
  }
}

TEST_CASE("int8 keys move without a new rounding, however often", "[session][int8]") {
  const outlier_weights weights(outlier_config(), 30.0f);
  const auto model = ba::llama<>::bind(weights).value();
  const auto factors = ba::key_factors_of(model).value();
  auto session = int8_session(model, factors);
  ba::session<> exact(model, {}, {.kv = ba::dtype::f32});
  const auto texts = random_blocks({40, 33, 16, 9}, model.config().vocab);
  const auto run = [&](auto& s, ba::context& context, const std::vector<ba::block_handle>& order) {
    (void)context.assemble(order).value();
    s.prefill(context, texts.back()).value();
    return std::vector<float>(context.logits().begin(), context.logits().end());
  };
  std::vector<ba::block_handle> small, whole;
  for (std::size_t i = 0; i < 3; ++i) {
    small.push_back(session.encode(texts[i]).value());
    whole.push_back(exact.encode(texts[i]).value());
  }
  const ba::hash128 before = small[0]->checksum();
  ba::context moved(session, {.room = 64}), fresh(session, {.room = 64}), other(exact, {.room = 64});
  const auto first = run(session, moved, small);
  std::vector<double> errors;
  for (std::size_t n = 0; n < 30; ++n) {  // other offsets, by many copies of a block before it
    std::vector<ba::block_handle> order(n * 20, small[2]), same(n * 20, whole[2]);
    order.insert(order.end(), {small[0], small[1]});
    same.insert(same.end(), {whole[0], whole[1]});
    const auto expected = run(exact, other, same);
    errors.push_back(rms_difference(run(session, moved, order), expected) / rms(expected));
  }
  // The context differs each time, the error does not grow with the number of moves or the distance.
  const double first_half = std::accumulate(errors.begin(), errors.begin() + 15, 0.0) / 15;
  const double second_half = std::accumulate(errors.begin() + 15, errors.end(), 0.0) / 15;
  INFO("relative error of moves 1 to 15: " << first_half << ", of 16 to 30: " << second_half);
  CHECK(first_half < 0.03);
  CHECK(second_half < 1.5 * first_half);
  CHECK(same_bits(run(session, moved, small), first));
  CHECK(same_bits(run(session, fresh, small), first));
  CHECK(small[0]->checksum() == before);
}

TEST_CASE("int8: the same bits for any number of workers, alone and packed, cold, warm and restored",
          "[session][int8]") {
  for (const auto compute : {ba::compute_type::automatic, ba::compute_type::f32}) {
    const auto config = small_config(24, 6, 2);
    const ba::random_weights weights(config, ba::dtype::bf16, 3, 2.0f);
    const auto model = ba::llama<>::bind(weights, {.compute = compute}).value();
    const auto factors = ba::key_factors_of(model).value();
    const auto blocks = random_blocks({1, 15, 16, 17, 100, 3, 40}, config.vocab);
    auto alone = int8_session(model, factors);
    std::vector<ba::block_handle> expected;
    for (const auto& ids : blocks) expected.push_back(alone.encode(ids).value());
    const auto logits = assembled_logits(alone, blocks);
    for (const std::size_t workers : {std::size_t{1}, std::size_t{2}, std::size_t{5}}) {
      ba::thread_executor pool(workers);
      ba::session session(model, pool, {.kv = ba::dtype::i8, .batch_tokens = 48, .factors = factors});
      ba::kv_store<> store({.budget_bytes = 64u << 20});
      const auto cold = store.find_or_encode(blocks, session).value();
      const auto warm = store.find_or_encode(blocks, session).value();
      for (std::size_t i = 0; i < blocks.size(); ++i) {
        CHECK(same_bytes(cold[i]->payload(), expected[i]->payload()));
        CHECK(cold[i] == warm[i]);
      }
      CHECK(same_bits(assembled_logits(session, blocks), logits));
    }
#if __has_include(<xxhash.h>)
    const temporary_folder folder;
    std::vector<ba::block_handle> restored;
    for (std::size_t i = 0; i + 1 < blocks.size(); ++i) {
      const auto path = folder / ("block" + std::to_string(i));
      ba::write_block_file(path, alone.realm(), *expected[i], ba::isa_name()).value();
      restored.push_back(ba::read_block_file(path, alone.realm(), alone.shape(), blocks[i]).value());
      CHECK(same_bytes(restored.back()->payload(), expected[i]->payload()));
    }
    ba::context context(alone, {.room = 64});
    (void)context.assemble(restored).value();
    std::vector<float> rows(blocks.back().size() * config.vocab);
    alone.prefill_logits(context, blocks.back(), rows).value();
    CHECK(same_bits(rows, logits));
#endif
  }
}

TEST_CASE("int8: decoding appends to the tail at every slot of a lane; forks and rewinds keep their bits",
          "[session][int8]") {
  const auto config = small_config(16);
  const random_model weights(config);
  const auto model = ba::llama<>::bind(weights.source()).value();
  auto session = int8_session(model, ba::key_factors_of(model).value());
  const auto blocks = random_blocks({20, 13, 25}, config.vocab);
  const auto all = assembled_logits(session, blocks);
  ba::context context(session, {.room = 64});
  (void)context.assemble(std::vector{session.encode(blocks[0]).value(), session.encode(blocks[1]).value()}).value();
  session.prefill(context, std::span(blocks[2]).first(2)).value();
  for (std::size_t i = 2; i < blocks[2].size(); ++i) {
    if (i == 9) {
      // Tokens that are taken back leave nothing behind: their slots are zero again, scales included.
      ba::context twin = context.fork();
      for (std::size_t k = 0; k < 6; ++k) session.decode(twin, 7).value();
      twin.rewind(6).value();
      session.decode(twin, blocks[2][i]).value();
      session.decode(context, blocks[2][i]).value();
      CHECK(same_bits({twin.logits().begin(), twin.logits().end()},
                      {context.logits().begin(), context.logits().end()}));
      CHECK(same_bytes({twin.tail_layer(1), session.shape().layer_bytes(twin.tail_capacity())},
                       {context.tail_layer(1), session.shape().layer_bytes(context.tail_capacity())}));
      continue;
    }
    session.decode(context, blocks[2][i]).value();
    // A code may fall on the other side of a tie, and on tile registers prefill rounds queries to bf16: equal within a few
    // roundings, not in bits.
    const std::vector<float> row(all.begin() + static_cast<std::ptrdiff_t>(i * config.vocab),
                                 all.begin() + static_cast<std::ptrdiff_t>((i + 1) * config.vocab));
    CHECK(largest_difference(std::vector<float>(context.logits().begin(), context.logits().end()), row) < 0.04);
  }
}

TEST_CASE("int8: what does not mix says so", "[session][int8]") {
  const outlier_weights weights(outlier_config(), 30.0f);
  const auto model = ba::llama<>::bind(weights).value();
  const auto factors = ba::key_factors_of(model).value();
  auto with = int8_session(model, factors), without = int8_session(model);
  const std::vector<ba::token> ids{1, 2, 3, 4, 5};
  CHECK(ba::key_of(with.realm(), ids) != ba::key_of(without.realm(), ids));
  CHECK(with.shape().payload_bytes(5) == without.shape().payload_bytes(5));
  const auto block = with.encode(ids).value();
  ba::context context(without, {.room = 32});
  CHECK(context.assemble(std::vector{block}).error().code == ba::errc::shape_mismatch);
  CHECK(context.assemble(std::vector{block}).error().message.find("other factors") != std::string::npos);
  CHECK(with.prefill(context, ids).error().code == ba::errc::shape_mismatch);
  // The paper's form would round keys again.
  CHECK(ba::context::make(with, {.room = 32, .position = ba::position_policy::key_side}).error().code ==
        ba::errc::unsupported);
  ba::context key_side(with, {.room = 32, .position = ba::position_policy::key_side});
  CHECK(with.prefill(key_side, ids).error().code == ba::errc::unsupported);
  CHECK(with.decode(key_side, 1).error().code == ba::errc::unsupported);
  CHECK(key_side.tokens() == 0);
  // Factors of a session that stores floats change nothing.
  ba::session<> plain(model), given(model, {}, {.factors = factors});
  CHECK(ba::key_of(plain.realm(), ids) == ba::key_of(given.realm(), ids));
  CHECK(same_bytes(plain.encode(ids).value()->payload(), given.encode(ids).value()->payload()));
}

TEST_CASE("key factors: pairs share one, sizes are checked", "[int8]") {
  for (const auto layout : {ba::rope_layout::half_split, ba::rope_layout::interleaved}) {
    auto config = small_config(8);
    config.rope.rotary_dim = 4;
    config.rope.layout = layout;
    std::vector<float> sizes(std::size_t{config.layers} * config.kv_heads * 8, 0.0f);
    const std::size_t partner = layout == ba::rope_layout::half_split ? 2 : 1;
    sizes[0] = 3.0f;
    sizes[partner] = 4.0f;
    sizes[5] = 10.0f;
    const auto factors = ba::key_factors::from_sizes(config, sizes).value();
    CHECK(factors.values()[0] == 0.5f);
    CHECK(factors.values()[partner] == 0.5f);
    CHECK(factors.values()[5] == 1.0f);
    CHECK(factors.values()[7] == 0x1p-10f);  // no key at all is not a division by zero
    CHECK(factors.values()[8] == 1.0f);      // a head without keys
    CHECK(factors.name() != 0);
    auto others = sizes;
    others[5] = 11.0f;
    CHECK(ba::key_factors::from_sizes(config, others).value().name() != factors.name());
    sizes[3] = -1.0f;
    CHECK(ba::key_factors::from_sizes(config, sizes).error().code == ba::errc::invalid_argument);
    sizes[3] = std::numeric_limits<float>::quiet_NaN();
    CHECK(ba::key_factors::from_sizes(config, sizes).error().code == ba::errc::invalid_argument);
    sizes.pop_back();
    CHECK(ba::key_factors::from_sizes(config, sizes).error().code == ba::errc::shape_mismatch);
  }
}
