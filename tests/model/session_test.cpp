// SPDX-License-Identifier: MIT
// Sessions against the double reference, and the laws of PAPER section 7 that concern them.
#include "support.hpp"

#include <thread>

using namespace blockattn_test;

namespace {

ba::model_config config_of(std::uint32_t head_dim, std::uint32_t heads = 4, std::uint32_t kv_heads = 2) {
  return small_config(head_dim, heads, kv_heads);
}

ba::reference::position reference_of(ba::position_policy policy) {
  switch (policy) {
    case ba::position_policy::query_side: return ba::reference::position::query_side;
    case ba::position_policy::key_side: return ba::reference::position::key_side;
    case ba::position_policy::none: return ba::reference::position::none;
  }
  return ba::reference::position::none;
}

constexpr ba::position_policy policies[] = {ba::position_policy::query_side, ba::position_policy::key_side,
                                            ba::position_policy::none};

// Random activations of these models are of size one; logits too.
constexpr double f32_gate = 2e-4;
constexpr double bf16_gate = 0.15;

}  // namespace

TEST_CASE("block attention equals the reference for every head size, grouping and position policy", "[session]") {
  struct shape {
    std::uint32_t head_dim, heads, kv_heads;
  };
  for (const shape s : {shape{2, 4, 2}, shape{8, 3, 3}, shape{16, 4, 1}, shape{24, 6, 2}, shape{64, 4, 2}, shape{128, 2, 1}}) {
    for (const auto layout : {ba::rope_layout::half_split, ba::rope_layout::interleaved}) {
      auto config = config_of(s.head_dim, s.heads, s.kv_heads);
      config.rope.layout = layout;
      const random_model weights(config, s.head_dim);
      const auto model = ba::llama<>::bind(weights.source()).value();
      const auto oracle = ba::reference::transformer::from(weights.source()).value();
      const auto blocks = random_blocks({1, 15, 16, 17, 5}, config.vocab, s.head_dim);
      for (const auto policy : policies) {
        const auto expected = reference_logits(oracle, blocks, reference_of(policy));
        ba::session<> exact(model, {}, {.kv = ba::dtype::f32});
        INFO("head_dim " << s.head_dim << " policy " << ba::to_string(policy));
        CHECK(largest_difference(assembled_logits(exact, blocks, policy), expected) < f32_gate);
        ba::session<> half(model, {}, {.kv = ba::dtype::bf16});
        CHECK(largest_difference(assembled_logits(half, blocks, policy), expected) < bf16_gate);
      }
    }
  }
}

TEST_CASE("blocks of every length, and any number of them", "[session]") {
  const auto config = config_of(16);
  const random_model weights(config);
  const auto model = ba::llama<>::bind(weights.source()).value();
  const auto oracle = ba::reference::transformer::from(weights.source()).value();
  ba::session<> session(model, {}, {.kv = ba::dtype::f32, .batch_tokens = 64});
  for (const auto& lengths : std::vector<std::vector<std::size_t>>{
           {3}, {1, 1}, {100, 1}, {7, 150, 3}, {5, 7, 4, 9, 2, 3, 8, 6}, std::vector<std::size_t>(301, 2)}) {
    const auto blocks = random_blocks(lengths, config.vocab);
    INFO(lengths.size() << " blocks, the first of " << lengths.front());
    CHECK(largest_difference(assembled_logits(session, blocks), reference_logits(oracle, blocks)) < f32_gate);
  }
}

TEST_CASE("scalings, partial rotation, windows, biases and norms equal the reference", "[session]") {
  std::vector<std::pair<const char*, ba::model_config>> variants;
  const auto variant = [&](const char* name, auto change) {
    auto config = config_of(16);
    change(config);
    variants.emplace_back(name, config);
  };
  variant("partial", [](auto& c) { c.rope.rotary_dim = 6; });
  variant("linear", [](auto& c) { c.rope.scaling = ba::rope_scaling::linear, c.rope.factor = 4; });
  variant("llama3", [](auto& c) {
    c.rope.scaling = ba::rope_scaling::llama3, c.rope.factor = 8, c.rope.original_context = 64;
  });
  variant("yarn", [](auto& c) {
    c.rope.scaling = ba::rope_scaling::yarn, c.rope.factor = 4, c.rope.original_context = 32;
  });
  variant("windows", [](auto& c) { c.windows = {20, 0, 1}; });
  variant("window cuts blocks", [](auto& c) { c.windows = {7, 7, 7}; });
  variant("bias", [](auto& c) { c.qkv_bias = true; });
  variant("norm", [](auto& c) { c.qk_norm = true; });
  variant("tied", [](auto& c) { c.tied_embeddings = true; });
  for (const auto& [name, config] : variants) {
    const random_model weights(config, 3);
    const auto model = ba::llama<>::bind(weights.source()).value();
    const auto oracle = ba::reference::transformer::from(weights.source()).value();
    ba::session<> session(model, {}, {.kv = ba::dtype::f32});
    const auto blocks = random_blocks({11, 18, 5, 9}, config.vocab, 5);
    INFO(name);
    for (const auto policy : policies)
      CHECK(largest_difference(assembled_logits(session, blocks, policy), reference_logits(oracle, blocks, reference_of(policy))) <
            f32_gate);
    CHECK(largest_difference(assembled_logits(session, blocks, policies[0], 0),
                             reference_logits(oracle, blocks, ba::reference::position::key_side, 0)) < f32_gate);
  }
}

