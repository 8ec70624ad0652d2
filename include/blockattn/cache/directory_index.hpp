// SPDX-License-Identifier: MIT
/// What a process knows of a folder of blocks: which keys lie there, how large they are, and which goes first. Files
/// come and go by other processes' hands, so this is a memory of the last look, corrected by the next.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "../core/config.hpp"
#include "../core/hash.hpp"
#include "eviction.hpp"
#include "file_system.hpp"
#include "key.hpp"

namespace blockattn::inline v0 {

/// The name of a block's file in a folder: 32 hexadecimal digits and the extension.
[[nodiscard]] inline std::string block_file_name(const block_key& key) { return key.value.hex() + ".safetensors"; }

/// The key that a file name says; nothing if it is not the name of a block.
[[nodiscard]] inline std::optional<block_key> block_key_of_name(std::string_view name) noexcept {
  constexpr std::string_view extension = ".safetensors";
  if (name.size() != 32 + extension.size() || !name.ends_with(extension)) return std::nullopt;
  block_key key;
  for (std::size_t i = 0; i < 32; ++i) {
    const char c = name[i];
    if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) return std::nullopt;  // as hex() writes them
    std::uint64_t& half = i < 16 ? key.value.high : key.value.low;
    half = half << 4 | static_cast<std::uint64_t>(c <= '9' ? c - '0' : c - 'a' + 10);
  }
  return key;
}

/// Whether this is the name of a block that somebody is writing, or left behind unfinished.
[[nodiscard]] inline bool is_temporary_name(std::string_view name) noexcept {
  return name.ends_with(".tmp") && name.find(".safetensors.") != std::string_view::npos;
}

/// The files of a folder, by key, in a policy's order. Not thread-safe: the storage locks.
template <eviction_policy Eviction>
class directory_index {
 public:
  explicit directory_index(Eviction policy) : policy_(std::move(policy)) {}

  [[nodiscard]] bool contains(const block_key& key) const noexcept { return slots_.contains(key); }
  [[nodiscard]] std::size_t blocks() const noexcept { return slots_.size(); }
  /// Bytes of the blocks, without what is being written.
  [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }

  /// A file that a load refused, or that proved damaged later. It is there, but the next save replaces it.
  void suspect(const block_key& key) noexcept {
    if (const auto at = slots_.find(key); at != slots_.end()) entries_[at->second].suspect = true;
  }
  [[nodiscard]] bool suspected(const block_key& key) const noexcept {
    const auto at = slots_.find(key);
    return at != slots_.end() && entries_[at->second].suspect;
  }

  /// A good file is there; if it was known, it has been used.
  void put(const block_key& key, std::uint64_t bytes, std::uint64_t encode_ns = 0) {
    if (const auto at = slots_.find(key); at != slots_.end()) {
      entry& known = entries_[at->second];
      bytes_ += bytes - known.bytes;  // unsigned arithmetic comes out right
      known.bytes = bytes;
      known.suspect = false;
      policy_.touched(at->second);
      return;
    }
    if (free_.empty()) {
      policy_.reserve(entries_.size() + 1 > reserved_ ? reserved_ = 2 * entries_.size() + 64 : reserved_);
      free_.push_back(static_cast<slot_id>(entries_.size()));
      entries_.emplace_back();
    }
    const slot_id slot = free_.back();
    slots_.emplace(key, slot);
    free_.pop_back();
    entries_[slot] = {key, bytes, true, false};
    bytes_ += bytes;
    policy_.inserted(slot, {.bytes = static_cast<std::size_t>(bytes), .encode_ns = encode_ns});
  }
  void erase(const block_key& key) {
    const auto at = slots_.find(key);
    if (at == slots_.end()) return;
    policy_.erased(at->second);
    bytes_ -= entries_[at->second].bytes;
    entries_[at->second].there = false;
    free_.push_back(at->second);
    slots_.erase(at);
  }

  /// Who goes first, and its bytes.
  [[nodiscard]] std::optional<std::pair<block_key, std::uint64_t>> victim() noexcept {
    const auto any = [this](slot_id slot) noexcept { return entries_[slot].there; };
    const std::optional<slot_id> slot = policy_.victim(any);
    if (!slot) return std::nullopt;
    return std::pair(entries_[*slot].key, entries_[*slot].bytes);
  }

  /// Makes this equal to what a scan found. Files that are new come in the order of their age, oldest first.
  void refresh(std::vector<folder_entry>& found) {
    std::vector<std::pair<std::int64_t, std::size_t>> fresh;
    std::unordered_set<block_key> there;
    for (std::size_t i = 0; i < found.size(); ++i) {
      const auto key = block_key_of_name(found[i].name);
      if (!key) continue;
      there.insert(*key);
      const auto at = slots_.find(*key);
      if (at == slots_.end()) {
        fresh.emplace_back(found[i].modified_ns, i);
      } else {  // replaced by another process, perhaps; that is no use of it
        bytes_ += found[i].bytes - entries_[at->second].bytes;
        entries_[at->second].bytes = found[i].bytes;
      }
    }
    std::vector<block_key> gone;
    for (const auto& [key, slot] : slots_)
      if (!there.contains(key)) gone.push_back(key);
    for (const block_key& key : gone) erase(key);
    std::sort(fresh.begin(), fresh.end());
    for (const auto& [age, i] : fresh) put(*block_key_of_name(found[i].name), found[i].bytes);
  }
  [[nodiscard]] std::vector<block_key> keys() const {
    std::vector<block_key> out;
    for (const auto& [key, slot] : slots_) out.push_back(key);
    std::sort(out.begin(), out.end());
    return out;
  }

 private:
  struct entry {
    block_key key;
    std::uint64_t bytes = 0;
    bool there = false;
    bool suspect = false;
  };
  Eviction policy_;
  std::unordered_map<block_key, slot_id> slots_;
  std::vector<entry> entries_;  // by slot
  std::vector<slot_id> free_;
  std::size_t reserved_ = 0;
  std::uint64_t bytes_ = 0;
};

}  // namespace blockattn::inline v0
