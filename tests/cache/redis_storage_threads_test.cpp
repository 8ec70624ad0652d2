// SPDX-License-Identifier: MIT
// A server of blocks used by several threads at once.
#include <blockattn/cache/redis_storage.hpp>

#include "redis_server.hpp"
#include "tier_work.hpp"

namespace ba = blockattn;

TEST_CASE("redis: four threads, one storage") {
  BLOCKATTN_REQUIRE_REDIS();
  const blockattn_test::redis_process server;
  ba::redis_options o;
  o.server = server.where();
  o.server.idle_connections = 2;
  ba::redis_storage r(o);
  CHECK(blockattn_test::work_on_threads(r, 100) == 0);
  CHECK(r.counters().failures == 0);
  CHECK(r.counters().connects >= 1);
}
