// SPDX-License-Identifier: MIT
#include <blockattn/cache/context.hpp>
#include <cstring>
#include <memory_resource>
#include <numeric>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include "../support/catch.hpp"
#include "../support/counting_allocator.hpp"
#include "fake_encoder.hpp"

namespace ba = blockattn;
using blockattn_test::allocation_counter;
using blockattn_test::counting_allocator;
using blockattn_test::fake_encoder;
using blockattn_test::has_fake_payload;
using blockattn_test::tokens_from;
using ids = std::vector<ba::token>;
using handles = std::vector<ba::block_handle>;
using starts = std::vector<std::int64_t>;

namespace {

constexpr ba::kv_shape shape{2, 2, 8, ba::dtype::bf16};

ba::context_layout example_layout() {
  ba::rope_config rope;
  rope.rotary_dim = 8;
  return {shape, std::make_shared<const ba::rope_frequencies>(make_frequencies(rope).value()), 5};
}

ba::block_handle block_of(ba::token first, std::size_t tokens) {
  fake_encoder encoder(shape);
  return ba::encode_block(encoder, tokens_from(first, tokens)).value();
}

template <class Context>
starts starts_of(const Context& context) {
  starts out;
  for (std::size_t i = 0; i < context.blocks(); ++i) out.push_back(context.start(i));
  return out;
}

// What a session does, without a model: writes something into the reserved slots and commits.
template <class Context>
ba::result<void> prefill(Context& context, const ids& tokens) {
  const auto slot = context.begin_append(tokens.size());
  if (!slot) return slot.error();
  const ba::kv_shape& s = context.layout().shape;
  for (std::size_t l = 0; l < s.layers; ++l) {
    std::byte* const layer = context.tail_layer(l);
    for (std::size_t head = 0; head < s.kv_heads; ++head)
      for (std::size_t i = 0; i < tokens.size(); ++i)
        for (std::size_t dim = 0; dim < s.head_dim; ++dim) {
          const auto bits = static_cast<std::uint16_t>(tokens[i] * 16 + static_cast<int>(dim + 1));
          std::memcpy(layer + s.key_offset(head, context.tail_capacity()) + 2 * s.key_index(*slot + i, dim), &bits, 2);
          std::memcpy(layer + s.value_offset(head, context.tail_capacity()) + 2 * s.value_index(*slot + i, dim), &bits,
                      2);
        }
  }
  context.commit_append(tokens);
  std::fill(context.logits().begin(), context.logits().end(), static_cast<float>(tokens.back()));
  context.set_has_logits();
  return {};
}

template <class Context>
std::vector<std::byte> tail_bytes(const Context& context) {
  std::vector<std::byte> out;
  const ba::kv_shape& s = context.layout().shape;
  for (std::size_t l = 0; l < s.layers; ++l)
    out.insert(out.end(), context.tail_layer(l), context.tail_layer(l) + s.layer_bytes(context.tail_capacity()));
  return out;
}

// All that a session would compute with: pieces with the contents of their turn tables, ids, tail.
template <class Context>
void check_equal(const Context& a, const Context& b) {
  REQUIRE(a.blocks() == b.blocks());
  CHECK(a.tokens() == b.tokens());
  CHECK(starts_of(a) == starts_of(b));
  CHECK(std::ranges::equal(a.tail_tokens(), b.tail_tokens()));
  CHECK(std::ranges::equal(a.open_tokens(), b.open_tokens()));
  CHECK(a.room_left() == b.room_left());
  REQUIRE(a.pieces().size() == b.pieces().size());
  const std::size_t table = 2 * a.layout().rope->pairs();
  for (std::size_t i = 0; i < a.pieces().size(); ++i) {
    const auto &p = a.pieces()[i], &q = b.pieces()[i];
    CHECK(p.block == q.block);
    CHECK(p.tokens == q.tokens);
    CHECK(p.start == q.start);
    CHECK(p.slot == q.slot);
    REQUIRE((p.turn == nullptr) == (q.turn == nullptr));
    if (p.turn != nullptr) CHECK(std::equal(p.turn, p.turn + table, q.turn));
    CHECK((p.own_keys == nullptr) == (q.own_keys == nullptr));
  }
  CHECK(tail_bytes(a) == tail_bytes(b));
}

}  // namespace

