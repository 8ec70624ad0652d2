// SPDX-License-Identifier: MIT
// A whole model from a file of any format (safetensors beside one fixed config.json): what opens is bound or refused, and what is bound computes.
#include <blockattn/cache/context.hpp>
#include <blockattn/io/gguf_weights.hpp>
#include <blockattn/io/hf_weights.hpp>
#include <blockattn/io/llama2c.hpp>
#include <blockattn/model/llama.hpp>
#include <blockattn/model/session.hpp>
#include <cstdlib>

namespace ba = blockattn;

namespace {

void require(bool ok) {
  if (!ok) std::abort();
}

template <class Weights>
void run(const ba::result<Weights>& weights) {
  if (!weights) return;
  // A thousand layers of nothing take long and teach nothing.
  if (weights->config().layers > 8) return;
  const auto model = ba::llama<>::bind(*weights);
  if (!model) {
    require(!model.error().message.empty());
    return;
  }
  ba::session chat(*model, ba::inline_executor());
  const auto vocab = static_cast<ba::token>(model->config().vocab);
  const ba::token ids[] = {0, static_cast<ba::token>(vocab - 1), static_cast<ba::token>(vocab / 2)};
  const auto block = chat.encode(ids);
  require(block.has_value());
  ba::context sequence(chat.layout(), {.room = 16});
  require(sequence.assemble(std::span(&*block, 1)).has_value());
  require(chat.prefill(sequence, ids).has_value());
  require(chat.decode(sequence, 0).has_value());
  require(sequence.logits().size() == model->config().vocab);
  // Ids of another vocabulary are an error, whatever the model.
  require(!chat.decode(sequence, vocab).has_value());
  require(!chat.decode(sequence, -1).has_value());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  if (size >= 4 && std::memcmp(data, "GGUF", 4) == 0) {
    run(ba::gguf_weights::from_memory(bytes));
  } else if (size >= 9 && data[8] == '{') {
    run(ba::hf_weights::from_memory(
        R"({"model_type":"gemma3_text","hidden_size":6,"num_hidden_layers":2,"num_attention_heads":2,"num_key_value_heads":1,
            "intermediate_size":5,"vocab_size":7,"head_dim":4,"sliding_window":2,"sliding_window_pattern":2})",
        bytes));
  } else {
    run(ba::llama2c_weights::from_memory(bytes));
  }
  return 0;
}
