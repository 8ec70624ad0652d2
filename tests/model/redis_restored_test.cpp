// SPDX-License-Identifier: MIT
// Every way in which a block comes to a prompt: encoded cold, from memory, from a folder, from a server, and through both.
// For each type of keys and values all of them give the same bits; int8 stays within its bound of f32.
#include <cmath>
#include <string>

#include "../cache/redis_server.hpp"
#include "../support/temporary_folder.hpp"
#include "blockattn/cache/directory_storage.hpp"
#include "blockattn/cache/redis_storage.hpp"
#include "blockattn/cache/tiers.hpp"
#include "support.hpp"

using namespace blockattn_test;

namespace {

using directory = ba::directory_storage<>;
using both = ba::tiers<directory, ba::redis_storage>;
using store = ba::tiered_store<both>;

// What a store made of a prompt: where each block came from, the blocks' bytes, and the logits.
struct outcome {
  std::vector<std::string> where;
  std::vector<std::byte> bytes;
  std::vector<float> logits;
};

template <class Session>
outcome ask(store& from, Session& session, const token_lists& blocks, const std::vector<ba::token>& question,
            ba::position_policy policy) {
  outcome out;
  std::vector<ba::block_origin> origins;
  const auto handles = from.find_or_encode(blocks, session, {.origins = &origins}).value();
  for (const auto& origin : origins) out.where.emplace_back(origin.where);
  for (const auto& block : handles) out.bytes.insert(out.bytes.end(), block->payload().begin(), block->payload().end());
  ba::context context(session, {.room = 32, .position = policy});
  context.assemble(handles).value();
  session.prefill(context, question).value();
  out.logits.assign(context.logits().begin(), context.logits().end());
  session.decode(context, 1).value();
  out.logits.insert(out.logits.end(), context.logits().begin(), context.logits().end());
  return out;
}

}  // namespace

TEST_CASE("restored: cold, memory, directory and server give the same bits, and int8 its bound", "[restored][redis]") {
  BLOCKATTN_REQUIRE_REDIS();
  const auto config = small_config(16, 4, 2);
  const random_model weights(config);
  const auto model = ba::llama<>::bind(weights.source()).value();
  const auto blocks = random_blocks({9, 40, 17, 16}, config.vocab);
  const auto question = random_blocks({5}, config.vocab, 3)[0];
  for (const auto policy : {ba::position_policy::query_side, ba::position_policy::key_side}) {
    std::vector<float> exact;
    for (const ba::dtype kv : {ba::dtype::f32, ba::dtype::bf16, ba::dtype::i8}) {
      if (kv == ba::dtype::i8 && policy == ba::position_policy::key_side) continue;  // int8 keys are never turned
      INFO(ba::to_string(kv));
      const temporary_folder folder, other;
      const redis_process server;
      ba::thread_executor two(2);
      ba::session session(model, two, {.kv = kv});
      const auto folder_at = [](const temporary_folder& f) { return directory::open({.folder = f.path(), .isa = "test"}).value(); };
      const auto redis = [&] {
        ba::redis_options o;
        o.server = server.where();
        o.isa = "test";
        return ba::redis_storage(o);
      };
      const auto all_from = [&](const outcome& o, const std::string& where) {
        CHECK(o.where == std::vector<std::string>(blocks.size(), where));
      };

      outcome cold;
      {
        store first({}, both(folder_at(folder), redis()));
        cold = ask(first, session, blocks, question, policy);
        all_from(cold, "miss");
        const outcome memory = ask(first, session, blocks, question, policy);
        all_from(memory, "memory");
        CHECK(memory.bytes == cold.bytes);
        CHECK(same_bits(memory.logits, cold.logits));
      }  // which saves what it has
      const auto restored = [&](const temporary_folder& f, const std::string& where) {
        store again({}, both(folder_at(f), redis()));
        const outcome found = ask(again, session, blocks, question, policy);
        all_from(found, where);
        CHECK(found.bytes == cold.bytes);
        CHECK(same_bits(found.logits, cold.logits));
      };
      restored(folder, "directory");
      restored(other, "redis");
      restored(other, "directory");  // promoted by the one before

      if (kv == ba::dtype::f32) exact = cold.logits;
      if (policy == ba::position_policy::query_side && kv != ba::dtype::f32) {
        double error = 0, size = 0;
        for (std::size_t i = 0; i < exact.size(); ++i) {
          error += std::pow(double{cold.logits[i]} - double{exact[i]}, 2);
          size += std::pow(double{exact[i]}, 2);
        }
        INFO("error " << std::sqrt(error / size));
        CHECK(std::sqrt(error / size) < (kv == ba::dtype::i8 ? 0.02 : 0.01));
        CHECK(error > 0);
      }
    }
  }
}