static_assert(std::is_nothrow_move_constructible_v<ba::context>);
static_assert(std::is_nothrow_move_assignable_v<ba::context>);
static_assert(std::is_copy_constructible_v<ba::context> && std::is_copy_assignable_v<ba::context>);

TEST_CASE("context: blocks end to end, each with the turn for its start") {
  ba::context context(example_layout(), {.room = 20});
  CHECK(context.blocks() == 0);
  CHECK(context.tokens() == 0);
  CHECK(context.pieces().empty());
  CHECK(context.tail_capacity() == 32);
  CHECK(context.room_left() == 32);
  CHECK(context.logits().size() == 5);
  CHECK_FALSE(context.has_logits());

  const handles blocks = {block_of(0, 5), block_of(100, 17), block_of(0, 5), block_of(200, 0), block_of(300, 1)};
  CHECK(context.assemble(blocks).value().empty());
  CHECK(starts_of(context) == starts{0, 5, 22, 27, 27});
  CHECK(context.tokens() == 28);
  REQUIRE(context.pieces().size() == 4);  // the empty one is none
  const auto rope = context.layout().rope;
  for (const auto& piece : context.pieces()) {
    CHECK(piece.own_keys == nullptr);
    if (piece.start == 0) {
      CHECK(piece.turn == nullptr);
      continue;
    }
    std::vector<float> expected(2 * rope->pairs());
    rope->cos_sin(-piece.start, expected.data());
    CHECK(std::equal(expected.begin(), expected.end(), piece.turn));
  }
  CHECK(context.pieces()[1].block == blocks[1].get());
  CHECK(context.pieces()[1].tokens == 17);
  CHECK(context.pieces()[3].block == blocks[4].get());
}

TEST_CASE("context: refuses blocks that do not fit, and stays as it was") {
  ba::context context(example_layout(), {.room = 16});
  const auto good = block_of(0, 5);
  REQUIRE(context.assemble(handles{good}));
  REQUIRE(prefill(context, {7}));
  fake_encoder other({3, 2, 8, ba::dtype::f32});
  const auto bad = ba::encode_block(other, tokens_from(0, 4)).value();

  const auto mismatch = context.assemble(handles{good, bad});
  REQUIRE_FALSE(mismatch);
  CHECK(mismatch.error().code == ba::errc::shape_mismatch);
  CHECK(mismatch.error().message ==
        "context: block 1: expected 2 layers, 2 heads of 8 bf16, found 3 layers, 2 heads of 8 f32");
  CHECK(context.append(handles{bad}).error().code == ba::errc::shape_mismatch);
  CHECK(context.replace(0, bad).error().code == ba::errc::shape_mismatch);
  CHECK(context.insert(0, bad).error().code == ba::errc::shape_mismatch);
  CHECK(context.assemble(handles{nullptr}).error().message == "context: block 0: expected a block, found null");
  CHECK(context.replace(1, good).error().message == "context: replace: expected an index below 1, found 1");
  CHECK(context.insert(2, good).error().code == ba::errc::invalid_argument);
  CHECK(context.erase(1).error().code == ba::errc::invalid_argument);
  CHECK(context.reorder(std::vector<std::size_t>{0, 0}).error().code == ba::errc::invalid_argument);
  CHECK(context.reorder(std::vector<std::size_t>{1}).error().code == ba::errc::invalid_argument);

  CHECK(starts_of(context) == starts{0});
  CHECK(context.tokens() == 6);
  CHECK(context.has_logits());
}

TEST_CASE("context: make refuses layouts that no model has, and room that no machine has") {
  auto layout = example_layout();
  layout.rope = nullptr;
  CHECK(ba::context::make(layout).error().code == ba::errc::invalid_argument);
  layout = example_layout();
  layout.shape.layers = 0;
  CHECK(ba::context::make(layout).error().code == ba::errc::invalid_argument);
  for (const std::size_t room : {std::numeric_limits<std::size_t>::max(), std::numeric_limits<std::size_t>::max() / 8})
    CHECK(ba::context::make(example_layout(), {.room = room}).error().code == ba::errc::out_of_memory);
  const auto empty = ba::context::make(example_layout(), {.room = 0});
  REQUIRE(empty);
  CHECK(empty->room_left() == 0);
}

