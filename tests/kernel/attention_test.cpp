// SPDX-License-Identifier: MIT
// Attention over segments against a dense, masked softmax in double that is written out below.
#include "blockattn/kernel/attention.hpp"

#include <cmath>
#include <cstring>
#include <numbers>
#include <random>
#include <vector>

#include "blockattn/core/memory.hpp"
#include "support/catch.hpp"
#include "support/executors.hpp"

namespace {

using namespace blockattn;

constexpr std::int64_t everything = std::numeric_limits<std::int64_t>::max();

// Keys and values of one segment: what the kernel reads, and the same numbers in double. A key is stored with the
// rotation of its own position t (or of start + t when keys are turned in place).
struct segment_data {
  std::size_t tokens = 0;
  std::int64_t start = 0;
  aligned_buffer<> panels;
  std::vector<float> turn;  // empty: keys are in place
  std::vector<double> keys, values;  // [kv head][token][head_dim]: as stored, keys turned to their global position
  std::size_t room = 0;
};

struct problem {
  attention_shape shape;
  rope_frequencies rope;
  std::mt19937 random{7};

  problem(std::uint32_t heads, std::uint32_t kv_heads, std::uint32_t head_dim, dtype type, rope_layout layout,
          std::uint32_t rotary_dim, std::int64_t window = everything) {
    const auto scale = static_cast<float>(1.0 / std::sqrt(head_dim));
    shape = {heads, kv_heads, head_dim, type, scale, window, rotary_dim, layout};
    if (rotary_dim != 0) {
      rope_config config;
      config.rotary_dim = rotary_dim;
      config.layout = layout;
      rope = make_frequencies(config).value();
    }
    rope.layout = layout;
  }

  [[nodiscard]] kv_shape kv() const { return {1, shape.kv_heads, shape.head_dim, shape.type}; }
  [[nodiscard]] float stored(float x) const { return shape.type == dtype::f32 ? x : widen(to_bf16(x)); }
  float draw() { return std::normal_distribution<float>()(random); }

  // Turns one head by R(position), in double.
  template <class T>
  void rotate(T* head, std::int64_t position) const {
    const std::size_t pairs = rope.pairs();
    for (std::size_t m = 0; m < pairs; ++m) {
      const std::size_t i = rope.layout == rope_layout::half_split ? m : 2 * m;
      const std::size_t j = rope.layout == rope_layout::half_split ? m + pairs : 2 * m + 1;
      const double angle = static_cast<double>(position) * rope.per_position[m];
      const double x = head[i], y = head[j];
      head[i] = static_cast<T>(x * std::cos(angle) - y * std::sin(angle));
      head[j] = static_cast<T>(x * std::sin(angle) + y * std::cos(angle));
    }
  }

  static void put(std::byte* base, dtype type, std::size_t index, float x) {
    if (type == dtype::f32) {
      reinterpret_cast<float*>(base)[index] = x;
    } else {
      reinterpret_cast<bf16*>(base)[index] = to_bf16(x);
    }
  }

  // Random keys k and values v; the segment stores R(t) k (turned) or R(start + t) k (in place).
  segment_data segment(std::size_t tokens, std::int64_t start, bool turned, float size = 1.0f) {
    std::vector<float> raw(tokens * shape.kv_heads * shape.head_dim), values(raw.size());
    for (float& x : raw) x = draw() * size;
    for (float& x : values) x = draw() * size;
    return store(raw, values, tokens, start, turned);
  }