TEST_CASE("modes: one block is full attention, more are not, the first N may stay local", "[session]") {
  const auto config = config_of(16);
  const random_model weights(config);
  const auto model = ba::llama<>::bind(weights.source()).value();
  const auto oracle = ba::reference::transformer::from(weights.source()).value();
  ba::session<> session(model, {}, {.kv = ba::dtype::f32});
  const auto two = random_blocks({9, 6}, config.vocab);
  const auto full_of_two = assembled_logits(session, two, policies[0], 0);
  const auto block_of_two = assembled_logits(session, two);
  // With one local block, block attention is full attention: compare the rows of the final block.
  const std::vector<float> tail(full_of_two.end() - static_cast<std::ptrdiff_t>(block_of_two.size()), full_of_two.end());
  CHECK(largest_difference(tail, block_of_two) < f32_gate);

  const auto blocks = random_blocks({9, 6, 8, 5}, config.vocab);
  for (std::size_t local = 0; local <= 3; ++local)
    CHECK(largest_difference(assembled_logits(session, blocks, policies[0], local),
                             reference_logits(oracle, blocks, ba::reference::position::key_side, local)) < f32_gate);
  const auto block = assembled_logits(session, blocks);
  const auto full = assembled_logits(session, blocks, policies[0], 0);
  const std::vector<float> rows(full.end() - static_cast<std::ptrdiff_t>(block.size()), full.end());
  CHECK(largest_difference(block, rows) > 0.05);
}

TEST_CASE("the same bits for any number of workers, alone and packed, cold and warm", "[session]") {
  for (const auto type : {ba::dtype::f32, ba::dtype::bf16}) {
    const auto config = config_of(24, 6, 2);
    const ba::random_weights weights(config, type == ba::dtype::f32 ? ba::dtype::f32 : ba::dtype::bf16, 3, 2.0f);
    const auto model = ba::llama<>::bind(weights).value();
    const auto blocks = random_blocks({1, 15, 16, 17, 100, 3, 40}, config.vocab);
    const ba::session_options options{.kv = type, .batch_tokens = 48};

    ba::session<> alone(model, {}, options);
    std::vector<ba::block_handle> expected;
    for (const auto& ids : blocks) expected.push_back(alone.encode(ids).value());
    const auto expected_logits = assembled_logits(alone, blocks);

    for (const std::size_t workers : {std::size_t{1}, std::size_t{2}, std::size_t{5}}) {
      ba::thread_executor pool(workers);
      ba::session session(model, pool, options);
      ba::kv_store<> store({.budget_bytes = 64u << 20});
      const auto cold = store.find_or_encode(blocks, session).value();  // packed: all are misses
      const auto warm = store.find_or_encode(blocks, session).value();
      for (std::size_t i = 0; i < blocks.size(); ++i) {
        INFO("block " << i << ", " << workers << " workers");
        CHECK(same_bytes(cold[i]->payload(), expected[i]->payload()));
        CHECK(cold[i] == warm[i]);
      }
      CHECK(store.counters().hits == blocks.size());
      CHECK(same_bits(assembled_logits(session, blocks), expected_logits));
    }
  }
}

TEST_CASE("locality: tokens of one block change no other block", "[session]") {
  const auto config = config_of(16);
  const random_model weights(config);
  const auto model = ba::llama<>::bind(weights.source()).value();
  ba::session<> session(model);
  auto blocks = random_blocks({20, 30, 25}, config.vocab);
  ba::kv_store<> store({.budget_bytes = 64u << 20});
  const auto before = store.find_or_encode(blocks, session).value();
  blocks[1][7] = (blocks[1][7] + 1) % static_cast<ba::token>(config.vocab);
  const auto encoded = store.counters().misses;
  const auto after = store.find_or_encode(blocks, session).value();
  CHECK(before[0] == after[0]);
  CHECK(before[2] == after[2]);
  CHECK_FALSE(same_bytes(before[1]->payload(), after[1]->payload()));
  CHECK(store.counters().misses == encoded + 1);
}