TEST_CASE("context: tail runs begin at multiples of 16 slots, and blocks after a run close it") {
  ba::context context(example_layout(), {.room = 64});
  REQUIRE(context.assemble(handles{block_of(0, 5)}));
  CHECK(context.begin_append(3).value() == 0);
  CHECK(context.tokens() == 5);  // nothing has happened yet
  REQUIRE(prefill(context, {1, 2, 3}));
  CHECK(context.begin_append(1).value() == 3);
  REQUIRE(prefill(context, {4}));
  CHECK(context.tokens() == 9);
  CHECK(context.room_left() == 60);
  REQUIRE(context.pieces().size() == 2);
  CHECK(context.pieces()[1].block == nullptr);
  CHECK(context.pieces()[1].tokens == 4);
  CHECK(context.pieces()[1].start == 5);
  CHECK(context.pieces()[1].slot == 0);
  CHECK(context.pieces()[1].turn == nullptr);

  CHECK(context.has_logits());
  REQUIRE(context.append(handles{block_of(50, 2), block_of(60, 3)}));
  CHECK_FALSE(context.has_logits());
  CHECK(starts_of(context) == starts{0, 9, 11});
  CHECK(context.open_tokens().empty());
  CHECK(context.tail_tokens().size() == 4);
  CHECK(context.room_left() == 48);
  REQUIRE(prefill(context, {5, 6}));
  CHECK(context.pieces().back().slot == 16);
  CHECK(context.pieces().back().start == 14);
  CHECK(std::ranges::equal(context.open_tokens(), ids{5, 6}));
  CHECK(std::ranges::equal(context.tail_tokens(), ids{1, 2, 3, 4, 5, 6}));
  CHECK(context.tokens() == 16);
  REQUIRE(context.append({}));  // no blocks: the run stays open
  CHECK(context.has_logits());
  CHECK(context.begin_append(1).value() == 18);
}

TEST_CASE("context: room is a hard limit that names itself") {
  ba::context context(example_layout(), {.room = 32});
  REQUIRE(prefill(context, tokens_from(0, 30)));
  const auto full = context.begin_append(3);
  REQUIRE_FALSE(full);
  CHECK(full.error().code == ba::errc::context_full);
  CHECK(full.error().message == "context: expected room for 3 tokens, found 2 of 32");
  REQUIRE(prefill(context, {1, 2}));
  CHECK(context.room_left() == 0);
  CHECK(context.begin_append(1).error().code == ba::errc::context_full);
  CHECK(context.begin_append(std::numeric_limits<std::size_t>::max()).error().code == ba::errc::context_full);
  CHECK(context.begin_append(0).error().code == ba::errc::invalid_argument);
  REQUIRE(context.append(handles{block_of(0, 1)}));
  CHECK(context.room_left() == 0);
}

