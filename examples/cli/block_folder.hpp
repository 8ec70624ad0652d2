// SPDX-License-Identifier: MIT
/// A store with, perhaps, a folder of encoded blocks behind it: what a file holds is not encoded again, what is encoded
/// becomes a file.
#pragma once

#include <blockattn/cache/directory_storage.hpp>
#include <blockattn/cache/kv_store.hpp>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "models.hpp"

namespace cli {

/// The tier of a command that may have been given a folder.
class maybe_folder {
 public:
  explicit maybe_folder(std::optional<ba::directory_storage<>> folder = {}) : folder_(std::move(folder)) {}

  [[nodiscard]] std::string_view name() const noexcept { return "directory"; }
  ba::result<ba::block_handle> load(const ba::block_realm& realm, const ba::kv_shape& shape, const ba::block_key& key,
                                    std::span<const ba::token> ids) {
    if (!folder_) return ba::block_handle();
    return folder_->load(realm, shape, key, ids);
  }
  ba::result<void> save(const ba::block_realm& realm, const ba::block_handle& block) {
    if (!folder_) return {};
    return folder_->save(realm, block);
  }
  bool contains(const ba::block_key& key) { return folder_ && folder_->contains(key); }
  ba::result<void> erase(const ba::block_key& key) {
    if (!folder_) return {};
    return folder_->erase(key);
  }

 private:
  std::optional<ba::directory_storage<>> folder_;
};

using block_store = ba::tiered_store<ba::tiers<maybe_folder>>;

/// Errors: `io`, if the folder cannot be made or read.
inline ba::result<std::unique_ptr<block_store>> open_store(const std::string& folder, std::size_t budget) {
  std::optional<ba::directory_storage<>> files;
  if (!folder.empty()) {
    auto opened = ba::directory_storage<>::open({.folder = folder, .isa = ba::isa_name()});
    if (!opened) return std::move(opened).error();
    files.emplace(*std::move(opened));
  }
  const ba::kv_store_options options{.budget_bytes = budget,
                                     .save = files ? ba::write_back::on_insert : ba::write_back::never,
                                     .most_saves = ~std::size_t{0}};  // after the first token
  return std::make_unique<block_store>(options, ba::tiers<maybe_folder>(maybe_folder(std::move(files))));
}

/// Blocks of a prompt, and where each came from.
struct found_blocks {
  std::vector<ba::block_handle> handles;
  std::vector<ba::block_origin> from;

  [[nodiscard]] bool missed(std::size_t i) const { return from[i].where == "miss"; }
  /// Files that were there and could not be used, and why.
  void tell_refused() const {
    for (const auto& origin : from)
      if (!origin.reason.empty()) std::fprintf(stderr, "blockattn: encoded again: %s\n", origin.reason.c_str());
  }
};

/// Finds, restores or encodes. A damaged or foreign file is a miss. A block that the request lists twice is encoded
/// once: the second is a hit in memory.
inline ba::result<found_blocks> find_blocks(session& chat, block_store& store, const token_lists& lists) {
  found_blocks out;
  auto handles = store.find_or_encode(lists, chat, {.origins = &out.from});
  if (!handles) return std::move(handles).error();
  out.handles = *std::move(handles);
  return out;
}

/// Writes what was encoded into the folder, if there is one; over what was refused. Apart from `find_blocks`, so that
/// nobody waits for a disk before the first token.
inline ba::result<void> keep_blocks(block_store& store) {
  store.flush();
  for (const auto& tier : store.counters_of_tiers())
    if (tier.save_errors != 0) return ba::fail(ba::errc::io, tier.name, ": ", tier.last_error);
  return {};
}

/// `[{"tokens", "start", "hit"}]` of the local blocks, then the final block, which is computed every time.
inline json describe_blocks(const found_blocks& found, std::size_t final_tokens) {
  json out = json::array();
  std::size_t start = 0;
  for (std::size_t i = 0; i < found.handles.size(); ++i) {
    const std::size_t n = found.handles[i]->tokens().size();
    out.push_back({{"tokens", n}, {"start", start}, {"hit", found.from[i].where}});
    start += n;
  }
  out.push_back({{"tokens", final_tokens}, {"start", start}, {"hit", "miss"}});
  return out;
}

/// What the store says about itself and about each block of a request; of tiers only if it has a folder.
json describe_store(block_store& store, const found_blocks& found, bool with_folder);

}  // namespace cli
