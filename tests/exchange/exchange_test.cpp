// SPDX-License-Identifier: MIT
// Blocks that other instruction sets encoded. The files beside this test were written by builds for several of them; a build
// reads all, finds in them what it would have encoded itself up to rounding, and answers from them.
//   BLOCKATTN_EXCHANGE_FOLDER=... test_exchange "[.write]"     writes those of this build
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <set>
#include <string>

#include "../model/support.hpp"
#include "../support/temporary_folder.hpp"
#include "blockattn/cache/directory_storage.hpp"
#include "blockattn/simd/isa.hpp"

using namespace blockattn_test;

namespace {

using directory = ba::directory_storage<>;
const std::filesystem::path written = BLOCKATTN_EXCHANGED_BLOCKS;
constexpr ba::dtype types[] = {ba::dtype::f32, ba::dtype::bf16, ba::dtype::i8};

// One head of two panels, the second partly filled, in each of two layers.
struct setting {
  ba::model_config config = [] {
    auto c = small_config(16, 2, 1);
    c.layers = 2;
    return c;
  }();
  random_model weights{config};
  ba::llama<> model = ba::llama<>::bind(weights.source()).value();
  std::vector<ba::token> ids = random_blocks({21}, config.vocab)[0];
  std::vector<ba::token> question = random_blocks({6}, config.vocab, 3)[0];

  template <class Session>
  std::vector<float> answer(Session& session, const ba::block_handle& block) {
    // Twice: the second stands where positions count.
    ba::context context(session, {.room = 32});
    context.assemble(std::vector{block, block}).value();
    session.prefill(context, question).value();
    return {context.logits().begin(), context.logits().end()};
  }
};

// The largest difference of two blocks' numbers, of f32 or bf16.
double largest_difference_of(const ba::kv_block& a, const ba::kv_block& b) {
  REQUIRE(a.payload_bytes() == b.payload_bytes());
  const auto number = [](const ba::kv_block& from, std::size_t i) {
    if (from.shape().type == ba::dtype::f32) {
      float x;
      std::memcpy(&x, from.payload().data() + 4 * i, 4);
      return double{x};
    }
    ba::bf16 x;
    std::memcpy(&x, from.payload().data() + 2 * i, 2);
    return double{ba::widen(x)};
  };
  const std::size_t size = a.shape().type == ba::dtype::f32 ? 4 : 2;
  double most = 0;
  for (std::size_t i = 0; i < a.payload_bytes() / size; ++i) most = std::max(most, std::abs(number(a, i) - number(b, i)));
  return most;
}

}  // namespace

TEST_CASE("exchange: blocks of every instruction set load in this build, and answer as its own do", "[exchange]") {
  setting s;
  std::set<std::string> makers;
  for (const auto& entry : std::filesystem::directory_iterator(written))
    if (entry.is_directory()) makers.insert(entry.path().filename().string());
  REQUIRE(makers.size() >= 3);
  for (const std::string& maker : makers) {
    const temporary_folder copy;
    std::filesystem::copy(written / maker, copy.path());
    const bool own = maker == ba::isa_name();
    auto folder = directory::open({.folder = copy.path(), .isa = ba::isa_name()}).value();
    auto lazy = directory::open({.folder = copy.path(), .isa = ba::isa_name(), .verify = ba::verify_when::by_layer}).value();
    auto strict = directory::open({.folder = copy.path(), .isa = ba::isa_name(), .same_producer_only = true}).value();
    for (const ba::dtype kv : types) {
      INFO(ba::to_string(kv) << " by " << maker << " in a build for " << ba::isa_name());
      ba::session<> session(s.model, {}, {.kv = kv});
      const auto mine = session.encode(s.ids).value();
      const auto load = [&](directory& from) { return from.load(session.realm(), session.shape(), mine->key(), s.ids); };
      const auto theirs = load(folder).value();
      REQUIRE(theirs != nullptr);
      if (kv != ba::dtype::i8) CHECK(largest_difference_of(*theirs, *mine) < (kv == ba::dtype::f32 ? 1e-5 : 0.02));
      const auto expected = s.answer(session, mine), found = s.answer(session, theirs);
      CHECK(largest_difference(found, expected) < (kv == ba::dtype::f32 ? 1e-5 : 0.01));
      CHECK(same_bits(s.answer(session, load(lazy).value()), found));

      const auto refused = load(strict);
      if (own && refused) continue;  // and of this version
      REQUIRE_FALSE(refused);
      CHECK(refused.error().code == ba::errc::bad_format);
      CHECK(refused.error().message.find(own ? "library: expected" : ": expected") != std::string::npos);
    }
  }
}

TEST_CASE("exchange: write the blocks of this build", "[.write]") {
  const char* to = std::getenv("BLOCKATTN_EXCHANGE_FOLDER");
  REQUIRE(to != nullptr);
  setting s;
  auto folder = directory::open({.folder = std::filesystem::path(to) / ba::isa_name(), .isa = ba::isa_name()}).value();
  for (const ba::dtype kv : types) {
    ba::session<> session(s.model, {}, {.kv = kv});
    REQUIRE(folder.save(session.realm(), session.encode(s.ids).value()));
  }
}
