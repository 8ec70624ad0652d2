// SPDX-License-Identifier: MIT
// Attention over int8 panels against dense attention in double that reads the same codes and scales.
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "blockattn/core/memory.hpp"
#include "blockattn/kernel/attention.hpp"
#include "blockattn/kernel/pack.hpp"
#include "support/catch.hpp"
#include "support/executors.hpp"

namespace {

using namespace blockattn;

constexpr std::int64_t everything = std::numeric_limits<std::int64_t>::max();

// Measured: float rows 4e-7 to 2e-6 of the largest value; fixed-point ones 2e-5. Queries here are of size one; a query
// of size n has n times the error in its scores.
// On tile registers queries and weights are rounded to bf16.
double bound(compute_type compute) {
  if (uses_tile_registers(dtype::i8, compute)) return 5e-3;
  return compute == compute_type::f32 ? 1e-5 : 1e-4;
}

struct segment_data {
  std::size_t tokens = 0, room = 0, slot = 0;
  std::int64_t start = 0;
  aligned_buffer<> panels;  // one layer
  std::vector<float> turn;
};

struct problem {
  attention_shape shape;
  rope_frequencies rope;
  std::mt19937 random{7};

  problem(std::uint32_t heads, std::uint32_t kv_heads, std::uint32_t head_dim, compute_type compute,
          rope_layout layout = rope_layout::half_split, std::uint32_t rotary_dim = 0,
          std::int64_t window = everything) {
    const auto scale = static_cast<float>(1.0 / std::sqrt(head_dim));
    shape = {heads, kv_heads, head_dim, dtype::i8, scale, window, rotary_dim, layout, compute};
    rope_config config;
    config.rotary_dim = rotary_dim;
    config.layout = layout;
    if (rotary_dim != 0) rope = make_frequencies(config).value();
    rope.layout = layout;
  }
  [[nodiscard]] kv_shape kv() const { return {1, shape.kv_heads, shape.head_dim, dtype::i8}; }
  float draw() { return std::normal_distribution<float>()(random); }

  // Tokens whose keys and values are random, each of its own size, stored from `slot` on.
  segment_data segment(std::size_t tokens, std::int64_t start, bool turned, std::size_t slot = 0) {
    segment_data out;
    out.tokens = tokens;
    out.start = start;
    out.slot = slot;
    out.room = slot + tokens + 21;
    const kv_shape of = kv();
    out.panels = aligned_buffer<>(of.layer_bytes(out.room));
    std::memset(out.panels.data(), 0, out.panels.size());
    const std::size_t row = std::size_t{shape.kv_heads} * shape.head_dim;
    std::vector<float> k(row), v(row);
    for (std::size_t t = 0; t < tokens; ++t) {
      const float key_size = 0.3f + 0.2f * static_cast<float>(random() % 8);
      const float value_size = random() % 16 == 0 ? 0.0f : 0.01f * static_cast<float>(random() % 100);
      for (float& x : k) x = draw() * key_size;
      for (float& x : v) x = draw() * value_size;
      store_kv(of, k.data(), v.data(), row, out.panels.data(), out.room, slot + t, 1);
    }
    if (turned && shape.rotary_dim != 0) {
      out.turn.resize(2 * rope.pairs());
      rope.cos_sin(-start, out.turn.data());
    }
    return out;
  }

  [[nodiscard]] kv_segment view(const segment_data& s) const {
    const kv_shape of = kv();
    const std::size_t tile = s.slot / panel_width;
    const auto floats = [&](std::size_t offset) {
      return reinterpret_cast<const float*>(s.panels.data() + offset) + tile * panel_width;
    };
    kv_segment out;
    out.keys = s.panels.data() + tile * of.key_tile();
    out.values = s.panels.data() + of.value_offset(0, s.room) + tile * of.value_tile();
    out.key_stride = of.key_panel(s.room);
    out.value_stride = of.value_panel(s.room);
    out.key_scales = floats(of.key_scale_offset(0, s.room));
    out.value_scales = floats(of.value_scale_offset(0, s.room));
    out.scale_stride = of.scales(s.room);
    out.tokens = s.tokens;
    out.start = s.start;
    out.turn = s.turn.empty() ? nullptr : s.turn.data();
    return out;
  }

