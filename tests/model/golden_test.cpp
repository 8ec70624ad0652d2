// SPDX-License-Identifier: MIT
// Sessions against engines that share no code with ours: llama.cpp (block attention, other architectures) and llama2.c
// (logits at every position, greedy tokens, the published text). Weights and keys in f32; the gate is 1e-3.
#include <filesystem>
#include <string>

#include "../support/data.hpp"
#include "../support/golden.hpp"
#include "../support/model_files.hpp"
#include "../support/report.hpp"
#include "../support/temporary_folder.hpp"
#include "blockattn/io/gguf_weights.hpp"
#include "blockattn/io/hf_weights.hpp"
#include "blockattn/io/llama2c.hpp"
#include "blockattn/text/gguf_tokenizer.hpp"
#include "blockattn/text/llama2c_tokenizer.hpp"
#include "support.hpp"

using namespace blockattn_test;
namespace fs = std::filesystem;

namespace {

struct opened {
  ba::llama<> model;
  ba::session<> session;

  explicit opened(ba::llama<> m, ba::dtype kv = ba::dtype::f32)
      : model(std::move(m)), session(model, {}, {.kv = kv, .batch_tokens = 64}) {}
  opened(const opened&) = delete;
};

template <class Source>
ba::llama<> bind(const Source& source) {
  return ba::llama<>::bind(source, {.compute = ba::compute_type::f32}).value();
}

// A source with another rope configuration.
class rescaled {
 public:
  rescaled(const ba::gguf_weights& source, ba::rope_scaling scaling) : source_(source), config_(source.config()) {
    config_.rope.scaling = scaling;
    config_.rope.factor = 4;  // llama.cpp's frequency scale of 0.25
    config_.rope.original_context = 256;
  }
  [[nodiscard]] const ba::model_config& config() const { return config_; }
  [[nodiscard]] std::optional<ba::tensor_info> find(std::string_view name) const { return source_.find(name); }
  [[nodiscard]] ba::result<ba::tensor_bytes> load(std::string_view name) const { return source_.load(name); }
  void release(std::string_view name) const { source_.release(name); }

