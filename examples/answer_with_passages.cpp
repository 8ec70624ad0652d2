// SPDX-License-Identifier: MIT
// Questions answered from passages: a model file, a prompt template, text that streams, errors that are values.
//
//     answer_with_passages [MODEL.gguf [PASSAGES.jsonl]]
//
// Without a model file it takes a tiny random one, whose text is noise.
#include <blockattn/blockattn.hpp>
#include <blockattn/io/gguf_weights.hpp>
#include <blockattn/model/random_weights.hpp>
#include <blockattn/text/detokenize.hpp>
#include <blockattn/text/gguf_tokenizer.hpp>
#include <blockattn/text/template.hpp>

#include <iostream>

namespace ba = blockattn;

struct assistant {
  ba::llama<> model;  // const once bound: any number of sessions on any threads may share it
  ba::tokenizer words;
};

// region: load
ba::result<assistant> load(const char* file) {
  const auto weights = ba::gguf_weights::open(file);  // maps the file
  if (!weights) return weights.error();
  auto words = ba::make_tokenizer(weights->file());
  if (!words) return words.error();
  auto model = ba::llama<>::bind(*weights);  // repacks the weights; afterwards the file is not needed
  if (!model) return model.error();
  return assistant{*std::move(model), *std::move(words)};
}
// endregion: load

assistant tiny() {
  const ba::model_config config{.layers = 2, .dim = 64, .heads = 4, .kv_heads = 2, .head_dim = 16, .ffn = 128,
                                .vocab = 258, .rope = {.rotary_dim = 16}};
  return {ba::llama<>::bind(ba::random_weights(config)).value(),
          ba::tokenizer::from_vocabulary(ba::byte_vocabulary()).value()};
}

ba::result<void> run(const assistant& with, std::span<const ba::passage> passages) {
  const auto& [model, words] = with;
  ba::session chat(model, ba::thread_executor());  // as many workers as the machine has hardware threads
  ba::kv_store<> store;                            // a budget of 1 GiB
  const ba::prompt_template form = ba::find_template("plain").value();
  for (const char* question : {"Who keeps the ferry?", "When does the market open?"}) {
    // Each part is tokenised on its own, so that a passage is the same tokens, and the same block, wherever it stands.
    const ba::rendered_prompt text = ba::render(form, passages, question);
    auto lists = words.encode_each(text.passages);
    lists.insert(lists.begin(), words.encode(text.preamble, {.bos = words.add_bos()}));
    const auto ids = words.encode(text.final);

    const auto blocks = store.find_or_encode(lists, chat);
    if (!blocks) return blocks.error();
    ba::context context(chat, {.room = ids.size() + 64});  // room for the question and the answer
    if (auto placed = context.assemble(*blocks); !placed) return placed.error();
    if (auto done = chat.prefill(context, ids); !done) return done;

    std::cout << "Q: " << question << "\nA:";
    ba::detokenizer text_of(words, {.continues = true});  // holds back the bytes of a character that is not complete
    const std::vector<ba::token> stop(words.stops().begin(), words.stops().end());
    auto answer = chat.generate(context, ba::greedy{}, {.max_tokens = 48, .stop = stop});
    for (const ba::token id : answer) std::cout << text_of.push(id) << std::flush;
    std::cout << text_of.flush() << "\n(" << store.counters().misses << " blocks encoded so far)\n";
    if (answer.error()) return *answer.error();  // the loop just ends; the object says why
  }
  return {};
}

int main(int argc, char** argv) {
  const auto with = argc > 1 ? load(argv[1]) : ba::result<assistant>(tiny());
  const auto passages = ba::read_passages(R"({"title": "The ferry", "text": "Maren Holt keeps the ferry at Lowgate."}
{"title": "The market", "text": "The market opens when the ferry bell rings at dawn."})");
  const auto given = argc > 2 ? ba::open_passages(argv[2]) : passages;
  const auto done = !with ? with.error() : !given ? given.error() : run(*with, *given);
  if (!done) std::cerr << "answer_with_passages: " << done.error().message << '\n';
  return done ? 0 : 1;
}
