// SPDX-License-Identifier: MIT
/// Binding: every tensor of a source is found by name, checked, repacked and released, once. Included by llama.hpp.
#pragma once

#include <array>
#include <cstring>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>

#include "../kernel/quantize.hpp"
#include "llama.hpp"

namespace blockattn::inline v0 {

template <kernel_set Kernels, class Allocator>
template <class Source>
class llama<Kernels, Allocator>::binder {
 public:
  binder(llama& model, const Source& source, const bind_options& options, const Allocator& allocator)
      : model_(model),
        source_(source),
        options_(options),
        allocator_(allocator),
        interleaved_(source.config().rope.layout == rope_layout::interleaved) {}

  result<void> run() {
    const model_config& c = model_.config_;
    const std::size_t queries = std::size_t{c.heads} * c.head_dim, keys = std::size_t{c.kv_heads} * c.head_dim;
    model_.layers_.resize(c.layers);
    total_ = c.layers * (9 + (c.qkv_bias ? 3u : 0u) + (c.qk_norm ? 2u : 0u) + (c.post_norms ? 2u : 0u)) +
             (c.tied_embeddings ? 2u : 3u);

    if (auto r = matrix({{"model.embed_tokens.weight", c.vocab}}, c.dim, model_.embedding_); !r) return r;
    for (std::size_t l = 0; l < c.layers; ++l) {
      layer& to = model_.layers_[l];
      const std::string at = "model.layers." + std::to_string(l) + ".";
      const std::string attention = at + "self_attn.", ffn = at + "mlp.";
      if (auto r = vector({{at + "input_layernorm.weight", c.dim}}, to.attention_norm); !r) return r;
      if (auto r = matrix({{attention + "q_proj.weight", queries, c.heads},
                           {attention + "k_proj.weight", keys, c.kv_heads},
                           {attention + "v_proj.weight", keys}},
                          c.dim, to.qkv);
          !r)
        return r;
      if (c.qkv_bias) {
        if (auto r = vector({{attention + "q_proj.bias", queries, c.heads},
                             {attention + "k_proj.bias", keys, c.kv_heads},
                             {attention + "v_proj.bias", keys}},
                            to.qkv_bias);
            !r)
          return r;
      }
      if (c.qk_norm) {
        if (auto r = vector({{attention + "q_norm.weight", c.head_dim, 1}}, to.query_norm); !r) return r;
        if (auto r = vector({{attention + "k_norm.weight", c.head_dim, 1}}, to.key_norm); !r) return r;
      }
      if (auto r = matrix({{attention + "o_proj.weight", c.dim}}, queries, to.out); !r) return r;
      const char* const ffn_norm = c.post_norms ? "pre_feedforward_layernorm.weight" : "post_attention_layernorm.weight";
      if (auto r = vector({{at + ffn_norm, c.dim}}, to.ffn_norm); !r) return r;
      if (c.post_norms) {
        if (auto r = vector({{at + "post_attention_layernorm.weight", c.dim}}, to.attention_post_norm); !r) return r;
        if (auto r = vector({{at + "post_feedforward_layernorm.weight", c.dim}}, to.ffn_post_norm); !r) return r;
      }
      if (auto r = matrix({{ffn + "gate_proj.weight", c.ffn}, {ffn + "up_proj.weight", c.ffn}}, c.dim, to.gate_up); !r)
        return r;
      if (auto r = matrix({{ffn + "down_proj.weight", c.dim}}, c.ffn, to.down); !r) return r;
    }
    if (auto r = vector({{"model.norm.weight", c.dim}}, model_.final_norm_); !r) return r;
    model_.head_ = model_.embedding_;
    if (!c.tied_embeddings)
      if (auto r = matrix({{"lm_head.weight", c.vocab}}, c.dim, model_.head_); !r) return r;

    model_.fingerprint_ = options_.fingerprint ? *options_.fingerprint : hash_.finish();
    return {};
  }

  void hash_config() {
    const model_config& c = model_.config_;
    hash_.number(c.layers).number(c.dim).number(c.heads).number(c.kv_heads).number(c.head_dim).number(c.ffn);
    hash_.number(c.vocab).number(c.tied_embeddings).number(c.qkv_bias).number(c.qk_norm);
    hash_.number(std::bit_cast<std::uint32_t>(c.norm_epsilon)).number(c.windows.size());
    for (const std::uint32_t w : c.windows) hash_.number(w);
    if (interleaved_) hash_.text("interleaved");  // the same bytes mean another model
    // What came later enters only where a model has it: blocks of other models keep their names.
    if (c.post_norms || c.gate != gate_function::silu || c.embedding_scale != 1 || c.attention_scale != 0) {
      hash_.text("more").number(c.post_norms).number(static_cast<std::uint64_t>(c.gate));
      hash_.number(std::bit_cast<std::uint32_t>(c.embedding_scale)).number(std::bit_cast<std::uint32_t>(c.score_scale()));
    }
  }

 private:
  struct part {
    std::string name;
    std::size_t rows;
    std::size_t heads = 0;  // whose rows turn in pairs; 0: no row turns
  };

  // Rows in the order of a bound model: neighbours (2m, 2m + 1) of a head become (m, m + pairs), so that a model has the
  // same bits whichever order its file keeps, and heads turn by whole registers.
  std::span<const std::byte> half_split(const part& p, std::span<const std::byte> bytes) {
    if (!interleaved_ || p.heads == 0) return bytes;
    const std::size_t head = p.rows / p.heads, row = bytes.size() / p.rows, pairs = model_.config_.rope.rotary_dim / 2;
    ordered_.resize(bytes.size());
    for (std::size_t r = 0; r < p.rows; ++r) {
      const std::size_t d = r % head;
      const std::size_t from = d >= 2 * pairs ? d : d < pairs ? 2 * d : 2 * (d - pairs) + 1;
      std::memcpy(ordered_.data() + r * row, bytes.data() + (r - d + from) * row, row);
    }
    return ordered_;
  }

