// SPDX-License-Identifier: MIT
/// Writes GGUF files in memory, good ones and, by overwriting a field that it remembers, damaged ones.
#pragma once

#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "catch.hpp"

namespace blockattn_test {

using byte_vector = std::vector<std::byte>;

template <class T>
void put(byte_vector& out, T value) {
  const auto* first = reinterpret_cast<const std::byte*>(&value);
  out.insert(out.end(), first, first + sizeof value);
}

/// Overwrites a number.
template <class T>
void poke(byte_vector& bytes, std::size_t at, T value) {
  REQUIRE(at + sizeof value <= bytes.size());
  std::memcpy(bytes.data() + at, &value, sizeof value);
}

inline byte_vector bytes_of(const std::vector<float>& values) {
  byte_vector out(values.size() * sizeof(float));
  std::memcpy(out.data(), values.data(), out.size());
  return out;
}

/// Keys and tensors are written in the order of the calls; adding a key again replaces its value.
class gguf_writer {
 public:
  std::uint32_t version = 3;
  std::uint64_t alignment = 32;

  gguf_writer& text(const std::string& key, std::string_view value) {
    byte_vector v;
    put_text(v, value);
    return add(key, 8, std::move(v));
  }
  gguf_writer& u8(const std::string& key, std::uint8_t v) { return number(key, 0, v); }
  gguf_writer& i8(const std::string& key, std::int8_t v) { return number(key, 1, v); }
  gguf_writer& u16(const std::string& key, std::uint16_t v) { return number(key, 2, v); }
  gguf_writer& i16(const std::string& key, std::int16_t v) { return number(key, 3, v); }
  gguf_writer& u32(const std::string& key, std::uint32_t v) { return number(key, 4, v); }
  gguf_writer& i32(const std::string& key, std::int32_t v) { return number(key, 5, v); }
  gguf_writer& f32(const std::string& key, float v) { return number(key, 6, v); }
  gguf_writer& boolean(const std::string& key, bool v) { return number(key, 7, static_cast<std::uint8_t>(v)); }
  gguf_writer& u64(const std::string& key, std::uint64_t v) { return number(key, 10, v); }
  gguf_writer& i64(const std::string& key, std::int64_t v) { return number(key, 11, v); }
  gguf_writer& f64(const std::string& key, double v) { return number(key, 12, v); }
  template <class T>
  gguf_writer& list(const std::string& key, std::uint32_t element, const std::vector<T>& values) {
    byte_vector v;
    put(v, element);
    put(v, std::uint64_t{values.size()});
    for (const T& x : values) put(v, x);
    return add(key, 9, std::move(v));
  }
  gguf_writer& texts(const std::string& key, const std::vector<std::string>& values) {
    byte_vector v;
    put(v, std::uint32_t{8});
    put(v, std::uint64_t{values.size()});
    for (const auto& x : values) put_text(v, x);
    return add(key, 9, std::move(v));
  }
  gguf_writer& remove_key(const std::string& key) {
    std::erase_if(keys_, [&](const auto& k) { return k.name == key; });
    return *this;
  }

  /// `dims[0]` is the length of a row.
  gguf_writer& tensor(const std::string& name, std::vector<std::uint64_t> dims, std::uint32_t format,
                      byte_vector data) {
    remove_tensor(name);
    tensors_.push_back({name, std::move(dims), format, std::move(data)});
    return *this;
  }
  gguf_writer& floats(const std::string& name, std::vector<std::uint64_t> dims, const std::vector<float>& values) {
    return tensor(name, std::move(dims), 0, bytes_of(values));
  }
  gguf_writer& remove_tensor(const std::string& name) {
    std::erase_if(tensors_, [&](const auto& t) { return t.name == name; });
    return *this;
  }