  segment_data store(const std::vector<float>& raw, const std::vector<float>& values, std::size_t tokens,
                     std::int64_t start, bool turned) const {
    segment_data out;
    out.tokens = tokens;
    out.start = start;
    out.room = tokens + 21;  // segments of a larger buffer have other strides
    const kv_shape shape_of = kv();
    const std::size_t d = shape.head_dim;
    out.panels = aligned_buffer<>(std::max<std::size_t>(shape_of.layer_bytes(out.room), 64));
    std::memset(out.panels.data(), 0, out.panels.size());
    out.keys.resize(raw.size());
    out.values.resize(raw.size());
    std::vector<float> head(d);
    for (std::size_t h = 0; h < shape.kv_heads; ++h) {
      std::byte* keys = out.panels.data() + shape_of.key_offset(h, out.room);
      std::byte* panel = out.panels.data() + shape_of.value_offset(h, out.room);
      for (std::size_t t = 0; t < tokens; ++t) {
        const std::size_t at = (t * shape.kv_heads + h) * d, to = (h * tokens + t) * d;
        std::copy_n(raw.data() + at, d, head.data());
        rotate(head.data(), static_cast<std::int64_t>(t) + (turned ? 0 : start));
        for (std::size_t i = 0; i < d; ++i) {
          put(keys, shape.type, shape_of.key_index(t, i), head[i]);
          put(panel, shape.type, shape_of.value_index(t, i), values[at + i]);
          out.keys[to + i] = stored(head[i]);
          out.values[to + i] = stored(values[at + i]);
        }
        if (turned) rotate(out.keys.data() + to, start);
      }
    }
    if (turned && shape.rotary_dim != 0) {
      out.turn.resize(2 * rope.pairs());
      rope.cos_sin(-start, out.turn.data());
    }
    return out;
  }

  [[nodiscard]] kv_segment view(const segment_data& s) const {
    const kv_shape of = kv();
    kv_segment out;
    out.keys = s.panels.data();
    out.values = s.panels.data() + of.value_offset(0, s.room);
    out.key_stride = of.key_offset(1, s.room);
    out.value_stride = of.value_offset(1, s.room) - of.value_offset(0, s.room);
    out.tokens = s.tokens;
    out.start = s.start;
    out.turn = s.turn.empty() ? nullptr : s.turn.data();
    return out;
  }
};

// One query sequence with its output.
struct request {
  std::vector<float> queries, out;
  std::vector<std::int64_t> positions;
  std::vector<kv_segment> segments;
  std::size_t query_stride = 0, out_stride = 0;