  // Whether a tensor is there, has the shape and an element type that can be packed.
  result<tensor_info> expect(const std::string& name, std::size_t rows, std::size_t cols) {
    const std::optional<tensor_info> info = source_.find(name);
    if (!info) return fail(errc::bad_format, "tensor ", name, ": expected ", rows, " x ", cols, ", found none");
    if (info->rows != rows || info->cols != cols)
      return fail(errc::shape_mismatch, "tensor ", name, ": expected ", rows, " x ", cols, ", found ", info->rows, " x ",
                  info->cols);
    if (!is_weight_type(info->type))
      return fail(errc::unsupported, "tensor ", name, ": expected f32, f16, bf16 or a quantised type, found ",
                  to_string(info->type));
    if (cols % block_elements(info->type) != 0)
      return fail(errc::shape_mismatch, "tensor ", name, ": expected rows of a multiple of ",
                  block_elements(info->type), " elements for ", to_string(info->type), ", found ", cols);
    return *info;
  }

  result<tensor_bytes> read(const std::string& name, const tensor_info& info) {
    auto bytes = source_.load(name);
    if (!bytes) return bytes;
    const std::size_t expected = info.rows * info.cols / block_elements(info.type) * block_bytes(info.type);
    if (bytes->bytes().size() != expected)
      return fail(errc::bad_format, "tensor ", name, ": expected ", expected, " bytes, found ", bytes->bytes().size());
    if (!options_.fingerprint) hash_.text(name).number(static_cast<std::uint64_t>(info.type)).bytes(bytes->bytes());
    return bytes;
  }

  void done(const std::string& name) {
    source_.release(name);
    ordered_ = {};  // no tensor is held twice while the next one is read
    ++packed_;
    if (options_.progress) options_.progress(packed_, total_);
  }

  // Joins vectors into one array of floats.
  result<void> vector(std::initializer_list<part> parts, const float*& out) {
    std::size_t sum = 0;
    for (const part& p : parts) {
      const auto info = expect(p.name, 1, p.rows);
      if (!info) return info.error();
      sum += p.rows;
    }
    float* to = model_.buffers_.emplace_back(sum * sizeof(float), allocator_).template as<float>();
    out = to;
    for (const part& p : parts) {
      const tensor_info info = *source_.find(p.name);
      const auto bytes = read(p.name, info);
      if (!bytes) return bytes.error();
      decode_row(info.type, bytes->bytes().data(), p.rows, to);
      const auto floats = std::as_bytes(std::span<const float>(to, p.rows));
      if (const auto turned = half_split(p, floats); turned.data() != floats.data())
        std::memcpy(to, turned.data(), turned.size());
      to += p.rows;
      done(p.name);
    }
    return {};
  }

  // Stacks matrices of one width, so that they become one product: neighbours whose panels have one type.
  result<void> matrix(std::initializer_list<part> parts, std::size_t cols, stacked_matrix& out) {
    std::size_t sizes[3] = {};  // tensors of each part of the stack
    out.parts = 0;
    for (const part& p : parts) {
      const auto info = expect(p.name, p.rows, cols);
      if (!info) return info.error();
      const dtype type = Kernels::panel_type(info->type);
      if (out.parts == 0 || out.part[out.parts - 1].type != type) out.part[out.parts++] = {nullptr, type, 0, cols};
      out.part[out.parts - 1].rows += p.rows;
      ++sizes[out.parts - 1];
    }
    const part* next = parts.begin();
    for (std::size_t i = 0; i < out.parts; ++i) {
      packed_matrix& to = out.part[i];
      std::byte* panels = model_.buffers_.emplace_back(to.bytes(), allocator_).data();
      to.data = panels;
      for (std::size_t first = 0; sizes[i] != 0; --sizes[i], ++next) {
        const tensor_info info = *source_.find(next->name);
        const auto bytes = read(next->name, info);
        if (!bytes) return bytes.error();
        Kernels::pack(options_.workers ? *options_.workers : executor_ref(alone_), to, panels, first, info.type,
                      half_split(*next, bytes->bytes()).data(), next->rows);
        first += next->rows;
        done(next->name);
      }
    }
    return {};
  }

  llama& model_;
  const Source& source_;
  const bind_options& options_;
  const Allocator& allocator_;
  inline_executor alone_;
  hasher hash_;
  bool interleaved_;                 // how the source orders the rows of q and k
  std::vector<std::byte> ordered_;
  std::size_t packed_ = 0;
  std::size_t total_ = 0;
};

template <kernel_set Kernels, class Allocator>
template <weights_source Source>
result<llama<Kernels, Allocator>> llama<Kernels, Allocator>::bind(const Source& source, const bind_options& options,
                                                                  const Allocator& allocator) {
  const model_config& config = source.config();
  if (auto valid = validate(config); !valid) return valid.error();
  llama model(allocator);
  model.config_ = config;
  model.config_.rope.layout = rope_layout::half_split;  // as the binder orders rows
  if (model.config_.local_rope) model.config_.local_rope->layout = rope_layout::half_split;
  model.compute_ = options.compute;
  auto frequencies = make_frequencies(model.config_);
  if (!frequencies) return frequencies.error();
  model.rope_ = std::make_shared<const rope_frequencies>(*std::move(frequencies));
  binder<Source> work(model, source, options, allocator);
  work.hash_config();
  if (auto done = work.run(); !done) return std::move(done).error();
  return model;
}

}  // namespace blockattn::inline v0
