// SPDX-License-Identifier: MIT
// `bench`: time to first token of a published or given shape with seeded random weights. `paper`: FLOPs tables.
#include <blockattn/analysis/flops.hpp>
#include <blockattn/kernel/product_kind.hpp>
#include <blockattn/model/random_weights.hpp>

#include <algorithm>
#include <cstdio>
#include <fstream>

#include "../../bench/support/peak.hpp"
#include "plot.hpp"
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

// A published shape, with what the command line says instead.
result<ba::model_config> shape_of(const options& o) {
  auto config = ba::published_shape(o.shape);
  if (!config) return config;
  const auto set = [](std::uint32_t& to, std::size_t from) {
    if (from != 0) to = static_cast<std::uint32_t>(from);
  };
  set(config->layers, o.layers);
  set(config->dim, o.dim);
  set(config->heads, o.heads);
  set(config->kv_heads, o.kv_heads);
  set(config->head_dim, o.head_dim);
  set(config->ffn, o.ffn);
  set(config->vocab, o.vocab);
  if (config->heads % config->kv_heads != 0)
    return ba::fail(ba::errc::invalid_argument, "heads: expected a multiple of ", config->kv_heads, " kv-heads, found ",
                    config->heads);
  if (config->head_dim % 2 != 0)
    return ba::fail(ba::errc::invalid_argument, "head-dim: expected an even number, found ", config->head_dim);
  config->rope.rotary_dim = config->head_dim;
  return config;
}

// Times at one context, all on distinct blocks, another question each time.
struct measured {
  std::size_t tokens = 0, blocks = 0;
  double full_ms = 0, cold_ms = 0, encode_ms = 0, warm_ms = 0, lookup_ms = 0, place_ms = 0, edit_ms = 0;
  double decode_tok_s = 0;

  [[nodiscard]] json to_json() const {
    json out = {{"context", tokens},       {"blocks", blocks},     {"cold_ms", cold_ms}, {"warm_ms", warm_ms},
                {"lookup_ms", lookup_ms}, {"place_ms", place_ms}, {"edit_ms", edit_ms}};
    if (full_ms > 0) {
      out["full_ms"] = full_ms;
      out["reduction"] = 1.0 - warm_ms / full_ms;
    }
    out["encode_tok_s"] = 1000.0 * static_cast<double>(tokens) / encode_ms;
    out["decode_tok_s"] = decode_tok_s;
    return out;
  }
};

// `series` keeps the ids of one context apart from those of the others, so that cold is cold.
result<measured> measure(session& chat, const options& o, std::size_t context, std::uint64_t series) {
  const std::uint32_t vocab = chat.model().config().vocab;
  const auto question = [&](std::uint64_t i) {
    return numbered_tokens(o.question_tokens, (series << 40) + (std::uint64_t{2} << 20) + i, vocab);
  };
  measured out;
  out.blocks = context / o.block_tokens;
  token_lists blocks;
  for (std::size_t i = 0; i < out.blocks; ++i)
    blocks.push_back(numbered_tokens(o.block_tokens, (series << 40) + i + 1, vocab));
  out.tokens = count_tokens(blocks);
  ba::kv_store<> store({.budget_bytes = chat.shape().payload_bytes(out.tokens) + (blocks.size() + 1) * (1u << 20)});
  ba::context at(chat.layout(), {.room = o.question_tokens + 64});
  ba::token first = 0;
  // Touches scratch, and the kernels' code.
  if (auto done = chat.prefill(at, question(1u << 19)); !done) return done.error();

  progress running("measuring " + std::to_string(out.tokens) + " tokens");
  const std::size_t steps = o.repeats + 3;
  const auto cold = time_block(chat, store, at, blocks, question(0), first);
  if (!cold) return cold.error();
  out.cold_ms = cold->ttft_ms;
  out.encode_ms = cold->encode_ms;
  running(1, steps);
  std::vector<double> warm, lookup, place, decode;
  for (std::size_t i = 1; i <= o.repeats; ++i) {
    const auto t = time_block(chat, store, at, blocks, question(i), first);
    if (!t) return t.error();
    warm.push_back(t->ttft_ms);
    lookup.push_back(t->encode_ms);
    place.push_back(t->place_ms);
    const auto speed = decode_speed(chat, at, 16);
    if (!speed) return speed.error();
    decode.push_back(*speed);
    running(i + 1, steps);
  }
  out.warm_ms = median(warm);
  out.lookup_ms = median(lookup);
  out.place_ms = median(place);
  out.decode_tok_s = median(decode);
  // An edit of one block among all: one block is encoded, nothing else moves.
  auto edited = blocks;
  ba::token& changed = edited[edited.size() / 2][0];
  changed = (changed + 1) % static_cast<ba::token>(vocab);
  const auto edit = time_block(chat, store, at, edited, question(o.repeats + 1), first);
  if (!edit) return edit.error();
  out.edit_ms = edit->ttft_ms;
  running(o.repeats + 2, steps);
  if (o.no_full) return out;
  ba::context whole(chat.layout(), {.room = out.tokens + o.question_tokens + 64});
  const auto full = time_full(chat, whole, blocks, question(0), first);
  if (!full) return full.error();
  out.full_ms = full->ttft_ms;
  return out;
}

