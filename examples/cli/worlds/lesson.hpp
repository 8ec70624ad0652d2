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
#include <array>
#include <cstdint>
#include <set>
#include <string>
#include <string_view>
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
    if (f.how != mention::name) continue;
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

/// The n-th lesson in two steps: one passage about `count` people with two facts each, the same two for all of them, so that
/// nothing but the first step tells which second one is meant. The second fact is said of the person by name or as "the
/// baker", or of the town where the person lives.
[[nodiscard]] inline world make_links(std::uint64_t seed, std::uint64_t n, std::size_t count, std::size_t questions = 14) {
  random r(seed ^ 0x6c696e6b73u, n);
  std::vector<std::string_view> names = r.draw(women, count);
  for (const std::string_view name : r.draw(men, count)) names.push_back(name);
  r.shuffle(names);
  const auto values = [&](relation what) -> std::vector<std::string_view> {
    switch (what) {
      case relation::trade: return r.draw(trades, count);
      case relation::home: return r.draw(places, count);
      case relation::keeps:
      case relation::has: return r.draw(numbers, count);
      case relation::hid: return r.draw(things, count);
      case relation::ruler: return {names.begin() + static_cast<std::ptrdiff_t>(count), names.end()};
      case relation::fair: return r.draw(months, count);
      default: return r.draw(goods, 2 * count);
    }
  };
  relation first, second;
  mention how = mention::name;
  if (const std::size_t sort = r.below(3); sort == 0) {
    first = relation::trade, how = mention::trade;
    second = r.chance(50) ? relation::sells : relation::wants;
  } else if (sort == 1) {
    std::vector<relation> some{relation::trade, relation::home, relation::sells, relation::wants, relation::keeps, relation::hid};
    r.shuffle(some);
    first = some[0], second = some[1];
  } else {
    first = relation::home;
    second = r.pick(std::array{relation::ruler, relation::known, relation::fair, relation::has});
  }
  const auto a = values(first);
  auto b = values(second);
  if (b.size() > count) b.erase(b.begin(), b.end() - static_cast<std::ptrdiff_t>(count));
  const auto where = r.draw(places, count), kept = r.draw(animals, count), built = r.draw(buildings, count);
  const auto extra = [&](relation what, std::size_t i) {
    return std::string(what == relation::keeps ? kept[i] : what == relation::has ? built[i] : what == relation::hid ? where[i] : "");
  };
  std::vector<fact> facts;
  for (std::size_t i = 0; i < count; ++i) {
    const std::string name(names[i]), from(a[i]), to(b[i]);
    facts.push_back({first, name, mention::name, name, from, extra(first, i)});
    if (detail::is_town(second)) facts.push_back({second, from, mention::name, from, to, extra(second, i)});
    else facts.push_back({second, name, how, how == mention::trade ? from : name, to, extra(second, i)});
  }
  r.shuffle(facts);
  // Who is a baker is said before what the baker sells.
  for (std::size_t i = 0; i < facts.size(); ++i)
    for (std::size_t j = i + 1; j < facts.size() && facts[i].how == mention::trade; ++j)
      if (facts[j].what == relation::trade && facts[j].subject == facts[i].subject) std::swap(facts[i], facts[j]);
  world out;
  passage p{"Notes", ""};
  for (std::size_t i = 0; i < facts.size(); ++i) {
    fact& f = facts[i];
    if (!p.text.empty()) p.text += ' ';
    p.text += fill(r.pick(said(f.what)), {{'s', f.how == mention::trade ? "The " + f.said : f.subject}, {'o', f.object}, {'e', f.extra}});
    f.passage = i;  // so that two of them are two steps
  }
  out.questions = detail::choose_questions(facts, 3, questions, r);
  for (fact& f : facts) f.passage = 0;
  out.facts = std::move(facts);
  out.passages.push_back(std::move(p));
  return out;
}

/// The ends of each fact of `make_lesson`, either way; of a hidden thing the other end is its place.
[[nodiscard]] inline std::vector<std::pair<std::string, std::string>> ends_of(const world& lesson) {
  std::vector<std::pair<std::string, std::string>> out;
  for (const fact& f : lesson.facts) {
    out.emplace_back(f.subject, f.object);
    out.emplace_back(f.object, f.what == relation::hid ? f.extra : f.subject);
  }
  return out;
}

}  // namespace worlds
