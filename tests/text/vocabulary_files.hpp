// SPDX-License-Identifier: MIT
/// A minimal reader of GGUF metadata for tests of tokenizers.
#pragma once

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "../support/data.hpp"

namespace blockattn_test {

class metadata_file {
 public:
  explicit metadata_file(const std::filesystem::path& file) : bytes_(read_text(file)) {
    at_ = 8;
    (void)number<std::uint64_t>();
    const auto count = number<std::uint64_t>();
    for (std::uint64_t i = 0; i < count; ++i) {
      const std::string key(text());
      value& v = values_[key];
      v.type = number<std::uint32_t>();
      if (v.type == 9) {
        v.type = number<std::uint32_t>();
        v.list = true;
        const auto n = number<std::uint64_t>();
        for (std::uint64_t k = 0; k < n; ++k) read(v);
      } else {
        read(v);
      }
    }
  }
  std::optional<std::string_view> find_string(std::string_view key) const {
    const value* v = get(key);
    if (v == nullptr || v->list || v->strings.empty()) return {};
    return v->strings[0];
  }
  std::optional<std::uint64_t> find_u64(std::string_view key) const {
    const value* v = get(key);
    if (v == nullptr || v->list || v->ints.empty()) return {};
    return static_cast<std::uint64_t>(v->ints[0]);
  }
  std::optional<bool> find_bool(std::string_view key) const {
    const value* v = get(key);
    if (v == nullptr || v->list || v->type != 7) return {};
    return v->ints[0] != 0;
  }
  std::optional<std::vector<std::string_view>> find_strings(std::string_view key) const {
    const value* v = get(key);
    if (v == nullptr || !v->list || v->type != 8) return {};
    return std::vector<std::string_view>(v->strings.begin(), v->strings.end());
  }
  std::optional<std::vector<float>> find_floats(std::string_view key) const {
    const value* v = get(key);
    if (v == nullptr || !v->list || v->type != 6) return {};
    return v->floats;
  }
  std::optional<std::vector<std::int64_t>> find_ints(std::string_view key) const {
    const value* v = get(key);
    if (v == nullptr || !v->list || v->ints.empty()) return {};
    return v->ints;
  }

 private:
  struct value {
    std::uint32_t type = 0;
    bool list = false;
    std::vector<std::string_view> strings;
    std::vector<float> floats;
    std::vector<std::int64_t> ints;
  };
  template <class T>
  T number() {
    T out;
    REQUIRE(at_ + sizeof(T) <= bytes_.size());
    std::memcpy(&out, bytes_.data() + at_, sizeof(T));
    at_ += sizeof(T);
    return out;
  }
  std::string_view text() {
    const auto n = static_cast<std::size_t>(number<std::uint64_t>());
    const std::string_view out(bytes_.data() + at_, n);
    at_ += n;
    return out;
  }
  void read(value& v) {
    switch (v.type) {
      case 0: case 7: v.ints.push_back(number<std::uint8_t>()); break;
      case 1: v.ints.push_back(number<std::int8_t>()); break;
      case 2: v.ints.push_back(number<std::uint16_t>()); break;
      case 3: v.ints.push_back(number<std::int16_t>()); break;
      case 4: v.ints.push_back(number<std::uint32_t>()); break;
      case 5: v.ints.push_back(number<std::int32_t>()); break;
      case 6: v.floats.push_back(number<float>()); break;
      case 8: v.strings.push_back(text()); break;
      case 10: v.ints.push_back(static_cast<std::int64_t>(number<std::uint64_t>())); break;
      case 11: v.ints.push_back(number<std::int64_t>()); break;
      default: FAIL("unknown metadata type");
    }
  }
  const value* get(std::string_view key) const {
    const auto at = values_.find(std::string(key));
    return at == values_.end() ? nullptr : &at->second;
  }
  std::string bytes_;
  std::size_t at_ = 0;
  std::map<std::string, value> values_;
};

}  // namespace blockattn_test