TEST_CASE("context: an edit drops the runs after it, returns their tokens, and keeps those before") {
  const handles b = {block_of(0, 5), block_of(100, 6), block_of(200, 7), block_of(300, 8)};
  // [b0 b1 | 1 2 | b2 | 3 4 5]
  const auto fresh = [&] {
    ba::context context(example_layout(), {.room = 64});
    REQUIRE(context.assemble(handles{b[0], b[1]}));
    REQUIRE(prefill(context, {1, 2}));
    REQUIRE(context.append(handles{b[2]}));
    REQUIRE(prefill(context, {3, 4, 5}));
    return context;
  };
  const ids all = {1, 2, 3, 4, 5}, last = {3, 4, 5};
  {
    auto c = fresh();
    CHECK(c.replace(0, b[3]).value() == all);
    CHECK(starts_of(c) == starts{0, 8, 14});
    CHECK(c.tokens() == 21);
    CHECK_FALSE(c.has_logits());
    CHECK(c.room_left() == 64);
  }
  {
    auto c = fresh();
    CHECK(c.replace(2, b[3]).value() == last);
    CHECK(starts_of(c) == starts{0, 5, 13});
    CHECK(std::ranges::equal(c.tail_tokens(), ids{1, 2}));
    CHECK(c.open_tokens().empty());
    REQUIRE(prefill(c, last));
    CHECK(c.pieces().back().slot == 16);
    CHECK(c.pieces().back().start == 21);
  }
  {
    auto c = fresh();  // the same block in another handle: nothing changes
    CHECK(c.replace(0, block_of(0, 5)).value().empty());
    CHECK(c.has_logits());
    CHECK(c.block(0) == b[0]);
    check_equal(c, fresh());
  }
  {
    auto c = fresh();  // between b1 and b2: behind the run
    CHECK(c.insert(2, b[3]).value() == last);
    CHECK(starts_of(c) == starts{0, 5, 13, 21});
  }
  {
    auto c = fresh();  // after the last block: before the open run
    CHECK(c.insert(3, b[3]).value() == last);
    CHECK(starts_of(c) == starts{0, 5, 13, 20});
    CHECK(c.tokens() == 28);
  }
  {
    auto c = fresh();
    CHECK(c.insert(0, b[3]).value() == all);
    CHECK(starts_of(c) == starts{0, 8, 13, 19});
  }
  {
    auto c = fresh();
    CHECK(c.erase(1).value() == all);
    CHECK(starts_of(c) == starts{0, 5});
  }
  {
    auto c = fresh();  // the run that b2 closed is the last piece, so it is open again
    CHECK(c.erase(2).value() == last);
    CHECK(std::ranges::equal(c.open_tokens(), ids{1, 2}));
    CHECK(c.begin_append(1).value() == 2);
  }
  {
    auto c = fresh();
    CHECK(c.reorder(std::vector<std::size_t>{0, 1, 2}).value().empty());
    CHECK(c.has_logits());
    CHECK(c.reorder(std::vector<std::size_t>{0, 2, 1}).value() == all);
    CHECK(starts_of(c) == starts{0, 5, 12});
    CHECK(c.block(1) == b[2]);
  }
  {
    auto c = fresh();
    CHECK(c.assemble(handles{b[0], b[1], b[2]}).value() == all);
    CHECK(c.tail_tokens().empty());
    CHECK(c.tokens() == 18);
  }
}

TEST_CASE("context: rewind takes tokens of the open run back") {
  ba::context context(example_layout(), {.room = 64});
  REQUIRE(context.assemble(handles{block_of(0, 5)}));
  REQUIRE(prefill(context, {1, 2, 3, 4}));
  REQUIRE(context.rewind(0));
  CHECK(context.has_logits());
  REQUIRE(context.rewind(1));
  CHECK_FALSE(context.has_logits());
  CHECK(std::ranges::equal(context.tail_tokens(), ids{1, 2, 3}));
  CHECK(context.tokens() == 8);
  CHECK(context.pieces().back().tokens == 3);
  CHECK(context.begin_append(1).value() == 3);
  REQUIRE(context.rewind(3));
  CHECK(context.pieces().size() == 1);
  CHECK(context.room_left() == 64);

  REQUIRE(prefill(context, {1, 2}));
  REQUIRE(context.append(handles{block_of(9, 1)}));
  REQUIRE(prefill(context, {3}));
  const auto error = context.rewind(2);  // the block stands in the way
  REQUIRE_FALSE(error);
  CHECK(error.error().message == "context: rewind: expected at most the 1 tokens after the last block, found 2");
  REQUIRE(context.rewind(1));
  CHECK(context.rewind(1).error().code == ba::errc::invalid_argument);
  CHECK(std::ranges::equal(context.tail_tokens(), ids{1, 2}));
}