  request(problem& p, std::vector<std::int64_t> at, const std::vector<segment_data>& data) : positions(std::move(at)) {
    const std::size_t row = std::size_t{p.shape.heads} * p.shape.head_dim;
    query_stride = row + 3;
    out_stride = row + 5;
    queries.resize(positions.size() * query_stride);
    for (float& x : queries) x = p.draw();
    for (std::size_t t = 0; t < positions.size(); ++t)
      for (std::size_t h = 0; h < p.shape.heads; ++h)
        p.rotate(queries.data() + t * query_stride + h * p.shape.head_dim, positions[t]);
    out.assign(positions.size() * out_stride, -77.0f);
    for (const segment_data& s : data) segments.push_back(p.view(s));
  }
  [[nodiscard]] attention_job job() {
    return {queries.data(), query_stride, positions.data(), positions.size(), segments, out.data(), out_stride};
  }
};

template <class Executor>
void run(const problem& p, std::vector<attention_job> jobs, Executor&& workers) {
  // An odd address and a canary: scratch needs no alignment, and no byte beyond it is touched.
  const std::size_t bytes = attend_scratch(workers.concurrency(), jobs, p.shape);
  std::vector<std::byte> scratch(bytes + 65, std::byte{0xff});
  attend(workers, jobs, p.shape, {scratch.data() + 1, bytes});
  for (std::size_t i = bytes + 1; i < scratch.size(); ++i) REQUIRE(scratch[i] == std::byte{0xff});
}
void run(const problem& p, request& r) { run(p, {r.job()}, inline_executor{}); }

// Dense attention in double at global positions.
std::vector<double> dense(const problem& p, const request& r, const std::vector<segment_data>& data) {
  const std::size_t d = p.shape.head_dim, group = p.shape.heads / p.shape.kv_heads;
  std::vector<double> out(r.positions.size() * p.shape.heads * d, 0.0);
  for (std::size_t t = 0; t < r.positions.size(); ++t) {
    for (std::size_t h = 0; h < p.shape.heads; ++h) {
      const float* q = r.queries.data() + t * r.query_stride + h * d;
      std::vector<double> weights;
      std::vector<const double*> values;
      double top = -1e300;
      for (const segment_data& s : data) {
        for (std::size_t k = 0; k < s.tokens; ++k) {
          const std::int64_t at = s.start + static_cast<std::int64_t>(k);
          if (at > r.positions[t] || r.positions[t] - at >= p.shape.window) continue;
          const std::size_t row = (h / group * s.tokens + k) * d;
          double score = 0;
          for (std::size_t i = 0; i < d; ++i) score += double{q[i]} * s.keys[row + i];
          score *= p.shape.scale;
          weights.push_back(score);
          values.push_back(s.values.data() + row);
          top = std::max(top, score);
        }
      }
      double sum = 0;
      for (double& w : weights) sum += w = std::exp(w - top);
      for (std::size_t k = 0; k < weights.size(); ++k)
        for (std::size_t i = 0; i < d; ++i) out[(t * p.shape.heads + h) * d + i] += weights[k] / sum * values[k][i];
    }
  }
  return out;
}

// The largest deviation relative to the largest stored value. Also: nothing beyond a row was written.
double error_of(const problem& p, const request& r, const std::vector<segment_data>& data) {
  const std::vector<double> expected = dense(p, r, data);
  const std::size_t row = std::size_t{p.shape.heads} * p.shape.head_dim;
  double scale = 0, worst = 0;
  for (const segment_data& s : data)
    for (double v : s.values) scale = std::max(scale, std::abs(v));
  for (std::size_t t = 0; t < r.positions.size(); ++t) {
    for (std::size_t i = 0; i < row; ++i) {
      const double found = r.out[t * r.out_stride + i];
      REQUIRE(found == found);
      worst = std::max(worst, std::abs(found - expected[t * row + i]));
    }
    for (std::size_t i = row; i < r.out_stride; ++i) REQUIRE(r.out[t * r.out_stride + i] == -77.0f);
  }
  return scale == 0 ? worst : worst / scale;
}

// f32 arithmetic: 4e-7 to 2e-6 measured. Rows rounded to bf16: half an ulp of bf16 is 2e-3 of a score.
double bound(dtype type) { return type == dtype::bf16 && has_bf16_dot ? 1e-2 : 1e-5; }

std::vector<std::int64_t> from(std::int64_t first, std::size_t n) {
  std::vector<std::int64_t> out(n);
  for (std::size_t i = 0; i < n; ++i) out[i] = first + static_cast<std::int64_t>(i);
  return out;
}

// Blocks of the given lengths end to end, then a tail of `tail` tokens in place whose queries are the request.
std::vector<segment_data> lay(problem& p, const std::vector<std::size_t>& blocks, std::size_t tail,
                              bool turned = true) {
  std::vector<segment_data> out;
  std::int64_t start = 0;
  for (std::size_t n : blocks) {
    out.push_back(p.segment(n, start, turned));
    start += static_cast<std::int64_t>(n);
  }
  if (tail != 0) out.push_back(p.segment(tail, start, false));
  return out;
}

std::size_t total(const std::vector<std::size_t>& blocks) {
  std::size_t sum = 0;
  for (std::size_t n : blocks) sum += n;
  return sum;
}

double assemble_error(problem& p, const std::vector<std::size_t>& blocks, std::size_t tail, bool turned = true) {
  const std::vector<segment_data> data = lay(p, blocks, tail, turned);
  request r(p, from(static_cast<std::int64_t>(total(blocks)), tail), data);
  run(p, r);
  return error_of(p, r, data);
}

}  // namespace

TEST_CASE("exp2_nonpositive has its special values and its error bound", "[attention][math]") {
  const auto at = [](float x) {
    float v[16];
    store(v, exp2_nonpositive(broadcast(x)));
    return v[7];
  };
  CHECK(at(0.0f) == 1.0f);
  CHECK(at(-127.0f) == 0.0f);
  CHECK(at(-1000.0f) == 0.0f);
  CHECK(at(masked_score - no_score) == 0.0f);
  CHECK(at(no_score - 5.0f) == 0.0f);
  double worst = 0;
  for (int i = 0; i <= 126 * 4096; ++i) {
    const float x = -static_cast<float>(i) / 4096.0f;
    worst = std::max(worst, std::abs(at(x) / std::exp2(double{x}) - 1));
  }
  INFO("relative error " << worst);
  CHECK(worst < 2.5e-7);
  for (int i = 126 * 64; i <= 127 * 64; ++i) {
    const float x = -static_cast<float>(i) / 64.0f;
    CHECK(std::abs(double{at(x)} - std::exp2(double{x})) < std::ldexp(1.0, -126));
  }
}

