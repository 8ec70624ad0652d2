// SPDX-License-Identifier: MIT
/// Lessons before the worlds: a few sentences with a fact each and nothing else, for a learner that cannot look anything
/// up yet.
///
/// A model from scratch finds the way from a question to its answer in three steps: gather the word that is asked for,
/// find it in the passages, read what stands beside it. Together they are learned after hundreds of thousands of
/// questions or not at all; one after another in minutes. So a first lesson gives a word alone and wants the other end of
/// its fact; the next one asks in words.
#pragma once

#include <algorithm>
#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "world.hpp"

namespace worlds {

/// The n-th lesson of a seed: a world of one passage with `sentences` facts at most, no word in two of them.
[[nodiscard]] inline world make_lesson(std::uint64_t seed, std::uint64_t n, std::size_t sentences,
                                       std::size_t questions = 14) {
  random r(seed ^ 0x6c6573736f6eu, n);
  world from = make_world(seed, n, {.level = 2});
  r.shuffle(from.facts);
  world out;
  std::set<std::string> words;
  passage p{"Notes", ""};
  for (fact& f : from.facts) {
    if (out.facts.size() == sentences) break;
    // A count is no word of its own: "five" may stand in many facts.
    if (f.how != mention::name || f.what == relation::keeps || f.what == relation::has) continue;
    std::vector<std::string> its{f.subject, f.object};
    if (!f.extra.empty()) its.push_back(f.extra);
    if (std::any_of(its.begin(), its.end(), [&](const std::string& w) { return words.contains(w); })) continue;
    words.insert(its.begin(), its.end());
    if (!p.text.empty()) p.text += ' ';
    p.text += fill(r.pick(said(f.what)), {{'s', f.subject}, {'o', f.object}, {'e', f.extra}});
    f.passage = 0;
    out.facts.push_back(std::move(f));
  }
  out.passages.push_back(std::move(p));
  out.questions = detail::choose_questions(out.facts, 1, questions, r);
  return out;
}

/// The two ends of each fact, either way.
[[nodiscard]] inline std::vector<std::pair<std::string, std::string>> ends_of(const world& lesson) {
  std::vector<std::pair<std::string, std::string>> out;
  for (const fact& f : lesson.facts) {
    out.emplace_back(f.subject, f.object);
    out.emplace_back(f.object, f.subject);
  }
  return out;
}

}  // namespace worlds
