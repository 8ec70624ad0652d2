// SPDX-License-Identifier: MIT
// Blocks in a server: the same bits come back; whatever the server, the network or the values do, it is a miss with a
// reason and a counter, in bounded time.
#include <blockattn/cache/directory_storage.hpp>
#include <blockattn/cache/kv_store.hpp>
#include <blockattn/cache/redis_storage.hpp>
#include <blockattn/cache/tiers.hpp>

#include "../support/random_model.hpp"
#include "../support/strings.hpp"
#include "folder_of_blocks.hpp"
#include "redis_server.hpp"

namespace ba = blockattn;
using blockattn_test::contains;
using blockattn_test::false_server;
using blockattn_test::has_fake_payload;
using blockattn_test::redis_process;
using blockattn_test::small_blocks;
using clock_type = std::chrono::steady_clock;

static_assert(ba::block_tier<ba::redis_storage>);

namespace {

ba::redis_options at(const ba::redis_server& where) {
  ba::redis_options o;
  o.server = where;
  o.isa = "test";
  return o;
}

std::string value_of(small_blocks& s, std::size_t i) {
  const auto block = s.block(i);
  const auto image = ba::block_file_image::of(s.encoder.realm(), *block, "test").value();
  std::string out;
  for (const auto piece : image.pieces()) out.append(reinterpret_cast<const char*>(piece.data()), piece.size());
  return out;
}

}  // namespace

TEST_CASE("redis: the same bits come back, also to others") {
  BLOCKATTN_REQUIRE_REDIS();
  const redis_process server;
  small_blocks s;
  ba::redis_storage a(at(server.where())), b(at(server.where()));
  CHECK(std::string(a.name()) == "redis");
  CHECK(s.load(a, 1).value() == nullptr);
  const auto first = s.block(1);
  REQUIRE(a.save(s.encoder.realm(), first));
  REQUIRE(s.save(a, 1));
  const auto block = s.load(b, 1).value();
  REQUIRE(block != nullptr);
  CHECK(has_fake_payload(*block));
  CHECK(reinterpret_cast<std::uintptr_t>(block->payload().data()) % ba::alignment == 0);
  CHECK((block->key() == s.key(1) && block->encode_ns() == first->encode_ns() && !block->unverified()));
  CHECK((b.contains(s.key(1)) && !b.contains(s.key(2))));
  REQUIRE(b.erase(s.key(1)));
  CHECK((!a.contains(s.key(1)) && s.load(a, 1).value() == nullptr));
  const auto c = a.counters();
  CHECK((c.saves == 1 && c.present == 1 && c.misses == 2 && c.connects == 1 && c.failures == 0));
  CHECK(b.counters().hits == 1);
  CHECK(a.save(s.encoder.realm(), nullptr).error().code == ba::errc::invalid_argument);

  // A prefix is a world of its own; so is a database; a password is asked for and given.
  auto o = at(server.where());
  o.prefix = "other:";
  o.server.database = 3;
  o.expire = std::chrono::seconds(100);
  ba::redis_storage other(o);
  REQUIRE(s.save(a, 2));
  CHECK(s.load(other, 2).value() == nullptr);
  REQUIRE(s.save(other, 2));
  CHECK(s.has(other, 2));
  ba::redis_storage moved = std::move(other);
  CHECK(s.has(moved, 2));
}

TEST_CASE("redis: a large block, values that are too large, evicted values") {
  BLOCKATTN_REQUIRE_REDIS();
  const redis_process server;
  blockattn_test::fake_encoder encoder({8, 4, 64, ba::dtype::bf16});
  const auto ids = blockattn_test::tokens_from(7, 512);  // 4 MiB
  const auto block = ba::encode_block(encoder, ids).value();
  ba::redis_storage r(at(server.where()));
  REQUIRE(r.save(encoder.realm(), block));
  const auto back = r.load(encoder.realm(), encoder.shape(), block->key(), ids).value();
  CHECK((back != nullptr && has_fake_payload(*back)));
  auto o = at(server.where());
  o.most_bytes = block->payload_bytes();
  ba::redis_storage small(o);
  const auto another = ba::encode_block(encoder, blockattn_test::tokens_from(8, 512)).value();
  CHECK(small.save(encoder.realm(), another).error().code == ba::errc::store_full);
  CHECK(small.counters().too_large == 1);
  CHECK(small.load(encoder.realm(), encoder.shape(), block->key(), ids).error().code == ba::errc::bad_format);
  server.tell({"FLUSHALL"});
  CHECK(r.load(encoder.realm(), encoder.shape(), block->key(), ids).value() == nullptr);
  // A full server says so, and goes on.
  server.tell({"CONFIG", "SET", "maxmemory", "1mb"});
  const auto full = r.save(encoder.realm(), block);
  REQUIRE_FALSE(full);
  CHECK((full.error().code == ba::errc::io && contains(full.error().message, "OOM")));
  CHECK((r.counters().rejected == 1 && r.counters().failures == 0));
}