// Bit for bit the context that a fresh assembly gives: also where dropped tokens left something in the tail.
TEST_CASE("context: an edited context equals a fresh one after its tail is prefilled again") {
  const auto policy =
      GENERATE(ba::position_policy::query_side, ba::position_policy::key_side, ba::position_policy::none);
  std::mt19937 random(11);
  handles pool;
  for (int i = 0; i < 12; ++i) pool.push_back(block_of(100 * i, i == 3 ? 0 : 1 + random() % 40));
  const auto any = [&] { return pool[random() % pool.size()]; };
  const ba::context_options options{.room = 128, .position = policy};
  ba::context edited(example_layout(), options);
  handles model;
  std::size_t edits = 0;
  for (int step = 0; step < 400; ++step) {
    const std::size_t at = model.empty() ? 0 : random() % model.size();
    ba::result<ids> dropped = ids();
    switch (random() % 6) {
      case 0:
        model.clear();
        for (std::size_t n = random() % 6; n > 0; --n) model.push_back(any());
        dropped = edited.assemble(model);
        break;
      case 1:
        if (model.empty()) continue;
        model[at] = any();
        dropped = edited.replace(at, model[at]);
        break;
      case 2: {
        const std::size_t where = random() % (model.size() + 1);
        model.insert(model.begin() + static_cast<std::ptrdiff_t>(where), any());
        dropped = edited.insert(where, model[where]);
        break;
      }
      case 3:
        if (model.empty()) continue;
        model.erase(model.begin() + static_cast<std::ptrdiff_t>(at));
        dropped = edited.erase(at);
        break;
      case 4: {
        std::vector<std::size_t> permutation(model.size());
        std::iota(permutation.begin(), permutation.end(), std::size_t{0});
        std::shuffle(permutation.begin(), permutation.end(), random);
        handles moved;
        for (const std::size_t from : permutation) moved.push_back(model[from]);
        model = moved;
        dropped = edited.reorder(permutation);
        break;
      }
      default:
        model.push_back(any());
        REQUIRE(edited.rewind(edited.open_tokens().size()));  // one run at a time keeps this model small
        REQUIRE(edited.append(handles{model.back()}));
    }
    REQUIRE(dropped);
    ++edits;
    REQUIRE(edited.rewind(edited.open_tokens().size()));
    const ids question = tokens_from(static_cast<ba::token>(step), 1 + random() % 50);
    REQUIRE(prefill(edited, question));
    ba::context fresh(example_layout(), options);
    REQUIRE(fresh.assemble(model));
    REQUIRE(prefill(fresh, question));
    check_equal(edited, fresh);
  }
  CHECK(edits > 300);
}

TEST_CASE("context: slots are handed out zeroed, whatever was there") {
  for (const auto type : {ba::dtype::f32, ba::dtype::bf16, ba::dtype::i8})
    for (const std::uint32_t dim : {2u, 6u, 16u, 24u})
      for (const std::size_t from : {0u, 1u, 15u, 16u, 17u, 31u, 48u}) {
        const ba::kv_shape s{1, 3, dim, type};
        constexpr std::size_t room = 48, to = 48;
        std::vector<std::byte> layer(s.layer_bytes(room), std::byte{0xff});
        ba::detail::clear_slots(s, layer.data(), room, from, to);
        std::size_t wrong = 0;
        for (std::size_t head = 0; head < s.kv_heads; ++head)
          for (std::size_t slot = 0; slot < room; ++slot) {
            for (std::size_t byte = 0; type == ba::dtype::i8 && byte < sizeof(float); ++byte)
              for (const std::size_t scales : {s.key_scale_offset(head, room), s.value_scale_offset(head, room)})
                wrong += layer[scales + slot * sizeof(float) + byte] != (slot < from ? std::byte{0xff} : std::byte{0});
            for (std::size_t d = 0; d < dim; ++d)
              for (std::size_t byte = 0; byte < s.element_bytes(); ++byte) {
                const std::byte expected = slot < from ? std::byte{0xff} : std::byte{0};
                wrong += layer[s.key_offset(head, room) + s.key_index(slot, d) * s.element_bytes() + byte] != expected;
                wrong +=
                    layer[s.value_offset(head, room) + s.value_index(slot, d) * s.element_bytes() + byte] != expected;
              }
          }
        CHECK(wrong == 0);
      }

  // A run shortened before it was closed has left-overs on its last tile, too.
  ba::context context(example_layout(), {.room = 48}), expected(example_layout(), {.room = 48});
  REQUIRE(prefill(context, tokens_from(0, 40)));
  REQUIRE(context.rewind(35));
  REQUIRE(context.append(handles{block_of(0, 3)}));
  REQUIRE(prefill(context, {9}));
  REQUIRE(prefill(expected, tokens_from(0, 5)));
  REQUIRE(expected.append(handles{block_of(0, 3)}));
  REQUIRE(prefill(expected, {9}));
  CHECK(tail_bytes(context) == tail_bytes(expected));

  // A reservation that was written to and never committed leaves nothing either.
  const std::size_t slot = context.begin_append(4).value();
  std::memset(context.tail_layer(0) + 2 * shape.key_index(slot, 0), 0xff, 8);
  REQUIRE(context.begin_append(1));
  CHECK(tail_bytes(context) == tail_bytes(expected));
}

