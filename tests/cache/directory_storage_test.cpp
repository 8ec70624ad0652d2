// SPDX-License-Identifier: MIT
// A folder of blocks: what was saved comes back in its bits or not at all, under a budget, whatever lies in the folder
// and whatever the system refuses.
#include <blockattn/cache/directory_storage.hpp>
#include <blockattn/cache/tier.hpp>
#include <cstdlib>

#include "../support/data.hpp"
#include "../support/random_model.hpp"
#include "../support/strings.hpp"
#include "../support/temporary_folder.hpp"
#include "block_bytes.hpp"
#include "folder_of_blocks.hpp"
#include "test_file_system.hpp"

namespace ba = blockattn;
using blockattn_test::contains;
using blockattn_test::file_controls;
using blockattn_test::has_fake_payload;
using blockattn_test::small_blocks;
using blockattn_test::spoil;
using blockattn_test::sum_of;
using blockattn_test::temporary_folder;
using blockattn_test::test_file_system;
using directory = ba::directory_storage<>;
using faulty_directory = ba::directory_storage<ba::lru, test_file_system>;

static_assert(ba::block_tier<directory> && ba::block_tier<faulty_directory>);

namespace {

directory open(const temporary_folder& folder, std::uint64_t budget = ~std::uint64_t{0}) {
  return directory::open({.folder = folder.path(), .budget_bytes = budget, .isa = "test"}).value();
}

// One worker that takes the last task first, and writes down which.
struct backwards {
  std::vector<std::size_t>* order;
  std::size_t concurrency() const noexcept { return 1; }
  void for_each(std::size_t n, ba::task_ref task) const {
    while (n-- > 0) order->push_back(n), task(0, n);
  }
};

ba::errc code_of(const ba::result<ba::block_handle>& r) {
  REQUIRE_FALSE(r);
  return r.error().code;
}

}  // namespace

TEST_CASE("directory: what was saved comes back, mapped, here and in the next process") {
  const temporary_folder folder;
  small_blocks s;
  {
    directory d = open(folder);
    CHECK(std::string(d.name()) == "directory");
    CHECK(s.load(d, 1).value() == nullptr);
    REQUIRE(s.save(d, 1));
    REQUIRE(s.save(d, 2));
    REQUIRE(s.save(d, 1));  // there already
    CHECK((s.has(d, 1) && s.has(d, 2)));
    CHECK((d.contains(s.key(1)) && !d.contains(s.key(3))));
    const auto c = d.counters();
    CHECK((c.hits == 2 && c.misses == 1 && c.saves == 2 && c.present == 1 && c.blocks == 2));
    CHECK(c.bytes == 2 * s.file_bytes());
  }
  directory d = open(folder);
  CHECK(d.counters().blocks == 2);
  CHECK((s.has(d, 1) && s.has(d, 2)));
  REQUIRE(d.erase(s.key(1)));
  REQUIRE(d.erase(s.key(1)));
  CHECK((!d.contains(s.key(1)) && s.load(d, 1).value() == nullptr));
  const auto held = s.load(d, 2).value();
  CHECK(held->bytes() == s.block(2)->bytes());
  REQUIRE(d.erase(s.key(2)));
  CHECK(has_fake_payload(*held));  // a mapping outlives its name
  CHECK(sum_of(folder.path()).blocks == 0);
  CHECK(d.save(s.encoder.realm(), nullptr).error().code == ba::errc::invalid_argument);
  directory moved = std::move(d);
  REQUIRE(s.save(moved, 7));
  CHECK(s.has(moved, 7));
}

TEST_CASE("directory: several storages share one folder") {
  const temporary_folder folder;
  small_blocks s;
  directory a = open(folder), b = open(folder);  // as two processes would: each with an index of its own
  REQUIRE(s.save(a, 1));
  CHECK((s.has(b, 1) && b.contains(s.key(1))));
  const auto held = s.load(b, 1).value();
  REQUIRE(a.erase(s.key(1)));
  CHECK(has_fake_payload(*held));
  CHECK(s.load(b, 1).value() == nullptr);
  REQUIRE(s.save(b, 1));
  REQUIRE(a.erase(s.key(1)));
  REQUIRE(s.save(b, 1));  // b remembers its file, and looks
  CHECK(s.has(a, 1));
}

