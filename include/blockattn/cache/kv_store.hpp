// SPDX-License-Identifier: MIT
/// `kv_store`: encoded blocks by key, under a hard byte budget, shared by all threads of a program.
#pragma once

#include <algorithm>
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
#include "../core/result.hpp"
#include "../tensor/kv_panels.hpp"
#include "account.hpp"
#include "block.hpp"
#include "encoder.hpp"
#include "eviction.hpp"
#include "explain.hpp"
#include "flight.hpp"
#include "key.hpp"
#include "slot_table.hpp"
#include "storage.hpp"

namespace blockattn::inline v0 {

struct kv_store_options {
  std::size_t budget_bytes = std::size_t{1} << 30;
  std::size_t remembered = 4096;  ///< keys that explain() knows to have left
};

/// Blocks by key. Composed of three policies: who goes first, which lock, whose memory.
///
/// - All members may be called from any thread, given a real lock and thread-safe storage.
/// - A handle pins: a block that somebody outside holds is never evicted. Handles may outlive the store.
/// - The budget is hard. Bytes (payload, ids, bookkeeping) are taken from it before memory is allocated, and given back
///   after it is freed. A block that was evicted or erased while pinned counts until its last handle is gone.
/// - A block that cannot fit is encoded all the same, into memory that is not counted, and is returned but not kept.
/// - Concurrent misses of one key encode once.
/// - An error, or an exception of an encoder or allocator, leaves no trace but counters and blocks evicted to make
/// room.
///   Memory that runs out is `out_of_memory`.
template <eviction_policy Eviction = lru, class Lock = std::mutex, storage Storage = heap_storage<>>
class kv_store {
 public:
  explicit kv_store(kv_store_options options = {}, Storage memory = Storage(), Eviction eviction = Eviction())
      : storage_(std::move(memory)),
        account_(std::allocate_shared<byte_account>(storage_.get_allocator(), options.budget_bytes)),
        table_(std::move(eviction), storage_.get_allocator()),
        departures_(options.remembered, storage_.get_allocator()) {}
  kv_store(const kv_store&) = delete;
  kv_store& operator=(const kv_store&) = delete;
  ~kv_store() = default;

  /// The block of a key, if it is there and holds these tokens; null otherwise. Counts as a use.
  [[nodiscard]] block_handle find(const block_key& key, std::span<const token> ids) {
    const std::lock_guard guard(lock_);
    if (const slot_id at = table_.find(key); at != no_slot && table_[at].block != nullptr) {
      if (same_tokens(table_[at].tokens(), ids)) return hit(at);
      ++counters_.collisions;
    }
    ++counters_.misses;
    return nullptr;
  }

  /// Puts a block that was made elsewhere into the store and returns the handle to use from now on: that of the block
  /// already there, if there is one. The store counts the block's bytes although it did not allocate them.
  /// Errors: `store_full` if pinned blocks leave too little room, `invalid_argument` for null or a colliding key,
  /// `out_of_memory`.
  result<block_handle> insert(const block_handle& block) {
    return guarded([&] { return insert_unguarded(block); });
  }

  /// A handle for each list, in order. What is missing is encoded by `encoder`, all of it in one call, outside the
  /// lock; what others are encoding is waited for after that, so that requests never wait for each other in a circle.
  /// If another request fails, this one takes over what it waited for, and never sees the other's error. An empty list
  /// gives a block without bytes, and the encoder is not asked. Errors: the encoder's, `out_of_memory`.
  template <block_encoder E>
  result<std::vector<block_handle>> find_or_encode(std::span<const std::span<const token>> lists, E& encoder) {
    return guarded([&] { return resolve(lists, encoder); });
  }
  template <block_encoder E>
  result<std::vector<block_handle>> find_or_encode(std::span<const std::vector<token>> lists, E& encoder) {
    return guarded([&] {
      const std::vector<std::span<const token>> views(lists.begin(), lists.end());
      return resolve(views, encoder);
    });
  }