TEST_CASE("context: a fork shares blocks and turn tables, and nothing else") {
  ba::context a(example_layout(), {.room = 32});
  REQUIRE(a.assemble(handles{block_of(0, 5), block_of(9, 4)}));
  REQUIRE(prefill(a, {1, 2, 3}));
  ba::context b = a.fork();
  check_equal(a, b);
  CHECK(b.has_logits());
  CHECK(std::ranges::equal(a.logits(), b.logits()));
  CHECK(a.pieces()[1].turn == b.pieces()[1].turn);
  CHECK(a.tail_layer(0) != b.tail_layer(0));
  CHECK(a.logits().data() != b.logits().data());

  const auto before = tail_bytes(a);
  REQUIRE(prefill(b, {4, 5}));
  REQUIRE(b.replace(0, block_of(70, 9)));
  CHECK(tail_bytes(a) == before);
  CHECK(starts_of(a) == starts{0, 5});
  CHECK(a.tail_tokens().size() == 3);
  CHECK(a.has_logits());
  CHECK(a.logits()[0] == 3);
  REQUIRE(prefill(a, {6}));

  ba::context c(example_layout(), {.room = 16});
  c = a;
  check_equal(a, c);
  const ba::context d = std::move(c);
  check_equal(a, d);
  CHECK(c.blocks() == 0);
  CHECK(c.tokens() == 0);
  CHECK(c.pieces().empty());
  CHECK(c.room_left() == 0);
  CHECK(c.begin_append(1).error().code == ba::errc::context_full);
  REQUIRE(c.assemble(handles{block_of(0, 3), block_of(0, 3)}));  // still a context, without room
  CHECK(starts_of(c) == starts{0, 3});
  c = ba::context(d);
  check_equal(c, d);
  const ba::context& self = c;
  c = self;
  check_equal(c, d);
}

TEST_CASE("context: key_side owns turned keys, and keeps those that stay where they are") {
  const ba::context_options options{.room = 16, .position = ba::position_policy::key_side};
  ba::context context(example_layout(), options);
  const handles blocks = {block_of(0, 5), block_of(100, 17), block_of(200, 3)};
  REQUIRE(context.assemble(blocks));
  CHECK(context.unmaterialised_keys(0) == nullptr);  // R(0) K is K
  CHECK(context.pieces()[0].own_keys == nullptr);
  for (std::size_t i = 1; i < 3; ++i) {
    std::byte* const keys = context.unmaterialised_keys(i);
    REQUIRE(keys != nullptr);
    CHECK(keys == context.pieces()[i].own_keys);
    CHECK(context.pieces()[i].turn == nullptr);
    std::memset(keys, static_cast<int>(i),
                shape.layers * shape.kv_heads * shape.key_panel(blocks[i]->tokens().size()) * shape.element_bytes());
    if (i == 1) context.set_materialised(i);
  }
  const std::byte *first = context.pieces()[1].own_keys, *second = context.pieces()[2].own_keys;

  // A fork shares what is finished and has its own of what is not.
  ba::context copy = context.fork();
  CHECK(copy.pieces()[1].own_keys == first);
  CHECK(copy.unmaterialised_keys(1) == nullptr);
  CHECK(copy.pieces()[2].own_keys != second);
  CHECK(copy.unmaterialised_keys(2) == copy.pieces()[2].own_keys);
  context.set_materialised(2);
  CHECK(context.unmaterialised_keys(2) == nullptr);

  // Another block of the same length before them: both stay. Of another length: both must be turned again.
  REQUIRE(context.replace(0, block_of(400, 5)));
  CHECK(context.pieces()[1].own_keys == first);
  CHECK(context.pieces()[2].own_keys == second);
  CHECK(context.unmaterialised_keys(1) == nullptr);
  CHECK(context.unmaterialised_keys(2) == nullptr);
  REQUIRE(context.replace(0, block_of(400, 6)));
  CHECK(context.unmaterialised_keys(1) != nullptr);
  CHECK(context.unmaterialised_keys(2) != nullptr);
  CHECK(*copy.pieces()[1].own_keys == std::byte{1});  // the fork still reads what it had

  // Another block at the same start has keys of its own.
  REQUIRE(copy.replace(1, block_of(500, 17)));
  CHECK(copy.pieces()[1].own_keys != first);
  CHECK(copy.unmaterialised_keys(1) != nullptr);
}

