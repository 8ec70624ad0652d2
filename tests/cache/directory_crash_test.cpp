// SPDX-License-Identifier: MIT
// Folders of blocks against sudden ends: processes killed at random points, and every prefix of what was written
// replayed with what was not flushed lost. Afterwards every file is whole, the budget holds, and nothing is missing but
// the block that was being written.
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <blockattn/cache/directory_storage.hpp>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <map>
#include <set>
#include <thread>

#include "../support/catch.hpp"
#include "../support/random_model.hpp"
#include "../support/temporary_folder.hpp"
#include "folder_of_blocks.hpp"
#include "test_file_system.hpp"

namespace ba = blockattn;
using blockattn_test::file_controls;
using blockattn_test::file_event;
using blockattn_test::has_fake_payload;
using blockattn_test::random_numbers;
using blockattn_test::small_blocks;
using blockattn_test::sum_of;
using blockattn_test::temporary_folder;
using blockattn_test::test_file_system;
using recorded_directory = ba::directory_storage<ba::lru, test_file_system>;
using directory = ba::directory_storage<>;

namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr std::size_t kills = 200;  // a sanitizer makes a process too heavy to start in the thousands
#else
constexpr std::size_t kills = 1000;
#endif
constexpr std::size_t keys = 12, room = 5;

// What children tell the parent, in memory that outlives them.
struct shared_facts {
  std::atomic<std::uint32_t> saved;            // blocks 0..saved-1 of the folder without a budget are there for good
  std::atomic<std::uint64_t> operations, evictions, wrong;
};

class shared_memory {
 public:
  shared_memory() {
    void* at = ::mmap(nullptr, sizeof(shared_facts), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(at != MAP_FAILED);
    facts_ = new (at) shared_facts{};
  }
  ~shared_memory() { ::munmap(facts_, sizeof(shared_facts)); }
  shared_facts* operator->() const { return facts_; }

 private:
  shared_facts* facts_;
};

// One process at its work: blocks come, go and are read in a folder with a budget, which another process uses too; and
// come to stay in a folder of its own. It kills itself at call `die_at` of the file system, if it comes so far.
void work(const std::string& tight, const std::string& roomy, std::uint64_t seed, std::size_t operations,
          std::size_t die_at, shared_facts& facts) {
  small_blocks s;
  random_numbers random(seed);
  auto control = std::make_shared<file_controls>();
  control->flush_really = seed % 7 == 0;
  control->die_at = die_at;
  if (seed % 3 == 0) control->write_limit = 300;  // more points to die at
  auto a = recorded_directory::open({.folder = tight, .budget_bytes = room * s.file_bytes(), .isa = "test"},
                                    test_file_system(control));
  auto b = roomy.empty() ? recorded_directory::open({.folder = tight, .isa = "test"}, test_file_system(control))
                         : recorded_directory::open({.folder = roomy, .isa = "test"}, test_file_system(control));
  if (!a || !b) ::_exit(3);
  std::vector<ba::block_handle> held(4);
  for (std::size_t n = 0; n < operations; ++n) {
    const std::size_t i = random.below(keys);
    switch (random.below(8)) {
      case 0:
        if (!a->erase(s.key(i))) ::_exit(4);
        break;
      case 1:
        if (!a->collect()) ::_exit(5);
        break;
      case 2:
      case 3:
        if (!s.save(*a, i)) ::_exit(6);
        break;
      case 4:
        if (roomy.empty()) break;
        if (!s.save(*b, 1000 + facts.saved)) ::_exit(7);
        ++facts.saved;
        break;
      default: {
        const auto found = s.load(*a, i);
        if (!found) ::_exit(8);
        if (*found) held[n % held.size()] = *found;  // evicted and erased under our feet, and still readable
      }
    }
    for (const auto& block : held)
      if (block && !has_fake_payload(*block)) ::_exit(9);
    ++facts.operations;
  }
  facts.evictions += a->counters().evictions;
}

template <class Body>
pid_t in_a_child(Body body) {
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    body();
    ::_exit(0);
  }
  return child;
}

// 0 for a normal end, the signal's negative number for a killed process.
int end_of(pid_t child) {
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

// Every file of the folder is a whole block of ours.
void all_whole(const std::string& folder, small_blocks& s) {
  auto d = directory::open({.folder = folder, .isa = "test"}).value();
  std::size_t blocks = 0;
  for (std::size_t i = 0; i < keys; ++i) {
    const auto found = s.load(d, i);
    REQUIRE(found);
    if (!*found) continue;
    ++blocks;
    CHECK(has_fake_payload(**found));
  }
  const auto sum = sum_of(folder);
  CHECK((sum.temporaries == 0 && sum.blocks == blocks));
}

}  // namespace