TEST_CASE("attention equals dense attention at global positions", "[attention]") {
  const dtype type = GENERATE(dtype::f32, dtype::bf16);
  const rope_layout layout = GENERATE(rope_layout::half_split, rope_layout::interleaved);
  const bool turned = GENERATE(true, false);
  const std::vector<std::vector<std::size_t>> lists = {
      {1}, {15}, {16}, {17}, {100}, {1000}, {1, 15, 16, 17, 100, 7, 130}, {64, 0, 33}, {0}, {}};
  for (const auto& blocks : lists) {
    for (std::size_t tail : {std::size_t{1}, std::size_t{3}, std::size_t{50}}) {
      problem p(8, 2, 64, type, layout, 64);
      const double worst = assemble_error(p, blocks, tail, turned);
      INFO("blocks " << blocks.size() << " tokens " << total(blocks) << " tail " << tail << " error " << worst);
      CHECK(worst < bound(type));
    }
  }
}

TEST_CASE("three hundred segments", "[attention]") {
  const dtype type = GENERATE(dtype::f32, dtype::bf16);
  std::vector<std::size_t> blocks;
  for (std::size_t i = 0; i < 300; ++i) blocks.push_back(1 + i * 7 % 23);
  for (std::size_t tail : {std::size_t{1}, std::size_t{9}}) {
    problem p(4, 2, 32, type, rope_layout::half_split, 32);
    const double worst = assemble_error(p, blocks, tail);
    INFO("error " << worst);
    CHECK(worst < bound(type));
  }
}

TEST_CASE("any even head size, any ratio of heads, partial rotation", "[attention]") {
  const dtype type = GENERATE(dtype::f32, dtype::bf16);
  const rope_layout layout = GENERATE(rope_layout::half_split, rope_layout::interleaved);
  struct form {
    std::uint32_t heads, kv_heads, head_dim, rotary;
  };
  const form forms[] = {{1, 1, 2, 2},     {2, 1, 4, 2},     {3, 3, 6, 4},     {5, 1, 10, 10},   {6, 2, 14, 6},
                        {7, 1, 16, 16},   {4, 4, 18, 0},    {8, 1, 30, 30},   {13, 1, 34, 32},  {2, 2, 80, 80},
                        {3, 1, 96, 48},   {2, 1, 112, 112}, {4, 2, 128, 64},  {2, 1, 130, 130}, {2, 1, 254, 254},
                        {4, 1, 256, 256}, {64, 1, 8, 8},    {128, 1, 4, 4}};
  for (const form& f : forms) {
    for (std::size_t tail : {std::size_t{1}, std::size_t{37}}) {
      problem p(f.heads, f.kv_heads, f.head_dim, type, layout, f.rotary);
      const double worst = assemble_error(p, {45, 16, 3}, tail, f.rotary != 0);
      INFO("heads " << f.heads << "/" << f.kv_heads << " d " << f.head_dim << " rotary " << f.rotary << " tail " << tail
                    << " error " << worst);
      CHECK(worst < bound(type));
    }
  }
}

TEST_CASE("windows by global distance", "[attention]") {
  const dtype type = GENERATE(dtype::f32, dtype::bf16);
  for (std::int64_t window : {1, 2, 15, 16, 17, 40, 128, 129, 300, 100000}) {
    for (std::size_t tail : {std::size_t{1}, std::size_t{4}, std::size_t{70}}) {
      problem p(6, 2, 32, type, rope_layout::half_split, 32, window);
      const double worst = assemble_error(p, {100, 1, 200, 16, 31}, tail);
      INFO("window " << window << " tail " << tail << " error " << worst);
      CHECK(worst < bound(type));
    }
  }
}

TEST_CASE("a window of one returns the token's own value", "[attention]") {
  problem p(4, 2, 16, dtype::f32, rope_layout::half_split, 16, 1);
  const std::vector<segment_data> data = lay(p, {30}, 20);
  request r(p, from(30, 20), data);
  run(p, r);
  for (std::size_t t = 0; t < 20; ++t)
    for (std::size_t h = 0; h < 4; ++h)
      for (std::size_t i = 0; i < 16; ++i)
        CHECK(double{r.out[t * r.out_stride + h * 16 + i]} == data[1].values[(h / 2 * 20 + t) * 16 + i]);
}

