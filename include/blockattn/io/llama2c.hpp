// SPDX-License-Identifier: MIT
/// Weights of llama2.c models: the headerless first format (version 0) and version 1, both in float.
///
/// Version 0: seven int32 (dim, ffn width, layers, heads, key heads, vocabulary, context length), where a negative
/// vocabulary says that an output head follows; tensors grouped by kind; two tables of angles before the output head,
/// which nobody reads. Version 1: "ak42", version, the seven, a byte for tied embeddings, zeros up to 256 bytes; norms
/// come first and there are no tables. Rotary pairs are neighbours, theta is 10,000, the norm's epsilon 1e-5: constants
/// of that program, not in the file. A file must have exactly the size that its header implies: nothing else in the
/// format can tell a damaged header from a sound one.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "../core/result.hpp"
#include "../model/config.hpp"
#include "../model/weights.hpp"
#include "byte_source.hpp"

namespace blockattn::inline v0 {

/// A `weights_source` over a llama2.c file. Move only. A tensor's bytes are borrowed from the mapping or memory, or
/// read when they are loaded. As safe from several threads as its source.
class llama2c_weights {
 public:
  /// Maps a file. Errors: `io`; `bad_format` and `unsupported` name the field or tensor, what was expected and found.
  [[nodiscard]] static result<llama2c_weights> open(const std::filesystem::path& path) {
    auto source = byte_source::open(path);
    if (!source) return std::move(source).error();
    return from_source(*std::move(source));
  }
  /// Borrows memory, which must outlive the object and the tensors loaded from it.
  [[nodiscard]] static result<llama2c_weights> from_memory(std::span<const std::byte> bytes) {
    return from_source(byte_source::from_memory(bytes));
  }
  [[nodiscard]] static result<llama2c_weights> from_callback(std::uint64_t size, read_function read) {
    return from_source(byte_source::from_callback(size, std::move(read)));
  }
  [[nodiscard]] static result<llama2c_weights> from_source(byte_source source) {
    llama2c_weights out(std::move(source));
    if (auto done = out.read(); !done) return fail(done.error().code, out.source_.name(), ": ", done.error().message);
    return out;
  }

  /// 0 or 1.
  [[nodiscard]] std::uint32_t version() const noexcept { return version_; }
  [[nodiscard]] const model_config& config() const noexcept { return config_; }
  /// The canonical names of all tensors, in order of name.
  [[nodiscard]] std::vector<std::string_view> names() const {
    std::vector<std::string_view> out;
    for (const auto& [name, at] : tensors_) out.push_back(name);
    return out;
  }

  [[nodiscard]] std::optional<tensor_info> find(std::string_view name) const {
    const auto it = tensors_.find(name);
    if (it == tensors_.end()) return std::nullopt;
    return it->second.info;
  }
  /// Errors: `bad_format` if there is no such tensor; those of a read function.
  [[nodiscard]] result<tensor_bytes> load(std::string_view name) const {
    const auto it = tensors_.find(name);
    if (it == tensors_.end())
      return fail(errc::bad_format, source_.name(), ": tensor ", name, ": expected it, found none");
    auto bytes = source_.load(it->second.offset, it->second.info.bytes);
    if (!bytes) return fail(bytes.error().code, source_.name(), ": tensor ", name, ": ", bytes.error().message);
    return bytes;
  }
  /// Drops the pages of a mapped tensor.
  void release(std::string_view name) const noexcept {
    const auto it = tensors_.find(name);
    if (it != tensors_.end()) source_.drop(it->second.offset, it->second.info.bytes);
  }

 private:
  struct place {
    tensor_info info;
    std::uint64_t offset;
  };
  enum class part { embedding, attention_norm, q, k, v, o, ffn_norm, gate, down, up, final_norm, angles, head };

  explicit llama2c_weights(byte_source source) : source_(std::move(source)) {}

  result<void> read() {
    if (auto done = read_header(); !done) return done;
    using enum part;
    constexpr part first_format[] = {embedding, attention_norm, q,  k,          v,      o,   ffn_norm,
                                     gate,      down,           up, final_norm, angles, head};
    constexpr part second_format[] = {attention_norm, ffn_norm, final_norm, embedding, q, k, v, o,
                                      gate,           down,     up,         head};
    if (version_ == 0) {
      for (const part p : first_format)
        if (auto done = add(p); !done) return done;
    } else {
      for (const part p : second_format)
        if (auto done = add(p); !done) return done;
    }
    if (end_ != source_.size())
      return fail(errc::bad_format, "expected a file of ", end_, " bytes by its header, found ", source_.size());
    return {};
  }

