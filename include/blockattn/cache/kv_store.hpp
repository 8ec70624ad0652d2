// SPDX-License-Identifier: MIT
/// `kv_store`: encoded blocks by key, under a hard byte budget, shared by all threads of a program; memory first, then
/// any number of tiers.
// reason: looking up, claiming, providing and publishing share one invariant, and are read together.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <numeric>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "../core/config.hpp"
#include "../core/executor.hpp"
#include "../core/result.hpp"
#include "../tensor/kv_panels.hpp"
#include "account.hpp"
#include "block.hpp"
#include "block_memory.hpp"
#include "encoder.hpp"
#include "eviction.hpp"
#include "explain.hpp"
#include "flight.hpp"
#include "flight_leader.hpp"
#include "histogram.hpp"
#include "job_queue.hpp"
#include "key.hpp"
#include "lock.hpp"
#include "request.hpp"
#include "storage.hpp"
#include "tiers.hpp"
#include "trace.hpp"

namespace blockattn::inline v0 {

struct kv_store_options {
  std::size_t budget_bytes = std::size_t{1} << 30;
  std::size_t remembered = 4096;                ///< keys that explain() knows to have left
  write_back save = write_back::on_insert;      ///< when tiers get blocks
  promotion promote = promotion::all_above;     ///< where blocks of a lower tier go
  std::size_t most_saves = 64;                  ///< that wait; who makes more does one first. They pin their blocks
  std::chrono::steady_clock::time_point (*now)() noexcept = &std::chrono::steady_clock::now;  ///< for times to live
};

/// Blocks by key. Composed of policies: who goes first, which lock, whose memory, which tiers, who watches.
///
/// - All members may be called from any thread, given a real lock and thread-safe storage.
/// - A handle pins: a block that somebody outside holds is never evicted. Handles may outlive the store.
/// - The budget is hard. Bytes (payload, ids, bookkeeping) are taken from it before memory is allocated or a tier is
///   asked, and given back after it is freed. A block that was evicted, erased or has expired while pinned counts until
///   its last handle is gone.
/// - A block that cannot fit is encoded or loaded all the same, into memory that is not counted (the request's
///   `overflow`, if it has one), and is returned but not kept.
/// - Concurrent misses of one key encode once.
/// - No lock is held while a block is encoded, read or written.
/// - An error, or an exception of an encoder or allocator, leaves no trace but counters and blocks evicted to make room.
///   Memory that runs out is `out_of_memory`. Tiers cannot fail a request.
/// - The store starts no thread. What tiers are to do later waits in a queue: see `drain` and `background_worker`.
template <eviction_policy Eviction = lru, class Lock = std::mutex, storage Storage = heap_storage<>,
          class Tiers = tiers<>, trace_hook Trace = no_trace>
class kv_store {
 public:
  static constexpr bool has_tiers = Tiers::count > 0;

  explicit kv_store(kv_store_options options = {}, Storage storage = Storage(), Eviction eviction = Eviction(),
                    Tiers behind = Tiers(), Trace trace = Trace())
      : storage_(std::move(storage)),
        trace_(std::move(trace)),
        options_(options),
        memory_(options.budget_bytes, options.remembered, options.now, std::move(eviction), storage_.get_allocator()),
        tiers_(std::move(behind), trace_),
        jobs_(std::max<std::size_t>(options.most_saves, 1)) {}
  kv_store(kv_store_options options, Tiers behind, Trace trace = Trace()) requires(has_tiers)
      : kv_store(options, Storage(), Eviction(), std::move(behind), std::move(trace)) {}
  kv_store(const kv_store&) = delete;
  kv_store& operator=(const kv_store&) = delete;
  /// Saves what is to be saved: see `flush`.
  ~kv_store() {
    if constexpr (has_tiers) flush();
  }