TEST_CASE("positions in any order, and rows that see nothing", "[attention]") {
  const dtype type = GENERATE(dtype::f32, dtype::bf16);
  problem p(4, 2, 32, type, rope_layout::half_split, 32);
  const std::vector<segment_data> data = lay(p, {200, 90}, 0);
  std::vector<std::int64_t> positions = from(0, 290);
  std::shuffle(positions.begin(), positions.end(), p.random);
  positions[5] = -1;
  request r(p, positions, data);
  run(p, r);
  CHECK(error_of(p, r, data) < bound(type));
  for (std::size_t i = 0; i < 128; ++i) CHECK(r.out[5 * r.out_stride + i] == 0.0f);

  request none(p, from(500, 2), {});
  run(p, none);
  CHECK(error_of(p, none, {}) == 0.0);
}

TEST_CASE("rows masked in their first steps recover", "[attention]") {
  // Segments out of order: the first ones lie after the query, the visible one comes last.
  problem p(4, 1, 32, GENERATE(dtype::f32, dtype::bf16), rope_layout::half_split, 32);
  std::vector<segment_data> data;
  data.push_back(p.segment(300, 60, true));
  data.push_back(p.segment(60, 0, true));
  for (std::size_t n : {std::size_t{4}, std::size_t{61}}) {
    request r(p, from(2, n), data);
    run(p, r);
    CHECK(error_of(p, r, data) < bound(p.shape.type));
  }
}

TEST_CASE("long contexts in parts equal the whole", "[attention]") {
  // Four tokens or fewer are cut by keys into parts of 1024; five are not.
  const dtype type = GENERATE(dtype::f32, dtype::bf16);
  problem p(8, 2, 64, type, rope_layout::half_split, 64);
  const std::vector<segment_data> data = lay(p, {1500, 1, 700, 1024, 130, 2000}, 0);
  const std::int64_t end = 5355;
  request few(p, from(end, 4), data);
  request many(p, from(end, 9), data);
  std::copy(few.queries.begin(), few.queries.end(), many.queries.begin());
  run(p, few);
  run(p, many);
  CHECK(error_of(p, few, data) < bound(type));
  CHECK(error_of(p, many, data) < bound(type));
  double apart = 0;
  for (std::size_t t = 0; t < 4; ++t)
    for (std::size_t i = 0; i < 8 * 64; ++i)
      apart = std::max(apart, std::abs(double{few.out[t * few.out_stride + i]} - many.out[t * many.out_stride + i]));
  CHECK(apart < bound(type));
}

TEST_CASE("errors do not grow with forty thousand keys", "[attention]") {
  // Values beside one: nothing cancels, so a sum that loses its last bits with every step would show.
  const dtype type = GENERATE(dtype::f32, dtype::bf16);
  problem p(2, 1, 32, type, rope_layout::half_split, 32);
  std::vector<segment_data> data;
  std::int64_t start = 0;
  for (std::size_t n : {30000u, 7u, 10000u}) {
    std::vector<float> keys(n * 32), values(n * 32);
    for (float& x : keys) x = p.draw();
    for (float& x : values) x = 1.0f + 0.25f * p.draw();
    data.push_back(p.store(keys, values, n, start, true));
    start += static_cast<std::int64_t>(n);
  }
  for (std::size_t rows : {std::size_t{1}, std::size_t{17}}) {
    request r(p, from(start, rows), data);
    run(p, r);
    const double worst = error_of(p, r, data);
    INFO("rows " << rows << " error " << worst);
    CHECK(worst < (type == dtype::bf16 && has_bf16_dot ? 1e-4 : 2e-6));
  }
}