  // What is stored: code * scale.
  [[nodiscard]] double key(const segment_data& s, std::size_t head, std::size_t t, std::size_t i) const {
    const kv_shape of = kv();
    const std::byte* base = s.panels.data();
    const auto code = static_cast<std::int8_t>(base[of.key_offset(head, s.room) + of.key_index(s.slot + t, i)]);
    return code * double{reinterpret_cast<const float*>(base + of.key_scale_offset(head, s.room))[s.slot + t]};
  }
  [[nodiscard]] double value(const segment_data& s, std::size_t head, std::size_t t, std::size_t i) const {
    const kv_shape of = kv();
    const std::byte* base = s.panels.data();
    const auto code = static_cast<std::int8_t>(base[of.value_offset(head, s.room) + of.value_index(s.slot + t, i)]);
    return code * double{reinterpret_cast<const float*>(base + of.value_scale_offset(head, s.room))[s.slot + t]};
  }
};

struct request {
  std::vector<float> queries, out;
  std::vector<std::int64_t> positions;
  std::vector<kv_segment> segments;
  std::size_t stride = 0;

  request(problem& p, std::int64_t first, std::size_t n, const std::vector<segment_data>& data, float size = 1.0f) {
    stride = std::size_t{p.shape.heads} * p.shape.head_dim + 3;
    queries.resize(n * stride);
    for (float& x : queries) x = p.draw() * size;
    for (std::size_t t = 0; t < n; ++t) positions.push_back(first + static_cast<std::int64_t>(t));
    out.assign(queries.size(), -77.0f);
    for (const segment_data& s : data) segments.push_back(p.view(s));
  }
  [[nodiscard]] attention_job job() {
    return {queries.data(), stride, positions.data(), positions.size(), segments, out.data(), stride};
  }
};

template <class Executor>
void run(const problem& p, std::vector<attention_job> jobs, Executor&& workers) {
  const std::size_t bytes = attend_scratch(workers.concurrency(), jobs, p.shape);
  std::vector<std::byte> scratch(bytes + 65, std::byte{0xff});
  attend(workers, jobs, p.shape, {scratch.data() + 1, bytes});
  for (std::size_t i = bytes + 1; i < scratch.size(); ++i) REQUIRE(scratch[i] == std::byte{0xff});
}

// The largest deviation from dense attention in double, relative to the largest stored value.
double error_of(const problem& p, const request& r, const std::vector<segment_data>& data) {
  const std::size_t d = p.shape.head_dim, group = p.shape.heads / p.shape.kv_heads, pairs = p.rope.pairs();
  double worst = 0, size = 0;
  std::vector<double> q(d), mean(d);
  for (std::size_t t = 0; t < r.positions.size(); ++t) {
    for (std::size_t h = 0; h < p.shape.heads; ++h) {
      std::vector<double> scores;
      std::vector<std::pair<const segment_data*, std::size_t>> keys;
      double top = -1e300;
      for (const segment_data& s : data) {
        for (std::size_t i = 0; i < d; ++i) q[i] = r.queries[t * r.stride + h * d + i];
        if (!s.turn.empty()) {  // by the angles of R(-start), in double
          for (std::size_t m = 0; m < pairs; ++m) {
            const std::size_t i = p.rope.layout == rope_layout::half_split ? m : 2 * m;
            const std::size_t j = p.rope.layout == rope_layout::half_split ? m + pairs : 2 * m + 1;
            const double angle = -static_cast<double>(s.start) * p.rope.per_position[m];
            const double x = q[i], y = q[j];
            q[i] = x * std::cos(angle) - y * std::sin(angle);
            q[j] = x * std::sin(angle) + y * std::cos(angle);
          }
        }
        for (std::size_t k = 0; k < s.tokens; ++k) {
          const std::int64_t at = s.start + static_cast<std::int64_t>(k);
          if (at > r.positions[t] || r.positions[t] - at >= p.shape.window) continue;
          double dot = 0;
          for (std::size_t i = 0; i < d; ++i) dot += q[i] * p.key(s, h / group, k, i);
          scores.push_back(dot * p.shape.scale);
          keys.emplace_back(&s, k);
          top = std::max(top, scores.back());
        }
      }
      std::fill(mean.begin(), mean.end(), 0.0);
      double sum = 0;
      for (std::size_t k = 0; k < keys.size(); ++k) {
        const double w = std::exp(scores[k] - top);
        sum += w;
        for (std::size_t i = 0; i < d; ++i) {
          const double v = p.value(*keys[k].first, h / group, keys[k].second, i);
          mean[i] += w * v;
          size = std::max(size, std::abs(v));
        }
      }
      for (std::size_t i = 0; i < d; ++i) {
        const double found = r.out[t * r.stride + h * d + i];
        REQUIRE(found == found);
        worst = std::max(worst, std::abs(found - (sum == 0 ? 0 : mean[i] / sum)));
      }
    }
    for (std::size_t i = std::size_t{p.shape.heads} * d; i < r.stride; ++i) REQUIRE(r.out[t * r.stride + i] == -77.0f);
  }
  return size == 0 ? worst : worst / size;
}

// Blocks end to end, then `tail` tokens whose queries are the request, stored from slot 16 of a larger buffer on.
std::vector<segment_data> lay(problem& p, const std::vector<std::size_t>& blocks, std::size_t tail) {
  std::vector<segment_data> out;
  std::int64_t start = 0;
  for (const std::size_t n : blocks) {
    out.push_back(p.segment(n, start, true));
    start += static_cast<std::int64_t>(n);
  }
  out.push_back(p.segment(tail, start, false, 16));
  return out;
}
double error_at(problem& p, const std::vector<std::size_t>& blocks, std::size_t tail) {
  const std::vector<segment_data> data = lay(p, blocks, tail);
  request r(p, data.back().start, tail, data);
  run(p, {r.job()}, inline_executor{});
  return error_of(p, r, data);
}

}  // namespace

