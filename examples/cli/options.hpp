// SPDX-License-Identifier: MIT
/// What the command line says, as plain data, and the commands that act on it.
#pragma once

#include <blockattn/core/config.hpp>
#include <blockattn/core/result.hpp>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace cli {

using blockattn::result;
using json = nlohmann::ordered_json;

/// Options that several commands share.
struct common_options {
  std::string model;
  std::string tokenizer;
  bool json = false;
  std::size_t threads = 0;  // 0: all that the machine has
  std::string kv;           // empty: the command's own default
  std::string compute = "auto";
  std::string position = "query_side";
  std::string mode = "block";
  std::size_t local_blocks = 10000;  // the first N blocks stay local (PAPER 1.7)
  double rope_theta = 0;             // 0 and empty: what the model says
  std::string rope_scaling;
  double rope_factor = 0;
  double rope_original_context = 0;
};

/// Everything else, by command.
struct options {
  common_options common;
  // tokenize, detokenize, generate, logits
  std::string text, file, prompt, ids_text, blocks_text;
  std::vector<blockattn::token> ids;  // ids_text, read
  std::vector<std::size_t> blocks;    // blocks_text, read; empty: one block
  bool has_ids = false;               // --ids rather than --prompt
  bool bos = false, all = false;
  std::string cut;  // tokenize: blocks end after it
  std::size_t max_tokens = 64;
  float temperature = 0, top_p = 1, min_p = 0;
  std::size_t top_k = 0;
  std::uint64_t seed = 0;
  // answer, pack, score, store
  std::string passages, question, store, template_name = "paper", dataset;
  std::string dataset_format = "auto", resume, out;
  std::size_t top_passages = 0;  // 0: all
  std::optional<std::size_t> sinks;  // before each passage; as many as the vocabulary has without
  std::size_t budget = std::size_t{1} << 32;
  bool compare = false;
  std::string store_verb, archive;
  std::size_t store_budget = ~std::size_t{0};  // bytes of a folder's files
  std::string questions_file, edit;  // demo
  // bench
  std::string shape = "smollm2-135m", format = "bf16";
  std::size_t context = 2048, question_tokens = 50, block_tokens = 512, repeats = 5, pass_rows = 512;
  std::size_t layers = 0, dim = 0, heads = 0, kv_heads = 0, head_dim = 0, ffn = 0, vocab = 0;  // 0: as the shape has
  std::string plot;
  bool no_full = false;
  // worlds
  std::size_t level = 4, world_passages = 10, questions = 14, count = 1, first = 0;
  std::size_t group = 2;  // babi: sentences of a passage
  std::size_t sentences = 0;  // stories: 0: as in bAbI's files
  std::string tasks_text;
  std::vector<std::size_t> tasks;  // tasks_text, read: bAbI's numbers; empty: five of them
  std::string world_format = "lines";
  // finetune
  std::string new_text, train, valid, train_mode = "both", loss = "answer", schedule = "constant", products = "f32";
  std::vector<std::uint32_t> new_shape;  // new_text, read: dim, layers, heads, kv heads, ffn
  std::string save, save_format = "f32", checkpoint, log;
  std::size_t steps = 1000, batch_tokens = 8192, warmup = 100, pieces = 2048, valid_count = 50, valid_every = 0,
              stop_at = 0;  // 0: all steps
  std::string teacher;
  std::size_t pass_tokens = 4096;
  bool recompute = false;
  double temperature_of_teacher = 1, focus = 0, hard = 0, drop_blocks = 0;
  double deviation = 0.02, lr = 1e-3, dense_weight = 0.1, weight_decay = 0, beta2 = 0.95, clip = 1, curriculum = -1;
};

/// A command gives the JSON object that `--json` prints. Its text for people it writes to standard output itself, only
/// if `--json` is off, and, but for a stream of generated text, only once nothing can fail any more.
using command = result<json> (*)(const options&);

result<json> inspect(const options&);
result<json> tokenize(const options&);
result<json> detokenize(const options&);
result<json> generate(const options&);
result<json> logits(const options&);
result<json> answer(const options&);
result<json> pack(const options&);
result<json> store(const options&);
result<json> score(const options&);
result<json> paper(const options&);
result<json> bench(const options&);
result<json> demo(const options&);
result<json> worlds(const options&);
result<json> stories(const options&);
result<json> babi(const options&);
result<json> finetune(const options&);

}  // namespace cli