TEST_CASE("query side equals key side", "[attention]") {
  // The same keys, once at their local positions with turned queries, once turned to where they stand. In bf16 the two
  // round different numbers: each is compared with its own dense result elsewhere, here with a bf16 bound.
  const dtype type = GENERATE(dtype::f32, dtype::bf16);
  const rope_layout layout = GENERATE(rope_layout::half_split, rope_layout::interleaved);
  problem p(8, 2, 64, type, layout, 64);
  std::vector<segment_data> query_side, key_side;
  std::int64_t start = 0;
  for (std::size_t n : {100u, 333u, 17u, 5000u}) {
    std::vector<float> keys(n * 2 * 64), values(n * 2 * 64);
    for (float& x : keys) x = p.draw();
    for (float& x : values) x = p.draw();
    query_side.push_back(p.store(keys, values, n, start, true));
    key_side.push_back(p.store(keys, values, n, start, false));
    start += static_cast<std::int64_t>(n);
  }
  for (std::size_t n : {std::size_t{1}, std::size_t{20}}) {
    request a(p, from(start, n), query_side), b(p, from(start, n), key_side);
    b.queries = a.queries;
    run(p, a);
    run(p, b);
    double apart = 0;
    for (std::size_t i = 0; i < a.out.size(); ++i) apart = std::max(apart, std::abs(double{a.out[i]} - b.out[i]));
    INFO("apart " << apart);
    CHECK(apart < (type == dtype::f32 ? 1e-5 : 2e-2));
  }
}

TEST_CASE("output bits depend on the row alone", "[attention]") {
  const dtype type = GENERATE(dtype::f32, dtype::bf16);
  const std::int64_t window = GENERATE(everything, std::int64_t{77});
  problem p(8, 2, 64, type, rope_layout::half_split, 64, window);
  const std::vector<segment_data> a = lay(p, {500, 31, 700}, 60), b = lay(p, {}, 333), c = lay(p, {2500}, 2);
  request one(p, from(1231, 60), a), two(p, from(0, 333), b), three(p, from(2500, 2), c);
  run(p, one);
  run(p, two);
  run(p, three);
  const auto first = one.out, second = two.out, third = three.out;
  const auto same = [](const std::vector<float>& x, const std::vector<float>& y) {
    return x.size() == y.size() && std::memcmp(x.data(), y.data(), x.size() * sizeof(float)) == 0;
  };
  SECTION("for any number of workers, and packed with other jobs in any order") {
    for (std::size_t n : {1u, 2u, 3u, 5u}) {
      request none(p, {}, {});
      one.out.assign(one.out.size(), -77.0f);
      two.out = std::vector<float>(two.out.size(), -77.0f);
      three.out.assign(three.out.size(), -77.0f);
      run(p, {none.job(), three.job(), none.job(), one.job(), two.job(), none.job()}, blockattn_test::dealing_executor{n});
      CHECK(same(one.out, first));
      CHECK(same(two.out, second));
      CHECK(same(three.out, third));
    }
  }
  SECTION("for any rows that share a task") {
    // Pieces of at least five tokens: shorter jobs are cut by keys.
    for (std::size_t piece : {5u, 6u, 11u, 29u}) {
      std::vector<float> out(one.out.size(), -77.0f);
      for (std::size_t t = 0; t < 60;) {
        std::size_t n = std::min<std::size_t>(piece, 60 - t);
        if (60 - t - n < 5) n = 60 - t;
        attention_job job = one.job();
        job.queries += t * one.query_stride;
        job.positions += t;
        job.tokens = n;
        job.out = out.data() + t * one.out_stride;
        run(p, {job}, inline_executor{});
        t += n;
      }
      CHECK(same(out, first));
    }
    // Few tokens: one by one, against together.
    std::vector<float> out(three.out.size(), -77.0f);
    for (std::size_t t = 0; t < 2; ++t) {
      attention_job job = three.job();
      job.queries += t * three.query_stride;
      job.positions += t;
      job.tokens = 1;
      job.out = out.data() + t * three.out_stride;
      run(p, {job}, blockattn_test::dealing_executor{3});
    }
    CHECK(same(out, third));
  }
}

