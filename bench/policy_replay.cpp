// SPDX-License-Identifier: MIT
// Eviction policies on traces: the table of docs/policies.md. A policy is driven as a store drives it, without payloads.
//
//     policy_replay [folder of passages] [--store]
//
// With --store the first trace is also run through a real kv_store, whose hits must be those of the replay.
#include <blockattn/cache/gdsf.hpp>
#include <blockattn/cache/kv_store.hpp>
#include <blockattn/cache/s3_fifo.hpp>

#include <cstdio>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "support/traces.hpp"

namespace ba = blockattn;
using namespace traces;

namespace {

struct score {
  std::size_t hits = 0, asked = 0;
  double hit_bytes = 0, bytes = 0;  // of what was asked for
  double saved_ms = 0, ms = 0;      // of encoding
  std::size_t held_bytes = 0;       // at the end
};

template <class Policy>
score replay(const trace& t, std::size_t budget) {
  Policy policy;
  score out;
  std::vector<std::uint32_t> held;  // by slot
  std::vector<ba::slot_id> free;
  std::unordered_map<std::uint32_t, ba::slot_id> where;
  const auto evictable = [](ba::slot_id) noexcept { return true; };
  for (const std::uint32_t id : t.asked) {
    const passage& p = t.passages[id];
    const double ms = static_cast<double>(p.encode_ns) * 1e-6;
    ++out.asked;
    out.bytes += static_cast<double>(p.bytes);
    out.ms += ms;
    if (const auto at = where.find(id); at != where.end()) {
      policy.touched(at->second);
      ++out.hits;
      out.hit_bytes += static_cast<double>(p.bytes);
      out.saved_ms += ms;
      continue;
    }
    if (p.bytes > budget) continue;
    bool fits = true;
    while (out.held_bytes + p.bytes > budget) {
      const auto gone = policy.victim(evictable);
      if (!(fits = gone.has_value())) break;
      policy.erased(*gone);
      out.held_bytes -= t.passages[held[*gone]].bytes;
      where.erase(held[*gone]);
      free.push_back(*gone);
    }
    if (!fits) continue;
    if (free.empty()) {
      free.push_back(static_cast<ba::slot_id>(held.size()));
      held.push_back(0);
      policy.reserve(held.capacity());
    }
    const ba::slot_id slot = free.back();
    free.pop_back();
    held[slot] = id;
    where[id] = slot;
    policy.inserted(slot, {p.bytes, p.encode_ns, id * 0x9e3779b97f4a7c15u});
    out.held_bytes += p.bytes;
  }
  return out;
}

void print(const char* policy, const score& s) {
  std::printf("| %-8s | %5.1f %% | %5.1f %% | %5.1f %% | %8.0f | %7.0f |\n", policy,
              100.0 * static_cast<double>(s.hits) / static_cast<double>(s.asked), 100 * s.hit_bytes / s.bytes,
              100 * s.saved_ms / s.ms, s.saved_ms / 1000, static_cast<double>(s.held_bytes) / 1048576.0);
}

void table(const trace& t, double share) {
  std::size_t all = 0;
  for (const passage& p : t.passages) all += p.bytes;
  // Passages that come once are no part of what one would like to hold.
  if (t.name == "zipf 0.8 + scans") all = all / t.passages.size() * (t.passages.size() - t.asked.size());
  const auto budget = static_cast<std::size_t>(static_cast<double>(all) * share);
  std::printf("\n%s: %zu requests, budget %.0f MiB\n\n| policy | hits | bytes hit | time saved | seconds saved | MiB held |\n"
              "|---|---|---|---|---|---|\n",
              t.name.c_str(), t.asked.size(), static_cast<double>(budget) / 1048576.0);
  print("lru", replay<ba::lru>(t, budget));
  print("s3_fifo", replay<ba::s3_fifo>(t, budget));
  print("gdsf", replay<ba::gdsf>(t, budget));
  print("keep_all", replay<ba::keep_all>(t, budget));
}

// A block of a thousandth of the bytes for each passage: the store must hit where the replay does.
struct small_encoder {
  ba::block_realm realm_ = {};
  const ba::block_realm& realm() const { return realm_; }
  ba::kv_shape shape() const { return {1, 1, 16, ba::dtype::bf16}; }
  ba::result<void> encode_into(std::span<const std::span<const ba::token>> lists, std::span<std::byte* const> payloads) {
    for (std::size_t i = 0; i < lists.size(); ++i)
      std::fill_n(payloads[i], shape().payload_bytes(lists[i].size()), std::byte{0});
    return {};
  }
};
bool same_as_store(trace t) {
  small_encoder encoder;
  std::size_t all = 0;
  std::vector<std::vector<ba::token>> ids(t.passages.size());
  for (std::size_t i = 0; i < ids.size(); ++i) {
    ids[i] = std::vector<ba::token>(16 + i % 200, static_cast<ba::token>(i));
    t.passages[i] = {ba::kv_block::bytes_for(encoder.shape(), ids[i].size()), 0};
    all += t.passages[i].bytes;
  }
  t.asked.resize(std::min<std::size_t>(t.asked.size(), 50000));
  ba::kv_store<ba::lru, ba::no_lock> store{{.budget_bytes = all / 10}};
  for (const std::uint32_t id : t.asked) (void)store.find_or_encode(std::span(&ids[id], 1), encoder).value();
  const score s = replay<ba::lru>(t, all / 10);
  std::printf("\nlru on %s, hits of the replay and of a store: %zu, %llu\n", t.name.c_str(), s.hits,
              static_cast<unsigned long long>(store.counters().hits));
  return s.hits == store.counters().hits;
}

}  // namespace

int main(int argc, char** argv) {
  constexpr std::size_t passages = 10000, requests = 300000;
  std::string folder = "data/passages";
  bool store = false;
  for (int i = 1; i < argc; ++i)
    if (std::string(argv[i]) == "--store")
      store = true;
    else
      folder = argv[i];
  const trace first = zipf_trace(passages, requests, 0.8, "zipf 0.8");
  table(first, 0.1);
  table(zipf_trace(passages, requests, 1.1, "zipf 1.1"), 0.1);
  table(scan_trace(passages, requests), 0.1);
  table(loop_trace(passages, requests), 0.5);
  if (const auto questions = rag_trace(folder, requests))
    table(*questions, 0.2);
  else
    std::printf("\nquestions: skipped, no passages in %s\n", folder.c_str());
  return store && !same_as_store(first) ? 1 : 0;
}