TEST_CASE("int8 attention equals dense attention over the stored codes", "[attention][int8]") {
  const compute_type compute = GENERATE(compute_type::automatic, compute_type::f32, compute_type::many_rows);
  const rope_layout layout = GENERATE(rope_layout::half_split, rope_layout::interleaved);
  double worst = 0;
  for (const auto& blocks : std::vector<std::vector<std::size_t>>{
           {1}, {15}, {16}, {17}, {100}, {700}, {1, 15, 16, 17, 100, 7, 130}, {64, 0, 33}, {}}) {
    for (const std::size_t tail : {std::size_t{1}, std::size_t{3}, std::size_t{30}}) {
      problem p(8, 2, 64, compute, layout, 64);
      const double error = error_at(p, blocks, tail);
      INFO("blocks " << blocks.size() << " tail " << tail << " error " << error);
      CHECK(error < bound(compute));
      worst = std::max(worst, error);
    }
  }
  INFO("worst " << worst);
  CHECK(worst > 1e-8);  // rounding is there: the reference is not the kernel
}

TEST_CASE("int8: any even head size, any ratio of heads, partial rotation", "[attention][int8]") {
  const compute_type compute = GENERATE(compute_type::automatic, compute_type::f32, compute_type::many_rows);
  const rope_layout layout = GENERATE(rope_layout::half_split, rope_layout::interleaved);
  struct form {
    std::uint32_t heads, kv_heads, head_dim, rotary;
  };
  const form forms[] = {{1, 1, 2, 2},    {2, 1, 4, 2},     {3, 3, 6, 4},    {5, 1, 10, 10},  {6, 2, 14, 6},
                        {7, 1, 16, 16},  {4, 4, 18, 0},    {8, 1, 30, 30},  {13, 1, 34, 32}, {2, 2, 80, 80},
                        {3, 1, 96, 48},  {2, 1, 112, 112}, {4, 2, 128, 64}, {2, 1, 130, 130}, {2, 1, 254, 254},
                        {4, 1, 256, 256}, {64, 1, 8, 8}};
  for (const form& f : forms) {
    for (const std::size_t tail : {std::size_t{1}, std::size_t{21}}) {
      problem p(f.heads, f.kv_heads, f.head_dim, compute, layout, f.rotary);
      const double error = error_at(p, {45, 16, 3}, tail);
      INFO("heads " << f.heads << "/" << f.kv_heads << " d " << f.head_dim << " rotary " << f.rotary << " tail " << tail
                    << " error " << error);
      CHECK(error < bound(compute));
    }
  }
}