  /// The block of a key, if it is in memory and holds these tokens; null otherwise. Counts as a use.
  [[nodiscard]] block_handle find(const block_key& key, std::span<const token> ids, const kv_request& request = {}) {
    departed expired;  // freed after the lock is
    shard& s = memory_.shard_of(key);
    const std::lock_guard guard(s.lock);
    const auto [at, collision] = memory_.find(s, key, ids, expired);
    if (at != no_slot && s.table[at].block != nullptr) return memory_.hit(s, at, request);
    s.counters.collisions += collision ? 1 : 0;
    ++s.counters.misses;
    return nullptr;
  }

  /// Puts a block that was made elsewhere into memory and returns the handle to use from now on: that of the block
  /// already there, if there is one. The store counts the block's bytes although it did not allocate them. Tiers get it
  /// if its realm is given. Errors: `store_full` if pinned blocks or a quota leave too little room, `invalid_argument`
  /// for null or a colliding key, `out_of_memory`.
  result<block_handle> insert(const block_handle& block, const kv_request& request = {}) {
    return guarded([&] { return insert_unguarded(block, nullptr, request); });
  }
  result<block_handle> insert(const block_handle& block, const block_realm& realm, const kv_request& request = {}) {
    return guarded([&] { return insert_unguarded(block, intern(realm), request); });
  }

  /// A handle for each list, in order: from memory, from the first tier that has it, or encoded by `encoder`. All that
  /// must be encoded is encoded in one call, outside the locks; what others are encoding is waited for after that, so
  /// that requests never wait for each other in a circle. If another request is cancelled or runs out of memory, this
  /// one takes over what it waited for; an error in the encoding of a list alone goes to all who wait for it. An empty
  /// list gives a block without bytes, and neither tiers nor the encoder are asked. Errors: the encoder's,
  /// `out_of_memory`, `cancelled`.
  template <block_encoder E>
  result<std::vector<block_handle>> find_or_encode(std::span<const std::span<const token>> lists, E& encoder,
                                                   const kv_request& request = {}) {
    return guarded([&] { return resolve(lists, encoder, request); });
  }
  template <block_encoder E>
  result<std::vector<block_handle>> find_or_encode(std::span<const std::vector<token>> lists, E& encoder,
                                                   const kv_request& request = {}) {
    return guarded([&] {
      const std::vector<std::span<const token>> views(lists.begin(), lists.end());
      return resolve(views, encoder, request);
    });
  }

  /// Forgets a block, in tiers too; whether it was in memory. A block that is being encoded or saved is not there yet.
  bool erase(const block_key& key) {
    if constexpr (has_tiers) {
      jobs_.forget(key);
      tiers_.erase(key);
    }
    departed gone;  // freed after the lock is
    shard& s = memory_.shard_of(key);
    const std::lock_guard guard(s.lock);
    const slot_id at = s.table.find(key);
    if (at == no_slot || s.table[at].block == nullptr) return false;
    gone = memory_.depart(s, at, block_outcome::erased);
    return true;
  }

  /// Forgets all blocks in memory. Complexity: linear; frees under the locks.
  void clear() {
    for (shard& s : memory_.shards()) {
      const std::lock_guard guard(s.lock);
      for (slot_id at = 0; at < s.table.size(); ++at)
        if (s.table[at].block != nullptr) (void)memory_.depart(s, at, block_outcome::erased);
    }
  }

  /// Forgets the blocks in memory whose time is over, and returns how many. Without it they go when they are asked for
  /// or when room is needed.
  std::size_t expire() { return memory_.expire(leaving()); }

  /// The most bytes that an owner's blocks may use. Above it, its own blocks make room for new ones.
  /// Errors: `out_of_memory`.
  result<void> set_quota(owner_id owner, std::size_t bytes) {
    return guarded([&]() -> result<void> {
      if (owner == 0) return fail(errc::invalid_argument, "kv_store: quota: expected an owner, found 0");
      memory_.set_quota(owner, bytes);
      return {};
    });
  }
  /// What an owner's blocks use; 0 if it has no quota.
  [[nodiscard]] std::size_t used_by(owner_id owner) const noexcept {
    const auto account = memory_.account_of(owner);
    return account != nullptr ? account->used() : 0;
  }