TEST_CASE("redis: wrong values are refused, and the next save replaces them") {
  BLOCKATTN_REQUIRE_REDIS();
  const redis_process server;
  small_blocks s;
  ba::redis_storage r(at(server.where()));
  const std::string key = "blockattn:" + s.key(1).value.hex();
  const std::string whole = value_of(s, 1);
  std::uint64_t refused = 0;
  const auto refuses = [&](const std::string& value, const std::string& part) {
    server.tell({"SET", key, value});
    const auto found = s.load(r, 1);
    REQUIRE_FALSE(found);
    INFO(found.error().message);
    CHECK((found.error().code == ba::errc::bad_format && contains(found.error().message, part)));
    CHECK(r.counters().refused == ++refused);
  };
  refuses("hello", "found 5 bytes");
  refuses(whole + "x", "bytes of data, found");
  refuses(whole + std::string(100000, 'x'), "expected at most");
  refuses(value_of(s, 2), "key: expected");
  blockattn_test::random_numbers random(5);
  for (int n = 0; n < 200; ++n) {
    std::string damaged = whole;
    if (n % 2 == 0)
      damaged[random.below(damaged.size())] ^= static_cast<char>(1 << random.below(8));
    else
      damaged.resize(1 + random.below(damaged.size() - 1));
    refuses(damaged, "");
  }
  REQUIRE(s.save(r, 1));
  CHECK((s.has(r, 1) && r.counters().present == 0));
  server.tell({"DEL", key});
  server.tell({"LPUSH", key, "a", "list"});
  const auto list = s.load(r, 1);
  REQUIRE_FALSE(list);
  CHECK(contains(list.error().message, "WRONGTYPE"));
  auto strict = at(server.where());
  strict.isa = "other";
  strict.same_producer_only = true;
  ba::redis_storage picky(strict);
  server.tell({"DEL", key});
  REQUIRE(s.save(r, 1));
  CHECK(contains(s.load(picky, 1).error().message, "isa: expected other, found test"));
}

TEST_CASE("redis: a server that goes and comes back") {
  BLOCKATTN_REQUIRE_REDIS();
  redis_process server;
  small_blocks s;
  auto o = at(server.where());
  o.server.first_pause = std::chrono::milliseconds(60);
  ba::redis_storage r(o);
  REQUIRE(s.save(r, 1));
  server.stop();
  // The connection that was kept is dead; so is the next. No signal ends this program, and nobody waits.
  const auto begin = clock_type::now();
  const auto gone = s.save(r, 2);
  REQUIRE_FALSE(gone);
  CHECK(gone.error().code == ba::errc::io);
  const auto skipped = s.load(r, 1);
  REQUIRE_FALSE(skipped);
  CHECK(contains(skipped.error().message, "not asked"));
  CHECK_FALSE(r.contains(s.key(1)));
  CHECK(clock_type::now() - begin < std::chrono::seconds(2));
  CHECK((r.counters().failures == 1 && r.counters().skipped == 2));
  server.start();
  std::this_thread::sleep_for(std::chrono::milliseconds(70));
  CHECK(s.load(r, 1).value() == nullptr);  // it kept nothing
  REQUIRE(s.save(r, 1));
  CHECK(s.has(r, 1));
  // A server that closes idle connections is no failure.
  server.tell({"CLIENT", "KILL", "TYPE", "normal"});
  CHECK(s.has(r, 1));
  CHECK(r.counters().failures == 1);
}