TEST_CASE("context: position none turns nothing") {
  ba::context context(example_layout(), {.room = 16, .position = ba::position_policy::none});
  REQUIRE(context.assemble(handles{block_of(0, 5), block_of(9, 3)}));
  CHECK(context.pieces()[1].start == 5);
  CHECK(context.pieces()[1].turn == nullptr);
  CHECK(context.pieces()[1].own_keys == nullptr);
  CHECK(context.unmaterialised_keys(1) == nullptr);
  CHECK(std::string(to_string(context.position())) == "none");
}

TEST_CASE("context: appending and rewinding allocate nothing") {
  using allocator = counting_allocator<std::byte>;
  allocation_counter counter;
  {
    ba::basic_context<allocator> context(example_layout(), {.room = 128}, allocator(counter));
    REQUIRE(context.assemble(handles{block_of(0, 5), block_of(9, 4)}));
    const auto stays_silent = [&](auto& c) {
      const std::size_t before = counter.allocations;
      for (int turn = 0; turn < 3; ++turn) {
        REQUIRE(c.begin_append(40));
        c.commit_append(tokens_from(1, 30));
        while (c.room_left() != 0) {
          REQUIRE(c.begin_append(1));
          c.commit_append(ids{7});
        }
        REQUIRE(c.rewind(c.open_tokens().size() / 2));
        REQUIRE(c.rewind(c.open_tokens().size()));
      }
      CHECK(counter.allocations == before);
    };
    stays_silent(context);
    auto copy = context.fork();
    stays_silent(copy);
    // As many runs as there are tiles.
    for (int run = 0; run < 8; ++run) {
      const std::size_t before = counter.allocations;
      REQUIRE(copy.begin_append(1));
      copy.commit_append(ids{run});
      CHECK(counter.allocations == before);
      REQUIRE(copy.append(handles{block_of(run, 2)}));
    }
    CHECK(copy.room_left() == 0);
    CHECK(copy.erase(0).value() == tokens_from(0, 8));
    CHECK(copy.pieces().size() == 9);
  }
  CHECK(counter.live() == 0);
}

// The paper's Game AI case: one of 300 blocks changes.
TEST_CASE("context: replacing one of 300 blocks copies no keys and no values") {
  using allocator = counting_allocator<std::byte>;
  allocation_counter counter;
  {
    ba::basic_context<allocator> context(example_layout(), {.room = 16}, allocator(counter));
    handles blocks;
    for (int i = 0; i < 300; ++i) blocks.push_back(block_of(100 * i, 30));
    std::vector<const std::byte*> payloads;
    for (const auto& block : blocks) payloads.push_back(block->payload().data());
    REQUIRE(context.assemble(blocks));
    std::vector<const float*> turns;
    for (const auto& piece : context.pieces()) turns.push_back(piece.turn);

    // Same length: nobody moves, nothing is computed. A list of handles and a list of placements are all there is.
    std::size_t allocations = counter.allocations, live = counter.live_bytes;
    const auto changed = block_of(77777, 30);
    REQUIRE(context.replace(150, changed));
    CHECK(counter.allocations - allocations <= 2);
    CHECK(counter.live_bytes == live);
    for (std::size_t i = 0; i < 300; ++i) {
      CHECK(context.pieces()[i].turn == turns[i]);
      CHECK(context.pieces()[i].block == (i == 150 ? changed.get() : blocks[i].get()));
      if (i != 150) CHECK(context.pieces()[i].block->payload().data() == payloads[i]);
    }

    // Another length: what stands behind gets a small table each, and what stands before keeps its own.
    allocations = counter.allocations;
    REQUIRE(context.replace(150, block_of(88888, 31)));
    CHECK(counter.allocations - allocations <= 2 + 2 * 149);
    for (std::size_t i = 0; i <= 150; ++i) CHECK(context.pieces()[i].turn == turns[i]);
    CHECK(counter.live_bytes == live);

    // A fork of it all: tables and blocks are shared.
    allocations = counter.allocations;
    const auto copy = context.fork();
    CHECK(counter.allocations - allocations <= 6);
    CHECK(copy.pieces()[299].turn == context.pieces()[299].turn);
  }
  CHECK(counter.live() == 0);
}

