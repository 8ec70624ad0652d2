// SPDX-License-Identifier: MIT
// The main job in twelve lines: encode passages once, place them, answer two questions from them.
//
// The model is tiny and its weights are random, so that nothing is downloaded; its answers are numbers without meaning.
// With a real model only the first lines change: see answer_with_passages.cpp.
#include <blockattn/blockattn.hpp>
#include <blockattn/model/random_weights.hpp>
#include <blockattn/text/tokenizer.hpp>

#include <iostream>
#include <string>
#include <vector>

namespace ba = blockattn;
using namespace ba::literals;

int main() {
  const ba::model_config config{.layers = 2, .dim = 64, .heads = 4, .kv_heads = 2, .head_dim = 16, .ffn = 128,
                                .vocab = 258, .rope = {.rotary_dim = 16}};
  const ba::random_weights weights(config);
  const auto words = ba::tokenizer::from_vocabulary(ba::byte_vocabulary()).value();  // one token for each byte
  const std::vector<std::string> passages{"Maren keeps the ferry. ", "The ferry crosses at dawn. "};

  // region: body
  const auto model = ba::llama<>::bind(weights).value();  // checks names and shapes, repacks for this CPU
  ba::session chat(model);                                // scratch memory and workers; one for each thread
  ba::kv_store<> store({.budget_bytes = 256_MiB});        // encoded passages; outlives questions, shared by threads
  ba::context context(chat, {.room = 128});               // one sequence: blocks, then a question and its answer

  for (const char* question : {"Who keeps the ferry?", "When does it cross?"}) {
    const auto blocks = store.find_or_encode(words.encode_each(passages), chat).value();  // 1. encode what is new
    context.assemble(blocks).value();                                                    // 2. place the blocks
    chat.prefill(context, words.encode(question)).value();                               // 3. compute the question
    std::cout << question;
    for (ba::token id : chat.generate(context, ba::greedy{}, {.max_tokens = 4})) std::cout << ' ' << id;  // 4. generate
    std::cout << " | blocks encoded so far: " << store.counters().insertions << '\n';
  }
  // endregion: body
  return store.counters().insertions == passages.size() ? 0 : 1;  // the second question encoded nothing
}
