// SPDX-License-Identifier: MIT
/// A folder of encoded blocks behind a store: what a file holds is not encoded again, what is encoded becomes a file.
#pragma once

#include <blockattn/cache/block_file.hpp>
#include <blockattn/cache/kv_store.hpp>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "models.hpp"

namespace cli {

enum class origin { memory, directory, miss };

[[nodiscard]] inline const char* to_string(origin from) {
  switch (from) {
    case origin::memory: return "memory";
    case origin::directory: return "directory";
    case origin::miss: return "miss";
  }
  return "unknown";
}

/// Blocks of a prompt, and where each came from.
struct found_blocks {
  std::vector<ba::block_handle> handles;
  std::vector<origin> from;
  std::vector<std::string> refused;  // files that were there and could not be used, and why

  [[nodiscard]] std::size_t misses() const {
    return static_cast<std::size_t>(std::count(from.begin(), from.end(), origin::miss));
  }
  void tell_refused() const {
    for (const std::string& why : refused) std::fprintf(stderr, "blockattn: encoded again: %s\n", why.c_str());
  }
};

inline std::filesystem::path block_path(const std::string& folder, const ba::block_key& key) {
  return std::filesystem::path(folder) / (key.value.hex() + ".safetensors");
}

/// Finds or encodes; with a folder, restores from it what the store lacks. A damaged or foreign file is a miss. A block
/// that the request lists twice is encoded once: the second is a hit in memory.
template <class Store>
ba::result<found_blocks> find_blocks(session& chat, Store& store, const std::string& folder, const token_lists& lists) {
  if (!folder.empty()) {
    std::error_code code;
    std::filesystem::create_directories(folder, code);
    if (code) return ba::fail(ba::errc::io, folder, ": cannot create: ", code.message());
  }
  found_blocks out;
  out.handles.resize(lists.size());
  out.from.assign(lists.size(), origin::memory);
  std::vector<std::size_t> missing, repeated;
  const auto first_of = [&](std::size_t i) {
    return static_cast<std::size_t>(std::find(lists.begin(), lists.begin() + static_cast<std::ptrdiff_t>(i), lists[i]) -
                                    lists.begin());
  };
  for (std::size_t i = 0; i < lists.size(); ++i) {
    if (first_of(i) != i) {
      repeated.push_back(i);
      continue;
    }
    const ba::block_key key = ba::key_of(chat.realm(), lists[i]);
    if ((out.handles[i] = store.find(key, lists[i]))) continue;
    out.from[i] = origin::miss;
    std::error_code code;
    if (!folder.empty() && std::filesystem::exists(block_path(folder, key), code)) {
      auto restored = ba::read_block_file(block_path(folder, key), chat.realm(), chat.shape(), lists[i]);
      if (restored) {
        // A block that the budget cannot take is used all the same.
        const auto kept = store.insert(*restored);
        out.handles[i] = kept ? *kept : *restored;
        out.from[i] = origin::directory;
        continue;
      }
      out.refused.push_back(restored.error().message);
    }
    missing.push_back(i);
  }
  std::vector<std::span<const ba::token>> wanted;
  for (const std::size_t i : missing) wanted.emplace_back(lists[i]);
  auto encoded = store.find_or_encode(std::span<const std::span<const ba::token>>(wanted), chat);
  if (!encoded) return std::move(encoded).error();
  for (std::size_t k = 0; k < missing.size(); ++k) out.handles[missing[k]] = (*encoded)[k];
  for (const std::size_t i : repeated) out.handles[i] = out.handles[first_of(i)];
  return out;
}

/// Writes what was encoded into the folder, if there is one; over what was refused. Apart from `find_blocks`, so that
/// nobody waits for a disk before the first token.
inline ba::result<void> keep_blocks(const session& chat, const found_blocks& found, const std::string& folder) {
  if (folder.empty()) return {};
  for (std::size_t i = 0; i < found.handles.size(); ++i) {
    const ba::kv_block& block = *found.handles[i];
    if (found.from[i] != origin::miss) continue;
    if (auto done = ba::write_block_file(block_path(folder, block.key()), chat.realm(), block, ba::isa_name()); !done)
      return done;
  }
  return {};
}

/// `[{"tokens", "start", "hit"}]` of the local blocks, then the final block, which is computed every time.
inline json describe_blocks(const found_blocks& found, std::size_t final_tokens) {
  json out = json::array();
  std::size_t start = 0;
  for (std::size_t i = 0; i < found.handles.size(); ++i) {
    const std::size_t n = found.handles[i]->tokens().size();
    out.push_back({{"tokens", n}, {"start", start}, {"hit", to_string(found.from[i])}});
    start += n;
  }
  out.push_back({{"tokens", final_tokens}, {"start", start}, {"hit", to_string(origin::miss)}});
  return out;
}

}  // namespace cli