TEST_CASE("what is not visible changes nothing", "[attention]") {
  const dtype type = GENERATE(dtype::f32, dtype::bf16);
  const float poison = GENERATE(3e38f, std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity());
  const std::size_t tokens = GENERATE(std::size_t{2}, std::size_t{40});
  // Window 400, queries from 710 on: block 0 (0 to 299) lies before it, the window cuts block 1 (300 to 499), and the
  // last block lies after every query.
  problem p(4, 2, 32, type, rope_layout::half_split, 32, 400);
  std::vector<segment_data> data = lay(p, {300, 200, 210}, tokens);
  data.push_back(p.segment(100, 1650, true));
  request clean(p, from(710, tokens), data);
  run(p, clean);
  REQUIRE(error_of(p, clean, data) < bound(type));

  const auto spoil = [&](segment_data& s) {
    for (std::size_t i = 0; i < s.panels.size() / p.kv().element_bytes(); ++i)
      problem::put(s.panels.data(), type, i, poison);
  };
  std::vector<segment_data> bad = lay(p, {}, 50);  // all that another job reads
  spoil(bad[0]);
  spoil(data.front());
  spoil(data.back());
  request neighbour(p, from(0, 50), bad);
  request dirty(p, from(710, tokens), data);
  dirty.queries = clean.queries;
  run(p, {neighbour.job(), dirty.job(), neighbour.job()}, blockattn_test::dealing_executor{2});
  CHECK(std::memcmp(dirty.out.data(), clean.out.data(), clean.out.size() * sizeof(float)) == 0);
}

TEST_CASE("a huge finite value that one row sees does not reach the rows that do not", "[attention]") {
  problem p(4, 2, 32, GENERATE(dtype::f32, dtype::bf16), rope_layout::half_split, 32);
  std::vector<float> keys(40 * 2 * 32), values(keys.size());
  for (float& x : keys) x = p.draw();
  for (float& x : values) x = p.draw();
  std::vector<segment_data> data;
  data.push_back(p.store(keys, values, 40, 0, false));
  request clean(p, from(0, 40), data);
  run(p, clean);
  for (std::size_t i = 0; i < 2 * 32; ++i) keys[30 * 64 + i] = values[30 * 64 + i] = 1e18f;
  std::vector<segment_data> spoiled;
  spoiled.push_back(p.store(keys, values, 40, 0, false));
  request dirty(p, from(0, 40), spoiled);
  dirty.queries = clean.queries;
  run(p, dirty);
  CHECK(std::memcmp(dirty.out.data(), clean.out.data(), 30 * clean.out_stride * sizeof(float)) == 0);
  CHECK(std::memcmp(dirty.out.data(), clean.out.data(), 31 * clean.out_stride * sizeof(float)) != 0);
}

TEST_CASE("weights add up to one", "[attention]") {
  const dtype type = GENERATE(dtype::f32, dtype::bf16);
  for (std::size_t tail : {std::size_t{1}, std::size_t{50}}) {
    problem p(8, 2, 64, type, rope_layout::half_split, 64);
    std::vector<segment_data> data;
    std::int64_t start = 0;
    for (std::size_t n : {700u, 33u, 2000u, 50u}) {
      std::vector<float> keys(n * 128), ones(n * 128, 1.0f);
      for (float& x : keys) x = p.draw();
      data.push_back(p.store(keys, ones, n, start, true));
      start += static_cast<std::int64_t>(n);
    }
    request r(p, from(start - 50, tail), data);
    run(p, r);
    for (std::size_t t = 0; t < tail; ++t)
      for (std::size_t i = 0; i < 512; ++i) REQUIRE(std::abs(r.out[t * r.out_stride + i] - 1.0f) < 1e-6f);
  }
}

TEST_CASE("scores over a wide range", "[attention]") {
  // Sharp softmax: scores of some hundreds, maxima that move from step to step.
  const dtype type = GENERATE(dtype::f32, dtype::bf16);
  problem p(4, 2, 64, type, rope_layout::half_split, 64);
  std::vector<segment_data> data;
  for (std::int64_t i = 0; i < 6; ++i) data.push_back(p.segment(150, 150 * i, true, static_cast<float>(1 + i * i)));
  request r(p, from(900, 30), data);
  run(p, r);
  const double worst = error_of(p, r, data);
  INFO("error " << worst);
  // A score of 200 has an ulp of 1.5e-5; a bf16 row one of 1.
  CHECK(worst < (type == dtype::bf16 && has_bf16_dot ? 0.3 : 1e-4));
}
