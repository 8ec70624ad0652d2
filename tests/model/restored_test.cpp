// SPDX-License-Identifier: MIT
// Blocks that come back from a folder: a model's logits keep their bits, and damage found late is an error of the
// prefill, never a wrong logit.
#include "blockattn/cache/directory_storage.hpp"

#include <fstream>

#include "../support/temporary_folder.hpp"
#include "support.hpp"

using namespace blockattn_test;

namespace {

using directory = ba::directory_storage<>;

directory open(const temporary_folder& folder, ba::verify_when when) {
  return directory::open({.folder = folder.path(), .isa = "test", .verify = when}).value();
}

}  // namespace

TEST_CASE("restored: the same logits from memory, mapped files and files verified late", "[restored]") {
  const auto config = small_config(16, 4, 2);
  const random_model weights(config);
  const auto model = ba::llama<>::bind(weights.source()).value();
  const auto blocks = random_blocks({9, 40, 17}, config.vocab);
  const auto question = random_blocks({5}, config.vocab, 3)[0];
  for (const ba::dtype kv : {ba::dtype::f32, ba::dtype::bf16}) {
    for (const auto policy : {ba::position_policy::query_side, ba::position_policy::key_side}) {
      const temporary_folder folder;
      ba::thread_executor two(2);
      ba::session session(model, two, {.kv = kv});
      const auto answer = [&](const std::vector<ba::block_handle>& handles) {
        ba::context context(session, {.room = 32, .position = policy});
        context.assemble(handles).value();
        session.prefill(context, question).value();
        session.decode(context, 1).value();
        return std::vector<float>(context.logits().begin(), context.logits().end());
      };
      std::vector<ba::block_handle> encoded;
      directory first = open(folder, ba::verify_when::before_use);
      for (const auto& ids : blocks) {
        encoded.push_back(session.encode(ids).value());
        first.save(session.realm(), encoded.back()).value();
      }
      const auto expected = answer(encoded);
      for (const auto when : {ba::verify_when::before_use, ba::verify_when::by_layer}) {
        directory d = open(folder, when);
        std::vector<ba::block_handle> restored;
        for (const auto& ids : blocks)
          restored.push_back(d.load(session.realm(), session.shape(), ba::key_of(session.realm(), ids), ids).value());
        CHECK(restored[0]->unverified() == (when == ba::verify_when::by_layer));
        CHECK(same_bits(answer(restored), expected));
        CHECK_FALSE(restored[2]->unverified());
      }
    }
  }
}

TEST_CASE("restored: late damage is an error of prefill, and leaves the context as it was", "[restored]") {
  const auto config = small_config(16, 4, 2);
  const random_model weights(config);
  const auto model = ba::llama<>::bind(weights.source()).value();
  const auto blocks = random_blocks({20, 20}, config.vocab);
  const temporary_folder folder;
  ba::session<> session(model, {}, {.kv = ba::dtype::bf16});
  directory d = open(folder, ba::verify_when::by_layer);
  const auto good = session.encode(blocks[0]).value();
  const auto bad = session.encode(blocks[1]).value();
  d.save(session.realm(), bad).value();
  {
    std::fstream f(d.path_of(bad->key()), std::ios::in | std::ios::out | std::ios::binary);
    f.seekp(static_cast<std::streamoff>(std::filesystem::file_size(d.path_of(bad->key())) - 300));
    f.put('\x55');
    f.put('\xAA');
  }
  const auto restored = d.load(session.realm(), session.shape(), bad->key(), blocks[1]).value();
  ba::context context(session, {.room = 32});
  const std::vector<ba::block_handle> handles{good, restored};
  context.assemble(handles).value();
  const std::vector<ba::token> question{1, 2, 3};
  for (int again = 0; again < 2; ++again) {
    const auto refused = session.prefill(context, question);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == ba::errc::bad_format);
    CHECK(refused.error().message.find("the bytes are damaged") != std::string::npos);
    CHECK(context.tokens() == 40);
    CHECK(session.decode(context, 1).error().code == ba::errc::bad_format);
  }
  // The way out: encode it again and place it instead; the folder takes it over the damaged file.
  d.save(session.realm(), bad).value();
  const auto mended = d.load(session.realm(), session.shape(), bad->key(), blocks[1]).value();
  ba::context other(session, {.room = 32});
  const std::vector<ba::block_handle> whole{good, mended};
  other.assemble(whole).value();
  session.prefill(other, question).value();
  ba::context fresh(session, {.room = 32});
  const std::vector<ba::block_handle> never_away{good, bad};
  fresh.assemble(never_away).value();
  session.prefill(fresh, question).value();
  CHECK(std::equal(other.logits().begin(), other.logits().end(), fresh.logits().begin()));
}
