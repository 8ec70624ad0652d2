// SPDX-License-Identifier: MIT
/// Eviction policies once more, written for reading: lists that are searched, sums that are added up each time. The
/// oracles of the policies of the library.
#pragma once

#include <algorithm>
#include <blockattn/cache/eviction.hpp>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <tuple>

namespace blockattn_test {

namespace ba = blockattn;
using slot = ba::slot_id;
using held_set = std::set<slot>;

/// What a policy evicts while some blocks are held.
std::optional<slot> victim_of(auto& policy, const held_set& held = {}) {
  const auto evictable = [&](slot s) noexcept { return !held.contains(s); };
  return policy.victim(evictable);
}

struct naive_lru {
  std::deque<slot> order;  // oldest first

  void inserted(slot s, const ba::entry_info&) { order.push_back(s); }
  void touched(slot s) {
    std::erase(order, s);
    order.push_back(s);
  }
  void erased(slot s) { std::erase(order, s); }
  std::optional<slot> victim(const held_set& held) {
    for (const slot s : order)
      if (!held.contains(s)) return s;
    return std::nullopt;
  }
};

/// `worth = age + uses * rate`; the least goes, and if it does, its worth is the age.
struct naive_gdsf {
  struct block {
    double worth, rate, uses;
    long when;
  };
  std::map<slot, block> blocks;
  double age = 0, ns = 0, bytes = 0;
  long clock = 0;
  std::optional<slot> named;

  void inserted(slot s, const ba::entry_info& info) {
    named.reset();
    if (info.encode_ns != 0) {
      ns += static_cast<double>(info.encode_ns);
      bytes += static_cast<double>(info.bytes);
    }
    const double mean = bytes == 0 ? 1 : ns / bytes;
    const double rate =
        info.encode_ns != 0 ? static_cast<double>(info.encode_ns) / static_cast<double>(info.bytes) : mean;
    blocks[s] = {age + rate, rate, 1, ++clock};
  }
  void touched(slot s) {
    named.reset();
    block& b = blocks.at(s);
    b.uses += 1;
    b.worth = age + b.uses * b.rate;
    b.when = ++clock;
  }
  void erased(slot s) {
    if (named == s) age = std::max(age, blocks.at(s).worth);
    named.reset();
    blocks.erase(s);
  }
  std::optional<slot> victim(const held_set& held) {
    std::optional<slot> best;
    for (const auto& [s, b] : blocks) {
      if (held.contains(s)) continue;
      if (!best || std::tuple(b.worth, b.when) < std::tuple(blocks[*best].worth, blocks[*best].when)) best = s;
    }
    return named = best;
  }
};

/// Two queues of blocks and one of names.
struct naive_s3_fifo {
  struct block {
    slot s;
    std::size_t bytes;
    std::uint64_t name;
    int uses = 0;
  };
  std::deque<block> small, main;  // oldest first
  std::deque<std::uint64_t> ghosts;
  std::set<std::uint64_t> known;  // names among the ghosts that were not taken out
  std::optional<slot> named;

  static std::size_t sum(const std::deque<block>& q) {
    std::size_t out = 0;
    for (const block& b : q) out += b.bytes;
    return out;
  }
  static auto find(std::deque<block>& q, slot s) {
    return std::find_if(q.begin(), q.end(), [s](const block& b) { return b.s == s; });
  }

  void inserted(slot s, const ba::entry_info& info) {
    named.reset();
    const bool returns = known.erase(info.name) != 0;
    (returns ? main : small).push_back({s, info.bytes, info.name});
    if (returns) std::replace(ghosts.begin(), ghosts.end(), info.name, nobody);
  }
  void touched(slot s) {
    auto at = find(small, s);
    if (at == small.end()) at = find(main, s);
    at->uses = std::min(at->uses + 1, 3);
  }
  void erased(slot s) {
    if (const auto at = find(small, s); at != small.end()) {
      if (named == s) {
        while (!ghosts.empty() && ghosts.size() >= small.size() + main.size()) {
          known.erase(ghosts.front());
          ghosts.pop_front();
        }
        ghosts.push_back(at->name);
        known.insert(at->name);
      }
      small.erase(at);
    } else {
      main.erase(find(main, s));
    }
    named.reset();
  }
  std::optional<slot> victim(const held_set& held) {
    const bool small_first = main.empty() || sum(small) * 100 >= (sum(small) + sum(main)) * 10;
    named = small_first ? from_small(held) : from_main(held);
    if (!named) named = small_first ? from_main(held) : from_small(held);
    if (!named) named = from_main(held);
    return named;
  }
  std::optional<slot> from_small(const held_set& held) {
    for (auto at = small.begin(); at != small.end();) {
      if (at->uses >= 2) {
        main.push_back(*at);
        main.back().uses = 0;
        at = small.erase(at);
      } else if (!held.contains(at->s)) {
        return at->s;
      } else {
        ++at;
      }
    }
    return std::nullopt;
  }
  std::optional<slot> from_main(const held_set& held) {
    for (int round = 0; round < 4; ++round) {
      std::size_t at = 0;
      for (std::size_t left = main.size(); left > 0; --left) {
        block b = main[at];
        if (held.contains(b.s)) {
          ++at;
          continue;
        }
        if (b.uses == 0) return b.s;
        --b.uses;
        main.erase(main.begin() + static_cast<std::ptrdiff_t>(at));
        main.push_back(b);
      }
    }
    return std::nullopt;
  }
  static constexpr std::uint64_t nobody = ~std::uint64_t{0};
};

}  // namespace blockattn_test