TEST_CASE("directory: the budget holds over all storages of a folder, oldest first") {
  const temporary_folder folder;
  small_blocks s;
  const std::uint64_t one = s.file_bytes();
  directory a = open(folder, 3 * one), b = open(folder, 3 * one);
  for (std::size_t i = 0; i < 3; ++i) REQUIRE(s.save(a, i));
  CHECK(s.has(a, 0));  // used: 1 is the oldest now
  REQUIRE(s.save(a, 3));
  CHECK((s.has(a, 0) && s.has(a, 2) && s.has(a, 3) && !a.contains(s.key(1))));
  CHECK(a.counters().evictions == 1);
  for (std::size_t i = 4; i < 20; ++i) {
    REQUIRE(s.save(i % 2 == 0 ? a : b, i));
    CHECK(sum_of(folder.path()).bytes <= 3 * one);
    CHECK((s.has(a, i) && s.has(b, i)));
  }
  CHECK(sum_of(folder.path()).blocks == 3);
  // A smaller budget takes hold when a folder is opened; one that is too small for a block refuses it.
  directory c = open(folder, 2 * one - 1);
  CHECK((sum_of(folder.path()).blocks == 1 && c.counters().evictions == 2));
  directory none = open(folder, one - 1);
  CHECK(s.save(none, 50).error().code == ba::errc::store_full);
  CHECK(sum_of(folder.path()).blocks == 0);
  auto keeps = ba::directory_storage<ba::keep_all>::open({.folder = folder.path(), .budget_bytes = 2 * one}).value();
  REQUIRE(s.save(keeps, 1));
  REQUIRE(s.save(keeps, 2));
  CHECK(s.save(keeps, 3).error().code == ba::errc::store_full);
  CHECK((s.has(keeps, 1) && s.has(keeps, 2)));
}

TEST_CASE("directory: damaged, torn and foreign files are typed errors, and the next save replaces them") {
  const temporary_folder folder;
  small_blocks s;
  directory d = open(folder);
  REQUIRE(s.save(d, 1));
  const auto path = d.path_of(s.key(1));
  const std::string whole = blockattn_test::read_text(path);
  std::size_t refused = 0;
  const auto refuses = [&](const std::string& bytes, const std::string& part, ba::errc code = ba::errc::bad_format) {
    folder.file(path.filename().string(), bytes);
    const auto found = s.load(d, 1);
    CHECK(code_of(found) == code);
    CHECK(contains(found.error().message, part));
    CHECK(contains(found.error().message, path.string()));
    CHECK(d.counters().refused == ++refused);
  };
  std::string spoilt = whole;
  spoilt[whole.size() - 100] ^= 1;
  refuses(spoilt, "layer 1: the bytes are damaged");
  refuses(whole.substr(0, whole.size() / 2), "found");
  refuses("", "expected a header, found 0 bytes");
  std::string huge = whole;
  huge[3] = static_cast<char>(0x80);  // a header of 2 GiB
  refuses(huge, "expected a header of at most");
  refuses(std::string("\x08\0\0\0\0\0\0\0{}      ", 16), "padded to 64");
  std::vector<std::byte> bytes(whole.size());
  std::memcpy(bytes.data(), whole.data(), whole.size());
  const auto forged = [&](const std::string& from, const std::string& to) {
    std::string text = blockattn_test::header_text(bytes);
    text.replace(text.find(from), from.size(), to);
    const auto out = blockattn_test::with_header(bytes, text);
    return std::string(reinterpret_cast<const char*>(out.data()), out.size());
  };
  refuses(forged("\"format_version\":\"1\"", "\"format_version\":\"2\""), "format_version", ba::errc::unsupported);
  refuses(forged("\"model\":\"0", "\"model\":\"f"), "model: expected");
  refuses(forged("{\"__metadata__\":{\"format\":\"blockattn-block\"", "{\"__metadata__\":{\"format\":\"pt\""), "format");
  REQUIRE(s.save(d, 2));
  std::filesystem::copy_file(d.path_of(s.key(2)), path, std::filesystem::copy_options::overwrite_existing);
  CHECK(contains(s.load(d, 1).error().message, "key: expected"));
  REQUIRE(s.save(d, 1));
  CHECK((s.has(d, 1) && s.has(d, 2)));
  // A folder under the name of a block is no file of ours.
  std::filesystem::create_directory(d.path_of(s.key(3)));
  CHECK(code_of(s.load(d, 3)) == ba::errc::io);
  CHECK(s.save(d, 3).error().code == ba::errc::io);
  CHECK(sum_of(folder.path()).temporaries == 0);
}

