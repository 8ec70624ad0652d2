// SPDX-License-Identifier: MIT
// `finetune`: the paper's training (section 2.3) on this machine: every sample as blocks and whole, loss on answers.
#include <blockattn/io/gguf_writer.hpp>
#include <blockattn/text/bpe_trainer.hpp>
#include <blockattn/text/gguf_tokenizer.hpp>
#include <blockattn/text/gguf_vocabulary.hpp>
#include <blockattn/text/read_file.hpp>
#include <blockattn/text/sinks.hpp>
#include <blockattn/train/distillation.hpp>
#include <blockattn/train/trainer.hpp>

#include <csignal>
#include <cstdio>
#include <fstream>
#include <map>
#include <optional>

#include "interval.hpp"
#include "plot.hpp"
#include "prompt.hpp"
#include "score.hpp"
#include "terminal.hpp"
#include "training_source.hpp"

namespace cli {

namespace {

volatile std::sig_atomic_t stop_asked = 0;

// Ctrl-C ends the run with what it has; a second one ends the program.
class interrupt {
 public:
  interrupt() {
    stop_asked = 0;
    before_ = std::signal(SIGINT, [](int number) {
      stop_asked = 1;
      std::signal(number, SIG_DFL);
    });
  }
  ~interrupt() { std::signal(SIGINT, before_); }
  interrupt(const interrupt&) = delete;
  interrupt& operator=(const interrupt&) = delete;