TEST_CASE("directory: processes killed while they write, evict and share") {
  const temporary_folder tight, roomy[2];
  const shared_memory facts[2];
  small_blocks s;
  const std::uint64_t budget = room * s.file_bytes();
  random_numbers random(1);
  std::size_t killed = 0, leftovers = 0;
  for (std::size_t round = 0; killed < kills; ++round) {
    // Every other pair dies at calls of the file system that were drawn, so that on a machine of any speed many die
    // while they write; the others at moments that were drawn, which may be anywhere between two calls.
    const bool at_a_call = round % 2 == 0;
    pid_t children[2];
    for (std::size_t c = 0; c < 2; ++c) {
      const std::size_t die_at = at_a_call ? random.below(200) : file_controls::never;
      children[c] = in_a_child(
          [&] { work(tight.path(), roomy[c].path(), 2 * round + c + 1, 100000, die_at, *facts[c].operator->()); });
    }
    for (const pid_t child : children) {
      if (!at_a_call) {
        std::this_thread::sleep_for(std::chrono::microseconds(random.below(2000)));
        ::kill(child, SIGKILL);
      }
      REQUIRE(end_of(child) == -SIGKILL);  // and not an exit because something was wrong
      ++killed;
    }
    const auto sum = sum_of(tight.path());  // as they left it, what they were writing included
    REQUIRE(sum.bytes <= budget);
    leftovers += sum.temporaries;
    if (round % 7 == 0) all_whole(tight.path(), s);
    for (std::size_t c = 0; c < 2; ++c) {
      const std::size_t saved = facts[c]->saved;
      if (saved < 60 && killed < kills) continue;
      auto d = directory::open({.folder = roomy[c].path(), .isa = "test"}).value();
      // The one that was being saved may be there before it was counted.
      const std::size_t there = d.counters().blocks;
      CHECK((there == saved || there == saved + 1));
      for (std::size_t i = 0; i < saved; ++i)
        if (!s.has(d, 1000 + i)) FAIL("block " << i << " of " << saved << " is lost");
      std::filesystem::remove_all(roomy[c].path());
      std::filesystem::create_directory(roomy[c].path());
      facts[c]->saved = 0;
    }
  }
  all_whole(tight.path(), s);
  const std::uint64_t operations = facts[0]->operations + facts[1]->operations;
  INFO(killed << " kills, " << operations << " operations, " << leftovers << " unfinished files");
  CHECK((operations > kills && leftovers > kills / 50));
}

TEST_CASE("directory: two processes hammer one folder") {
  const temporary_folder folder;
  const shared_memory facts;
  small_blocks s;
  const std::uint64_t budget = room * s.file_bytes();
  std::vector<pid_t> children;
  for (std::uint64_t c = 0; c < 2; ++c)
    children.push_back(in_a_child(
        [&] { work(folder.path(), "", 3 * c + 1, kills * 2, file_controls::never, *facts.operator->()); }));
  // Under the lock nobody renames, so that the sum is that of one moment.
  for (int look = 0; look < 50; ++look) {
    const auto held = ba::folder_lock::acquire(folder.path(), std::chrono::seconds(20)).value();
    CHECK(sum_of(folder.path()).bytes <= budget);
    std::this_thread::sleep_for(std::chrono::microseconds(300));
  }
  for (const pid_t child : children) CHECK(end_of(child) == 0);
  CHECK(facts->operations == 4 * kills);
  CHECK(facts->evictions > 10);
  CHECK(sum_of(folder.path()).temporaries == 0);
  all_whole(folder.path(), s);
}

namespace {

// A disk: what the processes see, and what a loss of power would leave.
class disk {
 public:
  struct inode {
    std::vector<std::byte> seen, kept;
    std::size_t written = 0;
  };
  using names = std::map<std::string, std::shared_ptr<inode>>;