  // ---- Tiers.

  /// Has blocks fetched from tiers into memory ahead of use, if a tier says it has them. Returns at once: whoever
  /// drains the queue does it.
  /// Errors: `out_of_memory`.
  result<void> prefetch(std::span<const std::vector<token>> lists, const block_realm& realm, const kv_shape& shape)
    requires(has_tiers)
  {
    return guarded([&]() -> result<void> {
      const auto shared = intern(realm);
      for (const auto& ids : lists)
        if (!ids.empty()) (void)jobs_.push({shared, nullptr, 0, key_of(realm, ids), shape, ids});
      return {};
    });
  }
  /// Does jobs that wait on the calling thread, at most so many; returns how many it did.
  std::size_t drain(std::size_t most = ~std::size_t{0}) requires(has_tiers)
  {
    std::size_t n = 0;
    while (n < most && run(jobs_.take())) ++n;
    return n;
  }
  /// The same on the workers of an executor.
  void drain(executor_ref workers) requires(has_tiers)
  {
    workers.for_each(workers.concurrency(), [this](std::size_t, std::size_t) { (void)drain(); });
  }
  /// Does jobs as they come, until `stop` is set and none is left. `wake` makes it look at `stop`.
  void work(const std::atomic<bool>& stop) requires(has_tiers)
  {
    while (run(jobs_.wait(stop))) {
    }
  }
  void wake() requires(has_tiers)
  {
    jobs_.wake();
  }
  [[nodiscard]] std::size_t jobs() const requires(has_tiers)
  {
    return jobs_.size();
  }
  /// Saves everything that tiers are to have, here, and waits for what others are saving.
  void flush() requires(has_tiers)
  {
    for (shard& s : memory_.shards()) {
      for (slot_id at = 0;; ++at) {
        departed unsaved;
        {
          const std::lock_guard guard(s.lock);
          if (at >= s.table.size()) break;
          if (s.table[at].block == nullptr || s.table[at].terms.unsaved == nullptr) continue;
          unsaved = {s.table[at].block, std::move(s.table[at].terms.unsaved)};
        }
        tiers_.save(*unsaved.unsaved, unsaved.block);
      }
    }
    while (run(jobs_.take(true))) {
    }
    jobs_.wait_idle();
  }

  // ---- What it says about itself.

  /// A consistent copy for each part of the keys, but for `bytes`, which handles that die elsewhere may lower at any
  /// time.
  [[nodiscard]] kv_store_counters counters() const { return memory_.counters(); }
  [[nodiscard]] std::vector<tier_counters> counters_of_tiers() requires(has_tiers)
  {
    return tiers_.counters();
  }
  [[nodiscard]] store_latencies latencies() const noexcept { return {lookup_ns_.read(), encode_ns_.read()}; }

  /// Why each list would hit or miss now, and where. Counts nothing and is no use of a block.
  [[nodiscard]] std::vector<explanation> explain(std::span<const std::span<const token>> lists,
                                                 const block_realm& realm) const {
    std::vector<explanation> out(lists.size());
    for (std::size_t i = 0; i < lists.size(); ++i) {
      explanation& e = out[i];
      e.key = key_of(realm, lists[i]);
      e.tokens = lists[i].size();
      {
        const shard& s = memory_.shard_of(e.key);
        const std::lock_guard guard(s.lock);
        e.outcome = outcome_of(s, e.key, lists[i]);
      }
      if (e.outcome == block_outcome::hit) e.where = "memory";
      if constexpr (has_tiers) {
        e.reason = tiers_.complaint(e.key);
        if (e.where.empty() && !lists[i].empty() && e.outcome != block_outcome::collision)
          e.where = tiers_.who_has(e.key);
      }
    }
    return out;
  }
  [[nodiscard]] std::vector<explanation> explain(std::span<const std::vector<token>> lists,
                                                 const block_realm& realm) const {
    const std::vector<std::span<const token>> views(lists.begin(), lists.end());
    return explain(views, realm);
  }