// Tokens a second with nothing but a question in the context.
result<double> decode_without_context(session& chat, const options& o) {
  ba::context at(chat.layout(), {.room = o.question_tokens + 64});
  const std::uint32_t vocab = chat.model().config().vocab;
  if (auto done = chat.prefill(at, numbered_tokens(o.question_tokens, 7, vocab)); !done) return done.error();
  std::vector<double> speeds;
  for (int i = 0; i < 3; ++i) {
    const auto speed = decode_speed(chat, at, 16);
    if (!speed) return speed;
    speeds.push_back(*speed);
  }
  return median(speeds);
}

ba::dtype format_of(std::string_view name) {
  for (const ba::dtype type : {ba::dtype::f32, ba::dtype::f16, ba::dtype::q8_0, ba::dtype::q4_0, ba::dtype::q4_1,
                               ba::dtype::q5_0, ba::dtype::q5_1, ba::dtype::q4_k, ba::dtype::q5_k, ba::dtype::q6_k})
    if (ba::to_string(type) == name) return type;
  return ba::dtype::bf16;
}

// What this machine multiplies at most in a kind of product.
double peak_of(ba::product_kind kind, ba::executor_ref workers) {
  switch (kind) {
    case ba::product_kind::floats: return ::bench::fma_peak(workers);
    case ba::product_kind::codes: return ::bench::code_peak(workers);
    default: return ::bench::bf16_peak(workers);
  }
}

}  // namespace

