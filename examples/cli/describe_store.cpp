// SPDX-License-Identifier: MIT
// What a store says about itself, as JSON.
#include "block_folder.hpp"

namespace cli {

namespace {

// Only what happened: {"count", "p50_ns", "p99_ns"}, upper ends of powers of two.
json times(const ba::latency_counts& counts) {
  return {{"count", counts.total()}, {"p50_ns", counts.below(0.5)}, {"p99_ns", counts.below(0.99)}};
}

}  // namespace

json describe_store(block_store& store, const found_blocks& found, bool with_folder) {
  const ba::kv_store_counters c = store.counters();
  const ba::store_latencies l = store.latencies();
  json out = {{"memory",
               {{"hits", c.hits},
                {"misses", c.misses},
                {"loads", c.loads},
                {"waits", c.waits},
                {"insertions", c.insertions},
                {"evictions", c.evictions},
                {"uncounted", c.uncounted},
                {"blocks", c.blocks},
                {"bytes", c.bytes},
                {"peak_bytes", c.peak_bytes},
                {"budget_bytes", c.budget_bytes},
                {"lookup", times(l.lookup_ns)},
                {"encode", times(l.encode_ns)}}}};
  out["tiers"] = json::array();
  for (const ba::tier_counters& t : store.counters_of_tiers()) {
    if (!with_folder) break;  // the tier is there and does nothing (maybe_folder)
    json tier = {{"name", t.name},         {"loads", t.loads},           {"misses", t.misses},
                 {"errors", t.load_errors}, {"loaded_bytes", t.loaded_bytes}, {"saves", t.saves},
                 {"saved_bytes", t.saved_bytes}, {"load", times(t.load_ns)}, {"save", times(t.save_ns)}};
    if (!t.last_error.empty()) tier["last_error"] = t.last_error;
    out["tiers"].push_back(std::move(tier));
  }
  out["explain"] = json::array();
  for (const ba::block_origin& origin : found.from) {
    json line = {{"from", origin.where}, {"memory", to_string(origin.memory)}};
    if (!origin.reason.empty()) line["reason"] = origin.reason;
    out["explain"].push_back(std::move(line));
  }
  return out;
}

}  // namespace cli
