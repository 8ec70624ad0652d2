// SPDX-License-Identifier: MIT
// Tile registers: the chain of kernel/tile_amx.hpp bit by bit against its description, projections and attention on them
// against the vector registers and against double. Says so where the build or the machine has none.
#include <blockattn/kernel/attention.hpp>
#include <blockattn/kernel/gemm.hpp>
#include <blockattn/kernel/pack.hpp>

#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "blockattn/core/memory.hpp"
#include "support/catch.hpp"
#include "support/executors.hpp"

namespace ba = blockattn;

#if BLOCKATTN_HAS_AMX

namespace {

bool has_tiles() {
  if (ba::amx_granted()) return true;
  WARN("skipped: the system grants no tile registers");
  return false;
}

struct source {
  std::mt19937 gen{11};
  float next() { return static_cast<float>(static_cast<double>(gen()) / 2147483648.0 - 1.0); }
};

// The chain as simd/amx.hpp states it.
float chain(const ba::bf16* row, const ba::bf16* panel, std::size_t step_stride, std::size_t steps, float sum) {
  for (std::size_t first = 0; first < steps; first += ba::amx_steps) {
    float even = 0, odd = 0;
    for (std::size_t s = first; s < std::min(steps, first + ba::amx_steps); ++s) {
      even = std::fma(ba::widen(row[2 * s]), ba::widen(panel[s * step_stride]), even);
      odd = std::fma(ba::widen(row[2 * s + 1]), ba::widen(panel[s * step_stride + 1]), odd);
    }
    sum += even + odd;
  }
  return sum;
}

// y = x W^T of random operands, by one of the two kinds of registers.
struct product {
  ba::packed_matrix w;
  ba::aligned_buffer<> bytes;
  std::vector<float> x;
  std::size_t rows;

  product(std::size_t m, std::size_t k, std::size_t n) : w{nullptr, ba::dtype::bf16, n, k}, bytes(w.bytes()), rows(m) {
    source random;
    std::vector<float> dense(n * k);
    for (float& v : dense) v = random.next();
    x.resize(m * k);
    for (float& v : x) v = random.next();
    ba::inline_executor alone;
    ba::pack_weights(alone, w, bytes.data(), 0, ba::dtype::f32, reinterpret_cast<const std::byte*>(dense.data()), n);
    w.data = bytes.data();
  }
  [[nodiscard]] std::vector<float> run(ba::executor_ref workers, std::size_t first, std::size_t n,
                                       std::size_t y_stride) const {
    ba::aligned_buffer<> outputs(n * y_stride * sizeof(float));  // aligned, as outputs must be to be written by the line
    float* const y = reinterpret_cast<float*>(outputs.data());
    std::fill_n(y, n * y_stride, -7.0f);
    ba::aligned_buffer<> scratch(ba::project_scratch(workers.concurrency(), w, ba::compute_type::automatic, n));
    std::memset(scratch.data(), 0xff, scratch.size());  // NaN wherever something is read before it is written
    ba::project(workers, w, ba::compute_type::automatic, x.data() + first * w.cols, w.cols, n, y, y_stride,
                scratch.bytes());
    return {y, y + n * y_stride};
  }
};

}  // namespace