 private:
  const ba::gguf_weights& source_;
  ba::model_config config_;
};

std::vector<ba::token> greedy_tokens(ba::session<>& session, const golden_case& c, ba::position_policy policy,
                                     std::size_t local, std::size_t n) {
  std::vector<ba::block_handle> handles;
  token_ids last;
  for (std::size_t i = 0; i < c.blocks.size(); ++i) {
    if (i < local && i + 1 < c.blocks.size())
      handles.push_back(session.encode(c.blocks[i]).value());
    else
      last.insert(last.end(), c.blocks[i].begin(), c.blocks[i].end());
  }
  ba::context context(session, {.room = last.size() + n + 16, .position = policy});
  (void)context.assemble(handles).value();
  session.prefill(context, last).value();
  std::vector<ba::token> out;
  for (const ba::token id : session.generate(context, ba::greedy{}, {.max_tokens = n})) out.push_back(id);
  return out;
}

// A safetensors file of floats with the rows of Q and K brought from neighbouring pairs into half-split order.
byte_vector half_split(const byte_vector& bytes, const ba::model_config& c) {
  const auto file = ba::safetensors_file::from_memory(bytes).value();
  safetensors_writer w;
  for (const auto& t : file.tensors()) {
    const auto data = file.load(t).value();
    std::vector<float> from(data.bytes().size() / sizeof(float)), to;
    std::memcpy(from.data(), data.bytes().data(), data.bytes().size());
    to = from;
    if (t.name.ends_with("q_proj.weight") || t.name.ends_with("k_proj.weight")) {
      const std::size_t cols = t.shape[1];
      for (std::size_t r = 0; r < t.shape[0]; ++r) {
        const std::size_t d = r % c.head_dim, pair = d / 2 + (d % 2 == 0 ? 0 : c.head_dim / 2);
        std::copy_n(&from[r * cols], cols, &to[(r - d + pair) * cols]);
      }
    }
    w.floats(t.name, t.shape, to);
  }
  return w.build();
}

struct found {
  double worst = 0;
  std::size_t files = 0, continuations = 0;
};

// Every file of a case: block attention under each policy, full attention, greedy continuations.
found check_case(ba::session<>& session, const fs::path& base, double within = logit_gate, bool words = true) {
  found f;
  const auto c = read_case(base.string() + ".json");
  REQUIRE(c.vocab == session.model().config().vocab);
  const auto file = [&](const std::string& mode, const char* part) {
    return fs::path(base.string() + "." + mode + "." + part + "_logits.f32");
  };
  const auto compare = [&](const std::vector<float>& ours, const std::vector<float>& theirs, const fs::path& name) {
    const double d = largest_difference(ours, theirs);
    INFO(name.string() << ": " << d);
    CHECK(d < within);
    f.worst = std::max(f.worst, d);
    ++f.files;
  };
  for (const auto& [mode, policy] : {std::pair{"block_abs", ba::position_policy::query_side},
                                     {"block_abs", ba::position_policy::key_side},
                                     {"block_shift", ba::position_policy::query_side},
                                     {"block_shift", ba::position_policy::key_side},
                                     {"block_noshift", ba::position_policy::none}})
    if (const auto name = file(mode, "query"); fs::exists(name))
      compare(assembled_logits(session, c.blocks, policy), read_floats(name), name);
  if (const auto name = file("full", "query"); fs::exists(name)) {
    // Full mode gives all rows: those of the context, then those of the question.
    const auto all = assembled_logits(session, c.blocks, ba::position_policy::query_side, 0);
    const auto question = read_floats(name);
    REQUIRE(all.size() >= question.size());
    const auto cut = all.end() - static_cast<std::ptrdiff_t>(question.size());
    compare({cut, all.end()}, question, name);
    if (const auto context = file("full", "context"); fs::exists(context))
      compare({all.begin(), cut}, read_floats(context), context);
  }
  // Encoding computes no logits, so the rows of a block are checked by prefilling it alone.
  if (const auto name = file("block_abs", "context"); fs::exists(name)) {
    std::vector<float> rows;
    for (std::size_t i = 0; i + 1 < c.blocks.size(); ++i) {
      const auto block = assembled_logits(session, {c.blocks[i]});
      rows.insert(rows.end(), block.begin(), block.end());
    }
    compare(rows, read_floats(name), name);
  }
  for (const auto& [mode, policy, local] :
       {std::tuple{"full", ba::position_policy::query_side, std::size_t{0}},
        {"block_abs", ba::position_policy::query_side, c.blocks.size()},
        {"block_shift", ba::position_policy::key_side, c.blocks.size()},
        {"block_noshift", ba::position_policy::none, c.blocks.size()}}) {
    const auto expected = c.json.find(std::string(mode) + "_greedy");
    if (expected == c.json.end() || !words) continue;
    INFO(base.string() << " " << mode);
    const auto tokens = expected->get<token_ids>();
    CHECK(greedy_tokens(session, c, policy, local, tokens.size()) == tokens);
    ++f.continuations;
  }
  // The control: with two context blocks or more, keys that stayed at their local positions give something else.
  if (const auto name = file("block_abs", "query"); fs::exists(name) && c.blocks.size() > 2)
    CHECK(largest_difference(assembled_logits(session, c.blocks, ba::position_policy::none), read_floats(name)) > 1);
  return f;
}

}  // namespace