 private:
  using allocator = typename Storage::allocator_type;
  using memory_type = block_memory<Eviction, Lock, allocator>;
  using shard = typename memory_type::shard;
  using departed = typename memory_type::departed;
  using flight = encoding_flight;
  using leader = flight_leader<memory_type>;
  using shared_realm = std::shared_ptr<const block_realm>;
  static constexpr slot_id no_slot = flight::no_slot;

  // A block from elsewhere with the bytes that this store counts for it; it dies before they are given back.
  struct adopted {
    adopted(byte_charge c, block_handle b) noexcept : charge(std::move(c)), block(std::move(b)) {}
    byte_charge charge;
    block_handle block;
  };

  template <class Body>
  static auto guarded(Body&& body) -> decltype(body()) {
    return detail::out_of_memory_as_error("kv_store", std::forward<Body>(body));
  }
  block_handle adopt(byte_charge charge, const block_handle& block) {
    return {std::allocate_shared<adopted>(storage_.get_allocator(), std::move(charge), block), block.get()};
  }

  // Under the lock of the shard.
  static block_outcome outcome_of(const shard& s, const block_key& key, std::span<const token> ids) noexcept {
    const slot_id at = s.table.find(key);
    if (at == no_slot) return s.gone.why(key);
    if (!std::ranges::equal(s.table[at].tokens(), ids)) return block_outcome::collision;
    return s.table[at].block != nullptr ? block_outcome::hit : block_outcome::in_flight;
  }

  // ---- Outside the locks.

  // One copy of each realm that tiers are asked about; there are few.
  shared_realm intern(const block_realm& realm) {
    if constexpr (!has_tiers) {
      return nullptr;
    } else {
      const std::lock_guard guard(realms_lock_);
      for (const shared_realm& known : realms_)
        if (*known == realm) return known;
      return realms_.emplace_back(std::allocate_shared<const block_realm>(storage_.get_allocator(), realm));
    }
  }

  // What becomes of a block that leaves memory.
  auto leaving() noexcept {
    return [this](departed gone, block_outcome why) {
      if (why == block_outcome::evicted)
        trace_({store_action::evict, gone.block->key(), "memory", gone.block->bytes(), 0});
      if constexpr (has_tiers)
        if (gone.unsaved != nullptr && why == block_outcome::evicted) tiers_.save(*gone.unsaved, gone.block);
    };
  }
  std::optional<byte_charge> charge(std::size_t bytes, const kv_request& request, block_outcome& why) {
    // Blocks that wait to be saved are pinned: saving one may make room.
    const auto help = [this] {
      (void)this;
      if constexpr (has_tiers) {
        return run(jobs_.take(true));
      } else {
        return false;
      }
    };
    return memory_.charge(bytes, request, why, leaving(), help);
  }

