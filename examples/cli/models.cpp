// SPDX-License-Identifier: MIT
#include "models.hpp"

#include <blockattn/io/gguf_weights.hpp>
#include <blockattn/io/hf_weights.hpp>
#include <blockattn/io/llama2c.hpp>
#include <blockattn/text/gguf_tokenizer.hpp>
#include <blockattn/text/llama2c_tokenizer.hpp>

#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "terminal.hpp"
#include "word_files.hpp"

namespace cli {

namespace {

namespace fs = std::filesystem;

// A source whose configuration the command line has changed.
template <class Source>
class adjusted {
 public:
  adjusted(const Source& source, ba::model_config config) : source_(source), config_(std::move(config)) {}
  [[nodiscard]] const ba::model_config& config() const noexcept { return config_; }
  [[nodiscard]] std::optional<ba::tensor_info> find(std::string_view name) const { return source_.find(name); }
  [[nodiscard]] ba::result<ba::tensor_bytes> load(std::string_view name) const { return source_.load(name); }
  void release(std::string_view name) const { source_.release(name); }

 private:
  const Source& source_;
  ba::model_config config_;
};

ba::model_config adjust(ba::model_config c, const common_options& o) {
  if (o.rope_theta > 0) c.rope.theta = o.rope_theta;
  if (o.rope_scaling == "none") c.rope.scaling = ba::rope_scaling::none;
  if (o.rope_scaling == "linear") c.rope.scaling = ba::rope_scaling::linear;
  if (o.rope_scaling == "yarn") c.rope.scaling = ba::rope_scaling::yarn;
  if (o.rope_scaling == "llama3") c.rope.scaling = ba::rope_scaling::llama3;
  if (o.rope_factor > 0) c.rope.factor = o.rope_factor;
  if (o.rope_original_context > 0) c.rope.original_context = o.rope_original_context;
  // Asked for by name, a scaling replaces what the file brought, its magnitude and divisors too.
  if (!o.rope_scaling.empty()) {
    c.rope.attention_factor = 0;
    c.rope.frequency_divisors.clear();
  }
  return c;
}

enum class kind { gguf, llama2c, hf };

ba::result<kind> kind_of(const fs::path& file) {
  std::error_code code;
  if (fs::is_directory(file, code)) return kind::hf;
  const auto source = ba::mapped_file::open(file);
  if (!source) return source.error();
  const auto bytes = source->bytes();
  if (bytes.size() >= 4 && std::memcmp(bytes.data(), "GGUF", 4) == 0) return kind::gguf;
  const std::string extension = file.extension().string();
  if (extension == ".bin") return kind::llama2c;
  if (extension == ".safetensors" || file.filename().string().ends_with(".safetensors.index.json")) return kind::hf;
  if (extension == ".gguf")
    return ba::fail(ba::errc::bad_format, file.string(), ": expected the magic \"GGUF\" of a GGUF file");
  return ba::fail(ba::errc::unsupported, file.string(),
                  ": expected a Hugging Face folder, a .safetensors or GGUF file or a llama2.c .bin file");
}

template <class Source>
ba::result<std::unique_ptr<model>> bind(const Source& source, const common_options& o, ba::thread_executor& pool) {
  progress packing("packing weights");
  auto bound = model::bind(adjusted<Source>(source, adjust(source.config(), o)),
                           {.compute = o.compute == "f32" ? ba::compute_type::f32 : ba::compute_type::automatic,
                            .workers = ba::executor_ref(pool),
                            .progress = [&](std::size_t done, std::size_t total) { packing(done, total); }});
  if (!bound) return ba::fail(bound.error().code, o.model, ": ", bound.error().message);
  return std::make_unique<model>(std::move(*bound));
}

// What a reader of metadata says does not name the file.
ba::result<ba::tokenizer> named(const fs::path& file, ba::result<ba::tokenizer> read) {
  if (read) return read;
  return ba::fail(read.error().code, file.string(), ": ", read.error().message);
}

// Beside a llama2.c model lies tok<vocab>.bin or tokenizer.bin.
fs::path tokenizer_beside(const fs::path& model_file, std::size_t vocab) {
  std::error_code code;
  for (const std::string& name : {"tok" + std::to_string(vocab) + ".bin", std::string("tokenizer.bin")})
    if (const fs::path file = model_file.parent_path() / name; fs::exists(file, code)) return file;
  return {};
}

// The words of a Hugging Face folder, or of the folder that a file of weights lies in.
fs::path hf_words_beside(const fs::path& where) {
  std::error_code code;
  const fs::path file = (fs::is_directory(where, code) ? where : where.parent_path()) / "tokenizer.json";
  return fs::exists(file, code) ? file : fs::path();
}

}  // namespace

ba::result<const ba::tokenizer*> runtime::tokenizer() const {
  if (words) return &*words;
  if (no_words) return ba::fail(no_words->code, no_words->message, "; --tokenizer names another");
  return ba::fail(ba::errc::unsupported, "the model has no tokenizer; --tokenizer names one");
}

std::vector<ba::token> runtime::stops() const {
  if (!words) return {};
  return {words->stops().begin(), words->stops().end()};
}

ba::position_policy position_of(const common_options& o) {
  if (o.position == "key_side") return ba::position_policy::key_side;
  if (o.position == "none") return ba::position_policy::none;
  return ba::position_policy::query_side;
}

ba::result<void> check_memory(const std::string& what, double bytes) {
  const double page = static_cast<double>(::sysconf(_SC_PAGESIZE));
  const double pages = static_cast<double>(::sysconf(_SC_PHYS_PAGES));
  if (page <= 0 || pages <= 0 || bytes <= page * pages) return {};
  const auto megabytes = [](double x) { return std::to_string(static_cast<std::uint64_t>(std::min(x / 1e6, 1e18))); };
  return ba::fail(ba::errc::out_of_memory, what, ": expected at most the ", megabytes(page * pages),
                  " MB of this machine, found ", megabytes(bytes), " MB");
}

ba::result<ba::context> make_context(const session& chat, std::size_t prompt, std::size_t more,
                                     const common_options& o) {
  const auto layout = chat.layout();
  // In floating point: the product of sizes that no machine has must not wrap.
  const double tokens = static_cast<double>(prompt) + static_cast<double>(more);
  const double token_bytes = static_cast<double>(layout.shape.payload_bytes(ba::panel_width)) / ba::panel_width;
  if (auto fits = check_memory("room for " + std::to_string(prompt) + " + " + std::to_string(more) + " tokens",
                               tokens * token_bytes);
      !fits)
    return std::move(fits).error();
  return ba::context(layout, {.room = prompt + more + 16, .position = position_of(o)});
}

ba::result<ba::tokenizer> open_tokenizer(const common_options& o) {
  // Words alone are enough here: a tokenizer's file may stand in the place of the model.
  const word_format words = word_format_of(o.model);
  std::error_code code;
  const bool mute = fs::is_directory(o.model, code) && hf_words_beside(o.model).empty();
  if (o.tokenizer.empty() && !mute && (words == word_format::hf || words == word_format::tiktoken))
    return open_words(o.model, 0);
  const auto k = kind_of(o.model);
  if (!k) return k.error();
  if (*k == kind::gguf) {
    if (o.tokenizer.empty()) return open_words(o.model, 0);
    const auto weights = ba::gguf_weights::open(o.model);
    if (!weights) return weights.error();
    return open_words(o.tokenizer, weights->config().vocab);
  }
  if (*k == kind::hf) {
    if (o.tokenizer.empty()) {
      if (const fs::path beside = hf_words_beside(o.model); !beside.empty()) return open_words(beside, 0);
      return ba::fail(ba::errc::io, o.model, ": expected tokenizer.json beside it, found none; --tokenizer names one");
    }
    const auto weights = ba::hf_weights::open(o.model);
    if (!weights) return weights.error();
    return open_words(o.tokenizer, weights->config().vocab);
  }
  const auto weights = ba::llama2c_weights::open(o.model);
  if (!weights) return weights.error();
  const std::size_t vocab = weights->config().vocab;
  if (!o.tokenizer.empty()) return open_words(o.tokenizer, vocab);
  const fs::path beside = tokenizer_beside(o.model, vocab);
  if (!beside.empty()) return ba::open_llama2c_tokenizer(beside, vocab);
  return ba::fail(ba::errc::io, o.model, ": expected tok", vocab,
                  ".bin or tokenizer.bin beside it, found neither; --tokenizer names one");
}

ba::result<ba::session_options> session_options_of(const model& weights, const common_options& o, ba::dtype otherwise) {
  ba::session_options out{.kv = o.kv == "f32"    ? ba::dtype::f32
                                : o.kv == "bf16" ? ba::dtype::bf16
                                : o.kv == "int8" ? ba::dtype::i8
                                                 : otherwise};
  if (out.kv != ba::dtype::i8) return out;
  // Said before anything is computed: a session would say it at the first prefill.
  if (o.position == "key_side")
    return ba::fail(ba::errc::unsupported,
                    "position: key_side would round int8 keys again; expected query_side or none");
  auto factors = ba::key_factors_of(weights);
  if (!factors) return std::move(factors).error();
  out.factors = *std::move(factors);
  return out;
}

ba::result<ba::parameters<>> open_parameters(const common_options& o) {
  const auto k = kind_of(o.model);
  if (!k) return k.error();
  const auto decode = [&](const auto& source) -> ba::result<ba::parameters<>> {
    if (!source) return source.error();
    auto out = ba::parameters<>::from(*source);
    if (!out) return ba::fail(out.error().code, o.model, ": ", out.error().message);
    return out;
  };
  switch (*k) {
    case kind::gguf: return decode(ba::gguf_weights::open(o.model));
    case kind::hf: return decode(ba::hf_weights::open(o.model));
    default: return decode(ba::llama2c_weights::open(o.model));
  }
}

ba::result<runtime> open_runtime(const common_options& o, ba::dtype default_kv) {
  const auto k = kind_of(o.model);
  if (!k) return k.error();
  runtime out;
  out.pool = std::make_unique<ba::thread_executor>(o.threads == 0 ? std::thread::hardware_concurrency() : o.threads);
  if (*k == kind::gguf) {
    const auto source = ba::gguf_weights::open(o.model);
    if (!source) return source.error();
    for (const auto& file : source->files())
      for (const auto& tensor : file.tensors()) ++out.formats[ba::gguf_format_name(tensor.format)];
    auto bound = bind(*source, o, *out.pool);
    if (!bound) return std::move(bound).error();
    out.weights = std::move(*bound);
    // A model without words still computes logits from ids.
    if (o.tokenizer.empty() && source->file().has("tokenizer.ggml.model"))
      out.take_words(named(o.model, ba::make_tokenizer(source->file())));
  } else if (*k == kind::hf) {
    const auto source = ba::hf_weights::open(o.model);
    if (!source) return source.error();
    for (const auto& file : source->files())
      for (const auto& tensor : file.tensors()) ++out.formats[tensor.format];
    auto bound = bind(*source, o, *out.pool);
    if (!bound) return std::move(bound).error();
    out.weights = std::move(*bound);
    if (const fs::path beside = hf_words_beside(o.model); o.tokenizer.empty() && !beside.empty())
      out.take_words(open_words(beside, out.weights->config().vocab));
  } else {
    const auto source = ba::llama2c_weights::open(o.model);
    if (!source) return source.error();
    out.formats["F32"] = source->names().size();
    auto bound = bind(*source, o, *out.pool);
    if (!bound) return std::move(bound).error();
    out.weights = std::move(*bound);
    const fs::path beside = tokenizer_beside(o.model, source->config().vocab);
    if (o.tokenizer.empty() && !beside.empty())
      out.take_words(ba::open_llama2c_tokenizer(beside, source->config().vocab));
  }
  if (!o.tokenizer.empty()) {
    auto words = open_words(o.tokenizer, out.weights->config().vocab);
    if (!words) return std::move(words).error();
    out.words = std::move(*words);
  }
  auto stored = session_options_of(*out.weights, o, default_kv);
  if (!stored) return std::move(stored).error();
  out.chat = std::make_unique<session>(*out.weights, ba::executor_ref(*out.pool), *std::move(stored));
  return out;
}

}  // namespace cli