  result<void> read_header() {
    constexpr std::uint32_t magic = 0x616b3432;
    constexpr std::size_t first_bytes = 28, second_bytes = 256;
    std::array<std::byte, second_bytes> head{};
    const std::uint64_t size = source_.size();
    if (size < first_bytes) return fail(errc::bad_format, "header: expected ", first_bytes, " bytes, found ", size);
    const auto present = static_cast<std::size_t>(size < second_bytes ? size : second_bytes);
    if (auto done = source_.read(0, std::span(head).first(present)); !done) return done;
    const auto word = [&head](std::size_t i) {
      std::int32_t value;
      std::memcpy(&value, head.data() + 4 * i, sizeof value);
      return value;
    };
    std::size_t at = 0;
    if (static_cast<std::uint32_t>(word(0)) == magic) {
      if (size < second_bytes) return fail(errc::bad_format, "header: expected ", second_bytes, " bytes, found ", size);
      if (word(1) != 1)
        return fail(word(1) == 2 ? errc::unsupported : errc::bad_format,
                    "header: expected version 1 (float weights), found ", word(1));
      version_ = 1;
      at = 2;
    }
    model_config& c = config_;
    std::int32_t vocab = 0, positions = 0;
    const auto field = [&](std::size_t i, const char* name, std::int64_t least, std::int64_t most,
                           auto& out) -> result<void> {
      const std::int32_t value = word(at + i);
      if (value < least || value > most)
        return fail(errc::bad_format, "header: ", name, ": expected ", least, " to ", most, ", found ", value);
      out = static_cast<std::remove_reference_t<decltype(out)>>(value);
      return {};
    };
    // These bounds are those of `validate`; with them, no product of sizes below leaves 63 bits.
    constexpr std::int64_t width = (1 << 24) - 1;
    if (auto r = field(0, "dim", 1, width, c.dim); !r) return r;
    if (auto r = field(1, "hidden_dim", 1, width, c.ffn); !r) return r;
    if (auto r = field(2, "n_layers", 1, 4096, c.layers); !r) return r;
    if (auto r = field(3, "n_heads", 1, 65536, c.heads); !r) return r;
    if (auto r = field(4, "n_kv_heads", 1, 65536, c.kv_heads); !r) return r;
    if (auto r = field(5, "vocab_size", version_ == 0 ? -width : 1, width, vocab); !r) return r;
    if (auto r = field(6, "seq_len", 1, INT32_MAX, positions); !r) return r;
    if (c.dim % c.heads != 0)
      return fail(errc::bad_format, "header: n_heads: expected a divisor of dim ", c.dim, ", found ", c.heads);
    if (c.heads % c.kv_heads != 0)
      return fail(errc::bad_format, "header: n_kv_heads: expected a divisor of n_heads ", c.heads, ", found ",
                  c.kv_heads);
    if (vocab == 0) return fail(errc::bad_format, "header: vocab_size: expected a vocabulary, found 0");
    c.head_dim = c.dim / c.heads;
    c.vocab = static_cast<std::uint32_t>(vocab < 0 ? -vocab : vocab);
    c.context_length = static_cast<std::uint32_t>(positions);
    c.norm_epsilon = 1e-5f;
    c.rope.theta = 10000.0;
    c.rope.rotary_dim = c.head_dim;
    c.rope.layout = rope_layout::interleaved;
    c.tied_embeddings = vocab > 0;
    end_ = first_bytes;
    if (version_ == 1) {
      const auto shared = std::to_integer<unsigned>(head[36]);
      if (shared > 1) return fail(errc::bad_format, "header: shared_classifier: expected 0 or 1, found ", shared);
      c.tied_embeddings = shared == 1;
      end_ = second_bytes;
    }
    if (auto valid = validate(c); !valid) return fail(errc::unsupported, "header: ", valid.error().message);
    return {};
  }

  // The tensors of one kind: one, or one for each layer, end to end.
  result<void> add(part p) {
    const model_config& c = config_;
    const std::size_t keys = std::size_t{c.kv_heads} * c.head_dim;
    switch (p) {
      case part::embedding: return add("model.embed_tokens.weight", c.vocab, c.dim);
      case part::attention_norm: return add_layers("input_layernorm.weight", 1, c.dim);
      case part::q: return add_layers("self_attn.q_proj.weight", c.dim, c.dim);
      case part::k: return add_layers("self_attn.k_proj.weight", keys, c.dim);
      case part::v: return add_layers("self_attn.v_proj.weight", keys, c.dim);
      case part::o: return add_layers("self_attn.o_proj.weight", c.dim, c.dim);
      case part::ffn_norm: return add_layers("post_attention_layernorm.weight", 1, c.dim);
      case part::gate: return add_layers("mlp.gate_proj.weight", c.ffn, c.dim);
      case part::down: return add_layers("mlp.down_proj.weight", c.dim, c.ffn);
      case part::up: return add_layers("mlp.up_proj.weight", c.ffn, c.dim);
      case part::final_norm: return add("model.norm.weight", 1, c.dim);
      case part::angles: return skip("the tables of angles", std::uint64_t{c.context_length} * (c.head_dim / 2) * 2);
      case part::head: return c.tied_embeddings ? result<void>() : add("lm_head.weight", c.vocab, c.dim);
    }
    return {};
  }
  result<void> add_layers(std::string_view name, std::size_t rows, std::size_t cols) {
    for (std::uint32_t l = 0; l < config_.layers; ++l)
      if (auto done = add("model.layers." + std::to_string(l) + "." + std::string(name), rows, cols); !done)
        return done;
    return {};
  }
  result<void> add(std::string name, std::size_t rows, std::size_t cols) {
    const std::uint64_t offset = end_;
    const std::uint64_t count = std::uint64_t{rows} * cols;
    if (auto done = skip("tensor " + name, count); !done) return done;
    const auto bytes = static_cast<std::size_t>(count * sizeof(float));
    tensors_.emplace(std::move(name), place{{dtype::f32, rows, cols, bytes}, offset});
    return {};
  }
  result<void> skip(const std::string& what, std::uint64_t count) {
    const std::uint64_t left = source_.size() - end_;
    if (count > left / sizeof(float))
      return fail(errc::bad_format, what, ": expected ", count * sizeof(float), " bytes at offset ", end_, ", found ",
                  left);
    end_ += count * sizeof(float);
    return {};
  }

  byte_source source_;
  model_config config_;
  std::uint32_t version_ = 0;
  std::uint64_t end_ = 0;  // of what is placed so far
  std::map<std::string, place, std::less<>> tensors_;
};

static_assert(weights_source<llama2c_weights>);

}  // namespace blockattn::inline v0