TEST_CASE("redis: memory over a folder over a server: the same bits from each, and a dead server is a miss") {
  BLOCKATTN_REQUIRE_REDIS();
  redis_process server;
  const blockattn_test::temporary_folder folder;
  small_blocks s;
  auto near = ba::directory_storage<>::open({.folder = folder.path(), .isa = "test"}).value();
  ba::redis_storage far(at(server.where()));
  using both = ba::tiers<ba::directory_storage<>&, ba::redis_storage&>;
  const std::vector<std::vector<ba::token>> asked{s.ids(1), s.ids(2)};
  const auto come_from = [&](const std::string& where) {
    ba::tiered_store<both> store({.budget_bytes = std::size_t{1} << 20}, both(near, far));
    std::vector<ba::block_origin> origins;
    const auto blocks = store.find_or_encode(asked, s.encoder, {.origins = &origins}).value();
    for (std::size_t i = 0; i < 2; ++i) {
      CHECK(has_fake_payload(*blocks[i]));
      CHECK(origins[i].where == where);
    }
    ba::inline_executor here;
    store.drain(here);
  };
  const auto empty_folder = [&] {
    for (const std::size_t i : {std::size_t{1}, std::size_t{2}}) REQUIRE(near.erase(s.key(i)));
  };
  come_from("miss");
  come_from("directory");
  empty_folder();
  come_from("redis");
  empty_folder();
  server.stop();
  come_from("miss");
  come_from("directory");
}

TEST_CASE("redis: as docs/storage.md makes one") {
  const std::string isa = "test";
  // region: fleet
  ba::redis_storage fleet({.server = {.host = "cache.internal"}, .expire = std::chrono::hours(24), .isa = isa});
  // endregion: fleet
  CHECK(fleet.counters().connects == 0);  // nothing is asked before it is needed
}

TEST_CASE("redis: passwords") {
  BLOCKATTN_REQUIRE_REDIS();
  const redis_process server({"--requirepass", "open sesame"});
  small_blocks s;
  auto o = at(server.where());
  ba::redis_storage without(o);
  CHECK(contains(s.save(without, 1).error().message, "NOAUTH"));
  o.server.password = "wrong";
  ba::redis_storage wrong(o);
  const auto refused = s.save(wrong, 1);
  REQUIRE_FALSE(refused);
  CHECK((contains(refused.error().message, "AUTH") && !contains(refused.error().message, "wrong ")));
  o.server.password = "open sesame";
  for (const std::string user : {"", "default"}) {
    o.server.user = user;
    ba::redis_storage right(o);
    REQUIRE(s.save(right, 1));
    CHECK(s.has(right, 1));
  }
}

TEST_CASE("redis: nobody there, silence, nonsense, a value cut off") {
  small_blocks s;
  {
    auto o = at({});
    o.server.unix_socket = "/nonexistent/socket";
    ba::redis_storage r(o);
    CHECK(s.load(r, 1).error().code == ba::errc::io);
    CHECK(s.save(r, 1).error().code == ba::errc::io);
    CHECK_FALSE(r.contains(s.key(1)));
    CHECK(r.erase(s.key(1)).error().code == ba::errc::io);
    CHECK((r.counters().failures == 1 && r.counters().skipped == 3 && r.counters().rejected == 3));
  }
  const std::string answers[] = {"",           "HTTP/1.1 400 Bad Request\r\n\r\n", "$2000\r\nonly this", "$999999999999999999999\r\n",
                                 "*-7\r\n", std::string("\0\0\0", 3)};
  for (const std::string& answer : answers) {
    INFO("answer: " << answer);
    const false_server server(answer);
    ba::redis_storage r(at(server.where()));
    const auto begin = clock_type::now();
    for (int i = 0; i < 2; ++i) {
      const auto found = s.load(r, 1);
      REQUIRE_FALSE(found);
      CHECK(found.error().code == ba::errc::io);
      CHECK(s.save(r, 1).error().code == ba::errc::io);
    }
    CHECK(clock_type::now() - begin < std::chrono::seconds(3));
    CHECK(r.counters().failures == 4);
  }
  // Another kind of reply than the one asked for.
  for (const std::string answer : {"+OK\r\n", ":5\r\n", "*0\r\n", "$-1\r\n"}) {
    const false_server server(answer);
    ba::redis_storage r(at(server.where()));
    const auto found = s.load(r, 1);
    if (found) CHECK(*found == nullptr);
    if (!found) CHECK(found.error().code == ba::errc::bad_format);
  }
}
