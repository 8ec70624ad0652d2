// SPDX-License-Identifier: MIT
/// All weights of a model in one buffer, by the names of model/weights.hpp: what training changes, and a source from which
/// a model binds.
#pragma once

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "../core/hash.hpp"
#include "../core/memory.hpp"
#include "../kernel/quantize.hpp"
#include "../model/weights.hpp"

namespace blockattn::inline v0 {

/// Where a tensor lies in the buffer, in elements.
struct parameter_place {
  std::string name;
  std::size_t rows = 0, cols = 0;  // a vector has one row
  std::size_t offset = 0;

  [[nodiscard]] std::size_t size() const noexcept { return rows * cols; }
  /// Biases and the weights of norms: weight decay leaves them alone.
  [[nodiscard]] bool is_vector() const noexcept {
    return name.find("norm.weight") != std::string::npos || name.find(".bias") != std::string::npos;
  }
};

/// What `trainer` can train: a valid configuration without post norms, windows and the gate of Gemma. Errors: those of
/// `validate`; `unsupported`.
[[nodiscard]] inline result<void> validate_trainable(const model_config& c) {
  if (auto ok = validate(c); !ok) return ok;
  if (c.post_norms) return fail(errc::unsupported, "training: expected a model without post norms");
  if (c.gate != gate_function::silu) return fail(errc::unsupported, "training: expected the gate silu, found gelu_tanh");
  for (const std::uint32_t w : c.windows)
    if (w != 0) return fail(errc::unsupported, "training: expected layers without a window, found one of ", w);
  return {};
}

/// How weights are drawn.
struct random_parameters {
  double deviation = 0.02;       // of all matrices: a normal distribution
  bool scale_residual = true;    // what joins the residual stream (o_proj, down_proj) by 1 / sqrt(2 layers)
};

/// The tensors of a configuration. Groups that are one product (q, k, v; gate, up; their biases) lie without a gap, and each
/// group begins on a cache line; gaps hold zeros.
template <class T = float>
class parameters {
 public:
  /// All zero. Requires a valid configuration.
  explicit parameters(const model_config& config) : config_(config) {
    place();
    buffer_ = aligned_buffer<>(elements_ * sizeof(T));
    std::fill_n(buffer_.template as<T>(), elements_, T(0));
  }
  parameters(parameters&&) noexcept = default;
  parameters& operator=(parameters&&) noexcept = default;
  parameters(const parameters& other)
      : config_(other.config_), places_(other.places_), by_name_(other.by_name_), elements_(other.elements_),
        buffer_(other.elements_ * sizeof(T)) {
    std::copy_n(other.buffer_.template as<T>(), elements_, buffer_.template as<T>());
  }
  parameters& operator=(const parameters& other) { return *this = parameters(other); }

  /// Norms are one, biases zero, matrices normal. The same seed gives the same weights wherever `std::log` and `std::cos`
  /// of double agree. Errors: those of `validate_trainable`.
  [[nodiscard]] static result<parameters> random(const model_config& config, std::uint64_t seed,
                                                 const random_parameters& options = {}) {
    if (auto ok = validate_trainable(config); !ok) return ok.error();
    parameters out(config);
    for (const parameter_place& p : out.places_) {
      const std::span<T> to = out.span(p);
      if (p.is_vector()) {
        std::fill(to.begin(), to.end(), p.name.find(".bias") == std::string::npos ? T(1) : T(0));
        continue;
      }
      const bool residual = p.name.find("o_proj") != std::string::npos || p.name.find("down_proj") != std::string::npos;
      const double size = options.deviation * (options.scale_residual && residual ? 1.0 / std::sqrt(2.0 * config.layers) : 1.0);
      const std::uint64_t key = hasher(seed).text(p.name).finish().low;
      for (std::size_t i = 0; i < to.size(); ++i) to[i] = static_cast<T>(static_cast<float>(size * normal(key, i)));
    }
    return out;
  }