TEST_CASE("a product of tiles is the chain that is stated, in every bit", "[amx]") {
  if (!has_tiles()) return;
  for (const std::size_t rows : {1u, 2u, 15u, 16u, 17u, 25u, 31u, 32u})
    for (const std::size_t groups : {1u, 2u, 3u, 4u, 5u, 7u})
      for (const std::size_t steps : {1u, 8u, 16u, 40u})
        for (const bool values : {false, true})
          for (const unsigned how : {0u, 1u, 2u, 3u}) {
            const bool accumulate = how % 2 != 0, near = how / 2 != 0;
            if (near && rows <= 16) continue;
            INFO("rows " << rows << " groups " << groups << " steps " << steps << " values " << values << " accumulate "
                         << accumulate << " near " << near);
            source random;
            const std::size_t stride = ba::round_up(2 * steps, ba::amx_depth);
            const std::size_t step_stride = values ? groups * 32 : 32, group_stride = values ? 32 : steps * 32;
            std::vector<ba::bf16> left(rows * stride), panel(groups * steps * 32);
            for (std::size_t r = 0; r < rows; ++r)
              for (std::size_t k = 0; k < 2 * steps; ++k) left[r * stride + k] = ba::to_bf16(random.next());
            for (ba::bf16& v : panel) v = ba::to_bf16(random.next());
            const std::size_t out_stride = groups * 16 + 3;
            std::vector<float> out(rows * out_stride);
            for (float& v : out) v = random.next();
            const std::vector<float> start = out;
            ba::amx_operands o;
            o.rows = left.data();
            o.row_stride = stride;
            o.panel = panel.data();
            o.step_stride = step_stride;
            o.group_stride = group_stride;
            o.steps = steps;
            o.out = out.data();
            o.out_stride = out_stride;
            o.accumulate = accumulate;
            o.near = near;
            {
              const ba::amx_tiles shape(rows);
              ba::amx_multiply(rows, groups, o);
            }
            std::size_t wrong = 0;
            for (std::size_t r = 0; r < rows; ++r)
              for (std::size_t c = 0; c < out_stride; ++c) {
                const float was = start[r * out_stride + c];
                const float expected = c >= groups * 16 ? was
                                                        : chain(&left[r * stride],
                                                                &panel[c / 16 * group_stride + c % 16 * 2], step_stride,
                                                                steps, accumulate ? was : 0.0f);
                wrong += out[r * out_stride + c] != expected ? 1u : 0u;
              }
            CHECK(wrong == 0);
          }
}

TEST_CASE("projections on tiles: the bound, and one chain for any rows and workers", "[amx]") {
  if (!has_tiles()) return;
  struct shape {
    std::size_t m, k, n;
  };
  for (const shape s : {shape{1, 1, 1}, shape{3, 33, 17}, shape{16, 64, 64}, shape{17, 70, 95}, shape{33, 2085, 49},
                        shape{65, 31, 130}, shape{300, 64, 33}, shape{97, 300, 64}, shape{100, 2085, 80},
                        shape{290, 4200, 49}, shape{520, 2200, 43}}) {
    INFO("M " << s.m << " K " << s.k << " N " << s.n);
    const product p(s.m, s.k, s.n);
    ba::inline_executor alone;
    const std::size_t stride = s.n % 16 == 0 ? s.n + 16 : s.n + 5;
    const auto y = p.run(alone, 0, s.m, stride);

    // What a process does that is refused tile registers.
    std::vector<float> vectors(s.m * stride);
    const ba::isa_detail::projection_plan<ba::bf16, ba::bf16> plan(p.w, s.m);
    ba::aligned_buffer<> scratch(plan.scratch_bytes());
    ba::isa_detail::project_as<ba::bf16, ba::bf16>(alone, p.w, p.x.data(), s.k, s.m, vectors.data(), stride,
                                                   scratch.bytes());

    std::vector<float> weights(s.k);
    std::size_t outside = 0, touched = 0;
    for (std::size_t j = 0; j < s.n; ++j) {
      ba::gather_row(p.w, j, weights.data());
      for (std::size_t i = 0; i < s.m; ++i) {
        double exact = 0, size = 0;
        for (std::size_t k = 0; k < s.k; ++k) {
          const double t = static_cast<double>(ba::widen(ba::to_bf16(p.x[i * s.k + k]))) * static_cast<double>(weights[k]);
          exact += t;
          size += std::abs(t);
        }
        const double bound = 1.01 * static_cast<double>(s.k) * 0x1p-24 * size + 1e-37;
        for (const float out : {y[i * stride + j], vectors[i * stride + j]})
          outside += std::abs(static_cast<double>(out) - exact) <= bound ? 0u : 1u;
      }
    }
    for (std::size_t i = 0; i < s.m; ++i)
      for (std::size_t j = s.n; j < stride; ++j) touched += y[i * stride + j] != -7.0f ? 1u : 0u;
    CHECK(outside == 0);
    CHECK(touched == 0);

    for (const std::size_t workers : {2u, 5u}) {
      blockattn_test::dealing_executor pool{workers};
      const auto again = p.run(pool, 0, s.m, stride);
      CHECK(std::memcmp(again.data(), y.data(), y.size() * sizeof(float)) == 0);
    }
    // The first and the last rows alone, and all but one.
    for (const std::size_t n : {std::size_t{1}, std::min<std::size_t>(s.m, 4), std::max<std::size_t>(s.m - 1, 1)})
      for (const std::size_t first : {std::size_t{0}, s.m - n}) {
        const auto part = p.run(alone, first, n, stride);
        CHECK(std::memcmp(part.data(), y.data() + first * stride, n * stride * sizeof(float)) == 0);
      }
  }
}