  // Whether tiers are to have the blocks of a request.
  bool saves(const kv_request& request) const noexcept {
    return has_tiers && options_.save != write_back::never && request.time_to_live.count() == 0;
  }
  // Has a block saved, soon; if there is too much to save already, saves first.
  void save_soon(const shared_realm& realm, const block_handle& block, std::size_t end) {
    store_job job{realm, block, end, block->key(), {}, {}};
    while (auto refused = jobs_.push(std::move(job))) {
      if (!run(jobs_.take(true))) return tiers_.save(*realm, block, end);
      job = *std::move(refused);
    }
  }
  bool run(std::optional<store_job> job) {
    if (!job) return false;
    if (job->block != nullptr) {
      tiers_.save(*job->realm, job->block, job->end);
      job.reset();  // the block is free to leave before anybody hears that it is saved
    } else {
      (void)guarded([&]() -> result<void> { return fetch(*job); });
    }
    jobs_.done();
    return true;
  }
  // Loads one block into memory, unless it is there or on its way.
  result<void> fetch(const store_job& job) {
    if (tiers_.who_has(job.key).empty()) return {};  // nothing should leave for what nobody has
    const kv_request nobody;
    std::optional<leader> own;
    {
      shard& s = memory_.shard_of(job.key);
      const std::lock_guard guard(s.lock);
      if (s.table.find(job.key) != no_slot) return {};
      own.emplace(memory_, storage_.get_allocator(), nobody, nullptr, false);
      own->claim(s, job.key, job.ids, 0, true);
    }
    flight::claim& c = own->claims().front();
    auto bytes = charge(kv_block::bytes_for(job.shape, job.ids.size()), nobody, c.refusal);
    if (bytes) load(*job.realm, job.shape, c, bytes);
    own->publish();
    return {};
  }

  // Looks for a claim in the tiers; what `bytes` were taken for it go with the block. True if it was found.
  bool load(const block_realm& realm, const kv_shape& shape, flight::claim& c, std::optional<byte_charge>& bytes) {
    auto found = tiers_.load(realm, shape, c.key, c.tokens, c.reason);
    if (found.block == nullptr) return false;
    c.counted = bytes.has_value();
    c.block = bytes ? adopt(std::move(*bytes), found.block) : std::move(found.block);
    c.where = found.name;
    c.tier = found.tier;
    return true;
  }

  result<block_handle> insert_unguarded(const block_handle& block, const shared_realm& realm,
                                        const kv_request& request) {
    if (block == nullptr) return fail(errc::invalid_argument, "kv_store: insert: expected a block, found null");
    shard& s = memory_.shard_of(block->key());
    const auto there = [&]() -> std::optional<result<block_handle>> {
      const slot_id at = s.table.find(block->key());
      if (at == no_slot || s.table[at].block == nullptr) return std::nullopt;
      if (std::ranges::equal(s.table[at].tokens(), block->tokens())) return s.table[at].block;
      return fail(errc::invalid_argument, "kv_store: insert: key ", block->key().value.hex(),
                  " is held by a block of other tokens");
    };
    {
      const std::lock_guard guard(s.lock);
      if (auto answer = there()) return *std::move(answer);
    }
    block_handle kept = block;
    // A block of this store that was evicted or erased still counts: it can come back as it is.
    if (block->counted_by() != &memory_.account()) {
      block_outcome why{};
      auto taken = charge(block->bytes(), request, why);
      if (!taken)
        return fail(errc::store_full, "kv_store: insert: expected room for ", block->bytes(), " bytes, found ",
                    memory_.account().left(), " of ", memory_.account().budget(),
                    why == block_outcome::over_quota ? " and a quota that is used up" : " and too little to evict");
      kept = adopt(*std::move(taken), block);
    }
    block_terms terms = memory_.terms(request);
    const bool save = realm != nullptr && saves(request);
    if (save && options_.save == write_back::on_eviction) terms.unsaved = realm;
    {
      const std::lock_guard guard(s.lock);
      if (auto answer = there()) return *std::move(answer);  // somebody was faster
      // A request that is encoding the same key loses its slot, and finds out when it lands.
      const slot_id at = s.table.find(block->key());
      memory_.fill(s, at != no_slot ? at : s.table.take(block->key()), kept, terms);
    }
    if constexpr (has_tiers)
      if (save && options_.save == write_back::on_insert) save_soon(realm, kept, Tiers::count);
    return kept;
  }

