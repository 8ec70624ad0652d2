// SPDX-License-Identifier: MIT
// `bench`: time to first token of a published shape with seeded random weights. `paper`: FLOPs tables.
#include <blockattn/analysis/flops.hpp>
#include <blockattn/model/random_weights.hpp>

#include <algorithm>
#include <cstdio>

#include "ttft.hpp"

namespace cli {

namespace flops = ba::analysis;

namespace {

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values.empty() ? 0 : values[values.size() / 2];
}

// Ids that differ for every block and every question.
std::vector<ba::token> numbered_tokens(std::size_t n, std::uint64_t number, std::uint32_t vocab) {
  std::vector<ba::token> out(n);
  for (std::size_t i = 0; i < n; ++i)
    out[i] = static_cast<ba::token>(ba::hasher(number).number(i).finish().low % vocab);
  return out;
}

}  // namespace

result<json> bench(const options& o) {
  const auto config = ba::published_shape(o.shape);
  if (!config) return config.error();
  if (o.format != "f32" && o.format != "bf16")
    return ba::fail(ba::errc::unsupported, "format: expected f32 or bf16, found ", o.format);
  // Blocks in a store, and once more as the tail of full mode.
  const ba::kv_shape stored{config->layers, config->kv_heads, config->head_dim,
                            o.common.kv == "f32"    ? ba::dtype::f32
                            : o.common.kv == "int8" ? ba::dtype::i8
                                                    : ba::dtype::bf16};
  const double tokens = 2.0 * static_cast<double>(o.context) + 2.0 * static_cast<double>(o.question_tokens);
  if (auto fits = check_memory("keys and values of " + std::to_string(o.context) + " tokens",
                               tokens / 16 * static_cast<double>(stored.payload_bytes(16)));
      !fits)
    return fits.error();
  ba::thread_executor pool(o.common.threads == 0 ? std::thread::hardware_concurrency() : o.common.threads);
  const ba::dtype format = o.format == "f32" ? ba::dtype::f32 : ba::dtype::bf16;
  progress loading("packing weights");
  const auto weights = ba::random_weights(*config, format);
  const auto bound =
      model::bind(weights, {.compute = o.common.compute == "f32" ? ba::compute_type::f32 : ba::compute_type::automatic,
                            .workers = ba::executor_ref(pool),
                            .fingerprint = ba::hash128{1, 1},
                            .progress = [&](std::size_t d, std::size_t t) { loading(d, t); }});
  if (!bound) return bound.error();
  auto session_options = session_options_of(*bound, o.common, stored.type);
  if (!session_options) return std::move(session_options).error();
  session chat(*bound, pool, *std::move(session_options));

  token_lists blocks;
  for (std::size_t i = 0; i < o.context / o.block_tokens; ++i)
    blocks.push_back(numbered_tokens(o.block_tokens, i + 1, config->vocab));
  const std::size_t total = count_tokens(blocks);
  ba::kv_store<> store({.budget_bytes = chat.shape().payload_bytes(total) + (blocks.size() + 1) * (1u << 20)});
  ba::context at(chat.layout(), {.room = o.question_tokens + 64});
  ba::context whole(chat.layout(), {.room = total + o.question_tokens + 64});
  ba::token first = 0;

  // Touches scratch, and the kernels' code.
  const auto warm_up = numbered_tokens(o.question_tokens, 1u << 20, config->vocab);
  if (auto done = chat.prefill(at, warm_up); !done) return done.error();

  progress running("measuring");
  const std::size_t steps = o.repeats + 2;
  const auto question = [&](std::size_t i) {
    return numbered_tokens(o.question_tokens, (2u << 20) + i, config->vocab);
  };
  const auto cold = time_block(chat, store, at, blocks, question(0), first);
  if (!cold) return cold.error();
  running(1, steps);
  std::vector<double> warm, decode;
  std::vector<double> placing;
  for (std::size_t i = 1; i <= o.repeats; ++i) {
    const auto t = time_block(chat, store, at, blocks, question(i), first);
    if (!t) return t.error();
    warm.push_back(t->ttft_ms);
    placing.push_back(t->encode_ms);
    const auto speed = decode_speed(chat, at, 16);
    if (!speed) return speed.error();
    decode.push_back(*speed);
    running(i + 1, steps);
  }
  // An edit of one block among all: one block is encoded, nothing else moves.
  auto edited = blocks;
  edited[edited.size() / 2][0] = (edited[edited.size() / 2][0] + 1) % static_cast<ba::token>(config->vocab);
  const auto edit = time_block(chat, store, at, edited, question(o.repeats + 1), first);
  if (!edit) return edit.error();

  const auto full = time_full(chat, whole, blocks, question(0), first);
  if (!full) return full.error();
  const double warm_ms = median(warm);
  json out = {{"shape", o.shape},
              {"format", o.format},
              {"isa", ba::isa_name()},
              {"threads", pool.concurrency()},
              {"context", total},
              {"blocks", blocks.size()},
              {"question", o.question_tokens},
              {"weight_bytes", bound->weight_bytes()},
              {"kv_bytes", chat.shape().payload_bytes(total)},
              {"full_ms", full->ttft_ms},
              {"cold_ms", cold->ttft_ms},
              {"warm_ms", warm_ms},
              {"lookup_ms", median(placing)},
              {"edit_ms", edit->ttft_ms},
              {"reduction", 1.0 - warm_ms / full->ttft_ms},
              {"encode_tok_s", 1000.0 * static_cast<double>(total) / cold->encode_ms},
              {"decode_tok_s", median(decode)}};
  if (!o.common.json) {
    std::printf("%s, %s weights, %s, %zu workers: %zu blocks of %zu tokens, question of %zu\n", o.shape.c_str(),
                o.format.c_str(), ba::isa_name(), pool.concurrency(), blocks.size(), o.block_tokens, o.question_tokens);
    std::printf("  time to first token   full %.1f ms   cold %.1f ms   warm %.1f ms (%.2f %% below full)\n",
                full->ttft_ms, cold->ttft_ms, warm_ms, 100.0 * (1.0 - warm_ms / full->ttft_ms));
    std::printf("  one block edited      %.1f ms   (lookup and placing alone %.2f ms)\n", edit->ttft_ms,
                median(placing));
    std::printf("  encode %.1f tok/s   decode %.1f tok/s\n", 1000.0 * static_cast<double>(total) / cold->encode_ms,
                median(decode));
  }
  return out;
}

result<json> paper(const options& o) {
  const ba::model_config c = flops::llama_3_1_8b();
  json columns = json::array();
  for (const auto& column : flops::paper_columns) {
    const auto cells = flops::paper_column_cells(c, column);
    flops::request r;
    r.final_tokens = flops::paper_question;
    for (std::size_t left = column.tokens - flops::paper_question; left != 0; left -= r.blocks.back())
      r.blocks.push_back(std::min<std::size_t>(left, 512));
    const auto exact = flops::exact_comparison(c, r);
    columns.push_back({{"tokens", column.tokens},
                       {"paper", {{"full", cells.full}, {"block", cells.block}, {"reduction", cells.reduction}}},
                       {"exact", {{"full", exact.full}, {"block", exact.block}, {"reduction", exact.reduction()}}}});
  }
  if (!o.common.json) {
    std::printf("The paper's count (table 3, Llama-3.1-8B, a question of 50 tokens):\n%s\n",
                flops::paper_table(c).c_str());
    std::printf("With attention counted:\n%s", flops::exact_table(c).c_str());
  }
  return json{{"columns", columns}};
}

}  // namespace cli