  /// Decodes every tensor of a source. Errors: those of `validate_trainable`; `bad_format` for a missing tensor,
  /// `shape_mismatch`, `unsupported` for a type that is not one of weights, and what the source reports.
  template <weights_source Source>
  [[nodiscard]] static result<parameters> from(const Source& source) {
    const model_config config = source.config();
    if (auto ok = validate_trainable(config); !ok) return ok.error();
    parameters out(config);
    std::vector<float> decoded;
    for (const parameter_place& p : out.places_) {
      const std::optional<tensor_info> info = source.find(p.name);
      if (!info) return fail(errc::bad_format, "tensor ", p.name, ": expected ", p.rows, " x ", p.cols, ", found none");
      if (info->rows != p.rows || info->cols != p.cols)
        return fail(errc::shape_mismatch, "tensor ", p.name, ": expected ", p.rows, " x ", p.cols, ", found ",
                    info->rows, " x ", info->cols);
      if (!is_weight_type(info->type) || p.cols % block_elements(info->type) != 0)
        return fail(errc::unsupported, "tensor ", p.name, ": expected f32, f16, bf16 or a quantised type, found ",
                    to_string(info->type));
      const auto bytes = source.load(p.name);
      if (!bytes) return bytes.error();
      const std::size_t expected = p.size() / block_elements(info->type) * block_bytes(info->type);
      if (bytes->bytes().size() != expected)
        return fail(errc::bad_format, "tensor ", p.name, ": expected ", expected, " bytes, found ", bytes->bytes().size());
      decoded.resize(p.size());
      decode_row(info->type, bytes->bytes().data(), p.size(), decoded.data());
      std::copy(decoded.begin(), decoded.end(), out.span(p).begin());
      source.release(p.name);
    }
    return out;
  }

  /// The same with a vocabulary of `vocab` tokens: further rows of the embedding, and of the head if it is another matrix, are
  /// the mean of the others. Requires a vocabulary that is not smaller.
  [[nodiscard]] parameters with_vocabulary(std::uint32_t vocab) const {
    BLOCKATTN_EXPECTS(vocab >= config_.vocab);
    model_config config = config_;
    config.vocab = vocab;
    parameters out(config);
    for (std::size_t i = 0; i < places_.size(); ++i) {
      const parameter_place &from = places_[i], &to = out.places_[i];
      const std::span<const T> old = span(from);
      const std::span<T> grown = out.span(to);
      std::copy(old.begin(), old.end(), grown.begin());
      for (std::size_t c = 0; from.rows < to.rows && c < to.cols; ++c) {
        double sum = 0;
        for (std::size_t r = 0; r < from.rows; ++r) sum += static_cast<double>(old[r * to.cols + c]);
        const auto mean = static_cast<T>(sum / static_cast<double>(from.rows));
        for (std::size_t r = from.rows; r < to.rows; ++r) grown[r * to.cols + c] = mean;
      }
    }
    return out;
  }

  /// In order of the buffer.
  [[nodiscard]] std::span<const parameter_place> places() const noexcept { return places_; }
  /// The place of a tensor; null if the model has none of this name.
  [[nodiscard]] const parameter_place* find_place(std::string_view name) const noexcept {
    const auto it = by_name_.find(name);
    return it == by_name_.end() ? nullptr : &places_[it->second];
  }

  /// A tensor, (rows, cols) row-major. Empty if there is none of this name.
  [[nodiscard]] std::span<T> span(std::string_view name) noexcept {
    const parameter_place* p = find_place(name);
    return p == nullptr ? std::span<T>() : span(*p);
  }
  [[nodiscard]] std::span<const T> span(std::string_view name) const noexcept {
    return const_cast<parameters*>(this)->span(name);
  }
  [[nodiscard]] std::span<T> span(const parameter_place& p) noexcept {
    return {buffer_.template as<T>() + p.offset, p.size()};
  }
  [[nodiscard]] std::span<const T> span(const parameter_place& p) const noexcept {
    return {buffer_.template as<T>() + p.offset, p.size()};
  }
  /// The whole buffer, gaps included.
  [[nodiscard]] std::span<T> all() noexcept { return {buffer_.template as<T>(), elements_}; }
  [[nodiscard]] std::span<const T> all() const noexcept { return {buffer_.template as<T>(), elements_}; }
  /// Weights, gaps not counted.
  [[nodiscard]] std::size_t count() const noexcept {
    std::size_t sum = 0;
    for (const parameter_place& p : places_) sum += p.size();
    return sum;
  }

