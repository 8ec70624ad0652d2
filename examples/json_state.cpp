// SPDX-License-Identifier: MIT
// A game's state as JSON, cut into blocks (the Game AI case of the Block-Attention paper). In the next frame one value
// differs: one block is encoded, all others come from the store.
#include <blockattn/blockattn.hpp>
#include <blockattn/model/random_weights.hpp>
#include <blockattn/text/json_state.hpp>
#include <blockattn/text/tokenizer.hpp>

#include <iostream>
#include <string>
#include <vector>

namespace ba = blockattn;

// A frame of a card table with forty players.
std::string frame(int bet_of_player_7) {
  std::string players;
  for (int i = 0; i < 40; ++i)
    players += (i == 0 ? "" : ", ") + ("\"p" + std::to_string(i)) + "\": {\"bet\": " +
               std::to_string(i == 7 ? bet_of_player_7 : 10) + ", \"remain\": 990, \"cards\": [\"?\", \"?\"]}";
  return "{\"round\": 3, \"board\": [\"Ah\", \"Kd\", \"2c\"], \"players\": {" + players + "}}";
}

int main() {
  const ba::model_config config{.layers = 2, .dim = 64, .heads = 4, .kv_heads = 2, .head_dim = 16, .ffn = 128,
                                .vocab = 258, .rope = {.rotary_dim = 16}};
  const auto model = ba::llama<>::bind(ba::random_weights(config)).value();
  const auto words = ba::tokenizer::from_vocabulary(ba::byte_vocabulary()).value();
  ba::session chat(model);
  ba::kv_store<> store;
  ba::context scene(chat, {.room = 256});
  const auto question = words.encode("What should player 7 do?");

  // region: body
  const auto show = [&](const std::string& state) {
    std::vector<std::vector<ba::token>> blocks;
    const auto cut = ba::segment_json_state(state, {.leaves = 8, .together = 3}).value();
    for (const ba::state_block& b : cut) blocks.push_back(words.encode(b.text));  // `$.players.p7: {"bet":50,...}`

    // What is laid out already stays; what the store knows is not encoded again.
    scene.assemble(store.find_or_encode(blocks, chat).value()).value();
    chat.prefill(scene, question).value();
    return blocks.size();
  };
  // endregion: body

  const std::size_t blocks = show(frame(10));
  const auto first = store.counters().misses;
  show(frame(50));
  const auto encoded = store.counters().misses - first;

  std::cout << blocks << " blocks, " << scene.tokens() << " tokens; encoded for the second frame: " << encoded << " block\n";
  return blocks == 42 && encoded == 1 ? 0 : 1;
}