  // Looks all lists up, claims what is missing, provides it, then waits for the claims of others; again for the lists
  // whose leader gave up.
  template <block_encoder E>
  result<std::vector<block_handle>> resolve(std::span<const std::span<const token>> lists, E& encoder,
                                            const kv_request& request) {
    struct joined {
      std::size_t list;
      std::shared_ptr<flight> other;
      std::size_t claim;
    };
    const auto cancelled = [&] { return request.cancel != nullptr && request.cancel->load(std::memory_order_relaxed); };
    const block_realm& realm = encoder.realm();
    const shared_realm shared = intern(realm);
    const bool late = saves(request) && options_.save == write_back::on_eviction;
    std::vector<block_key> keys(lists.size());
    for (std::size_t i = 0; i < lists.size(); ++i) keys[i] = key_of(realm, lists[i]);
    std::vector<block_handle> out(lists.size());
    std::vector<std::size_t> open(lists.size());
    std::iota(open.begin(), open.end(), std::size_t{0});
    if (request.origins != nullptr) request.origins->assign(lists.size(), {});
    for (bool first = true; !open.empty(); first = false) {
      if (cancelled()) return fail(errc::cancelled, "kv_store: the request was cancelled");
      std::vector<joined> waiting;
      std::optional<leader> own;
      const detail::elapsed clock;
      for (const std::size_t i : open) {
        departed expired;  // freed after the lock is
        shard& s = memory_.shard_of(keys[i]);
        const std::lock_guard guard(s.lock);
        const auto [at, collision] = memory_.find(s, keys[i], lists[i], expired);
        if (first && request.origins != nullptr) (*request.origins)[i].memory = outcome_of(s, keys[i], lists[i]);
        if (at != no_slot) {
          if (s.table[at].block != nullptr) {
            out[i] = memory_.hit(s, at, request);
            if (request.origins != nullptr) (*request.origins)[i].where = "memory";
          } else {
            waiting.push_back({i, s.table[at].coming, s.table[at].claim});
          }
          continue;
        }
        s.counters.collisions += collision ? 1 : 0;
        if (!own) own.emplace(memory_, storage_.get_allocator(), request, late ? shared : nullptr, true);
        own->claim(s, keys[i], lists[i], i, !collision);
      }
      lookup_ns_.record(clock.ns());
      for (const std::size_t i : open)
        if (out[i] != nullptr) trace_({store_action::hit, keys[i], "memory", out[i]->bytes(), 0});
      open.clear();
      const auto take = [&](std::size_t i, const flight::claim& c) {
        out[i] = c.block;
        if (request.origins == nullptr) return;
        (*request.origins)[i].where = c.where;
        (*request.origins)[i].reason = c.reason;
      };
      if (own) {
        if (auto done = provide(own->claims(), encoder, request); !done) {
          if (own->claims().size() == 1 && !flight::private_matter(done.error().code)) own->judge(done.error());
          return std::move(done).error();
        }
        own->publish();
        for (const flight::claim& c : own->claims()) take(c.list, c);
        if constexpr (has_tiers) save_claims(own->claims(), shared, request);
      }
      for (const joined& w : waiting) {
        w.other->wait();
        const flight::claim& c = w.other->claims[w.claim];
        if (c.block == nullptr) {
          if (w.other->verdict) return *w.other->verdict;
          open.push_back(w.list);
          continue;
        }
        take(w.list, c);
        trace_({store_action::wait, c.key, "memory", c.block->bytes(), 0});
        shard& s = memory_.shard_of(c.key);
        const std::lock_guard guard(s.lock);
        ++s.counters.waits;
      }
    }
    return out;
  }

  // After landing, so that nobody waits for it: what was encoded goes to all tiers, what a tier had to those above.
  void save_claims(const std::vector<flight::claim>& claims, const shared_realm& realm, const kv_request& request) {
    for (const flight::claim& c : claims) {
      if (c.block->tokens().empty() || c.slot == no_slot || request.time_to_live.count() != 0) continue;
      if (c.where != "miss") {
        if (options_.promote == promotion::all_above && c.tier > 0) save_soon(realm, c.block, c.tier);
      } else if (options_.save == write_back::on_insert ||
                 (options_.save == write_back::on_eviction && !c.counted)) {
        save_soon(realm, c.block, Tiers::count);
      }
    }
  }

