// SPDX-License-Identifier: MIT
/// A folder of encoded blocks behind a store: what a file holds is not encoded again, what is encoded becomes a file.
#pragma once

#include <blockattn/cache/block_file.hpp>
#include <blockattn/cache/kv_store.hpp>

#include <filesystem>
#include <string>
#include <vector>

#include "models.hpp"

namespace cli {

/// Blocks of a prompt, and where each came from: "memory", "directory" or "miss".
struct found_blocks {
  std::vector<ba::block_handle> handles;
  std::vector<const char*> from;
  std::vector<std::string> refused;  // files that were there and could not be used, and why
};

inline std::filesystem::path block_path(const std::string& folder, const ba::block_key& key) {
  return std::filesystem::path(folder) / (key.value.hex() + ".safetensors");
}

/// Finds or encodes; with a folder, restores from it first and writes what was missing. A damaged or foreign file is a
/// miss, and is replaced.
template <class Store>
ba::result<found_blocks> find_blocks(session& chat, Store& store, const std::string& folder, const token_lists& lists) {
  found_blocks out;
  out.from.assign(lists.size(), "miss");
  if (!folder.empty()) {
    std::error_code code;
    std::filesystem::create_directories(folder, code);
    if (code) return ba::fail(ba::errc::io, folder, ": cannot create: ", code.message());
  }
  std::vector<ba::block_handle> pinned;  // until they are in use
  for (std::size_t i = 0; i < lists.size(); ++i) {
    const ba::block_key key = ba::key_of(chat.realm(), lists[i]);
    if (auto block = store.find(key, lists[i])) {
      out.from[i] = "memory";
      pinned.push_back(std::move(block));
      continue;
    }
    std::error_code code;
    const auto file = folder.empty() ? std::filesystem::path() : block_path(folder, key);
    if (folder.empty() || !std::filesystem::exists(file, code)) continue;
    auto restored = ba::read_block_file(file, chat.realm(), chat.shape(), lists[i]);
    if (!restored) {
      out.refused.push_back(restored.error().message);
      continue;
    }
    if (auto kept = store.insert(*restored)) {
      out.from[i] = "directory";
      pinned.push_back(std::move(*kept));
    }
  }
  auto handles = store.find_or_encode(std::span<const std::vector<ba::token>>(lists), chat);
  if (!handles) return std::move(handles).error();
  out.handles = std::move(*handles);
  if (!folder.empty()) {
    for (std::size_t i = 0; i < lists.size(); ++i) {
      if (out.from[i][0] != 'm' || out.from[i][1] != 'i' || lists[i].empty()) continue;  // not a miss
      const auto file = block_path(folder, out.handles[i]->key());
      if (auto written = ba::write_block_file(file, chat.realm(), *out.handles[i], ba::isa_name()); !written)
        return written.error();
    }
  }
  return out;
}

/// `[{"tokens", "start", "hit"}]` of the local blocks, then the final block.
inline json describe_blocks(const found_blocks& found, std::size_t final_tokens) {
  json out = json::array();
  std::size_t start = 0;
  for (std::size_t i = 0; i < found.handles.size(); ++i) {
    const std::size_t n = found.handles[i]->tokens().size();
    out.push_back({{"tokens", n}, {"start", start}, {"hit", found.from[i]}});
    start += n;
  }
  out.push_back({{"tokens", final_tokens}, {"start", start}, {"hit", "miss"}});
  return out;
}

}  // namespace cli