TEST_CASE("context: any allocation may fail, and nothing has happened") {
  using allocator = counting_allocator<std::byte>;
  const auto policy = GENERATE(ba::position_policy::query_side, ba::position_policy::key_side);
  allocation_counter counter;
  {
    ba::basic_context<allocator> context(example_layout(), {.room = 32, .position = policy}, allocator(counter));
    REQUIRE(context.assemble(handles{block_of(0, 5), block_of(100, 6)}));
    REQUIRE(prefill(context, {1, 2, 3}));
    const auto before = context.fork();
    const auto until_it_works = [&](auto edit) {
      std::size_t failures = 0;
      for (;; ++failures) {
        auto copy = before.fork();
        const std::size_t live = counter.live_bytes;
        counter.fail_after(failures);
        const auto done = edit(copy);
        counter.never_fail();
        if (done) return failures;
        REQUIRE(done.error().code == ba::errc::out_of_memory);
        check_equal(copy, before);
        REQUIRE(copy.has_logits());
        REQUIRE(counter.live_bytes <= live + 100 * sizeof(ba::piece_view));
      }
    };
    const auto longer = block_of(200, 7);
    CHECK(until_it_works([&](auto& c) { return c.replace(0, longer); }) >= 3);
    CHECK(until_it_works([&](auto& c) { return c.insert(0, longer); }) >= 3);
    CHECK(until_it_works([&](auto& c) { return c.erase(0); }) >= 2);
    CHECK(until_it_works([&](auto& c) { return c.reorder(std::vector<std::size_t>{1, 0}); }) >= 3);
    CHECK(until_it_works([&](auto& c) { return c.assemble(handles{longer, longer}); }) >= 2);
    CHECK(until_it_works([&](auto& c) { return c.append(handles{longer}); }) >= 3);
    for (std::size_t n = 0;; ++n) {
      counter.fail_after(n);
      const auto made = ba::basic_context<allocator>::make(example_layout(), {.room = 32}, allocator(counter));
      counter.never_fail();
      if (made) break;
      REQUIRE(made.error().code == ba::errc::out_of_memory);
    }
  }
  CHECK(counter.live() == 0);
}

TEST_CASE("context: takes memory resources, and keeps to its own") {
  using allocator = std::pmr::polymorphic_allocator<std::byte>;
  using pmr_context = ba::basic_context<allocator>;
  std::pmr::set_default_resource(std::pmr::null_memory_resource());
  allocation_counter first, second;
  {
    blockattn_test::counting_resource one(first), two(second);
    pmr_context a(example_layout(), {.room = 32}, allocator(&one));
    REQUIRE(a.assemble(handles{block_of(0, 5), block_of(9, 4)}));
    REQUIRE(prefill(a, {1, 2}));
    CHECK(reinterpret_cast<std::uintptr_t>(a.tail_layer(1)) % ba::alignment == 0);
    CHECK(a.fork().get_allocator() == a.get_allocator());
    CHECK(second.allocations == 0);

    pmr_context b(example_layout(), {.room = 16}, allocator(&two));
    b = a;  // assignment keeps the allocator of the target
    CHECK(b.get_allocator() == allocator(&two));
    check_equal(a, b);
    pmr_context c(example_layout(), {.room = 16}, allocator(&two));
    c = std::move(a);  // unequal allocators: a copy
    CHECK(c.get_allocator() == allocator(&two));
    check_equal(b, c);
    const std::byte* tail = c.tail_layer(0);
    b = std::move(c);  // equal allocators: the memory moves
    CHECK(b.tail_layer(0) == tail);
    CHECK(c.room_left() == 0);
    REQUIRE(prefill(b, {3}));
  }
  std::pmr::set_default_resource(nullptr);
  CHECK(first.live() == 0);
  CHECK(second.live() == 0);
}
