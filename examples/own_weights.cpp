// SPDX-License-Identifier: MIT
// Weights that your program already holds: arrays by name, floats, bf16 or f16, borrowed until the model is bound.
//
// The names are those of Hugging Face Llama checkpoints and a matrix is (outputs, inputs), row by row; model/weights.hpp
// lists them. For a file format of your own, write a class with the four calls of `ba::weights_source` instead.
#include <blockattn/blockattn.hpp>

#include <cmath>
#include <iostream>
#include <map>
#include <string>
#include <vector>

namespace ba = blockattn;

struct array {
  std::size_t rows, cols;
  std::vector<float> data;
};

// Stands for whatever your program has: a training run, another format, a network.
std::map<std::string, array> arrays_of_this_program(const ba::model_config& c) {
  std::map<std::string, array> out;
  float seed = 0;
  const auto add = [&](const std::string& name, std::size_t rows, std::size_t cols) {
    array a{rows, cols, std::vector<float>(rows * cols)};
    for (float& x : a.data) x = rows == 1 ? 1.0f : 0.3f * std::sin(seed += 1.7f);  // norms are ones
    out.emplace(name, std::move(a));
  };
  add("model.embed_tokens.weight", c.vocab, c.dim);  // also the output head: tied_embeddings
  for (std::uint32_t l = 0; l < c.layers; ++l) {
    const std::string layer = "model.layers." + std::to_string(l) + ".";
    add(layer + "input_layernorm.weight", 1, c.dim);
    add(layer + "self_attn.q_proj.weight", c.heads * c.head_dim, c.dim);
    add(layer + "self_attn.k_proj.weight", c.kv_heads * c.head_dim, c.dim);
    add(layer + "self_attn.v_proj.weight", c.kv_heads * c.head_dim, c.dim);
    add(layer + "self_attn.o_proj.weight", c.dim, c.heads * c.head_dim);
    add(layer + "post_attention_layernorm.weight", 1, c.dim);
    add(layer + "mlp.gate_proj.weight", c.ffn, c.dim);
    add(layer + "mlp.up_proj.weight", c.ffn, c.dim);
    add(layer + "mlp.down_proj.weight", c.dim, c.ffn);
  }
  add("model.norm.weight", 1, c.dim);
  return out;
}

int main() {
  // `rope.layout` says which two dims of a head turn together: half_split (Hugging Face) or interleaved (Meta, GGUF).
  const ba::model_config config{.layers = 2, .dim = 64, .heads = 4, .kv_heads = 2, .head_dim = 16, .ffn = 96,
                                .vocab = 100, .tied_embeddings = true,
                                .rope = {.theta = 10000, .rotary_dim = 16, .layout = ba::rope_layout::half_split}};
  auto arrays = arrays_of_this_program(config);

  ba::span_weights weights(config);
  for (const auto& [name, a] : arrays) weights.add(name, std::span<const float>(a.data), a.rows, a.cols).value();

  // bind checks all names and shapes, copies the weights into panels, and is done with the arrays.
  const auto model = ba::llama<>::bind(weights).value();
  arrays.clear();
  ba::session chat(model);
  ba::context context(chat, {.room = 32});
  chat.prefill(context, std::vector<ba::token>{1, 2, 3}).value();
  std::cout << model.weight_bytes() << " bytes of weights, next token " << ba::greedy{}(context.logits()) << '\n';

  // What does not fit is an error that names the tensor, what was expected and what was found.
  ba::span_weights wrong(config);
  const std::vector<float> short_of_a_row(99 * 64);
  wrong.add("model.embed_tokens.weight", std::span<const float>(short_of_a_row), 99, 64).value();
  const auto refused = ba::llama<>::bind(wrong);
  if (refused) return 1;
  std::cout << "refused: " << refused.error().message << '\n';
  return refused.error().code == ba::errc::shape_mismatch && std::isfinite(context.logits()[0]) ? 0 : 1;
}
