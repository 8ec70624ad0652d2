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
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "world.hpp"

namespace worlds {

namespace detail {

// Words that no two facts of a lesson share.
class word_pool {
 public:
  explicit word_pool(random& r)
      : names_(r.draw(women, std::size(women))), places_(all(r, places)), goods_(all(r, goods)), trades_(all(r, trades)),
        things_(all(r, things)), animals_(all(r, animals)), buildings_(all(r, buildings)), numbers_(all(r, numbers)),
        months_(all(r, months)) {
    for (const std::string_view name : all(r, men)) names_.push_back(name);
    r.shuffle(names_);
  }

  /// A fact of words that no other has; the words must last.
  fact state(relation what) {
    fact f{what, take(what == relation::holder ? things_ : is_town(what) ? places_ : names_), mention::name, "", "", "", 0};
    f.said = f.subject;
    switch (what) {
      case relation::trade: f.object = take(trades_); break;
      case relation::home:
      case relation::seen: f.object = take(places_); break;
      case relation::sells:
      case relation::wants:
      case relation::known: f.object = take(goods_); break;
      case relation::keeps: f.object = take(numbers_), f.extra = take(animals_); break;
      case relation::hid: f.object = take(things_), f.extra = take(places_); break;
      case relation::ruler:
      case relation::holder: f.object = take(names_); break;
      case relation::fair: f.object = take(months_); break;
      case relation::has: f.object = take(numbers_), f.extra = take(buildings_); break;
    }
    return f;
  }

 private:
  using words = std::vector<std::string_view>;
  template <class List>
  static words all(random& r, const List& list) {
    return r.draw(list, std::size(list));
  }
  static std::string take(words& from) {
    const std::string out(from.back());
    from.pop_back();
    return out;
  }
  words names_, places_, goods_, trades_, things_, animals_, buildings_, numbers_, months_;
};

}  // namespace detail

/// The n-th lesson of a seed: a world of one passage with `sentences` facts, 10 at most, no word in two of them. They are
/// of one to four relations, all as frequent as each other: where two people sell something, the word that is given decides
/// and not the relation, for goods as for towns.
[[nodiscard]] inline world make_lesson(std::uint64_t seed, std::uint64_t n, std::size_t sentences,
                                       std::size_t questions = 14) {
  random r(seed ^ 0x6c6573736f6eu, n);
  detail::word_pool words(r);
  std::vector<relation> some(relations);
  for (std::size_t i = 0; i < relations; ++i) some[i] = static_cast<relation>(i);
  r.shuffle(some);
  some.resize(r.between(1, 4));
  world out;
  passage p{"Notes", ""};
  for (std::size_t i = 0; i < std::min<std::size_t>(sentences, 10); ++i) {
    out.facts.push_back(words.state(r.pick(some)));
    const fact& f = out.facts.back();
    if (i > 0) p.text += ' ';
    p.text += fill(r.pick(said(f.what)), {{'s', f.subject}, {'o', f.object}, {'e', f.extra}});
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
      default: return r.draw(goods, count);
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
  const auto a = values(first), b = values(second);
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