 private:
  void (*before_)(int);
};

// Weights and words to begin with.
struct beginning {
  std::optional<ba::parameters<>> weights;
  std::optional<ba::vocabulary> vocabulary;  // if it can be written into the result
  std::optional<ba::tokenizer> words;
};

result<ba::vocabulary> vocabulary_of(const std::string& file) {
  const auto gguf = ba::gguf_file::open(file);
  if (!gguf) return gguf.error();
  auto v = ba::read_vocabulary(*gguf);
  if (!v) return ba::fail(v.error().code, file, ": ", v.error().message);
  return v;
}

result<ba::vocabulary> learn_words(const options& o, const ba::prompt_template& form) {
  auto learner = ba::bpe_trainer::make({.pieces = o.pieces});
  if (!learner) return learner.error();
  const auto groups = open_groups(o, o.train, 2000, 30);
  if (!groups) return groups.error();
  for (const question_group& g : *groups) {
    const auto first = ba::render(form, g.questions.front().passages, "");
    learner->add(first.preamble);
    for (const std::string& p : first.passages) learner->add(p);
    for (const ba::sample& s : g.questions) {
      learner->add(ba::render(form, {}, s.question).final);
      learner->add(ba::detail::filled(form.answer, {{"{answer}", s.answers.front()}}, form.markers).text);
    }
  }
  return learner->train();
}

// More words, and rows of the weights for them, so that there are the sinks that --sinks asks for.
result<void> make_sinks(const options& o, beginning& b) {
  if (o.sinks.value_or(0) <= ba::sinks_of(*b.words).size()) return {};
  if (!b.vocabulary) return ba::fail(ba::errc::unsupported, "--sinks: expected a vocabulary of GGUF to add them to, found another file's");
  if (auto ok = ba::add_sinks(*b.vocabulary, *o.sinks); !ok) return ok;
  auto words = ba::tokenizer::from_vocabulary(*b.vocabulary);
  if (!words) return std::move(words).error();
  b.words = *std::move(words);
  const auto pieces = static_cast<std::uint32_t>(b.vocabulary->pieces.size());  // some models have more rows than words
  b.weights.emplace(b.weights->with_vocabulary(std::max(b.weights->config().vocab, pieces)));
  return {};
}

result<beginning> begin(const options& o, const ba::prompt_template& form) {
  beginning out;
  if (o.new_shape.empty()) {
    auto weights = open_parameters(o.common);
    if (!weights) return std::move(weights).error();
    out.weights.emplace(*std::move(weights));
    const std::string& words = o.common.tokenizer.empty() ? o.common.model : o.common.tokenizer;
    if (auto v = vocabulary_of(words)) out.vocabulary = *std::move(v);
    auto tokenizer = open_tokenizer(o.common);
    if (!tokenizer) return std::move(tokenizer).error();
    out.words = *std::move(tokenizer);
    return out;
  }
  auto vocabulary = o.common.tokenizer.empty() ? learn_words(o, form) : vocabulary_of(o.common.tokenizer);
  if (!vocabulary) return std::move(vocabulary).error();
  ba::model_config c;
  c.dim = o.new_shape[0], c.layers = o.new_shape[1], c.heads = o.new_shape[2], c.kv_heads = o.new_shape[3];
  c.ffn = o.new_shape[4];
  c.head_dim = c.heads == 0 ? 0 : c.dim / c.heads;
  c.vocab = static_cast<std::uint32_t>(vocabulary->pieces.size());
  c.context_length = 2048;
  c.tied_embeddings = true;
  c.rope.rotary_dim = c.head_dim;
  c.rope.layout = ba::rope_layout::interleaved;
  auto weights = ba::parameters<>::random(c, o.seed, {.deviation = o.deviation});
  if (!weights) return ba::fail(weights.error().code, "--new: ", weights.error().message);
  out.weights.emplace(*std::move(weights));
  auto words = ba::tokenizer::from_vocabulary(*vocabulary);
  if (!words) return std::move(words).error();
  out.words = *std::move(words);
  out.vocabulary = *std::move(vocabulary);
  return out;
}

// Draws what a log says of accuracy.
result<void> draw_accuracy(const std::string& log, const std::string& to) {
  const auto text = ba::read_file(log);
  if (!text) return text.error();
  std::vector<accuracy_point> points;
  std::size_t number = 0;
  for (std::size_t from = 0; from < text->size(); ++number) {
    const std::size_t end = std::min(text->find('\n', from), text->size());
    const json line = json::parse(text->begin() + static_cast<std::ptrdiff_t>(from),
                                  text->begin() + static_cast<std::ptrdiff_t>(end), nullptr, false);
    from = end + 1;
    const auto accuracy = [&](const char* mode) -> const json* {
      if (!line.is_object() || !line.contains("valid")) return nullptr;
      const json& valid = line["valid"];
      if (!valid.is_object() || !valid.contains(mode) || !valid[mode].is_object() || !valid[mode].contains("accuracy"))
        return nullptr;
      return &valid[mode]["accuracy"];
    };
    const json *full = accuracy("full"), *block = accuracy("block");
    if (full == nullptr || block == nullptr || !full->is_number() || !block->is_number() || !line.contains("step") ||
        !line["step"].is_number())
      return ba::fail(ba::errc::bad_format, log, ", line ", number + 1, ": expected a step with its accuracies (--valid), found something else");
    points.push_back({line["step"].get<double>(), full->get<double>(), block->get<double>()});
  }
  std::ofstream out(to);
  out << accuracy_svg("accuracy in both modes by steps of training", points);
  if (!out.flush()) return ba::fail(ba::errc::io, "plot: cannot write ", to);
  return {};
}

result<void> save_model(const options& o, const ba::parameters<>& weights, const std::optional<ba::vocabulary>& words) {
  ba::gguf_head head;
  if (words)
    if (auto added = ba::add_vocabulary(head, *words); !added) return added;
  const ba::dtype format = o.save_format == "q8_0"   ? ba::dtype::q8_0
                           : o.save_format == "bf16" ? ba::dtype::bf16
                           : o.save_format == "f16"  ? ba::dtype::f16
                                                     : ba::dtype::f32;
  return ba::write_gguf(o.save, weights, {.format = format}, std::move(head));
}

// Contexts to measure on: whether each token of an answer would be chosen, given those before it.
struct exam {
  std::vector<ba::training_sample> samples;
  std::vector<std::vector<std::size_t>> lengths;  // of the answers
  std::vector<std::vector<std::string>> kinds;
};

exam make_exam(const beginning& b, const ba::prompt_template& form, const std::vector<question_group>& groups) {
  exam out;
  for (const question_group& g : groups) {
    out.samples.push_back(make_sample(*b.words, form, g, {.answer = 1, .other = 0, .end = false}));
    auto& lengths = out.lengths.emplace_back();
    auto& kinds = out.kinds.emplace_back();
    for (const ba::sample& s : g.questions) {
      lengths.push_back(ba::encode_answer(*b.words, form, s.answers.front()).size());
      kinds.push_back(s.kind);
    }
  }
  return out;
}

struct tally {
  std::size_t right = 0, n = 0;
};

result<json> examine(ba::trainer<>& run, const exam& e, ba::mask_mode mode) {
  std::map<std::string, tally> by_kind;
  tally all;
  double nll = 0;
  std::size_t tokens = 0;
  const std::size_t vocab = run.parameters().config().vocab;
  for (std::size_t i = 0; i < e.samples.size(); ++i) {
    const ba::training_sample& s = e.samples[i];
    const auto logits = run.logits({&s, mode});
    if (!logits) return logits.error();
    std::size_t row = 0;
    for (std::size_t q = 0; q < e.lengths[i].size(); ++q) {
      bool right = true;
      for (std::size_t k = 0; k < e.lengths[i][q]; ++k, ++row, ++tokens) {
        const std::span<const float> at(logits->data() + row * vocab, vocab);
        const ba::token expected = s.ids[s.branch_ends[q] - e.lengths[i][q] + k];
        right = right && std::max_element(at.begin(), at.end()) - at.begin() == expected;
        nll += negative_log_likelihood(at, expected);
      }
      tally& kind = by_kind[e.kinds[i][q]];
      kind.right += right ? 1u : 0u, ++kind.n;
      all.right += right ? 1u : 0u, ++all.n;
    }
  }
  const auto share = [](const tally& t) { return static_cast<double>(t.right) / static_cast<double>(std::max<std::size_t>(t.n, 1)); };
  const auto [low, high] = wilson(all.right, all.n);
  json out = {{"accuracy", share(all)}, {"low", low}, {"high", high}, {"n", all.n},
              {"nll", nll / static_cast<double>(std::max<std::size_t>(tokens, 1))}};
  for (const auto& [name, t] : by_kind)
    if (!name.empty()) out["kinds"][name] = {{"accuracy", share(t)}, {"n", t.n}};
  return out;
}

// In both modes, whichever is trained.
result<json> examine(ba::trainer<>& run, const exam& e) {
  json out;
  for (const ba::mask_mode mode : {ba::mask_mode::full, ba::mask_mode::block}) {
    auto one = examine(run, e, mode);
    if (!one) return one;
    out[std::string(to_string(mode))] = *std::move(one);
  }
  return out;
}

// Samples without some of their blocks, drawn anew for each step.
std::vector<ba::training_sample> drop_blocks(const std::vector<const ba::training_sample*>& from, double part, std::uint64_t seed,
                                             std::uint64_t step) {
  worlds::random r(seed ^ 0x64726f70u, step);
  std::vector<ba::training_sample> out;
  for (const ba::training_sample* s : from) {
    std::vector<bool> dropped(s->block_ends.size());
    for (std::size_t i = 0; i < dropped.size(); ++i) dropped[i] = static_cast<double>(r.below(1u << 20)) < part * (1u << 20);
    out.push_back(ba::without_blocks(*s, dropped));
  }
  return out;
}

std::string seconds_text(double seconds) {
  char text[32];
  const auto s = static_cast<long>(seconds);
  std::snprintf(text, sizeof text, s >= 3600 ? "%ld:%02ld:%02ld" : "%.0ld%ld:%02ld", s / 3600, s / 60 % 60, s % 60);
  return text;
}

}  // namespace

result<json> finetune(const options& o) {
  const auto bare = choose_template(o);
  if (!bare) return bare.error();
  std::optional<exam> valid;
  auto start = begin(o, *bare);
  if (!start) return std::move(start).error();
  if (auto made = make_sinks(o, *start); !made) return made.error();
  const auto form = add_sinks(*bare, *start->words, o);
  if (!form) return form.error();
  const std::vector<ba::token> sinks = ba::sinks_of(*start->words);
  if (!o.valid.empty()) {
    const auto groups = open_groups(o, o.valid, o.valid_count, o.questions);
    if (!groups) return groups.error();
    valid = make_exam(*start, *form, *groups);
  }
  const loss_weights weigh{.answer = 1, .other = o.loss == "dense" ? static_cast<float>(o.dense_weight) : 0.0f, .never = sinks};
  auto source = open_source(o, *start->words, *form, weigh);
  if (!source) return source.error();
  std::optional<ba::parameters<>> teacher;
  if (!o.teacher.empty()) {
    common_options of = o.common;
    of.model = o.teacher;
    auto opened = open_parameters(of);
    if (!opened) return std::move(opened).error();
    // It may lack the sinks: it does not see them.
    const std::size_t here = start->weights->config().vocab, there = opened->config().vocab;
    if (there != here && there + sinks.size() != here)
      return ba::fail(ba::errc::shape_mismatch, "--teacher: expected a vocabulary of ", here, " tokens, found one of ", there);
    teacher.emplace(*std::move(opened));
  }

  ba::thread_executor pool(o.common.threads == 0 ? std::thread::hardware_concurrency() : o.common.threads);
  const std::size_t parameters = start->weights->count();
  auto made = ba::trainer<>::make(*std::move(start->weights),
                                  {.lr = o.lr,
                                   .beta2 = o.beta2,
                                   .weight_decay = o.weight_decay,
                                   .clip_norm = o.clip,
                                   .schedule = o.schedule == "linear" ? ba::rate_schedule::linear_decay : ba::rate_schedule::constant,
                                   .warmup_steps = std::min<std::uint64_t>(o.warmup, o.steps - 1),
                                   .total_steps = o.steps,
                                   .tokens_per_pass = o.pass_tokens,
                                   .recompute = o.recompute,
                                   .products = o.products == "bf16" ? ba::product_type::bf16 : ba::product_type::f32},
                                  ba::executor_ref(pool));
  if (!made) return std::move(made).error();
  ba::trainer<>& run = *made;
  std::optional<ba::distiller<>> distiller;
  if (teacher) {
    auto of = ba::distiller<>::make(*std::move(teacher),
                                    {.temperature = o.temperature_of_teacher, .focus = o.focus, .hard = o.hard, .unseen = sinks},
                                    ba::executor_ref(pool));
    if (!of) return std::move(of).error();
    distiller.emplace(*std::move(of));
  }
  const std::size_t state_bytes = parameters * sizeof(float) * (distiller ? 5 : 4),
                    pass_bytes = ba::activation_bytes(run.parameters().config(), o.pass_tokens, o.recompute) * (distiller ? 2u : 1u);
  std::error_code code;
  if (!o.checkpoint.empty() && std::filesystem::exists(o.checkpoint, code))
    if (auto loaded = run.load(o.checkpoint); !loaded) return std::move(loaded).error();
  std::optional<result_log> log;
  if (!o.log.empty()) {
    auto opened = run.steps() == 0 ? result_log::create(o.log) : result_log::append(o.log);
    if (!opened) return std::move(opened).error();
    log.emplace(*std::move(opened));
  }

  const bool shown = isatty(2) != 0, lines = !o.common.json;
  if (lines)
    std::fprintf(stderr, "%zu weights: %.1f MB with their gradient and moments; up to %.1f MB for a pass of %zu tokens\n", parameters,
                 1e-6 * static_cast<double>(state_bytes), 1e-6 * static_cast<double>(pass_bytes), o.pass_tokens);
  const std::size_t every = o.valid_every != 0 ? o.valid_every : std::max<std::size_t>(o.steps / 20, 1);
  const std::uint64_t first = run.steps();
  double loss = 0, trained_ms = 0, weights = 0, last_loss = 0;
  std::uint64_t tokens = 0;
  json accuracy;
  interrupt watch;
  stopwatch since_drawn;
  std::vector<ba::training_item> items;
  const std::uint64_t end = o.stop_at != 0 ? std::min(o.stop_at, o.steps) : o.steps;
  while (run.steps() < end && stop_asked == 0) {
    const stopwatch time;
    items.clear();
    std::vector<const ba::training_sample*> samples = (*source)->batch(run.steps());
    std::vector<ba::training_sample> fewer;
    if (o.drop_blocks > 0) {
      fewer = drop_blocks(samples, o.drop_blocks, o.seed, run.steps());
      for (std::size_t i = 0; i < samples.size(); ++i) samples[i] = &fewer[i];
    }
    for (const ba::training_sample* s : samples)
      for (const ba::mask_mode mode : {ba::mask_mode::full, ba::mask_mode::block})
        if (o.train_mode == "both" || o.train_mode == to_string(mode)) items.push_back({s, mode});
    const auto report = distiller ? distiller->step(run, items) : run.step(items);
    if (!report) return report.error();
    trained_ms += time.milliseconds();
    tokens += report->tokens;
    loss += report->loss_sum, weights += report->weight_sum;
    const double speed = static_cast<double>(tokens) / std::max(trained_ms, 1e-3) * 1000;
    const double left = trained_ms / 1000 / static_cast<double>(run.steps() - first) * static_cast<double>(o.steps - run.steps());
    if (shown && since_drawn.milliseconds() > 200) {
      since_drawn = stopwatch();
      std::fprintf(stderr, "\rstep %llu/%zu  loss %.4f  %.0f tokens/s  %s left\033[K",
                   static_cast<unsigned long long>(run.steps()), o.steps, report->loss_sum / report->weight_sum, speed,
                   seconds_text(left).c_str());
    }
    const bool last = run.steps() == end || stop_asked != 0;
    if (!last && run.steps() % every != 0) continue;
    last_loss = loss / weights;
    json line = {{"step", run.steps()}, {"loss", last_loss}, {"lr", report->learning_rate}, {"tokens_s", speed}, {"seconds", trained_ms / 1000}};
    loss = weights = 0;
    if (valid) {
      auto examined = examine(run, *valid);
      if (!examined) return examined;
      line["valid"] = accuracy = *std::move(examined);
    }
    if (log)
      if (auto kept = log->add(line); !kept) return std::move(kept).error();
    if (lines) {
      std::fprintf(stderr, "%sstep %llu/%zu  loss %.4f  %.0f tokens/s  %s left", shown ? "\r" : "",
                   static_cast<unsigned long long>(run.steps()), o.steps, last_loss, speed, seconds_text(left).c_str());
      if (valid) {
        std::fprintf(stderr, "  full %.3f  block %.3f", accuracy["full"]["accuracy"].get<double>(),
                     accuracy["block"]["accuracy"].get<double>());
        for (const auto& [name, one] : accuracy["full"]["kinds"].items())
          std::fprintf(stderr, "  %s %.2f/%.2f", name.c_str(), one["accuracy"].get<double>(),
                       accuracy["block"]["kinds"][name]["accuracy"].get<double>());
      }
      std::fprintf(stderr, "%s\n", shown ? "\033[K" : "");
    }
    if (!o.checkpoint.empty())
      if (auto saved = run.save(o.checkpoint); !saved) return std::move(saved).error();
  }
  if (!o.save.empty())
    if (auto saved = save_model(o, run.parameters(), start->vocabulary); !saved) return std::move(saved).error();
  if (!o.plot.empty())
    if (auto drawn = draw_accuracy(o.log, o.plot); !drawn) return drawn.error();
  json out = {{"steps", run.steps()}, {"stopped", run.steps() < o.steps}, {"parameters", parameters}, {"state_bytes", state_bytes},
              {"pass_bytes", pass_bytes}, {"tokens", tokens},
              {"seconds", trained_ms / 1000}, {"loss", last_loss}};
  if (!accuracy.is_null()) out["valid"] = accuracy;
  if (!o.save.empty()) out["saved"] = o.save;
  if (!o.common.json) print(out.dump() + "\n");
  return out;
}

}  // namespace cli
