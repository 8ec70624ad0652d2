// SPDX-License-Identifier: MIT
/// Cases computed by engines that share no code with ours: blocks of ids, and files of logits beside them.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <vector>

#include "blockattn/core/config.hpp"
#include "data.hpp"

namespace blockattn_test {

using token_ids = std::vector<blockattn::token>;

struct golden_case {
  std::vector<token_ids> blocks;  // the last is the question
  std::size_t vocab = 0;
  nlohmann::json json;

  [[nodiscard]] token_ids all() const {
    token_ids out;
    for (const token_ids& b : blocks) out.insert(out.end(), b.begin(), b.end());
    return out;
  }
  [[nodiscard]] std::vector<std::size_t> lengths() const {
    std::vector<std::size_t> out;
    for (const token_ids& b : blocks) out.push_back(b.size());
    return out;
  }
};

inline golden_case read_case(const std::filesystem::path& file) {
  golden_case c;
  c.json = nlohmann::json::parse(read_text(file));
  c.blocks = c.json["blocks"].get<std::vector<token_ids>>();
  c.vocab = c.json["vocab"].get<std::size_t>();
  return c;
}

}  // namespace blockattn_test