TEST_CASE("directory: every truncation and every flipped byte of a small file is a typed miss") {
  const temporary_folder folder;
  small_blocks s;
  directory d = open(folder);
  REQUIRE(s.save(d, 1));
  const auto path = d.path_of(s.key(1));
  const std::string whole = blockattn_test::read_text(path);
  const std::string name = path.filename().string();
  const auto refuses = [&](const std::string& bytes) {
    folder.file(name, bytes);
    const auto found = s.load(d, 1);
    return !found && found.error().code == ba::errc::bad_format;
  };
  for (std::size_t n = 0; n < whole.size(); n += n < 1200 ? 29 : 197)  // every length is tried in block_file_test
    if (!refuses(whole.substr(0, n))) FAIL("cut to " << n);
  for (std::size_t at = 0; at < whole.size(); at += at < 1200 ? 23 : 189) {
    std::string bytes = whole;
    bytes[at] ^= static_cast<char>(1 << (at % 8));
    if (!refuses(bytes)) FAIL("a bit of byte " << at);
  }
}

TEST_CASE("directory: files of another producer, if the caller cares") {
  const temporary_folder folder;
  small_blocks s;
  directory here = open(folder);
  REQUIRE(s.save(here, 1));
  auto there = directory::open({.folder = folder.path(), .isa = "other"}).value();
  CHECK(s.has(there, 1));
  auto strict = directory::open({.folder = folder.path(), .isa = "other", .same_producer_only = true}).value();
  const auto refused = s.load(strict, 1);
  CHECK(code_of(refused) == ba::errc::bad_format);
  CHECK(contains(refused.error().message, "isa: expected other, found test"));
  REQUIRE(s.save(strict, 1));
  CHECK((s.has(strict, 1) && s.has(here, 1)));
  CHECK(directory::open({.folder = folder.path(), .same_producer_only = true}).error().code ==
        ba::errc::invalid_argument);
}

TEST_CASE("directory: an executor compares layers, and the first damaged one is named") {
  const temporary_folder folder;
  small_blocks s;
  std::vector<std::size_t> order;
  backwards last_first{&order};
  auto d = directory::open({.folder = folder.path(), .isa = "test", .workers = ba::executor_ref(last_first)}).value();
  REQUIRE(s.save(d, 1));
  const auto whole = s.load(d, 1).value();
  CHECK((!whole->unverified() && has_fake_payload(*whole)));
  CHECK(order == std::vector<std::size_t>{1, 0});
  const auto path = d.path_of(s.key(1));
  const auto layer = static_cast<std::size_t>(whole->layer(1) - whole->layer(0));
  const auto size = static_cast<std::size_t>(std::filesystem::file_size(path));
  spoil(path, size - 100);  // in layer 1, behind which the ids take 64 bytes
  CHECK(contains(s.load(d, 1).error().message, "layer 1: the bytes are damaged"));
  spoil(path, size - 100 - layer);
  CHECK(contains(s.load(d, 1).error().message, "layer 0: the bytes are damaged"));
}