  // A weights_source, of float and of no other type. Bytes are borrowed.
  [[nodiscard]] const model_config& config() const noexcept { return config_; }
  [[nodiscard]] std::optional<tensor_info> find(std::string_view name) const
    requires std::is_same_v<T, float>
  {
    const parameter_place* p = find_place(name);
    if (p == nullptr) return std::nullopt;
    return tensor_info{dtype::f32, p->rows, p->cols, p->size() * sizeof(T)};
  }
  [[nodiscard]] result<tensor_bytes> load(std::string_view name) const
    requires std::is_same_v<T, float>
  {
    const parameter_place* p = find_place(name);
    if (p == nullptr) return fail(errc::bad_format, "tensor ", std::string(name), " is missing");
    return tensor_bytes(std::as_bytes(span(*p)));
  }
  void release(std::string_view) const noexcept {}

 private:
  void place() {
    const model_config& c = config_;
    const std::size_t queries = std::size_t{c.heads} * c.head_dim, keys = std::size_t{c.kv_heads} * c.head_dim;
    const auto group = [&](std::initializer_list<parameter_place> tensors) {
      elements_ = round_up(elements_, alignment / sizeof(T));
      for (parameter_place p : tensors) {
        p.offset = elements_;
        elements_ += p.size();
        by_name_.emplace(p.name, places_.size());
        places_.push_back(std::move(p));
      }
    };
    group({{"model.embed_tokens.weight", c.vocab, c.dim}});
    for (std::size_t l = 0; l < c.layers; ++l) {
      const std::string at = "model.layers." + std::to_string(l) + ".", attention = at + "self_attn.", ffn = at + "mlp.";
      group({{at + "input_layernorm.weight", 1, c.dim}});
      group({{attention + "q_proj.weight", queries, c.dim},
             {attention + "k_proj.weight", keys, c.dim},
             {attention + "v_proj.weight", keys, c.dim}});
      if (c.qkv_bias)
        group({{attention + "q_proj.bias", 1, queries}, {attention + "k_proj.bias", 1, keys}, {attention + "v_proj.bias", 1, keys}});
      if (c.qk_norm) group({{attention + "q_norm.weight", 1, c.head_dim}, {attention + "k_norm.weight", 1, c.head_dim}});
      group({{attention + "o_proj.weight", c.dim, queries}});
      group({{at + "post_attention_layernorm.weight", 1, c.dim}});
      group({{ffn + "gate_proj.weight", c.ffn, c.dim}, {ffn + "up_proj.weight", c.ffn, c.dim}});
      group({{ffn + "down_proj.weight", c.dim, c.ffn}});
    }
    group({{"model.norm.weight", 1, c.dim}});
    if (!c.tied_embeddings) group({{"lm_head.weight", c.vocab, c.dim}});
    elements_ = round_up(elements_, alignment / sizeof(T));
  }

  // Number i of a stream of normal numbers (Box and Muller 1958), from two mixed counters (splitmix64).
  static double normal(std::uint64_t key, std::uint64_t i) noexcept {
    const auto uniform = [](std::uint64_t counter) {
      std::uint64_t x = counter * 0x9e3779b97f4a7c15u;
      x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
      x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
      return static_cast<double>((x ^ (x >> 31)) >> 11) * 0x1.0p-53;
    };
    const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform(key + 2 * i)));
    return radius * std::cos(6.283185307179586476925286766559 * uniform(key + 2 * i + 1));
  }

  model_config config_;
  std::vector<parameter_place> places_;
  std::map<std::string, std::size_t, std::less<>> by_name_;
  std::size_t elements_ = 0;
  aligned_buffer<> buffer_;
};

static_assert(weights_source<parameters<float>>);

}  // namespace blockattn::inline v0
