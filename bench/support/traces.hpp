// SPDX-License-Identifier: MIT
/// Requests for passages, as caches are tested with: which passage comes when, how long it is, what encoding it costs.
#pragma once

#include <algorithm>
#include <blockattn/cache/block.hpp>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <sstream>
#include <string>
#include <vector>

namespace traces {

namespace ba = blockattn;

struct passage {
  std::size_t bytes = 0;         // of its block
  std::uint64_t encode_ns = 0;
};
struct trace {
  std::string name;
  std::vector<passage> passages;
  std::vector<std::uint32_t> asked;  // passages, in order
};

/// A block of a Llama of 1B parameters (16 layers, 8 KV heads of 64, bf16), and what encoding it costs at 200 GFLOP/s:
/// 2 flops a weight and token, and 2 for each pair of tokens, layer and dim of the causal attention.
inline passage of_tokens(std::size_t tokens) {
  constexpr double weights = 0.97e9, layers = 16, dim = 2048, flops_per_ns = 200;
  const double n = static_cast<double>(tokens);
  const double flops = 2 * weights * n + 2 * layers * dim * n * n;
  return {ba::kv_block::bytes_for({16, 8, 64, ba::dtype::bf16}, tokens), static_cast<std::uint64_t>(flops / flops_per_ns)};
}

/// Lengths as passages have them: about 150 tokens, some of thousands.
inline std::vector<passage> some_passages(std::size_t n, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::lognormal_distribution<double> length(5.0, 0.9);
  std::vector<passage> out(n);
  for (passage& p : out) p = of_tokens(static_cast<std::size_t>(std::clamp(length(random), 16.0, 8192.0)));
  return out;
}

/// Draws 0..n-1 with weights 1/(rank+1)^exponent.
class zipf {
 public:
  zipf(std::size_t n, double exponent) : sum_(n) {
    double sum = 0;
    for (std::size_t i = 0; i < n; ++i) sum_[i] = sum += std::pow(static_cast<double>(i + 1), -exponent);
  }
  std::uint32_t operator()(std::mt19937& random) {
    const double x = std::uniform_real_distribution<double>(0, sum_.back())(random);
    return static_cast<std::uint32_t>(std::upper_bound(sum_.begin(), sum_.end() - 1, x) - sum_.begin());
  }

 private:
  std::vector<double> sum_;
};

inline trace zipf_trace(std::size_t passages, std::size_t requests, double exponent, const std::string& name) {
  trace t{name, some_passages(passages, 1), {}};
  std::mt19937 random(2);
  zipf draw(passages, exponent);
  for (std::size_t i = 0; i < requests; ++i) t.asked.push_back(draw(random));
  return t;
}

/// Zipf with a walk through passages that come once, every so often: an indexing job beside users.
inline trace scan_trace(std::size_t passages, std::size_t requests) {
  trace t{"zipf 0.8 + scans", some_passages(passages + requests, 1), {}};
  std::mt19937 random(3);
  zipf draw(passages, 0.8);
  std::uint32_t fresh = static_cast<std::uint32_t>(passages);
  while (t.asked.size() < requests) {
    for (int i = 0; i < 2000; ++i) t.asked.push_back(draw(random));
    for (int i = 0; i < 1000; ++i) t.asked.push_back(fresh++);
  }
  t.asked.resize(requests);
  return t;
}

inline trace loop_trace(std::size_t passages, std::size_t requests) {
  trace t{"loop", some_passages(passages, 1), {}};
  for (std::size_t i = 0; i < requests; ++i) t.asked.push_back(static_cast<std::uint32_t>(i % passages));
  return t;
}

/// Questions over the passages of a file of questions (MuSiQue's or HotpotQA's form): three of four from those that are
/// asked often, the others at random; each asks for all its passages. Tokens are words times 1.35. None if there is no
/// such file.
inline std::optional<trace> rag_trace(const std::string& folder, std::size_t requests) {
  trace t{"questions", {}, {}};
  std::map<std::string, std::uint32_t> known;
  std::vector<std::vector<std::uint32_t>> questions;
  const auto add = [&](const std::string& text) {
    const auto [at, fresh] = known.emplace(text, static_cast<std::uint32_t>(t.passages.size()));
    if (fresh) {
      std::istringstream words(text);
      std::string word;
      std::size_t n = 0;
      while (words >> word) ++n;
      t.passages.push_back(of_tokens(n * 135 / 100 + 8));
    }
    questions.back().push_back(at->second);
  };
  for (const char* file : {"musique-100.json", "hotpotqa-100.json"}) {
    std::ifstream in(folder + "/" + file);
    if (!in) return std::nullopt;
    const auto all = nlohmann::json::parse(in, nullptr, false);
    if (!all.is_array()) return std::nullopt;
    for (const auto& q : all) {
      questions.emplace_back();
      if (q.contains("paragraphs"))
        for (const auto& p : q["paragraphs"]) add(p["paragraph_text"].get<std::string>());
      else
        for (const auto& p : q["context"]) {
          std::string text = p[0].get<std::string>();
          for (const auto& sentence : p[1]) text += " " + sentence.get<std::string>();
          add(text);
        }
    }
  }
  std::mt19937 random(4);
  std::shuffle(questions.begin(), questions.end(), random);
  zipf often(questions.size(), 0.9);
  while (t.asked.size() < requests) {
    const std::size_t q = random() % 4 != 0 ? often(random) : random() % questions.size();
    t.asked.insert(t.asked.end(), questions[q].begin(), questions[q].end());
  }
  return t;
}

}  // namespace traces