TEST_CASE("directory: lazily restored blocks report their damage before they are read") {
  const temporary_folder folder;
  small_blocks s;
  auto d = directory::open({.folder = folder.path(), .isa = "test", .verify = ba::verify_when::by_layer}).value();
  REQUIRE(s.save(d, 1));
  const auto good = s.load(d, 1).value();
  CHECK(good->unverified());
  CHECK((good->layer_is_whole(1) && good->unverified()));
  REQUIRE(good->verify());
  CHECK((!good->unverified() && has_fake_payload(*good)));
  // Layer 1 is damaged: layer 0 may be read, the whole may not, and nobody signs it again.
  REQUIRE(s.save(d, 2));
  const auto path = d.path_of(s.key(2));
  spoil(path, static_cast<std::size_t>(std::filesystem::file_size(path)) - 100);
  const auto bad = s.load(d, 2).value();
  CHECK((bad->layer_is_whole(0) && !bad->layer_is_whole(1) && !bad->layer_is_whole(1)));
  CHECK(bad->unverified());
  const auto why = bad->verify();
  REQUIRE_FALSE(why);
  CHECK((why.error().code == ba::errc::bad_format && contains(why.error().message, "layer 1: the bytes are damaged")));
  CHECK(contains(why.error().message, path.string()));
  const temporary_folder other;
  directory elsewhere = open(other);
  CHECK(elsewhere.save(s.encoder.realm(), bad).error().code == ba::errc::bad_format);
  CHECK(d.counters().damaged_later == 1);
  // Now the file is known to be bad: it is a typed miss, and the next save replaces it.
  CHECK(code_of(s.load(d, 2)) == ba::errc::bad_format);
  REQUIRE(s.save(d, 2));
  const auto again = s.load(d, 2).value();
  CHECK((again->verify().has_value() && has_fake_payload(*again)));
  // A header is never trusted unread.
  spoil(path, 70);
  CHECK(code_of(s.load(d, 2)) == ba::errc::bad_format);
}

TEST_CASE("directory: collecting removes what is damaged or left behind, and nothing else") {
  const temporary_folder folder;
  small_blocks s;
  directory d = open(folder);
  for (std::size_t i = 0; i < 4; ++i) REQUIRE(s.save(d, i));
  spoil(d.path_of(s.key(1)), 3000);
  folder.file("notes.txt", std::string("mine"));
  folder.file("model.safetensors", std::string("mine too"));
  const std::string leftover = ba::block_file_name(s.key(9)) + ".1.0.tmp";
  folder.file(leftover, std::string(100, 'x'));
  // A file that a living process writes stays, in every process's eyes.
  ba::native_file_system files;
  const std::string busy = folder / (ba::block_file_name(s.key(8)) + ".2.0.tmp");
  auto writing = files.create(busy, 10);
  REQUIRE(writing);
  CHECK(ba::being_written(busy));
  // Another version's block: somebody's good file.
  std::vector<std::byte> bytes(static_cast<std::size_t>(s.file_bytes()));
  const std::string whole = blockattn_test::read_text(d.path_of(s.key(2)));
  std::memcpy(bytes.data(), whole.data(), bytes.size());
  std::string text = blockattn_test::header_text(bytes);
  text.replace(text.find("\"format_version\":\"1\""), 20, "\"format_version\":\"7\"");
  folder.file(ba::block_file_name(s.key(2)), blockattn_test::with_header(bytes, text));

  const auto done = d.collect();
  REQUIRE(done);
  CHECK((done->damaged == 1 && done->leftovers == 1 && done->evicted == 0));
  CHECK(done->bytes == s.file_bytes() + 100);
  CHECK((s.has(d, 0) && s.load(d, 1).value() == nullptr && d.contains(s.key(2)) && s.has(d, 3)));
  for (const char* kept : {"notes.txt", "model.safetensors"}) CHECK(std::filesystem::exists(folder / kept));
  CHECK((std::filesystem::exists(busy) && !std::filesystem::exists(folder / leftover)));
}