  // Makes the blocks of all claims: bytes are taken first, then tiers are asked; for the rest memory is taken, and
  // everything is encoded in one call.
  template <block_encoder E>
  result<void> provide(std::vector<flight::claim>& claims, E& encoder, const kv_request& request) {
    const kv_shape shape = encoder.shape();
    std::vector<std::optional<byte_charge>> charges(claims.size());  // before `memory`: given back after it is freed
    std::vector<std::shared_ptr<std::byte>> memory(claims.size());
    std::vector<std::span<const token>> lists;
    std::vector<std::byte*> payloads;
    std::size_t tokens = 0;
    for (std::size_t i = 0; i < claims.size(); ++i) {
      flight::claim& c = claims[i];
      const std::size_t n = c.tokens.size();
      // What does not fit, and what collides, is not counted, and will not be kept.
      if (c.slot != no_slot) charges[i] = charge(kv_block::bytes_for(shape, n), request, c.refusal);
      if constexpr (has_tiers)
        if (c.slot != no_slot && n != 0 && load(encoder.realm(), shape, c, charges[i])) continue;
      const std::size_t bytes = kv_block::memory_bytes(shape, n);
      auto slab = charges[i] || !request.overflow ? storage_.allocate(bytes) : request.overflow->allocate(bytes);
      if (!slab) return std::move(slab).error();
      memory[i] = std::move(*slab);
      if (n == 0) continue;
      lists.push_back(c.tokens);
      payloads.push_back(memory[i].get());
      tokens += n;
    }
    if (request.cancel != nullptr && !lists.empty() && request.cancel->load(std::memory_order_relaxed))
      return fail(errc::cancelled, "kv_store: cancelled before ", lists.size(), " lists were encoded");
    const detail::elapsed clock;
    if (!lists.empty())
      if (auto done = encoder.encode_into(lists, payloads); !done) return done;
    const std::uint64_t spent = clock.ns();
    if (!lists.empty()) encode_ns_.record(spent);
    for (std::size_t i = 0; i < claims.size(); ++i) {
      flight::claim& c = claims[i];
      if (c.block != nullptr) continue;
      // Lists encoded together share the time by their lengths.
      const double share = tokens == 0 ? 0 : static_cast<double>(c.tokens.size()) / static_cast<double>(tokens);
      const auto ns = static_cast<std::uint64_t>(static_cast<double>(spent) * share);
      c.counted = charges[i].has_value();
      if (c.counted || !request.overflow) {
        c.block = make_block(c.key, shape, c.tokens, std::move(memory[i]), storage_.get_allocator(), ns,
                             c.counted ? std::move(*charges[i]) : byte_charge());
      } else {
        c.block = make_block(c.key, shape, c.tokens, std::move(memory[i]), std::allocator<std::byte>(), ns);
      }
      trace_({c.counted ? store_action::encode : store_action::uncounted, c.key, "memory", c.block->bytes(), ns});
    }
    return {};
  }

  Storage storage_;
  [[no_unique_address]] Trace trace_;
  kv_store_options options_;
  memory_type memory_;
  mutable tier_chain<Tiers, Trace> tiers_;
  job_queue jobs_;
  std::mutex realms_lock_;
  std::vector<shared_realm> realms_;
  latency_histogram lookup_ns_, encode_ns_;
};

/// A store with tiers and ordinary policies: `tiered_store store({.budget_bytes = 1_GiB}, tiers(directory))`.
template <class Tiers>
using tiered_store = kv_store<lru, std::mutex, heap_storage<>, Tiers>;

}  // namespace blockattn::inline v0