  void apply(const file_event& e) {
    switch (e.what) {
      case file_event::create: {
        auto made = std::make_shared<inode>();
        made->seen.resize(e.size);
        made->kept.resize(e.size);  // the length alone: zeros
        change(e, made);
        break;
      }
      case file_event::write: {
        inode& at = *seen_.at(e.name);
        std::copy(e.bytes.begin(), e.bytes.end(), at.seen.begin() + static_cast<std::ptrdiff_t>(at.written));
        at.written += e.bytes.size();
        break;
      }
      case file_event::flush: seen_.at(e.name)->kept = seen_.at(e.name)->seen; break;
      case file_event::rename:
      case file_event::remove: change(e, e.what == file_event::rename ? seen_.at(e.name) : nullptr); break;
      case file_event::flush_folder:
        kept_ = seen_;
        pending_.clear();
        break;
      case file_event::mark: break;
    }
  }

  enum class loss { everything, data_only, half_the_data, some_names };
  // What is there after a loss of power, as file contents.
  [[nodiscard]] std::map<std::string, std::vector<std::byte>> after(loss how, random_numbers& random) const {
    names left = how == loss::everything || how == loss::some_names ? kept_ : seen_;
    if (how == loss::some_names)
      for (const auto& [e, file] : pending_)
        if (random.below(2) == 0) rename_in(left, e, file);
    std::map<std::string, std::vector<std::byte>> out;
    for (const auto& [name, file] : left) {
      std::vector<std::byte> bytes = file->kept;
      if (how == loss::half_the_data) std::copy_n(file->seen.begin(), file->written / 2, bytes.begin());
      out[name] = std::move(bytes);
    }
    return out;
  }

 private:
  static void rename_in(names& in, const file_event& e, const std::shared_ptr<inode>& file) {
    in.erase(e.name);
    if (e.what == file_event::create) in[e.name] = file;
    if (e.what == file_event::rename) in[e.to] = file;
  }
  void change(const file_event& e, const std::shared_ptr<inode>& file) {
    rename_in(seen_, e, file);
    pending_.emplace_back(e, file);
  }
  names seen_, kept_;
  std::vector<std::pair<file_event, std::shared_ptr<inode>>> pending_;  // changes of names that are not flushed
};

}  // namespace

TEST_CASE("directory: power is lost after every single write, flush and rename") {
  small_blocks s;
  const std::uint64_t budget = room * s.file_bytes();
  auto control = std::make_shared<file_controls>();
  const temporary_folder folder;
  control->record = true;
  control->write_limit = 900;  // several writes for each piece
  {
    auto d = recorded_directory::open({.folder = folder.path(), .budget_bytes = budget, .isa = "test"},
                                      test_file_system(control)).value();
    random_numbers random(7);
    for (int n = 0; n < 26; ++n) {
      const std::size_t i = random.below(keys);
      if (random.below(6) == 0) {
        REQUIRE(d.erase(s.key(i)));
      } else {
        REQUIRE(s.save(d, i));
        control->note({.what = file_event::mark, .name = ba::block_file_name(s.key(i))});
      }
    }
    CHECK(d.counters().evictions > 3);
  }
  CHECK(control->log.size() > 130);

  disk model;
  std::set<std::string> promised;  // saved, and nobody has removed it since
  random_numbers random(11);
  std::size_t states = 0, torn = 0, found_blocks = 0;
  for (const file_event& e : control->log) {
    model.apply(e);
    if (e.what == file_event::mark) promised.insert(e.name);
    if (e.what == file_event::remove) promised.erase(e.name);
    for (const disk::loss how : {disk::loss::everything, disk::loss::data_only, disk::loss::half_the_data,
                                 disk::loss::some_names}) {
      const temporary_folder after;
      for (const auto& [name, bytes] : model.after(how, random)) after.file(name, bytes);
      ++states;
      torn += sum_of(after.path()).temporaries;
      // Before anything is evicted: what was promised is there, and all that has a block's name is whole.
      auto all = directory::open({.folder = after.path(), .isa = "test"}).value();
      for (const std::string& name : promised)
        if (!all.contains(*ba::block_key_of_name(name))) FAIL(name << " was saved and is lost after event " << states / 4);
      for (std::size_t i = 0; i < keys; ++i) {
        const auto found = s.load(all, i);
        REQUIRE(found);
        if (!*found) continue;
        ++found_blocks;
        REQUIRE(has_fake_payload(**found));
      }
      if (states % 8 != 0) continue;
      const auto tight = directory::open({.folder = after.path(), .budget_bytes = budget, .isa = "test"}).value();
      CHECK((sum_of(after.path()).bytes <= budget && sum_of(after.path()).temporaries == 0));
    }
  }
  CHECK((states > 500 && torn > 80 && found_blocks > 500));
}