TEST_CASE("int8: windows by global distance", "[attention][int8]") {
  const compute_type compute = GENERATE(compute_type::automatic, compute_type::f32, compute_type::many_rows);
  for (const std::int64_t window : {1, 2, 15, 16, 17, 128, 129, 300}) {
    for (const std::size_t tail : {std::size_t{1}, std::size_t{40}}) {
      problem p(6, 2, 32, compute, rope_layout::half_split, 32, window);
      const double error = error_at(p, {100, 1, 200, 16, 31}, tail);
      INFO("window " << window << " tail " << tail << " error " << error);
      CHECK(error < bound(compute));
    }
  }
}

TEST_CASE("int8: output bits depend on the row alone", "[attention][int8]") {
  const compute_type compute = GENERATE(compute_type::automatic, compute_type::f32, compute_type::many_rows);
  const bool windowed = GENERATE(false, true);
  problem p(8, 2, 64, compute, rope_layout::half_split, 64, windowed ? 77 : everything);
  const std::vector<segment_data> a = lay(p, {500, 31, 700}, 60), b = lay(p, {}, 200), c = lay(p, {2500}, 2);
  request one(p, 1231, 60, a), two(p, 0, 200, b), three(p, 2500, 2, c);
  run(p, {one.job()}, inline_executor{});
  run(p, {two.job()}, inline_executor{});
  run(p, {three.job()}, inline_executor{});
  const auto first = one.out, second = two.out, third = three.out;
  const auto same = [](const std::vector<float>& x, const std::vector<float>& y) {
    return std::memcmp(x.data(), y.data(), x.size() * sizeof(float)) == 0;
  };
  for (const std::size_t n : {1u, 2u, 5u}) {
    one.out.assign(one.out.size(), -77.0f);
    two.out = std::vector<float>(two.out.size(), -77.0f);
    three.out.assign(three.out.size(), -77.0f);
    run(p, {three.job(), one.job(), two.job()}, blockattn_test::dealing_executor{n});
    CHECK(same(one.out, first));
    CHECK(same(two.out, second));
    CHECK(same(three.out, third));
  }
  for (const std::size_t piece : {5u, 11u, 29u}) {
    std::vector<float> out(one.out.size(), -77.0f);
    for (std::size_t t = 0; t < 60;) {
      std::size_t n = std::min<std::size_t>(piece, 60 - t);
      if (60 - t - n < 5) n = 60 - t;  // shorter jobs are cut by keys
      attention_job job = one.job();
      job.queries += t * one.stride;
      job.positions += t;
      job.tokens = n;
      job.out = out.data() + t * one.stride;
      run(p, {job}, inline_executor{});
      t += n;
    }
    CHECK(same(out, first));
  }
}