  /// The file. Afterwards `at` knows where its fields are.
  byte_vector build() {
    places_.clear();
    byte_vector out;
    for (const char c : {'G', 'G', 'U', 'F'}) put(out, c);
    mark(out, "version");
    put(out, version);
    mark(out, "tensor count");
    put(out, std::uint64_t{tensors_.size()});
    mark(out, "key count");
    put(out, std::uint64_t{keys_.size()});
    for (const auto& k : keys_) {
      mark(out, k.name + ": name");
      put_text(out, k.name);
      mark(out, k.name + ": type");
      put(out, k.type);
      mark(out, k.name);
      out.insert(out.end(), k.value.begin(), k.value.end());
    }
    std::uint64_t offset = 0;
    for (const auto& t : tensors_) {
      mark(out, t.name + ": name");
      put_text(out, t.name);
      mark(out, t.name + ": rank");
      put(out, static_cast<std::uint32_t>(t.dims.size()));
      mark(out, t.name + ": dims");
      for (const std::uint64_t d : t.dims) put(out, d);
      mark(out, t.name + ": format");
      put(out, t.format);
      mark(out, t.name + ": offset");
      put(out, offset);
      offset += round_up(t.data.size());
    }
    head_end_ = out.size();
    for (const auto& t : tensors_) {
      out.resize(static_cast<std::size_t>(round_up(out.size())));
      mark(out, t.name);
      out.insert(out.end(), t.data.begin(), t.data.end());
    }
    return out;
  }
  /// Where a field begins: "version", "tensor count", "key count"; a key's "NAME: name", "NAME: type" and value "NAME"
  /// (of a list: u32 element type, u64 count, elements); a tensor's "NAME: name|rank|dims|format|offset", data "NAME".
  [[nodiscard]] std::size_t at(const std::string& field) const {
    INFO(field);
    REQUIRE(places_.count(field) == 1);
    return places_.at(field);
  }
  [[nodiscard]] std::size_t head_end() const { return head_end_; }

 private:
  struct key_entry {
    std::string name;
    std::uint32_t type;
    byte_vector value;
  };
  struct tensor_entry {
    std::string name;
    std::vector<std::uint64_t> dims;
    std::uint32_t format;
    byte_vector data;
  };
  static void put_text(byte_vector& out, std::string_view value) {
    put(out, std::uint64_t{value.size()});
    for (const char c : value) put(out, c);
  }
  [[nodiscard]] std::uint64_t round_up(std::uint64_t n) const { return (n + alignment - 1) / alignment * alignment; }
  void mark(const byte_vector& out, const std::string& field) { places_[field] = out.size(); }
  template <class T>
  gguf_writer& number(const std::string& name, std::uint32_t type, T value) {
    byte_vector v;
    put(v, value);
    return add(name, type, std::move(v));
  }
  gguf_writer& add(const std::string& name, std::uint32_t type, byte_vector value) {
    for (key_entry& k : keys_) {
      if (k.name != name) continue;
      k.type = type;
      k.value = std::move(value);
      return *this;
    }
    keys_.push_back({name, type, std::move(value)});
    return *this;
  }

  std::vector<key_entry> keys_;
  std::vector<tensor_entry> tensors_;
  std::map<std::string, std::size_t> places_;
  std::size_t head_end_ = 0;
};

/// A whole model in about four kilobytes: 2 layers, dim 8, 2 heads of 4, 1 key head, ffn 12, vocabulary 10. Values are
/// distinct small numbers. Architecture "llama", "qwen2" (with biases) or "qwen3" (with norms of queries and keys).
inline gguf_writer small_gguf(const std::string& architecture = "llama") {
  gguf_writer w;
  const std::string a = architecture + ".";
  w.text("general.architecture", architecture);
  w.u32(a + "context_length", 32).u32(a + "embedding_length", 8).u32(a + "block_count", 2);
  w.u32(a + "feed_forward_length", 12).u32(a + "attention.head_count", 2).u32(a + "attention.head_count_kv", 1);
  w.f32(a + "attention.layer_norm_rms_epsilon", 1e-5f);
  float next = 0;
  const auto floats = [&](const std::string& name, std::uint64_t cols, std::uint64_t rows) {
    std::vector<float> values(static_cast<std::size_t>(cols * rows));
    for (float& x : values) x = (next += 0.25f);
    w.floats(name, rows == 1 ? std::vector<std::uint64_t>{cols} : std::vector<std::uint64_t>{cols, rows}, values);
  };
  floats("token_embd.weight", 8, 10);
  for (const std::string l : {"blk.0.", "blk.1."}) {
    floats(l + "attn_norm.weight", 8, 1);
    floats(l + "attn_q.weight", 8, 8);
    floats(l + "attn_k.weight", 8, 4);
    floats(l + "attn_v.weight", 8, 4);
    if (architecture == "qwen2") {
      floats(l + "attn_q.bias", 8, 1);
      floats(l + "attn_k.bias", 4, 1);
      floats(l + "attn_v.bias", 4, 1);
    }
    if (architecture == "qwen3") {
      floats(l + "attn_q_norm.weight", 4, 1);
      floats(l + "attn_k_norm.weight", 4, 1);
    }
    floats(l + "attn_output.weight", 8, 8);
    floats(l + "ffn_norm.weight", 8, 1);
    floats(l + "ffn_gate.weight", 8, 12);
    floats(l + "ffn_up.weight", 8, 12);
    floats(l + "ffn_down.weight", 12, 8);
  }
  floats("output_norm.weight", 8, 1);
  return w;
}

}  // namespace blockattn_test