TEST_CASE("directory: bytes of a file from elsewhere") {
  const temporary_folder folder, other;
  small_blocks s;
  directory d = open(folder), e = open(other);
  REQUIRE(s.save(d, 1));
  const std::string whole = blockattn_test::read_text(d.path_of(s.key(1)));
  const auto bytes = std::as_bytes(std::span<const char>(whole));
  CHECK(e.adopt(bytes).value());
  CHECK_FALSE(e.adopt(bytes).value());
  CHECK(s.has(e, 1));
  CHECK(blockattn_test::read_text(e.path_of(s.key(1))) == whole);
  CHECK(e.adopt(bytes.first(bytes.size() - 1)).error().code == ba::errc::bad_format);
  CHECK(e.adopt({}).error().code == ba::errc::bad_format);
}

TEST_CASE("directory: whatever the system refuses, nothing is wrong and nothing else is lost") {
  small_blocks s;
  const std::uint64_t budget = 3 * s.file_bytes();
  std::size_t calls = 0, errors = 0;
  for (const int reason : {EIO, ENOSPC}) {
    for (std::size_t fail_at = 0;; ++fail_at) {
      INFO(std::generic_category().message(reason) << " at call " << fail_at);
      const temporary_folder folder;
      auto control = std::make_shared<file_controls>();
      control->fail_at = fail_at;
      control->reason = reason;
      auto d = faulty_directory::open({.folder = folder.path(), .budget_bytes = budget, .isa = "test"},
                                      test_file_system(control));
      std::vector<std::size_t> saved;
      if (d) {
        for (std::size_t i = 0; i < 5; ++i) {  // evicts twice
          const auto done = s.save(*d, i);
          if (done) saved.push_back(i);
          if (!done) ++errors;
          if (!done) CHECK(done.error().code == ba::errc::io);
          const auto found = s.load(*d, i);
          if (!found) CHECK(found.error().code == ba::errc::io);
          if (found && *found) CHECK(has_fake_payload(**found));
        }
        CHECK(d->counters().failures <= 1);
      }
      const bool failed = control->calls > fail_at;
      // The next process finds whole blocks, within the budget, and of what was saved at least the last two.
      CHECK(sum_of(folder.path()).bytes <= budget);
      auto next = directory::open({.folder = folder.path(), .budget_bytes = budget, .isa = "test"}).value();
      CHECK(sum_of(folder.path()).temporaries == 0);
      for (std::size_t i = 0; i < 5; ++i) {
        const auto found = s.load(next, i);
        REQUIRE(found);
        if (*found) CHECK(has_fake_payload(**found));
      }
      for (std::size_t k = saved.size() < 2 ? 0 : saved.size() - 2; k < saved.size(); ++k) CHECK(s.has(next, saved[k]));
      if (!failed) {
        CHECK(saved.size() == 5);
        calls = fail_at;
        break;
      }
    }
  }
  CHECK((calls > 30 && errors > 30));
}

TEST_CASE("directory: short writes, a full disk, mappings that fail") {
  const temporary_folder folder;
  small_blocks s;
  auto control = std::make_shared<file_controls>();
  auto d = faulty_directory::open({.folder = folder.path(), .isa = "test"}, test_file_system(control)).value();
  control->write_limit = 7;
  REQUIRE(s.save(d, 1));
  CHECK(s.has(d, 1));
  control->write_limit = 0;
  CHECK(s.save(d, 2).error().code == ba::errc::io);
  control->write_limit = file_controls::never;
  for (const std::size_t room : {std::size_t{0}, std::size_t{1}, std::size_t{1500}, std::size_t{2500}}) {
    control->room = room;
    const auto full = s.save(d, 2);
    REQUIRE_FALSE(full);
    CHECK(full.error().code == ba::errc::io);
    CHECK(contains(full.error().message, std::generic_category().message(ENOSPC)));
    CHECK((sum_of(folder.path()).blocks == 1 && sum_of(folder.path()).temporaries == 0));
  }
  control->room = file_controls::never;
  REQUIRE(s.save(d, 2));
  control->map_fails = true;
  CHECK(code_of(s.load(d, 1)) == ba::errc::io);
  control->map_fails = false;
  CHECK((s.has(d, 1) && s.has(d, 2)));
}

