// SPDX-License-Identifier: MIT
// A context of 300 blocks in which one changes: the world of a game, described object by object (the Game AI case of
// the Block-Attention paper). One block is encoded; the other 299 keep their keys and values, at their new positions.
#include <blockattn/blockattn.hpp>
#include <blockattn/model/random_weights.hpp>
#include <blockattn/text/tokenizer.hpp>

#include <algorithm>
#include <chrono>
#include <iomanip>
#include <iostream>
#include <string>
#include <vector>

namespace ba = blockattn;

template <class F>
void timed(const char* what, F&& f) {
  const auto begin = std::chrono::steady_clock::now();
  f();
  const std::chrono::duration<double, std::milli> spent = std::chrono::steady_clock::now() - begin;
  std::cout << std::setw(50) << std::left << what << std::fixed << std::setprecision(2) << spent.count() << " ms\n";
}

int main() {
  const ba::model_config config{.layers = 4, .dim = 128, .heads = 4, .kv_heads = 2, .head_dim = 32, .ffn = 256,
                                .vocab = 258, .rope = {.rotary_dim = 32}};
  const auto model = ba::llama<>::bind(ba::random_weights(config)).value();
  const auto words = ba::tokenizer::from_vocabulary(ba::byte_vocabulary()).value();
  std::vector<std::string> world;
  for (int i = 0; i < 300; ++i) world.push_back("Crate " + std::to_string(i) + " is shut. ");
  const auto question = words.encode("Which crate is open?");

  ba::session chat(model);
  ba::kv_store<> store;
  ba::context scene(chat, {.room = 256});
  timed("the world encoded, placed, the question prefilled", [&] {
    scene.assemble(store.find_or_encode(words.encode_each(world), chat).value()).value();
    chat.prefill(scene, question).value();
  });

  const auto encoded = store.counters().misses;
  timed("one object changes, the question prefilled again", [&] {
    // region: body
    const std::vector<std::vector<ba::token>> change{words.encode("Crate 150 stands open and holds a lamp. ")};
    const ba::block_handle block = store.find_or_encode(change, chat).value().front();

    // Tokens after the edit depended on the old block, so they leave the context and come back to the caller.
    const std::vector<ba::token> dropped = scene.replace(150, block).value();
    chat.prefill(scene, dropped).value();
    // endregion: body
  });
  const auto encoded_for_edit = store.counters().misses - encoded;

  // The same world, laid out afresh, gives the same bits.
  world[150] = "Crate 150 stands open and holds a lamp. ";
  ba::context fresh(chat, {.room = 256});
  fresh.assemble(store.find_or_encode(words.encode_each(world), chat).value()).value();
  chat.prefill(fresh, question).value();
  const bool same = std::ranges::equal(scene.logits(), fresh.logits());

  // What ordinary attention does: everything behind the change again.
  std::vector<ba::token> whole;
  for (const auto& ids : words.encode_each(world)) whole.insert(whole.end(), ids.begin(), ids.end());
  whole.insert(whole.end(), question.begin(), question.end());
  ba::context full(chat, {.room = whole.size()});
  timed("for comparison, all tokens by full attention", [&] { chat.prefill(full, whole).value(); });

  std::cout << scene.blocks() << " blocks, " << scene.tokens() << " tokens; encoded for the edit: " << encoded_for_edit
            << " block; same logits as a fresh context: " << (same ? "yes" : "NO") << '\n';
  return same && encoded_for_edit == 1 && scene.blocks() == 300 ? 0 : 1;
}