TEST_CASE("sessions compute Block-Attention as llama.cpp does", "[session][golden]") {
  BLOCKATTN_REQUIRE_DATA(folder);
  const auto base = folder / "golden/block_attention";
  const auto gguf = [&](const char* name) { return ba::gguf_weights::open(folder / "models" / name).value(); };
  SECTION("stories260K") {
    opened o(bind(gguf("stories260K-f32.gguf")));
    std::size_t files = 0;
    double worst = 0;
    for (const char* name : {"three_blocks", "one_context_block", "tiny_blocks"}) {
      const auto f = check_case(o.session, base / "stories260K" / name);
      files += f.files;
      worst = std::max(worst, f.worst);
    }
    CHECK(files == 3 * 8);
    report_difference("stories260K", "GGUF", "llama.cpp", worst);
  }
  SECTION("babyllama105, head size 16") {
    opened o(bind(gguf("babyllama105-f32.gguf")));
    const auto f = check_case(o.session, base / "babyllama105/three_blocks");
    CHECK(f.continuations == 4);
    report_difference("babyllama105", "GGUF", "llama.cpp", f.worst);
  }
  SECTION("linear scaling") {
    const auto source = gguf("stories260K-f32.gguf");
    opened o(bind(rescaled(source, ba::rope_scaling::linear)));
    CHECK(check_case(o.session, base / "stories260K-linear0.25/three_blocks").files == 8);
  }
  SECTION("YaRN, its magnitude applied once") {
    const auto source = gguf("stories260K-f32.gguf");
    opened o(bind(rescaled(source, ba::rope_scaling::yarn)));
    CHECK(check_case(o.session, base / "stories260K-yarn0.25/three_blocks").files >= 5);
  }
  SECTION("Q8_0: llama.cpp quantises activations too, the double reference does not") {
    const auto source = gguf("babyllama105-Q8_0.gguf");
    opened o(bind(source));
    CHECK(check_case(o.session, base / "babyllama105-Q8_0/three_blocks", 0.4, false).files == 8);
    const auto oracle = ba::reference::transformer::from(source).value();
    const auto c = read_case(base / "babyllama105-Q8_0/three_blocks.json");
    CHECK(largest_difference(assembled_logits(o.session, c.blocks), reference_logits(oracle, c.blocks)) < logit_gate);
  }
  SECTION("F16, and a file that mixes F32, F16, Q5_0 and Q8_0: against the double reference on the same weights") {
    for (const char* name : {"stories260K-F16.gguf", "stories260K-Q4_K.gguf"}) {
      const auto source = gguf(name);
      opened o(bind(source));
      const auto oracle = ba::reference::transformer::from(source).value();
      const auto c = read_case(base / "stories260K/three_blocks.json");
      const double d = largest_difference(assembled_logits(o.session, c.blocks), reference_logits(oracle, c.blocks));
      INFO(name);
      CHECK(d < logit_gate);
      report_difference("stories260K", name, "double reference", d);
    }
  }
  SECTION("bf16 keys and values stay near") {
    opened o(bind(gguf("stories260K-f32.gguf")), ba::dtype::bf16);
    const auto c = read_case(base / "stories260K/three_blocks.json");
    const auto expected = read_floats(base / "stories260K/three_blocks.block_abs.query_logits.f32");
    CHECK(largest_difference(assembled_logits(o.session, c.blocks), expected) < 0.25);
  }
}

TEST_CASE("sessions compute other architectures as llama.cpp does", "[session][golden]") {
  BLOCKATTN_REQUIRE_DATA(folder);
  for (const std::string name : {"llama3_rope", "smollm2", "qwen2", "qwen3"}) {
    const auto base = folder / "golden/architectures" / name;
    const auto check = [&](ba::llama<> model, const char* form) {
      INFO(name << " " << form);
      opened o(std::move(model));
      const auto full = check_case(o.session, base / "full");
      const auto blocks = check_case(o.session, base / "two_blocks");
      CHECK(full.files == 1);
      CHECK(full.continuations == 1);
      CHECK(blocks.files == 5);
      CHECK(blocks.continuations == 2);
      return std::max(full.worst, blocks.worst);
    };
    const double gguf = check(bind(ba::gguf_weights::open(base / "model.gguf").value()), "gguf");
    const double hf = check(bind(ba::hf_weights::open(base / "hf").value()), "hf");
    report_difference(name, "GGUF", "llama.cpp", gguf);
    report_difference(name, "safetensors", "llama.cpp", hf);
    INFO(name << ": largest difference " << gguf << " (gguf), " << hf << " (safetensors)");
    CHECK(std::max(gguf, hf) < logit_gate);
  }
}