TEST_CASE("directory: a folder that is locked for too long, or is none") {
  const temporary_folder folder;
  small_blocks s;
  auto d = directory::open({.folder = folder.path(), .isa = "test", .lock_wait = std::chrono::milliseconds(5)}).value();
  {
    const auto held = ba::folder_lock::acquire(folder.path(), std::chrono::milliseconds(0)).value();
    const auto refused = s.save(d, 1);
    REQUIRE_FALSE(refused);
    CHECK((refused.error().code == ba::errc::io && contains(refused.error().message, "others have held it for 5 ms")));
  }
  REQUIRE(s.save(d, 1));
  const std::string file = folder.file("file", std::string("x"));
  CHECK(directory::open({.folder = file}).error().code == ba::errc::io);
}

TEST_CASE("directory: as docs/storage.md opens one") {
  const temporary_folder temporary;
  const std::string path = temporary / "a/new/folder", isa = "test";
  // region: open
  auto folder = ba::directory_storage<>::open({.folder = path, .budget_bytes = std::uint64_t{8} << 30, .isa = isa});
  // endregion: open
  REQUIRE(folder);
  small_blocks s;
  REQUIRE(s.save(*folder, 1));
  CHECK(s.has(*folder, 1));
}

TEST_CASE("directory: names") {
  const ba::block_key key{{0x0123456789abcdefu, 0xfedcba9876543210u}};
  CHECK(ba::block_key_of_name(ba::block_file_name(key)) == key);
  for (const std::string name : {"", ".safetensors", "0123456789abcdeffedcba987654321.safetensors",
                                 "0123456789abcdeffedcba98765432100.safetensors",
                                 "0123456789ABCDEFFEDCBA9876543210.safetensors",
                                 "0123456789abcdeffedcba987654321g.safetensors", "0123456789abcdeffedcba9876543210.bin"})
    CHECK_FALSE(ba::block_key_of_name(name));
  CHECK(ba::is_temporary_name(ba::block_file_name(key) + ".12.ab.tmp"));
  CHECK_FALSE(ba::is_temporary_name("model.tmp"));
}

TEST_CASE("directory: forty lines of Python read a block") {
  if (std::system("python3 -c '' 2>/dev/null") != 0) {
    WARN("skipped: there is no python3");
    return;
  }
  const temporary_folder folder;
  blockattn_test::fake_encoder encoder({2, 2, 6, ba::dtype::bf16});
  const auto ids = blockattn_test::tokens_from(500, 17);
  const auto block = ba::encode_block(encoder, ids).value();
  directory d = open(folder);
  REQUIRE(d.save(encoder.realm(), block));
  // What the reader must find: the bits of one key and one value of the last layer.
  const ba::kv_shape& shape = encoder.shape();
  const auto bits = [&](std::size_t panel, std::size_t element) {
    std::uint16_t out = 0;
    std::memcpy(&out, block->layer(1) + panel + 2 * element, 2);
    return std::to_string(out);
  };
  const std::string expected = "17 500 516 " + bits(shape.key_offset(1, 17), shape.key_index(16, 5)) + " " +
                               bits(shape.value_offset(1, 17), shape.value_index(16, 5));
  const std::string reader = BLOCKATTN_TEST_SOURCES "/cache/read_block.py";
  const std::string out = folder / "out.txt";
  const std::string command = "python3 '" + reader + "' '" + d.path_of(block->key()).string() + "' > '" + out + "'";
  REQUIRE(std::system(command.c_str()) == 0);
  CHECK(blockattn_test::read_text(out) == expected + "\n");
}
