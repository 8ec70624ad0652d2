// SPDX-License-Identifier: MIT
/// A tier that counts, fails on request, and calls back while it works.
#pragma once

#include <atomic>
#include <blockattn/cache/tier.hpp>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

namespace blockattn_test {

namespace ba = blockattn;

class fake_tier {
 public:
  explicit fake_tier(std::string_view name = "fake") : name_(name) {}

  std::string_view name() const noexcept { return name_; }
  ba::result<ba::block_handle> load(const ba::block_realm& realm, const ba::kv_shape& shape, const ba::block_key& key,
                                    std::span<const ba::token> ids) {
    ++loads;
    if (during) during();
    if (broken) return ba::fail(ba::errc::bad_format, "a copy with a hole");
    return map_.load(realm, shape, key, ids);
  }
  ba::result<void> save(const ba::block_realm& realm, const ba::block_handle& block) {
    ++saves;
    if (during) during();
    if (full) return ba::fail(ba::errc::io, "no space left");
    return map_.save(realm, block);
  }
  bool contains(const ba::block_key& key) { return map_.contains(key); }
  ba::result<void> erase(const ba::block_key& key) { return map_.erase(key); }

  std::atomic<int> loads = 0, saves = 0;
  std::atomic<bool> broken = false, full = false;
  std::function<void()> during;  // called inside load and save

 private:
  std::string_view name_;
  ba::map_tier map_;
};
static_assert(ba::block_tier<fake_tier>);

}  // namespace blockattn_test
