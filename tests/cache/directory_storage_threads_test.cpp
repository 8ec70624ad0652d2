// SPDX-License-Identifier: MIT
// Folders of blocks used by several threads at once.
#include <atomic>
#include <blockattn/cache/directory_storage.hpp>
#include <thread>
#include <vector>

#include "../support/temporary_folder.hpp"
#include "folder_of_blocks.hpp"
#include "tier_work.hpp"

namespace ba = blockattn;
using blockattn_test::small_blocks;
using blockattn_test::temporary_folder;

TEST_CASE("directory: four threads, one storage, a budget") {
  for (const auto when : {ba::verify_when::before_use, ba::verify_when::by_layer}) {
    const temporary_folder folder;
    small_blocks s;
    const std::uint64_t budget = 6 * s.file_bytes();
    auto d = ba::directory_storage<>::open({.folder = folder.path(), .budget_bytes = budget, .isa = "test", .verify = when}).value();
    CHECK(blockattn_test::work_on_threads(d, 60) == 0);
    CHECK(blockattn_test::sum_of(folder.path()).bytes <= budget);
    CHECK(d.counters().failures == 0);
    CHECK(d.counters().saves > 4);
  }
}

TEST_CASE("directory: a lazily restored block is verified by many at once") {
  const temporary_folder folder;
  blockattn_test::fake_encoder encoder({8, 2, 16, ba::dtype::bf16});
  const auto ids = blockattn_test::tokens_from(1, 40);
  auto d = ba::directory_storage<>::open({.folder = folder.path(), .isa = "test", .verify = ba::verify_when::by_layer}).value();
  const auto block = ba::encode_block(encoder, ids).value();
  REQUIRE(d.save(encoder.realm(), block));
  for (const bool damaged : {false, true}) {
    if (damaged) blockattn_test::spoil(d.path_of(block->key()), std::filesystem::file_size(d.path_of(block->key())) - 300);
    const auto lazy = d.load(encoder.realm(), encoder.shape(), block->key(), ids).value();
    std::atomic<std::size_t> whole{0};
    std::vector<std::thread> threads;
    for (std::size_t t = 0; t < 4; ++t)
      threads.emplace_back([&] {
        for (std::size_t l = 0; l < 8; ++l) whole += lazy->layer_is_whole(l);
        whole += lazy->verify().has_value();
      });
    for (auto& t : threads) t.join();
    CHECK(whole == (damaged ? 4u * 7 : 4u * 9));
    CHECK(lazy->unverified() == damaged);
    CHECK(d.counters().damaged_later == (damaged ? 1 : 0));
  }
}
