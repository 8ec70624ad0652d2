// SPDX-License-Identifier: MIT
/// `directory_storage`: encoded blocks as files of one folder, which several processes may share. A tier
/// (cache/tier.hpp): what a file holds is mapped and read in place.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../core/config.hpp"
#include "../core/executor.hpp"
#include "../core/mapped_file.hpp"
#include "../core/result.hpp"
#include "../tensor/kv_panels.hpp"
#include "block.hpp"
#include "block_file.hpp"
#include "directory_index.hpp"
#include "eviction.hpp"
#include "file_system.hpp"
#include "key.hpp"

namespace blockattn::inline v0 {

struct directory_options {
  std::filesystem::path folder = {};  ///< made if it is not there
  /// Bytes of all files of blocks in the folder, headers and what is being written included.
  std::uint64_t budget_bytes = std::numeric_limits<std::uint64_t>::max();
  std::string isa = {};             ///< whose bits this process makes: isa_name()
  bool same_producer_only = false;  ///< refuse files of another library version or instruction set
  verify_when verify = verify_when::before_use;
  /// Compares the layers of a block in parallel before it is handed out: one that outlives the storage and takes calls
  /// from every thread that loads, as `thread_executor` does. Without one, the thread that loads does it alone.
  std::optional<executor_ref> workers = {};
  std::chrono::milliseconds lock_wait{10'000};  ///< how long a save waits for other processes' saves to make room
};

/// What has happened in this process, and what it knows of the folder.
struct directory_counters {
  std::uint64_t hits = 0;           // blocks loaded
  std::uint64_t misses = 0;         // loads without a file
  std::uint64_t refused = 0;        // files that were there and could not be used
  std::uint64_t damaged_later = 0;  // layers of blocks handed out unread that proved damaged
  std::uint64_t saves = 0;          // blocks written
  std::uint64_t present = 0;        // saves of blocks that were there already
  std::uint64_t failures = 0;       // loads and saves that the system refused
  std::uint64_t evictions = 0;      // files removed for want of room
  std::uint64_t leftovers = 0;      // unfinished files of dead processes removed
  std::size_t blocks = 0;
  std::uint64_t bytes = 0;  // of the blocks known to be there
  std::uint64_t budget_bytes = 0;
};

/// What a collection removed.
struct collected {
  std::size_t leftovers = 0;
  std::size_t damaged = 0;
  std::size_t evicted = 0;
  std::uint64_t bytes = 0;  // of all of them
};

/// Blocks in files; copies share one storage. All members are safe from several threads, and folders from several processes:
/// - A file appears whole, by a rename, and never changes. A file that is mapped stays readable after it is removed;
///   its disk space is free once the last handle is gone.
/// - The budget holds over all processes that use the same one: room is made and taken under a lock of the folder, which
///   a dying process gives up. Nothing is written or verified under it.
/// - A damaged, torn or foreign file is a typed error and never handed out; the next save of its key replaces it.
/// - What `save` has reported survives a loss of power, until it is evicted or erased.
/// Order of eviction: the policy's, over the uses of this process; files found by a scan count as used when they were
/// written. Complexity: `load` is linear in the file (`by_layer`: in its head); `save` besides in the files of the folder.
template <eviction_policy Eviction = lru, file_system FileSystem = native_file_system>
class directory_storage {
 public:
  /// Makes the folder if need be, looks what is there, removes what dead processes left unfinished, and evicts down to
  /// the budget. Errors: `io`; `invalid_argument` for `same_producer_only` without `isa`.
  [[nodiscard]] static result<directory_storage> open(directory_options options, FileSystem files = FileSystem(),
                                                      Eviction eviction = Eviction()) {
    if (options.same_producer_only && options.isa.empty())
      return fail(errc::invalid_argument, "directory: same_producer_only: expected the name of an instruction set");
    std::error_code code;
    const bool made = std::filesystem::create_directories(options.folder, code);
    if (code) return fail(errc::io, options.folder.string(), ": cannot create: ", code.message());
    // The folder's own name must survive a loss of power too, and so must those above it.
    if (made)
      for (auto above = std::filesystem::absolute(options.folder, code); above.has_relative_path();) {
        above = above.parent_path();
        (void)files.flush_folder(above);  // one that may not be opened was not made just now
      }
    directory_storage out(std::make_shared<state>(std::move(options), std::move(files), std::move(eviction)));
    collected unused;
    const auto room = out.make_room(0, unused);
    if (!room) return room.error();
    return out;
  }

  [[nodiscard]] std::string_view name() const noexcept { return "directory"; }
  [[nodiscard]] const std::filesystem::path& folder() const noexcept { return state_->options.folder; }

