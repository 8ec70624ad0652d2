// SPDX-License-Identifier: MIT
/// Writes safetensors files in memory: good ones from tensors, and any header text over any data.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gguf_writer.hpp"

namespace blockattn_test {

/// A file of that header and data, whatever they are.
inline byte_vector safetensors_bytes(std::string_view header, const byte_vector& data) {
  byte_vector out;
  put(out, std::uint64_t{header.size()});
  for (const char c : header) put(out, c);
  out.insert(out.end(), data.begin(), data.end());
  return out;
}

/// Tensors are laid out in the order of the calls.
class safetensors_writer {
 public:
  safetensors_writer& tensor(const std::string& name, const std::string& type, std::vector<std::uint64_t> shape,
                             const byte_vector& bytes) {
    header_[name] = {{"dtype", type}, {"shape", shape}, {"data_offsets", {data_.size(), data_.size() + bytes.size()}}};
    data_.insert(data_.end(), bytes.begin(), bytes.end());
    return *this;
  }
  safetensors_writer& floats(const std::string& name, std::vector<std::uint64_t> shape,
                             const std::vector<float>& values) {
    return tensor(name, "F32", std::move(shape), bytes_of(values));
  }
  safetensors_writer& metadata(const std::string& key, const std::string& value) {
    header_["__metadata__"][key] = value;
    return *this;
  }
  [[nodiscard]] byte_vector build() const { return safetensors_bytes(header_.dump(), data_); }

 private:
  nlohmann::ordered_json header_ = nlohmann::ordered_json::object();
  byte_vector data_;
};

}  // namespace blockattn_test