TEST_CASE("an edited context equals a fresh assembly bit for bit", "[session]") {
  const auto config = config_of(16);
  const random_model weights(config);
  const auto model = ba::llama<>::bind(weights.source()).value();
  for (const auto policy : policies) {
    ba::session<> session(model);
    const auto blocks = random_blocks({20, 30, 25, 7, 9}, config.vocab);
    std::vector<ba::block_handle> handles;
    for (const auto& ids : blocks) handles.push_back(session.encode(ids).value());
    const auto& question = blocks.back();
    const auto fresh = [&](const std::vector<ba::block_handle>& order) {
      ba::context context(session, {.room = 64, .position = policy});
      (void)context.assemble(order).value();
      session.prefill(context, question).value();
      return std::vector<float>(context.logits().begin(), context.logits().end());
    };
    ba::context context(session, {.room = 64, .position = policy});
    (void)context.assemble(std::vector{handles[0], handles[1], handles[2]}).value();
    session.prefill(context, question).value();
    const auto check = [&](std::vector<ba::token> dropped, const std::vector<ba::block_handle>& order) {
      CHECK(dropped == question);
      CHECK_FALSE(context.has_logits());
      session.prefill(context, dropped).value();
      CHECK(same_bits({context.logits().begin(), context.logits().end()}, fresh(order)));
    };
    check(context.replace(1, handles[3]).value(), {handles[0], handles[3], handles[2]});
    check(context.insert(0, handles[1]).value(), {handles[1], handles[0], handles[3], handles[2]});
    check(context.erase(1).value(), {handles[1], handles[3], handles[2]});
    const std::size_t order[] = {2, 0, 1};
    check(context.reorder(order).value(), {handles[2], handles[1], handles[3]});
    check(context.assemble(std::vector{handles[2], handles[0]}).value(), {handles[2], handles[0]});
    // Rewinding part of the question and prefilling it again is the whole question. The chunks differ, so equal
    // within rounding, not in bits.
    context.rewind(4).value();
    session.prefill(context, std::span(question).last(4)).value();
    CHECK(largest_difference(std::vector<float>(context.logits().begin(), context.logits().end()),
                             fresh({handles[2], handles[0]})) < 1e-3);
  }
}

TEST_CASE("prefill in chunks, then decoding, equals one prefill", "[session]") {
  const auto config = config_of(16);
  const random_model weights(config);
  const auto model = ba::llama<>::bind(weights.source()).value();
  ba::session<> session(model, {}, {.kv = ba::dtype::f32});
  const auto blocks = random_blocks({20, 13, 9}, config.vocab);
  const auto all = assembled_logits(session, blocks);
  const std::size_t vocab = config.vocab;

  ba::context context(session, {.room = 64});
  (void)context.assemble(std::vector{session.encode(blocks[0]).value(), session.encode(blocks[1]).value()}).value();
  session.prefill(context, std::span(blocks[2]).first(4)).value();
  CHECK(largest_difference(std::vector<float>(context.logits().begin(), context.logits().end()),
                           std::vector<float>(all.begin() + 3 * static_cast<std::ptrdiff_t>(vocab),
                                              all.begin() + 4 * static_cast<std::ptrdiff_t>(vocab))) < f32_gate);
  for (std::size_t i = 4; i < blocks[2].size(); ++i) session.decode(context, blocks[2][i]).value();
  CHECK(largest_difference(std::vector<float>(context.logits().begin(), context.logits().end()),
                           std::vector<float>(all.end() - static_cast<std::ptrdiff_t>(vocab), all.end())) < f32_gate);
}

TEST_CASE("a conversation of several turns equals the reference with the same layout", "[session]") {
  const auto config = config_of(16);
  const random_model weights(config);
  const auto model = ba::llama<>::bind(weights.source()).value();
  const auto oracle = ba::reference::transformer::from(weights.source()).value();
  ba::session<> session(model, {}, {.kv = ba::dtype::f32});
  // passages, question and answer, new passages, next question
  const auto parts = random_blocks({12, 17, 6, 21, 5}, config.vocab);
  ba::context context(session, {.room = 64});
  (void)context.assemble(std::vector{session.encode(parts[0]).value(), session.encode(parts[1]).value()}).value();
  session.prefill(context, parts[2]).value();
  context.append(std::vector{session.encode(parts[3]).value()}).value();
  session.prefill(context, parts[4]).value();

  ba::reference::context sequence;
  const auto side = ba::reference::position::key_side;
  oracle.place(sequence, oracle.encode(parts[0]), side);
  oracle.place(sequence, oracle.encode(parts[1]), side);
  (void)oracle.extend(sequence, parts[2]);
  oracle.place(sequence, oracle.encode(parts[3]), side);
  const auto pass = oracle.extend(sequence, parts[4]);
  std::vector<double> expected;
  for (std::size_t v = 0; v < config.vocab; ++v) expected.push_back(pass.logits(parts[4].size() - 1, v));
  CHECK(largest_difference(std::vector<float>(context.logits().begin(), context.logits().end()), expected) < f32_gate);
  CHECK(context.tokens() == 12 + 17 + 6 + 21 + 5);
}