result<json> bench(const options& o) {
  const auto config = shape_of(o);
  if (!config) return config.error();
  const ba::dtype format = format_of(o.format);
  if (!ba::random_weights::fits(*config, format))
    return ba::fail(ba::errc::invalid_argument, "format: expected rows in blocks of ", ba::block_elements(format), " for ",
                    o.format, ", found a shape of dim ", config->dim, " and ffn ", config->ffn);
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
  std::ofstream drawing;
  if (!o.plot.empty()) {
    drawing.open(o.plot);
    if (!drawing) return ba::fail(ba::errc::io, "plot: cannot write ", o.plot);
  }
  ba::thread_executor pool(o.common.threads == 0 ? std::thread::hardware_concurrency() : o.common.threads);
  progress loading("packing weights");
  const auto weights = ba::random_weights(*config, format);
  const ba::compute_type compute = o.common.compute == "f32" ? ba::compute_type::f32 : ba::compute_type::automatic;
  const auto bound =
      model::bind(weights, {.compute = compute,
                            .workers = ba::executor_ref(pool),
                            .fingerprint = ba::hash128{1, 1},
                            .progress = [&](std::size_t d, std::size_t t) { loading(d, t); }});
  if (!bound) return bound.error();
  auto session_options = session_options_of(*bound, o.common, stored.type);
  if (!session_options) return std::move(session_options).error();
  session_options->batch_tokens = o.pass_rows;
  session chat(*bound, pool, *std::move(session_options));

  // What this machine can do, in the same run: shares of these carry over to others.
  const double read = ::bench::read_bandwidth(pool);
  const double products = peak_of(compute == ba::compute_type::automatic
                                      ? ba::product_of(format, ba::compute_type::many_rows)
                                      : ba::product_of(format, compute), pool);
  // With a plot, contexts halve from the largest down to one block.
  std::vector<std::size_t> contexts{o.context};
  while (drawing.is_open() && contexts.back() / 2 >= o.block_tokens) contexts.push_back(contexts.back() / 2);
  std::reverse(contexts.begin(), contexts.end());
  json curve = json::array();
  std::vector<plot_point> points;
  measured last;
  for (std::size_t i = 0; i < contexts.size(); ++i) {
    const auto m = measure(chat, o, contexts[i], i + 1);
    if (!m) return m.error();
    last = *m;
    curve.push_back(last.to_json());
    points.push_back({static_cast<double>(last.tokens), last.full_ms, last.cold_ms, last.warm_ms});
  }
  const auto shallow = decode_without_context(chat, o);
  if (!shallow) return shallow.error();

  // A decoded token reads the layers, the head and, at depth, all keys and values; the table of embeddings only if it
  // is the head.
  const double weight_bytes = static_cast<double>(bound->weight_bytes());
  const double unread = config->tied_embeddings ? 0.0
                                                : static_cast<double>(config->vocab) * static_cast<double>(config->dim) /
                                                      static_cast<double>(ba::block_elements(format)) *
                                                      static_cast<double>(ba::block_bytes(format));
  const double kv_bytes = static_cast<double>(chat.shape().payload_bytes(last.tokens));
  const double deep_share = (weight_bytes - unread + kv_bytes) * last.decode_tok_s * 1e-9 / read;
  const double shallow_share = (weight_bytes - unread) * *shallow * 1e-9 / read;
  const double encode_tok_s = 1000.0 * static_cast<double>(last.tokens) / last.encode_ms;

  json out = {{"shape", o.shape},
              {"format", o.format},
              {"isa", ba::isa_name()},
              {"threads", pool.concurrency()},
              {"question", o.question_tokens},
              {"block_tokens", o.block_tokens},
              {"pass_rows", o.pass_rows},
              {"weight_bytes", bound->weight_bytes()},
              {"kv_bytes", chat.shape().payload_bytes(last.tokens)},
              {"peak_gflop_s", products},
              {"read_gb_s", read}};
  out.update(last.to_json());
  out["decode_share"] = deep_share;
  out["decode_empty_tok_s"] = *shallow;
  out["decode_empty_share"] = shallow_share;
  if (curve.size() > 1) out["curve"] = curve;
  const std::string title = o.shape + ", " + o.format + ", " + ba::isa_name() + ", " +
                            std::to_string(pool.concurrency()) + " workers, a question of " +
                            std::to_string(o.question_tokens) + " tokens";
  if (drawing.is_open()) {
    drawing << ttft_svg(title, points);
    if (!drawing.flush()) return ba::fail(ba::errc::io, "plot: cannot write ", o.plot);
  }
  if (!o.common.json) {
    std::printf("%s, %zu blocks of %zu tokens\n", title.c_str(), last.blocks, o.block_tokens);
    std::printf("  time to first token   cold %.1f ms   warm %.1f ms", last.cold_ms, last.warm_ms);
    if (last.full_ms > 0)
      std::printf("   full %.1f ms (warm is %.2f %% below)", last.full_ms, 100.0 * (1.0 - last.warm_ms / last.full_ms));
    std::printf("\n  one block edited      %.1f ms   (lookup %.3f ms, placing %.3f ms)\n", last.edit_ms, last.lookup_ms,
                last.place_ms);
    std::printf("  encode %.1f tok/s\n", encode_tok_s);
    std::printf("  decode %.1f tok/s at this depth, %.1f without (%.0f %% and %.0f %% of the %.1f GB/s that memory reads)\n",
                last.decode_tok_s, *shallow, 100 * deep_share, 100 * shallow_share, read);
    std::printf("  weights %.1f MB, keys and values %.1f MB; peak of products %.0f GFLOP/s\n", 1e-6 * weight_bytes,
                1e-6 * kv_bytes, products);
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
