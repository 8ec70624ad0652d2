// SPDX-License-Identifier: MIT
/// `model.safetensors.index.json`: which file of a sharded checkpoint holds a tensor. Read by events like the header of a
/// file, so that it costs a small multiple of its own size.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../core/json_text.hpp"
#include "byte_source.hpp"

namespace blockattn::inline v0 {

/// The names of the files, each once, in order; and of each tensor the number of its file.
struct safetensors_index {
  std::vector<std::string> files;
  std::map<std::string, std::size_t, std::less<>> tensors;
};

namespace detail {

class safetensors_index_reader {
 public:
  static constexpr std::size_t max_files = 4096;

  safetensors_index index;
  failure error;

  [[nodiscard]] bool read(std::string_view text) {
    if (auto plain = refuse_zero_bytes(text); !plain) return refuse(plain.error().message);
    if (nlohmann::json::sax_parse(text.data(), text.data() + text.size(), this)) return true;
    if (error.message.empty()) refuse("expected valid JSON");
    return false;
  }
  [[nodiscard]] bool has_map() const noexcept { return has_map_; }

  // The events. `metadata`, and whatever else stands beside the map, is passed over.
  bool null() { return scalar("null"); }
  bool boolean(bool) { return scalar("a truth value"); }
  bool number_integer(std::int64_t) { return scalar("a number"); }
  bool number_unsigned(std::uint64_t) { return scalar("a number"); }
  bool number_float(double, const std::string&) { return scalar("a number"); }
  bool binary(nlohmann::json::binary_t&) { return scalar("binary data"); }
  bool string(std::string& text) {
    if (!in_map_) return scalar("text");
    // A file beside the index, and nothing else on this machine.
    if (text.empty() || text.size() > 255 || text.front() == '.' || text.find_first_of("/\\:") != std::string::npos ||
        text.find('\0') != std::string::npos)
      return refuse("tensor ", shown(key_), ": expected the name of a file in the same folder, found ", shown(text));
    auto known = numbers_.find(text);
    if (known == numbers_.end()) {
      if (index.files.size() == max_files) return refuse("weight_map: expected at most ", max_files, " files, found more");
      known = numbers_.emplace(text, index.files.size()).first;
      index.files.push_back(std::move(text));
    }
    if (!index.tensors.emplace(std::move(key_), known->second).second)
      return refuse("weight_map: expected each tensor once, found one twice in ", shown(known->first));
    return true;
  }
  bool start_object(std::size_t) {
    if (depth_ == 1 && key_ == "weight_map") {
      if (std::exchange(has_map_, true)) return refuse("expected weight_map once, found it twice");
      in_map_ = true;
    } else if (in_map_) {
      return scalar("an object");
    }
    return deeper();
  }
  bool key(std::string& text) {
    key_ = std::move(text);
    return true;
  }
  bool end_object() {
    --depth_;
    in_map_ = false;
    return true;
  }
  bool start_array(std::size_t) { return depth_ == 0 || in_map_ ? scalar("a list") : deeper(); }
  bool end_array() {
    --depth_;
    return true;
  }
  template <class Exception>
  bool parse_error(std::size_t position, const std::string& token, const Exception&) {
    return refuse("expected valid JSON, found \"", shown(token), "\" at byte ", position);
  }

 private:
  template <class... Pieces>
  bool refuse(const Pieces&... pieces) {
    error = fail(errc::bad_format, pieces...);
    return false;
  }
  bool deeper() { return ++depth_ <= 16 || refuse("expected at most 16 levels of JSON, found more"); }
  bool scalar(const char* found) {
    if (depth_ == 0) return refuse("expected an object, found ", found);
    if (in_map_) return refuse("tensor ", shown(key_), ": expected the name of a file, found ", found);
    if (depth_ == 1 && key_ == "weight_map") return refuse("weight_map: expected an object, found ", found);
    return true;
  }

  int depth_ = 0;
  bool in_map_ = false, has_map_ = false;
  std::string key_;
  std::map<std::string, std::size_t, std::less<>> numbers_;
};

}  // namespace detail

/// The largest index that is read; published ones take up to a few million bytes.
inline constexpr std::size_t max_safetensors_index = std::size_t{64} << 20;

/// Reads an index. Errors: `bad_format` names the tensor or key, what was expected and found. Memory: at most about
/// sixteen times the text.
[[nodiscard]] inline result<safetensors_index> read_safetensors_index(std::string_view json) {
  if (json.size() > max_safetensors_index)
    return fail(errc::bad_format, "expected an index of at most ", max_safetensors_index, " bytes, found ", json.size());
  detail::safetensors_index_reader reader;
  if (!reader.read(json)) return std::move(reader.error);
  if (!reader.has_map() || reader.index.files.empty())
    return fail(errc::bad_format, "weight_map: expected the files of a model, found none");
  return std::move(reader.index);
}

}  // namespace blockattn::inline v0