TEST_CASE("several contexts decoded in one batch have the bits of decoding each alone", "[session]") {
  const auto config = config_of(16);
  const random_model weights(config);
  const auto model = ba::llama<>::bind(weights.source()).value();
  ba::session<> session(model);
  const auto blocks = random_blocks({20, 30, 6, 9}, config.vocab);
  const auto a = session.encode(blocks[0]).value(), b = session.encode(blocks[1]).value();
  std::vector<ba::context> batch, single;
  for (const auto& order : {std::vector{a, b}, std::vector{b, a}, std::vector{b}}) {
    ba::context context(session, {.room = 64});
    (void)context.assemble(order).value();
    session.prefill(context, blocks[2]).value();
    single.push_back(context.fork());
    batch.push_back(std::move(context));
  }
  for (std::size_t step = 0; step < 5; ++step) {
    std::vector<ba::token> next;
    std::vector<ba::context*> pointers;
    for (std::size_t i = 0; i < batch.size(); ++i) {
      next.push_back(blocks[3][step + i]);
      pointers.push_back(&batch[i]);
      session.decode(single[i], next.back()).value();
    }
    session.decode(std::span<ba::context* const>(pointers), next).value();
    for (std::size_t i = 0; i < batch.size(); ++i)
      CHECK(same_bits({batch[i].logits().begin(), batch[i].logits().end()},
                      {single[i].logits().begin(), single[i].logits().end()}));
  }
}

TEST_CASE("bad input is a typed error and changes nothing", "[session]") {
  const auto config = config_of(16);
  const random_model weights(config);
  const auto model = ba::llama<>::bind(weights.source()).value();
  ba::session<> session(model);
  const std::vector<ba::token> none, outside{1, static_cast<ba::token>(config.vocab)}, negative{-1}, good{1, 2, 3};
  CHECK(session.encode(none).value()->payload_bytes() == 0);  // an empty passage is a block without bytes
  CHECK(session.encode(outside).error().message.find("token 1") != std::string::npos);
  CHECK(session.encode(negative).error().code == ba::errc::invalid_argument);

  ba::context context(session, {.room = 16});
  session.prefill(context, good).value();
  const std::vector<float> before(context.logits().begin(), context.logits().end());
  CHECK(session.prefill(context, none).error().code == ba::errc::invalid_argument);
  CHECK(session.prefill(context, std::vector<ba::token>(14, 1)).error().code == ba::errc::context_full);
  CHECK(session.decode(context, static_cast<ba::token>(config.vocab)).error().code == ba::errc::invalid_argument);
  const std::atomic<bool> cancel{true};
  CHECK(session.prefill(context, good, &cancel).error().code == ba::errc::cancelled);
  CHECK(context.tokens() == good.size());
  CHECK(same_bits(before, {context.logits().begin(), context.logits().end()}));

  ba::session<> other(model, {}, {.kv = ba::dtype::f32});
  CHECK(other.prefill(context, good).error().code == ba::errc::shape_mismatch);
  ba::context* const twice[] = {&context, &context};
  CHECK(session.decode(std::span<ba::context* const>(twice), std::vector<ba::token>{1, 2}).error().code ==
        ba::errc::invalid_argument);
}

TEST_CASE("NaN in one block reaches no context without it", "[session]") {
  const auto config = config_of(16);
  const random_model weights(config);
  const auto model = ba::llama<>::bind(weights.source()).value();
  ba::session<> session(model);
  const auto blocks = random_blocks({20, 30, 9}, config.vocab);
  const auto expected = assembled_logits(session, {blocks[0], blocks[2]});
  // The same pass that encodes a clean block encodes beside one whose memory is full of NaN beforehand.
  const ba::kv_shape kv = session.shape();
  std::vector<std::vector<float>> memory;
  std::vector<std::byte*> payloads;
  for (const auto i : {0, 1}) {
    memory.emplace_back(kv.payload_bytes(blocks[static_cast<std::size_t>(i)].size()) / 4 + 16,
                        std::numeric_limits<float>::quiet_NaN());
    const auto at = reinterpret_cast<std::uintptr_t>(memory.back().data());
    payloads.push_back(reinterpret_cast<std::byte*>(ba::round_up(at, 64)));
  }
  const std::span<const ba::token> lists[] = {blocks[0], blocks[1]};
  session.encode_into(lists, payloads).value();
  const auto clean = session.encode(blocks[0]).value();
  CHECK(same_bytes(clean->payload(), {payloads[0], clean->payload_bytes()}));
  CHECK(same_bits(assembled_logits(session, {blocks[0], blocks[2]}), expected));
}
