// SPDX-License-Identifier: MIT
#include "models.hpp"

#include <blockattn/io/gguf_weights.hpp>
#include <blockattn/io/llama2c.hpp>
#include <blockattn/text/gguf_tokenizer.hpp>
#include <blockattn/text/llama2c_tokenizer.hpp>

#include <algorithm>
#include <filesystem>

#include "terminal.hpp"

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

enum class kind { gguf, llama2c };

ba::result<kind> kind_of(const fs::path& file) {
  std::error_code code;
  if (fs::is_directory(file, code))
    return ba::fail(ba::errc::unsupported, file.string(), ": expected a GGUF or llama2.c file, found a folder");
  const auto source = ba::mapped_file::open(file);
  if (!source) return source.error();
  const auto bytes = source->bytes();
  if (bytes.size() >= 4 && std::memcmp(bytes.data(), "GGUF", 4) == 0) return kind::gguf;
  const std::string extension = file.extension().string();
  if (extension == ".bin") return kind::llama2c;
  if (extension == ".gguf")
    return ba::fail(ba::errc::bad_format, file.string(), ": expected the magic \"GGUF\" of a GGUF file");
  return ba::fail(ba::errc::unsupported, file.string(), ": expected a GGUF file or a llama2.c .bin file");
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

// A tokenizer file by its kind; `pieces` is the vocabulary of the model, which llama2.c's files do not state.
ba::result<ba::tokenizer> read_tokenizer(const fs::path& file, std::size_t pieces) {
  const auto k = kind_of(file);
  if (!k) return k.error();
  if (*k == kind::llama2c) return ba::open_llama2c_tokenizer(file, pieces);
  const auto gguf = ba::gguf_file::open(file);
  if (!gguf) return gguf.error();
  return ba::make_tokenizer(*gguf);
}

// Beside a llama2.c model lies tok<vocab>.bin or tokenizer.bin.
fs::path tokenizer_beside(const fs::path& model_file, std::size_t vocab) {
  std::error_code code;
  for (const std::string& name : {"tok" + std::to_string(vocab) + ".bin", std::string("tokenizer.bin")})
    if (const fs::path file = model_file.parent_path() / name; fs::exists(file, code)) return file;
  return {};
}

}  // namespace

ba::result<const ba::tokenizer*> runtime::tokenizer() const {
  if (words) return &*words;
  return ba::fail(ba::errc::unsupported, "the model has no tokenizer: name one by --tokenizer");
}

ba::position_policy runtime::position(const common_options& o) const {
  if (o.position == "key_side") return ba::position_policy::key_side;
  if (o.position == "none") return ba::position_policy::none;
  return ba::position_policy::query_side;
}

ba::result<ba::tokenizer> open_tokenizer(const common_options& o) {
  if (!o.tokenizer.empty()) {
    std::size_t vocab = 0;
    if (const auto weights = ba::llama2c_weights::open(o.model); weights) vocab = weights->config().vocab;
    return read_tokenizer(o.tokenizer, vocab);
  }
  const auto k = kind_of(o.model);
  if (!k) return k.error();
  if (*k == kind::gguf) {
    const auto file = ba::gguf_file::open(o.model);
    if (!file) return file.error();
    return ba::make_tokenizer(*file);
  }
  const auto weights = ba::llama2c_weights::open(o.model);
  if (!weights) return weights.error();
  const fs::path beside = tokenizer_beside(o.model, weights->config().vocab);
  if (beside.empty())
    return ba::fail(ba::errc::io, o.model, ": expected tok", weights->config().vocab,
                    ".bin or tokenizer.bin beside it, found neither; name one by --tokenizer");
  return ba::open_llama2c_tokenizer(beside, weights->config().vocab);
}

ba::result<runtime> open_runtime(const common_options& o, ba::dtype default_kv) {
  if (o.kv == "int8") return ba::fail(ba::errc::unsupported, "kv int8: expected f32 or bf16");
  if (o.rope_scaling == "yarn" || o.rope_scaling == "llama3")
    if (o.rope_original_context <= 0)
      return ba::fail(ba::errc::invalid_argument, "--rope-scaling ", o.rope_scaling, ": expected --rope-original-context");
  const auto k = kind_of(o.model);
  if (!k) return k.error();
  runtime out;
  out.pool = std::make_unique<ba::thread_executor>(o.threads == 0 ? std::thread::hardware_concurrency() : o.threads);
  if (*k == kind::gguf) {
    const auto source = ba::gguf_weights::open(o.model);
    if (!source) return source.error();
    for (const auto& tensor : source->file().tensors()) ++out.formats[ba::gguf_format_name(tensor.format)];
    auto bound = bind(*source, o, *out.pool);
    if (!bound) return std::move(bound).error();
    out.weights = std::move(*bound);
    // A model without words still computes logits from ids.
    if (o.tokenizer.empty() && source->file().has("tokenizer.ggml.model"))
      if (auto words = ba::make_tokenizer(source->file()); words) out.words = std::move(*words);
  } else {
    const auto source = ba::llama2c_weights::open(o.model);
    if (!source) return source.error();
    out.formats["F32"] = 3 + 9 * source->config().layers - (source->config().tied_embeddings ? 1 : 0);
    auto bound = bind(*source, o, *out.pool);
    if (!bound) return std::move(bound).error();
    out.weights = std::move(*bound);
    if (const fs::path beside = tokenizer_beside(o.model, source->config().vocab); o.tokenizer.empty() && !beside.empty())
      if (auto words = ba::open_llama2c_tokenizer(beside, source->config().vocab); words) out.words = std::move(*words);
  }
  if (!o.tokenizer.empty()) {
    auto words = read_tokenizer(o.tokenizer, out.weights->config().vocab);
    if (!words) return std::move(words).error();
    out.words = std::move(*words);
  }
  const ba::dtype kv = o.kv == "f32" ? ba::dtype::f32 : o.kv == "bf16" ? ba::dtype::bf16 : default_kv;
  out.chat = std::make_unique<session>(*out.weights, ba::executor_ref(*out.pool), ba::session_options{.kv = kv});
  return out;
}

}  // namespace cli