  /// Forgets a block; whether it was there. A block that is being encoded is not there yet.
  bool erase(const block_key& key) {
    block_handle gone;  // freed after the lock is
    const std::lock_guard guard(lock_);
    const slot_id at = table_.find(key);
    if (at == no_slot || table_[at].block == nullptr) return false;
    gone = depart(at, block_outcome::erased);
    return true;
  }

  /// Forgets all blocks. Complexity: linear; frees under the lock.
  void clear() {
    const std::lock_guard guard(lock_);
    for (slot_id at = 0; at < table_.size(); ++at)
      if (table_[at].block != nullptr) (void)depart(at, block_outcome::erased);
  }

  /// A consistent copy, but for `bytes`, which handles that die elsewhere may lower at any time.
  [[nodiscard]] kv_store_counters counters() const {
    const std::lock_guard guard(lock_);
    kv_store_counters copy = counters_;
    copy.bytes = account_->used();
    copy.peak_bytes = account_->peak();
    copy.budget_bytes = account_->budget();
    return copy;
  }

  /// Why each list would hit or miss now. Counts nothing and is no use of a block.
  [[nodiscard]] std::vector<explanation> explain(std::span<const std::span<const token>> lists,
                                                 const block_realm& realm) const {
    std::vector<explanation> out(lists.size());
    for (std::size_t i = 0; i < lists.size(); ++i) out[i] = {key_of(realm, lists[i]), lists[i].size()};
    const std::lock_guard guard(lock_);
    for (std::size_t i = 0; i < lists.size(); ++i) out[i].outcome = outcome_of(out[i].key, lists[i]);
    return out;
  }
  [[nodiscard]] std::vector<explanation> explain(std::span<const std::vector<token>> lists,
                                                 const block_realm& realm) const {
    const std::vector<std::span<const token>> views(lists.begin(), lists.end());
    return explain(views, realm);
  }

 private:
  using allocator = typename Storage::allocator_type;
  using flight = encoding_flight;
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
  static bool same_tokens(std::span<const token> a, std::span<const token> b) noexcept {
    return std::ranges::equal(a, b);
  }

  // ---- Under the lock.

  block_handle hit(slot_id at) noexcept {
    ++counters_.hits;
    table_.touch(at);
    return table_[at].block;
  }
  void fill(slot_id at, const block_handle& block) noexcept {
    table_.fill(at, block);
    ++counters_.insertions;
    ++counters_.blocks;
  }
  block_handle depart(slot_id at, block_outcome why) noexcept {
    block_handle block = table_.remove(at);
    departures_.note(block->key(), why);
    ++(why == block_outcome::evicted ? counters_.evictions : counters_.erasures);
    --counters_.blocks;
    return block;
  }
  block_outcome outcome_of(const block_key& key, std::span<const token> ids) const noexcept {
    const slot_id at = table_.find(key);
    if (at == no_slot) return departures_.why(key);
    if (!same_tokens(table_[at].tokens(), ids)) return block_outcome::collision;
    return table_[at].block != nullptr ? block_outcome::hit : block_outcome::in_flight;
  }

  // ---- Outside the lock.

  // Takes `bytes` of the budget, evicting for them one block at a time; blocks are freed outside the lock.
  std::optional<byte_charge> charge(std::size_t bytes) {
    while (!account_->try_take(bytes)) {
      block_handle gone;
      const std::lock_guard guard(lock_);
      const std::size_t left = account_->left();
      if (left >= bytes) continue;  // a handle died meanwhile
      const std::optional<slot_id> victim = table_.victim(bytes - left);
      if (!victim) return std::nullopt;
      gone = depart(*victim, block_outcome::evicted);
    }
    return byte_charge(account_, bytes);
  }

