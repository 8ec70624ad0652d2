// SPDX-License-Identifier: MIT
// Steps of training: tokens a second and the share of the float peak measured in the same run. Counted are the operations
// that the gradient needs (6 for each weight and token, 12 for each dim of a head and pair of query and key that sees it);
// what is computed a second time on the way back counts as nothing. A loss that does not fall fails the benchmark.
//
// And products at the shapes of the small model on one core, beside Eigen's on the same parts of the rows.
//
//     train_bench --benchmark_filter=small/block
//     train_bench --benchmark_filter=product
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include <blockattn/core/thread_executor.hpp>
#include <blockattn/train/trainer.hpp>

#define EIGEN_DONT_PARALLELIZE
#include <Eigen/Core>

#include "support/peak.hpp"

namespace ba = blockattn;

namespace {

struct shape {
  const char* name;
  std::uint32_t layers, dim, heads, kv_heads, head_dim, ffn, vocab;
  std::size_t samples;
};
// The model that the demo ships, one of twice its weights, and one of 100 million.
constexpr shape shapes[] = {{"shipped", 6, 128, 4, 4, 32, 384, 1655, 2},
                            {"small", 6, 192, 6, 2, 32, 512, 1500, 3},
                            {"100m", 12, 768, 12, 4, 64, 2048, 32000, 1}};

ba::model_config config_of(const shape& s) {
  ba::model_config c;
  c.layers = s.layers;
  c.dim = s.dim;
  c.heads = s.heads;
  c.kv_heads = s.kv_heads;
  c.head_dim = s.head_dim;
  c.ffn = s.ffn;
  c.vocab = s.vocab;
  c.rope.rotary_dim = s.head_dim;
  c.tied_embeddings = true;
  return c;
}

// Ten passages of 100 tokens and sixteen questions of 16; the loss is on every token.
ba::training_sample sample_of(const shape& s, std::uint64_t seed) {
  ba::training_sample out;
  const auto run = [&](std::size_t n, std::vector<std::uint32_t>& ends) {
    for (std::size_t i = 0; i < n; ++i) {
      std::uint64_t x = (seed * 4096 + out.ids.size() + 1) * 0x9e3779b97f4a7c15u;
      x = (x ^ (x >> 29)) * 0xbf58476d1ce4e5b9u;
      out.ids.push_back(static_cast<ba::token>((x >> 33) % s.vocab));
      out.weights.push_back(1.0f);
    }
    ends.push_back(static_cast<std::uint32_t>(out.ids.size()));
  };
  for (int b = 0; b < 10; ++b) run(100, out.block_ends);
  for (int b = 0; b < 16; ++b) run(16, out.branch_ends);
  return out;
}

double needed_operations(const ba::model_config& c, std::size_t weights, const std::vector<ba::training_item>& items) {
  ba::training_batch batch;
  for (const auto& item : items) batch.add(item);
  double pairs = 0;
  for (const ba::packed_sample& s : batch.samples)
    for (std::size_t g = s.first_group; g < s.last_group; ++g) {
      const auto n = static_cast<double>(batch.groups[g].rows.size());
      pairs += n * (n + 1) / 2 + (batch.groups[g].sees_context ? n * static_cast<double>(s.context.size()) : 0);
    }
  return 6 * static_cast<double>(weights) * static_cast<double>(batch.rows()) + 12.0 * c.head_dim * c.heads * c.layers * pairs;
}

void step(benchmark::State& state, const shape& s, ba::mask_mode mode, std::size_t threads, ba::product_type type) {
  ba::thread_executor workers(threads);
  const ba::model_config c = config_of(s);
  auto run = ba::trainer<>::make(ba::parameters<>::random(c, 1).value(), {.lr = 1e-3, .products = type}, workers).value();
  std::vector<ba::training_sample> samples;
  for (std::size_t i = 0; i < s.samples; ++i) samples.push_back(sample_of(s, i));
  std::vector<ba::training_item> items;
  for (const auto& sample : samples) items.push_back({&sample, mode});

  const double operations = needed_operations(c, run.parameters().count(), items);
  double peak = bench::fma_peak(workers), first = 0, last = 0, best = 1e30;
  std::uint64_t tokens = 0;
  for (auto _ : state) {
    const double begin = bench::seconds();
    const auto report = run.step(items).value();
    best = std::min(best, bench::seconds() - begin);
    last = report.loss_sum / report.weight_sum;
    tokens = report.tokens;
    if (first == 0) first = last;
  }
  if (!(std::abs(first - std::log(static_cast<double>(c.vocab))) < 0.5) || !(last <= first)) {
    state.SkipWithError("the loss does not fall from log(vocab)");
    return;
  }
  peak = std::max(peak, bench::fma_peak(workers));
  state.counters["tok/s"] = static_cast<double>(tokens) / best;
  state.counters["GFLOP/s"] = operations / best * 1e-9;
  state.counters["peak"] = peak;
  state.counters["share"] = operations / best * 1e-9 / peak;
  state.counters["weights"] = static_cast<double>(run.parameters().count());
  state.counters["MB"] = static_cast<double>(ba::activation_bytes(c, tokens)) * 1e-6;
}

// C (m, n) = A B over depth k: activations by weights (B transposed), gradients by weights, or gradients by activations (A
// transposed).
struct product_case {
  const char* name;
  std::size_t m, n, k;
  bool a_transposed, b_transposed;
};
constexpr product_case products[] = {{"qkv", 3768, 320, 192, false, true},    {"gate_up", 3768, 1024, 192, false, true},
                                     {"down", 3768, 192, 512, false, true},   {"d_normed", 3768, 192, 1024, false, false},
                                     {"d_gate_up", 1024, 192, 3768, true, false}, {"d_down", 192, 512, 3768, true, false},
                                     {"d_qkv", 320, 192, 3768, true, false}};

void product(benchmark::State& state, const product_case& p) {
  using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const auto at = [](std::size_t n) { return static_cast<Eigen::Index>(n); };
  const matrix a = p.a_transposed ? matrix::Random(at(p.k), at(p.m)) : matrix::Random(at(p.m), at(p.k));
  const matrix b = p.b_transposed ? matrix::Random(at(p.n), at(p.k)) : matrix::Random(at(p.k), at(p.n));
  matrix ours(at(p.m), at(p.n)), theirs(at(p.m), at(p.n));
  ba::inline_executor alone;
  ba::growing_array<float> space;
  const double operations = 2e-9 * static_cast<double>(p.m * p.n * p.k);
  double peak = bench::fma_peak(alone), time = 1e30, eigen = 1e30;
  for (auto _ : state) {
    double begin = bench::seconds();
    ba::multiply<float>(alone, space, {a.data(), static_cast<std::size_t>(a.cols()), p.a_transposed},
                        {b.data(), static_cast<std::size_t>(b.cols()), p.b_transposed}, p.m, p.n, p.k, ours.data(), p.n);
    time = std::min(time, bench::seconds() - begin);
    begin = bench::seconds();
    for (std::size_t r = 0; r < p.m; r += 128) {
      const auto first = at(r), rows = at(std::min<std::size_t>(128, p.m - r));
      auto to = theirs.middleRows(first, rows);
      if (p.a_transposed) to.noalias() = a.middleCols(first, rows).transpose() * b;
      else if (p.b_transposed) to.noalias() = a.middleRows(first, rows) * b.transpose();
      else to.noalias() = a.middleRows(first, rows) * b;
    }
    eigen = std::min(eigen, bench::seconds() - begin);
  }
  if (!((ours - theirs).cwiseAbs().maxCoeff() < 1e-2f)) return state.SkipWithError("products differ");
  peak = std::max(peak, bench::fma_peak(alone));
  state.counters["GFLOP/s"] = operations / time;
  state.counters["share"] = operations / time / peak;
  state.counters["eigen"] = operations / eigen;
}

}  // namespace

int main(int argc, char** argv) {
  for (const shape& s : shapes)
    for (const ba::mask_mode mode : {ba::mask_mode::full, ba::mask_mode::block})
      for (const ba::product_type type : {ba::product_type::f32, ba::product_type::bf16})
        for (const std::size_t threads : {std::size_t{1}, std::size_t{2}})
          benchmark::RegisterBenchmark((std::string(s.name) + "/" + std::string(to_string(mode)) + "/" +
                                        std::string(to_string(type)) + "/threads:" + std::to_string(threads))
                                           .c_str(),
                                       [=](benchmark::State& state) { step(state, s, mode, threads, type); })
              ->Iterations(s.layers < 12 ? 8 : 2)
              ->Unit(benchmark::kMillisecond)
              ->UseRealTime();
  for (const product_case& p : products)
    benchmark::RegisterBenchmark((std::string("product/") + p.name).c_str(),
                                 [p](benchmark::State& state) { product(state, p); })
        ->Iterations(8);
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