TEST_CASE("logits at every position, greedy tokens and the published text of llama2.c", "[session][golden]") {
  BLOCKATTN_REQUIRE_DATA(folder);
  const auto check = [&](ba::session<>& session, const fs::path& base) {
    const auto json = nlohmann::json::parse(read_text(base.string() + ".json"));
    const auto tokens = json["tokens"].get<token_ids>();
    INFO(base.string());
    const auto all = assembled_logits(session, {tokens});
    const double d = largest_difference(all, read_floats(base.string() + ".logits.f32"));
    CHECK(d < logit_gate);
    report_difference(base.parent_path().filename().string() + ", " + base.filename().string(),
                      base.parent_path().filename() == "stories260K" ? ".bin" : "GGUF", "llama2.c", d);
    // Greedy: after the prompt, each token fed is the best of the logits before it.
    const auto prompt = json["prompt_tokens"].get<token_ids>();
    golden_case c;
    c.blocks = {prompt};
    const auto out = greedy_tokens(session, c, ba::position_policy::query_side, 0, tokens.size() - prompt.size());
    CHECK(token_ids(tokens.begin() + static_cast<std::ptrdiff_t>(prompt.size()), tokens.end()) == out);
  };
  SECTION("stories260K.bin") {
    const auto source = ba::llama2c_weights::open(folder / "models/stories260K.bin").value();
    opened o(bind(source));
    for (const char* name : {"case0", "case1", "case2"}) check(o.session, folder / "golden/llama2c/stories260K" / name);

    const auto words = ba::open_llama2c_tokenizer(folder / "models/tok512.bin", 512).value();
    golden_case c;
    c.blocks = {{words.bos()}};
    const auto ids = greedy_tokens(o.session, c, ba::position_policy::query_side, 0, 200);
    std::vector<ba::token> with_bos{words.bos()};
    with_bos.insert(with_bos.end(), ids.begin(), ids.end());
    const auto published = read_text(folder / "golden/llama2c/stories260K/karpathy_expected_stdout_200.txt");
    CHECK(words.decode(std::span<const ba::token>(with_bos)) == published);

    // The same weights in GGUF give the same logits.
    const auto gguf = ba::gguf_weights::open(folder / "models/stories260K-f32.gguf").value();
    opened other(bind(gguf));
    CHECK(largest_difference(assembled_logits(o.session, {ids}), assembled_logits(other.session, {ids})) < 1e-5);

    // And in safetensors, in three files, whose rows of Q and K are half-split.
    const auto files = hf_files_of(source, 3);
    const temporary_folder three;
    three.file("config.json", hf_json(source.config(), "llama").dump());
    three.file("model.safetensors.index.json", files.index);
    for (std::size_t i = 0; i < 3; ++i) three.file(files.names[i], half_split(files.files[i], source.config()));
    const auto shards = ba::hf_weights::open(three.path()).value();
    CHECK(shards.files().size() == 3);
    CHECK(shards.config().rope.layout == ba::rope_layout::half_split);
    opened third(bind(shards));
    // A bound model knows no order of files: not only within 1e-5, but the same bits.
    const auto expected = assembled_logits(o.session, {ids});
    CHECK(largest_difference(expected, assembled_logits(third.session, {ids})) < 1e-5);
    CHECK(same_bits(expected, assembled_logits(third.session, {ids})));
    CHECK(same_bits(expected, assembled_logits(other.session, {ids})));
  }
  SECTION("babyllama105") {
    opened o(bind(ba::gguf_weights::open(folder / "models/babyllama105-f32.gguf").value()));
    check(o.session, folder / "golden/llama2c/babyllama105/case0");
  }
}