TEST_CASE("int8: a step whose weights differ by orders of magnitude", "[attention][int8]") {
  // One key takes nearly all, but its value is tiny: what the others weigh is then all that there is to see.
  const compute_type compute = GENERATE(compute_type::automatic, compute_type::many_rows);
  problem p(4, 1, 64, compute);
  const kv_shape of = p.kv();
  segment_data s;
  s.tokens = s.room = 1000;
  s.panels = aligned_buffer<>(of.layer_bytes(s.room));
  std::memset(s.panels.data(), 0, s.panels.size());
  std::vector<float> k(64), v(64);
  for (std::size_t t = 0; t < s.tokens; ++t) {
    for (std::size_t i = 0; i < 64; ++i) {
      k[i] = t == 5 ? 1.0f : 0.02f * p.draw();
      v[i] = t == 5 ? 1e-6f * p.draw() : p.draw();
    }
    store_kv(of, k.data(), v.data(), 64, s.panels.data(), s.room, t, 1);
  }
  std::vector<segment_data> data;
  data.push_back(std::move(s));
  request r(p, 999, 1, data);
  std::fill(r.queries.begin(), r.queries.end(), 1.0f);  // a score of 8 for key 5, of about 0 for the others
  run(p, {r.job()}, inline_executor{});
  CHECK(error_of(p, r, data) < (uses_tile_registers(dtype::i8, compute) ? 2e-3 : 1e-5));
}

TEST_CASE("int8: scores over a wide range", "[attention][int8]") {
  const compute_type compute = GENERATE(compute_type::automatic, compute_type::f32, compute_type::many_rows);
  problem p(4, 2, 64, compute, rope_layout::half_split, 64);
  std::vector<segment_data> data;
  for (std::int64_t i = 0; i < 6; ++i) data.push_back(p.segment(150, 150 * i, true));
  request r(p, 900, 30, data, 40.0f);
  run(p, {r.job()}, inline_executor{});
  const double error = error_of(p, r, data);
  INFO("error " << error);
  CHECK(error < 40 * bound(compute));  // scores of some hundreds: 40 times the error
}

TEST_CASE("int8: what is not visible changes nothing", "[attention][int8]") {
  const compute_type compute = GENERATE(compute_type::automatic, compute_type::f32, compute_type::many_rows);
  problem p(4, 2, 32, compute, rope_layout::half_split, 32, 400);
  std::vector<segment_data> data = lay(p, {300, 200, 210}, 40);
  data.push_back(p.segment(100, 1650, true));
  request clean(p, 710, 40, data);
  run(p, {clean.job()}, inline_executor{});
  REQUIRE(error_of(p, clean, data) < bound(compute));
  // Every byte, scales included, which become NaN: before the window and after the last query.
  std::memset(data.front().panels.data(), 0xff, data.front().panels.size());
  std::memset(data.back().panels.data(), 0xff, data.back().panels.size());
  request dirty(p, 710, 40, data);
  dirty.queries = clean.queries;
  run(p, {dirty.job()}, blockattn_test::dealing_executor{2});
  CHECK(std::memcmp(dirty.out.data(), clean.out.data(), clean.out.size() * sizeof(float)) == 0);
}

TEST_CASE("int8: a value that is not finite shows", "[attention][int8]") {
  problem p(2, 1, 32, GENERATE(compute_type::automatic, compute_type::f32, compute_type::many_rows));
  const kv_shape of = p.kv();
  std::vector<segment_data> data;
  data.push_back(p.segment(40, 0, false));
  std::vector<float> k(32, 0.1f), v(32, 1.0f);
  v[3] = std::numeric_limits<float>::infinity();
  store_kv(of, k.data(), v.data(), 32, data[0].panels.data(), data[0].room, 20, 1);
  request r(p, 39, 1, data);
  run(p, {r.job()}, inline_executor{});
  CHECK(r.out[0] != r.out[0]);
}