TEST_CASE("attention on tiles agrees with attention on vectors", "[amx]") {
  if (!has_tiles()) return;
  using tile_rows_of = ba::isa_detail::task_rows<ba::bf16, ba::register_tiles>;
  using vector_rows_of = ba::isa_detail::task_rows<ba::bf16, ba::vector_tiles<ba::bf16, ba::bf16>>;
  for (const std::uint32_t d : {64u, 80u, 18u, 128u}) {
    ba::attention_shape shape;
    shape.heads = 6;
    shape.kv_heads = 2;
    shape.head_dim = d;
    shape.scale = 1.0f / std::sqrt(static_cast<float>(d));
    shape.type = ba::dtype::bf16;
    const ba::kv_shape kv{1, 2, d, ba::dtype::bf16};
    source random;
    const std::size_t width = std::size_t{shape.heads} * d, kv_width = std::size_t{shape.kv_heads} * d;
    std::vector<ba::aligned_buffer<>> layers;
    std::vector<ba::kv_segment> segments;
    std::int64_t start = 0;
    for (const std::size_t n : {150u, 17u, 49u}) {
      std::vector<float> k(n * kv_width), v(n * kv_width);
      for (float& x : k) x = 2 * random.next();
      for (float& x : v) x = random.next();
      layers.emplace_back(kv.layer_bytes(n));
      ba::store_kv(kv, k.data(), v.data(), kv_width, layers.back().data(), n, 0, n);
      ba::zero_kv_padding(kv, layers.back().data(), n, n);
      ba::kv_segment s;
      s.keys = layers.back().data();
      s.values = layers.back().data() + kv.value_offset(0, n);
      s.key_stride = kv.key_panel(n) * 2;
      s.value_stride = kv.value_panel(n) * 2;
      s.tokens = n;
      s.start = start;
      start += static_cast<std::int64_t>(n);
      segments.push_back(s);
    }
    for (const std::size_t tokens : {1u, 7u, 49u}) {
      INFO("head size " << d << ", " << tokens << " tokens");
      std::vector<float> queries(tokens * width);
      for (float& x : queries) x = 2 * random.next();
      std::vector<std::int64_t> positions(tokens);
      for (std::size_t i = 0; i < tokens; ++i) positions[i] = start - static_cast<std::int64_t>(tokens - i);
      const auto run = [&]<class Rows>(std::type_identity<Rows>, std::size_t first, std::size_t n, std::size_t workers) {
        std::vector<float> out(n * width);
        const ba::attention_job job{queries.data() + first * width, width, positions.data() + first, n, segments,
                                    out.data(), width};
        const std::span<const ba::attention_job> jobs(&job, 1);
        ba::aligned_buffer<> scratch((std::size_t{1} << 23) * workers);
        std::memset(scratch.data(), 0xff, scratch.size());  // NaN wherever something is read before it is written
        blockattn_test::dealing_executor pool{workers};
        ba::isa_detail::attend_tasks<Rows>(pool, jobs, shape, scratch.data());
        return out;
      };
      const auto tiles = run(std::type_identity<tile_rows_of>{}, 0, tokens, 1);
      const auto vectors = run(std::type_identity<vector_rows_of>{}, 0, tokens, 1);
      float worst = 0;
      for (std::size_t i = 0; i < tiles.size(); ++i) {
        const float distance = std::abs(tiles[i] - vectors[i]);
        worst = distance <= worst ? worst : distance;  // a NaN is the worst
      }
      CHECK(worst <= 4e-3f);  // one unit of bf16 in single weights, where a score falls on the other side of a tie
      const auto two = run(std::type_identity<tile_rows_of>{}, 0, tokens, 2);
      CHECK(std::memcmp(two.data(), tiles.data(), tiles.size() * sizeof(float)) == 0);
      // Rows have the same bits beside others (above four tokens, below which keys are cut in parts).
      if (tokens > 2 * ba::few_tokens) {
        const std::size_t n = ba::few_tokens + 1;
        const auto part = run(std::type_identity<tile_rows_of>{}, tokens - n, n, 1);
        CHECK(std::memcmp(part.data(), tiles.data() + (tokens - n) * width, n * width * sizeof(float)) == 0);
      }
    }
  }
}

#else

TEST_CASE("a build without tile registers says which instruction set it is for", "[amx]") {
  CHECK(std::string(ba::isa_name()) != "x86_64_v4_amx");
}

#endif
