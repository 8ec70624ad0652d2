// SPDX-License-Identifier: MIT
// The kernels alone, on arrays of your own: no model, no session, no store. Checked against loops in double.
#include <blockattn/core/memory.hpp>
#include <blockattn/kernel/attention.hpp>
#include <blockattn/kernel/gemm.hpp>
#include <blockattn/kernel/pack.hpp>
#include <blockattn/kernel/rope.hpp>

#include <cmath>
#include <cstdio>
#include <numeric>
#include <vector>

namespace ba = blockattn;
int main() {
  constexpr std::size_t d = 32, passage = 50, asked = 3;  // one head of 32 dims; 50 keys, 3 queries
  constexpr std::int64_t start = 1000;                    // where the passage stands in the sequence
  ba::inline_executor workers;                            // thread_executor(8) for eight workers
  std::vector<float> k(passage * d), v(k), q(asked * d), out(q), y(asked * passage);
  for (std::size_t i = 0; i < k.size(); ++i) k[i] = std::sin(0.7f * float(i)), v[i] = std::cos(0.3f * float(i));
  for (std::size_t i = 0; i < q.size(); ++i) q[i] = std::sin(1.1f * float(i) + 1);
  const auto plain_k = k, plain_q = q;
  // region: body
  // 1. Rotate rows to positions: keys to those of their own passage, 0..49, whatever stands before it later on.
  const auto rope = ba::make_frequencies({.theta = 10000, .rotary_dim = d}).value();
  std::vector<float> table(ba::table_floats(rope));
  std::vector<std::int64_t> local(passage), positions{start + 50, start + 51, start + 52};
  std::iota(local.begin(), local.end(), 0);
  ba::rotate({k.data(), passage, d}, 1, local, rope, table);
  ba::rotate({q.data(), asked, d}, 1, positions, rope, table);

  // 2. Put keys and values into panels, the layout that kernels read. Rounded once if the type is bf16.
  const ba::kv_shape kv{.layers = 1, .kv_heads = 1, .head_dim = d, .type = ba::dtype::f32};
  ba::aligned_buffer<> panels(kv.layer_bytes(passage));
  ba::store_kv(kv, k.data(), v.data(), d, panels.data(), passage, 0, passage);
  ba::zero_kv_padding(kv, panels.data(), passage, passage);  // kernels read whole tiles of 16 keys

  // 3. Attend. The keys stay as they are: R(-start) turns the queries, which puts the passage at `start`.
  rope.cos_sin(-start, table.data());
  const ba::kv_segment segment{.keys = panels.data() + kv.key_offset(0, passage),
                               .values = panels.data() + kv.value_offset(0, passage),
                               .tokens = passage, .start = start, .turn = table.data()};
  const ba::attention_job job{.queries = q.data(), .query_stride = d, .positions = positions.data(), .tokens = asked,
                              .segments = {&segment, 1}, .out = out.data(), .out_stride = d};
  const ba::attention_shape shape{.heads = 1, .kv_heads = 1, .head_dim = d, .type = ba::dtype::f32,
                                  .scale = 1 / std::sqrt(float(d)), .rotary_dim = d};
  std::vector<std::byte> scratch(ba::attend_scratch(workers.concurrency(), {&job, 1}, shape));
  ba::attend(workers, {&job, 1}, shape, scratch);

  // 4. Project: y = x W^T with repacked weights; here the rows of W are those of v.
  ba::packed_matrix w{.type = ba::dtype::f32, .rows = passage, .cols = d};
  ba::aligned_buffer<> packed(w.bytes());
  ba::pack_weights(workers, w, packed.data(), 0, ba::dtype::f32, reinterpret_cast<const std::byte*>(v.data()), passage);
  w.data = packed.data();
  ba::aligned_buffer<> work(ba::project_scratch(workers.concurrency(), w, ba::compute_type::f32, asked));
  ba::project(workers, w, ba::compute_type::f32, out.data(), d, asked, y.data(), passage, work.bytes());
  // endregion: body
  double worst = 0;
  for (std::size_t r = 0; r < asked; ++r) {
    std::vector<double> o(d), weight(passage);
    for (std::size_t t = 0; t < passage; ++t) {
      double score = 0;  // of the query at positions[r] and the key at start + t: only their distance counts
      for (std::size_t m = 0; m < d / 2; ++m) {
        const double angle = double(positions[r] - start - std::int64_t(t)) * std::pow(10000.0, -2.0 * double(m) / d);
        const double a = plain_q[r * d + m], b = plain_q[r * d + m + d / 2], c = std::cos(angle), s = std::sin(angle);
        score += (a * c - b * s) * plain_k[t * d + m] + (a * s + b * c) * plain_k[t * d + m + d / 2];
      }
      weight[t] = std::exp(score / std::sqrt(double(d)));
    }
    const double sum = std::accumulate(weight.begin(), weight.end(), 0.0);
    for (std::size_t t = 0; t < passage; ++t)
      for (std::size_t i = 0; i < d; ++i) o[i] += weight[t] / sum * v[t * d + i];
    for (std::size_t i = 0; i < d; ++i) worst = std::max(worst, std::abs(o[i] - out[r * d + i]));
    for (std::size_t n = 0; n < passage; ++n)
      worst = std::max(worst, std::abs(std::inner_product(o.begin(), o.end(), &v[n * d], 0.0) - y[r * passage + n]));
  }
  std::printf("attention and a projection on plain arrays: largest difference from loops in double %.1e\n", worst);
  return worst < 1e-4 ? 0 : 1;
}