  result<block_handle> insert_unguarded(const block_handle& block) {
    if (block == nullptr) return fail(errc::invalid_argument, "kv_store: insert: expected a block, found null");
    const auto there = [&]() -> std::optional<result<block_handle>> {
      const slot_id at = table_.find(block->key());
      if (at == no_slot || table_[at].block == nullptr) return std::nullopt;
      if (same_tokens(table_[at].tokens(), block->tokens())) return table_[at].block;
      return fail(errc::invalid_argument, "kv_store: insert: key ", block->key().value.hex(),
                  " is held by a block of other tokens");
    };
    {
      const std::lock_guard guard(lock_);
      if (auto answer = there()) return *std::move(answer);
    }
    block_handle kept = block;
    // A block of this store that was evicted or erased still counts: it can come back as it is.
    if (block->counted_by() != account_.get()) {
      auto taken = charge(block->bytes());
      if (!taken)
        return fail(errc::store_full, "kv_store: insert: expected room for ", block->bytes(), " bytes, found ",
                    account_->left(), " of ", account_->budget(), " and too little to evict");
      auto owner = std::allocate_shared<adopted>(storage_.get_allocator(), *std::move(taken), block);
      kept = block_handle(std::move(owner), block.get());
    }
    const std::lock_guard guard(lock_);
    if (auto answer = there()) return *std::move(answer);  // somebody was faster
    // A request that is encoding the same key loses its slot, and finds out when it lands.
    const slot_id at = table_.find(block->key());
    fill(at != no_slot ? at : table_.take(block->key()), kept);
    return kept;
  }

  // A request's claims. Whatever happens, they end and the flight lands.
  class leader {
   public:
    explicit leader(kv_store& store)
        : store_(store), flight_(std::allocate_shared<flight>(store.storage_.get_allocator())) {}
    leader(const leader&) = delete;
    leader& operator=(const leader&) = delete;
    ~leader() {
      if (landed_) return;
      for (flight::claim& c : claims()) c.block = nullptr;
      publish();
    }

    std::vector<flight::claim>& claims() noexcept { return flight_->claims; }

    // Under the lock. If `announce`, others find the claim and wait for it.
    void claim(const block_key& key, std::span<const token> ids, std::size_t list, bool announce) {
      claims().push_back({key, ids, list});
      ++store_.counters_.misses;
      if (!announce) return;
      const slot_id at = store_.table_.take(key);
      claims().back().slot = at;
      store_.table_[at].coming = flight_;
      store_.table_[at].claim = claims().size() - 1;
    }

    // Fills the slots of the claims that have a block, gives the others up, and lets everybody see.
    void publish() {
      {
        const std::lock_guard guard(store_.lock_);
        for (const flight::claim& c : claims()) store_.settle(c, flight_);
      }
      landed_ = true;
      flight_->land();
    }

   private:
    kv_store& store_;
    std::shared_ptr<flight> flight_;
    bool landed_ = false;
  };

  // Under the lock: the end of a claim of `own`.
  void settle(const flight::claim& c, const std::shared_ptr<flight>& own) noexcept {
    // An insert() may have taken the slot meanwhile.
    const bool announced = c.slot != no_slot && table_[c.slot].coming == own;
    if (c.block == nullptr) {
      ++counters_.failures;
    } else if (announced && c.block->counted_by() != nullptr) {
      fill(c.slot, c.block);
      return;
    } else {
      ++counters_.uncounted;
      if (announced) departures_.note(c.key, block_outcome::too_large);
    }
    if (announced) table_.release(c.slot, c.key);
  }