  /// The block of a key, mapped; null if there is no file. Errors: `bad_format` and `unsupported` for a file that is not
  /// the block asked for (see read_block), `io`.
  [[nodiscard]] result<block_handle> load(const block_realm& realm, const kv_shape& shape, const block_key& key,
                                          std::span<const token> ids) {
    const std::filesystem::path path = path_of(key);
    auto mapped = state_->files.map(path);
    if (!mapped) return count_failure(std::move(mapped).error());
    if (!*mapped) {
      const std::lock_guard guard(state_->lock);
      state_->index.erase(key);
      ++state_->counters.misses;
      return block_handle();
    }
    const auto owner = std::make_shared<const mapped_file>(**std::move(mapped));
    read_block_options how;
    how.verify = state_->options.verify;
    how.workers = state_->options.workers;
    if (state_->options.same_producer_only) how.same_producer = state_->options.isa;
    if (how.verify == verify_when::by_layer) {
      how.on_damage = [known = std::weak_ptr<state>(state_), key] {
        if (const auto s = known.lock()) {
          const std::lock_guard guard(s->lock);
          s->index.suspect(key);
          ++s->counters.damaged_later;
        }
      };
      const std::lock_guard guard(state_->lock);
      // What proved damaged once is not handed out unread again.
      if (state_->index.suspected(key)) how.verify = verify_when::before_use;
    }
    if (how.verify == verify_when::before_use)
      if (auto ok = detail::populate(*owner, path); !ok) return count_failure(std::move(ok).error());
    auto block = read_block({path.string(), owner, owner->bytes()}, realm, shape, key, ids, std::move(how));
    const std::lock_guard guard(state_->lock);
    state_->index.put(key, owner->size(), block ? (*block)->encode_ns() : 0);
    if (!block) state_->index.suspect(key);
    ++(block ? state_->counters.hits : state_->counters.refused);
    return block;
  }

  /// Writes a block unless it is there. A file that a load has refused is replaced. Errors: `invalid_argument` for null
  /// or a block without tokens; `store_full` if it is larger than the budget, or the policy keeps too much; `io`; then no
  /// file of this key has changed.
  [[nodiscard]] result<void> save(const block_realm& realm, const block_handle& block) {
    if (block == nullptr) return fail(errc::invalid_argument, "directory: save: expected a block, found null");
    if (is_present(block->key())) return {};
    const auto image = block_file_image::of(realm, *block, state_->options.isa);
    if (!image) return detail::naming(path_of(block->key()), image.error());
    return put(block->key(), image->pieces(), image->size(), block->encode_ns());
  }

  /// Takes the bytes of a block's file that came from elsewhere, whatever model they belong to; whether they were new.
  /// Errors: as `verify_block`, and as `save`.
  [[nodiscard]] result<bool> adopt(std::span<const std::byte> bytes) {
    const auto head = detail::read_block_head(bytes);
    if (!head) return head.error();
    if (auto whole = detail::verify_layers(*head); !whole) return std::move(whole).error();
    const auto key = block_key_of_name(head->field("key") + ".safetensors");
    if (!key) return fail(errc::bad_format, "key: expected 32 hexadecimal digits, found ", head->field("key").substr(0, 64));
    if (is_present(*key)) return false;
    if (auto done = put(*key, {&bytes, 1}, bytes.size(), 0); !done) return std::move(done).error();
    return true;
  }

  /// Whether a file of this name is there. It may be damaged.
  [[nodiscard]] bool contains(const block_key& key) {
    {
      const std::lock_guard guard(state_->lock);
      if (state_->index.contains(key)) return true;
    }
    const auto mapped = state_->files.map(path_of(key));
    return mapped && *mapped;
  }

  /// Removes a file; handles stay valid. Success if there was none. Errors: `io`.
  [[nodiscard]] result<void> erase(const block_key& key) {
    if (auto done = state_->files.remove(path_of(key)); !done) return count_failure(std::move(done).error());
    const std::lock_guard guard(state_->lock);
    state_->index.erase(key);
    return {};
  }

  /// Removes unfinished files of dead processes, then every block that is not whole, then evicts down to the budget.
  /// Files of other format versions stay, and so does whatever has not the name of a block. Errors: `io`.
  /// Complexity: reads all files.
  [[nodiscard]] result<collected> collect() {
    collected out;
    if (auto done = make_room(0, out); !done) return std::move(done).error();
    for (const block_key& key : keys()) {
      const std::filesystem::path path = path_of(key);
      const auto mapped = state_->files.map(path);
      if (!mapped) return count_failure(mapped.error());
      if (!*mapped) continue;
      const auto whole = verify_block((*mapped)->bytes());
      if (whole || whole.error().code != errc::bad_format) continue;
      if (auto done = erase(key); !done) return std::move(done).error();
      ++out.damaged;
      out.bytes += (*mapped)->size();
    }
    return out;
  }

  /// The keys known to be there, ascending.
  [[nodiscard]] std::vector<block_key> keys() const {
    const std::lock_guard guard(state_->lock);
    return state_->index.keys();
  }
  [[nodiscard]] directory_counters counters() const {
    const std::lock_guard guard(state_->lock);
    directory_counters copy = state_->counters;
    copy.blocks = state_->index.blocks();
    copy.bytes = state_->index.bytes();
    copy.budget_bytes = state_->options.budget_bytes;
    return copy;
  }
  [[nodiscard]] std::filesystem::path path_of(const block_key& key) const { return folder() / block_file_name(key); }

 private:
  // Shared with the checks of blocks that were handed out unread, and so that a storage can be moved.
  struct state {
    state(directory_options o, FileSystem f, Eviction e)
        : options(std::move(o)), files(std::move(f)), index(std::move(e)) {}
    const directory_options options;
    FileSystem files;
    std::mutex making_room;  // one thread at a time asks for the folder's lock
    std::mutex lock;         // never held while a file is touched
    // Under `lock`:
    directory_index<Eviction> index;
    directory_counters counters;
  };
  explicit directory_storage(std::shared_ptr<state> s) noexcept : state_(std::move(s)) {}

  failure count_failure(failure e) {
    const std::lock_guard guard(state_->lock);
    ++state_->counters.failures;
    return e;
  }
  // Whether a save has nothing to do. Another process may have evicted the file since the last look.
  bool is_present(const block_key& key) {
    {
      const std::lock_guard guard(state_->lock);
      if (!state_->index.contains(key) || state_->index.suspected(key)) return false;
    }
    const auto mapped = state_->files.map(path_of(key));
    const std::lock_guard guard(state_->lock);
    if (!mapped || !*mapped) {
      state_->index.erase(key);
      return false;
    }
    ++state_->counters.present;
    return true;
  }

  result<void> put(const block_key& key, std::span<const std::span<const std::byte>> pieces, std::uint64_t bytes,
                   std::uint64_t encode_ns) {
    const std::filesystem::path path = path_of(key), temporary = detail::temporary_beside(path);
    collected unused;
    auto to = make_room(bytes, unused, &temporary);
    if (!to) return count_failure(std::move(to).error());
    auto done = detail::write_whole(**to, temporary, pieces);
    if (done) done = rename(temporary, path);
    if (!done) {
      (void)state_->files.remove(temporary);
      return count_failure(std::move(done).error());
    }
    if (done = state_->files.flush_folder(folder()); !done) return count_failure(std::move(done).error());
    const std::lock_guard guard(state_->lock);
    state_->index.put(key, bytes, encode_ns);
    ++state_->counters.saves;
    return {};
  }

  // Under the folder's lock: a scan during a rename may see both names, or neither.
  result<void> rename(const std::filesystem::path& from, const std::filesystem::path& to) {
    const std::lock_guard one(state_->making_room);
    const auto held = folder_lock::acquire(folder(), state_->options.lock_wait);
    if (!held) return held.error();
    return state_->files.rename(from, to);
  }

  // Looks at the folder, removes what dead processes left and what the budget cannot hold beside `bytes` more, and, if
  // asked to, begins a file of that size. All of it under the folder's lock: who adds up a folder sees what others have
  // begun, and nobody takes a file that is just beginning for one that was left behind.
  result<std::optional<typename FileSystem::file>> make_room(std::uint64_t bytes, collected& report,
                                                             const std::filesystem::path* begin = nullptr) {
    const std::uint64_t budget = state_->options.budget_bytes;
    const auto full = [&](std::uint64_t used) {
      return fail(errc::store_full, folder().string(), ": expected room for ", bytes, " bytes, found ",
                  budget - std::min(used, budget), " of ", budget, " and nothing to evict");
    };
    if (bytes > budget) return full(0);
    const std::lock_guard one(state_->making_room);
    const auto held = folder_lock::acquire(folder(), state_->options.lock_wait);
    if (!held) return held.error();
    auto found = state_->files.scan(folder());
    if (!found) return std::move(found).error();
    std::uint64_t used = 0;
    for (folder_entry& entry : *found) {
      const bool temporary = is_temporary_name(entry.name);
      if (!temporary && !block_key_of_name(entry.name)) continue;  // somebody else's
      if (temporary && !being_written(folder() / entry.name)) {
        if (auto gone = state_->files.remove(folder() / entry.name); !gone) return std::move(gone).error();
        ++report.leftovers;
        report.bytes += entry.bytes;
        const std::lock_guard guard(state_->lock);
        ++state_->counters.leftovers;
        continue;
      }
      used += entry.bytes;
    }
    {
      const std::lock_guard guard(state_->lock);
      state_->index.refresh(*found);
    }
    while (used > budget || bytes > budget - used) {
      std::optional<std::pair<block_key, std::uint64_t>> victim;
      {
        const std::lock_guard guard(state_->lock);
        if ((victim = state_->index.victim())) state_->index.erase(victim->first);
      }
      if (!victim) return full(used);
      if (auto gone = state_->files.remove(path_of(victim->first)); !gone) return std::move(gone).error();
      used -= std::min(victim->second, used);
      ++report.evicted;
      report.bytes += victim->second;
      const std::lock_guard guard(state_->lock);
      ++state_->counters.evictions;
    }
    if (begin == nullptr) return std::optional<typename FileSystem::file>();
    auto to = state_->files.create(*begin, bytes);
    if (!to) return std::move(to).error();
    return std::optional<typename FileSystem::file>(*std::move(to));
  }

  std::shared_ptr<state> state_;
};

}  // namespace blockattn::inline v0