  // Looks all lists up, claims what is missing, encodes it, then waits for the claims of others; again for the lists
  // whose leader failed.
  template <block_encoder E>
  result<std::vector<block_handle>> resolve(std::span<const std::span<const token>> lists, E& encoder) {
    struct joined {
      std::size_t list;
      std::shared_ptr<flight> other;
      std::size_t claim;
    };
    std::vector<block_key> keys(lists.size());
    const block_realm& realm = encoder.realm();
    for (std::size_t i = 0; i < lists.size(); ++i) keys[i] = key_of(realm, lists[i]);
    std::vector<block_handle> out(lists.size());
    std::vector<std::size_t> open(lists.size());
    std::iota(open.begin(), open.end(), std::size_t{0});
    while (!open.empty()) {
      std::vector<joined> waiting;
      std::optional<leader> own;  // outlives the guard: it needs the lock to end its claims
      {
        const std::lock_guard guard(lock_);
        for (const std::size_t i : open) {
          const slot_id at = table_.find(keys[i]);
          if (at != no_slot && same_tokens(table_[at].tokens(), lists[i])) {
            if (table_[at].block != nullptr) {
              out[i] = hit(at);
            } else {
              waiting.push_back({i, table_[at].coming, table_[at].claim});
            }
            continue;
          }
          if (at != no_slot) ++counters_.collisions;
          if (!own) own.emplace(*this);
          own->claim(keys[i], lists[i], i, at == no_slot);
        }
      }
      open.clear();
      if (own) {
        if (auto done = encode(own->claims(), encoder); !done) return std::move(done).error();
        own->publish();
        for (const flight::claim& c : own->claims()) out[c.list] = c.block;
      }
      for (const joined& w : waiting) {
        w.other->wait();
        out[w.list] = w.other->claims[w.claim].block;
        if (out[w.list] == nullptr) open.push_back(w.list);
      }
      if (waiting.size() != open.size()) {
        const std::lock_guard guard(lock_);
        counters_.waits += waiting.size() - open.size();
      }
    }
    return out;
  }

  // Makes the blocks of all claims: bytes are taken first, then memory, then everything is encoded in one call.
  template <block_encoder E>
  result<void> encode(std::vector<flight::claim>& claims, E& encoder) {
    const kv_shape shape = encoder.shape();
    std::vector<byte_charge> charges(claims.size());  // before `memory`: given back after it is freed
    std::vector<std::shared_ptr<std::byte>> memory(claims.size());
    std::vector<std::span<const token>> lists;
    std::vector<std::byte*> payloads;
    std::size_t tokens = 0;
    for (std::size_t i = 0; i < claims.size(); ++i) {
      const std::size_t n = claims[i].tokens.size();
      // What does not fit, and what collides, is not counted, and will not be kept.
      if (claims[i].slot != no_slot)
        if (auto taken = charge(kv_block::bytes_for(shape, n))) charges[i] = std::move(*taken);
      auto slab = storage_.allocate(kv_block::memory_bytes(shape, n));
      if (!slab) return std::move(slab).error();
      memory[i] = std::move(*slab);
      if (n == 0) continue;
      lists.push_back(claims[i].tokens);
      payloads.push_back(memory[i].get());
      tokens += n;
    }
    const auto begin = std::chrono::steady_clock::now();
    if (!lists.empty())
      if (auto done = encoder.encode_into(lists, payloads); !done) return done;
    const std::chrono::duration<double, std::nano> spent = std::chrono::steady_clock::now() - begin;
    for (std::size_t i = 0; i < claims.size(); ++i) {
      flight::claim& c = claims[i];
      // Lists encoded together share the time by their lengths.
      const double share = tokens == 0 ? 0 : static_cast<double>(c.tokens.size()) / static_cast<double>(tokens);
      c.block = make_block(c.key, shape, c.tokens, std::move(memory[i]), storage_.get_allocator(),
                           static_cast<std::uint64_t>(spent.count() * share), std::move(charges[i]));
    }
    return {};
  }

  Storage storage_;
  std::shared_ptr<byte_account> account_;
  mutable Lock lock_;
  // Under the lock:
  slot_table<Eviction, allocator> table_;
  departures<allocator> departures_;
  kv_store_counters counters_;  // but for the bytes: the account knows
};

}  // namespace blockattn::inline v0
