// SPDX-License-Identifier: MIT
/// Facts and questions in English: several ways to say each. `{s}` is the subject, `{o}` the object, `{e}` what is
/// counted or where; in questions `{k}` is what is given.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "facts.hpp"
#include "random.hpp"

namespace worlds {

using phrases = std::span<const std::string_view>;

/// A text with its places filled.
[[nodiscard]] inline std::string fill(std::string_view form,
                                      std::initializer_list<std::pair<char, std::string_view>> values) {
  std::string out;
  for (std::size_t i = 0; i < form.size(); ++i) {
    if (form[i] != '{' || i + 2 >= form.size() || form[i + 2] != '}') {
      out += form[i];
      continue;
    }
    for (const auto& [name, value] : values)
      if (form[i + 1] == name) out += value;
    i += 2;
  }
  return out;
}

namespace detail {
inline constexpr std::string_view
    trade_said[] = {"{s} is a {o}.", "{s} works as a {o}.", "{s} earns a living as a {o}.", "{s} has been a {o} for years."},
    home_said[] = {"{s} lives in {o}.", "{s} has a house in {o}.", "{s} stays in {o} all year.", "{s} is at home in {o}."},
    sells_said[] = {"{s} sells {o}.", "{s} has {o} for sale.", "{s} trades in {o}.", "{s} makes good money with {o}."},
    wants_said[] = {"{s} wants to buy {o}.", "{s} is looking for {o}.", "{s} needs more {o}.", "{s} asks everyone for {o}."},
    keeps_said[] = {"{s} keeps {o} {e}.", "{s} owns {o} {e}.", "{s} looks after {o} {e}.", "{s} feeds {o} {e} each day."},
    hid_said[] = {"{s} hid the {o} in {e}.", "{s} left the {o} in {e}.", "{s} buried the {o} near {e}.",
                  "{s} locked the {o} away in {e}."},
    ruler_said[] = {"{s} is ruled by {o}.", "{s} is led by {o}.", "{s} has {o} as its mayor.", "The mayor of {s} is {o}."},
    known_said[] = {"{s} is known for its {o}.", "{s} is famous for its {o}.", "People come to {s} for its {o}."},
    fair_said[] = {"{s} has its fair in {o}.", "The fair of {s} is in {o}.", "{s} holds a fair each {o}."},
    has_said[] = {"{s} has {o} {e}.", "There are {o} {e} in {s}.", "One can count {o} {e} in {s}."},
    seen_said[] = {"{s} was seen in {o}.", "Somebody saw {s} in {o}.", "{s} came to {o}.", "{s} spent the night in {o}."},
    holder_said[] = {"{o} took the {s}.", "{o} got the {s}.", "The {s} was given to {o}.", "The {s} went to {o}."};

inline constexpr std::string_view
    trade_asked[] = {"What is the trade of {k}?", "What does {k} work as?", "What is {k} by trade?"},
    home_asked[] = {"Where does {k} live?", "In which town does {k} live?", "Where is the house of {k}?"},
    sells_asked[] = {"What does {k} sell?", "What can one buy from {k}?", "What does {k} trade in?"},
    wants_asked[] = {"What does {k} want to buy?", "What is {k} looking for?", "What does {k} need?"},
    keeps_asked[] = {"How many {e} does {k} keep?", "How many {e} does {k} own?", "How many {e} does {k} look after?"},
    hid_asked[] = {"What did {k} hide?", "Which thing did {k} hide?"},
    place_asked[] = {"Where is the {k} now?", "Where did somebody hide the {k}?", "In which town is the {k} hidden?"},
    ruler_asked[] = {"Who rules {k}?", "Who is the mayor of {k}?", "Who leads {k}?"},
    known_asked[] = {"What is {k} known for?", "What is {k} famous for?", "What do people come to {k} for?"},
    fair_asked[] = {"When is the fair of {k}?", "In which month is the fair of {k}?"},
    has_asked[] = {"How many {e} are there in {k}?", "How many {e} can one count in {k}?"},
    seen_asked[] = {"Where was {k} seen last?", "Where is {k} by now?", "Where did {k} come last?"},
    holder_asked[] = {"Who has the {k} now?", "Who was the last to get the {k}?", "Who has the {k} in the end?"};

inline constexpr std::string_view
    trade_back[] = {"Who is a {k}?", "Who works as a {k}?", "Who is the {k}?"},
    home_back[] = {"Who lives in {k}?", "Whose house is in {k}?", "Who is at home in {k}?"},
    sells_back[] = {"Who sells {k}?", "Who has {k} for sale?", "From whom can one buy {k}?"},
    wants_back[] = {"Who wants to buy {k}?", "Who is looking for {k}?", "Who needs {k}?"},
    keeps_back[] = {"Who keeps {e}?", "Who owns {e}?", "Who looks after {e}?"},
    hid_back[] = {"Who hid the {k}?", "Who is the one that hid the {k}?"},
    ruler_back[] = {"Which town does {k} rule?", "Of which town is {k} the mayor?"},
    known_back[] = {"Which town is known for its {k}?", "Which town is famous for its {k}?"},
    fair_back[] = {"Which town has its fair in {k}?", "Which town holds a fair in {k}?"};

inline constexpr std::string_view fillers[] = {
    "The winter was long and the roads were bad.", "Few people come here when it rains.", "Nobody knows the reason.",
    "The old tower fell many years ago.", "In spring the river is high.", "The nights are cold at this time of the year.",
    "There was a fire, but nobody was hurt.", "Some say that this will change soon.", "Not much else is known.",
    "The young people want to leave.", "All of this was written down by a stranger.", "It is a quiet life.",
    "The harvest was good this time.", "There is talk of war, as always.", "The evenings are spent with songs and stories.",
    "It has been like this for a long time.", "That is at least what one hears.", "The sea can be heard from the hill.",
    "Wolves come down from the forest in the snow.", "Letters take many days on this road."};
/// With people and towns of the world in them: {p} and {q} people, {g} a good, {t} a town, {m} a month.
inline constexpr std::string_view busy_fillers[] = {
    "{p} and {q} do not talk to each other.", "{p} was ill in {m}.", "A wagon with {g} got stuck on the road to {t}.",
    "The price of {g} has gone up again.", "{p} once danced with {q}.", "Nobody cares much for {g} in {m}.",
    "{p} has never been to {t}.", "The road to {t} is long.", "It rained in {t} for all of {m}.",
    "{p} tells long stories about {q}."};
}  // namespace detail

/// The ways to state a fact.
[[nodiscard]] constexpr phrases said(relation what) noexcept {
  constexpr phrases all[relations] = {detail::trade_said, detail::home_said,  detail::sells_said, detail::wants_said,
                                      detail::keeps_said, detail::hid_said,   detail::ruler_said, detail::known_said,
                                      detail::fair_said,  detail::has_said,   detail::seen_said,  detail::holder_said};
  return all[static_cast<std::size_t>(what)];
}

/// The ways to ask for a fact's object.
[[nodiscard]] constexpr phrases asked(relation what) noexcept {
  constexpr phrases all[relations] = {detail::trade_asked, detail::home_asked, detail::sells_asked, detail::wants_asked,
                                      detail::keeps_asked, detail::hid_asked,  detail::ruler_asked, detail::known_asked,
                                      detail::fair_asked,  detail::has_asked,  detail::seen_asked,  detail::holder_asked};
  return all[static_cast<std::size_t>(what)];
}

/// The ways to ask for a fact's subject; none, where an object does not tell it.
[[nodiscard]] constexpr phrases asked_back(relation what) noexcept {
  constexpr phrases all[relations] = {detail::trade_back, detail::home_back,  detail::sells_back, detail::wants_back,
                                      detail::keeps_back, detail::hid_back,   detail::ruler_back, detail::known_back,
                                      detail::fair_back,  {},                 {},                 {}};
  return all[static_cast<std::size_t>(what)];
}

/// How the first step of a question in two steps stands in the second: "the person who sells salt".
[[nodiscard]] inline std::string described(const query& q) {
  constexpr std::string_view by_object[] = {"the {k}", "the person who lives in {k}", "the person who sells {k}",
                                            "the person who wants to buy {k}", "the person who keeps {e}"};
  std::string_view form;
  if (q.backward)
    form = by_object[static_cast<std::size_t>(q.first)];
  else
    form = q.place_of_thing ? "the town where the {k} is hidden" : "the town where {k} lives";
  return fill(form, {{'k', q.key}, {'e', q.extra}});
}

/// A question in words, one of the ways to ask it. `counted`: what the second step counts.
[[nodiscard]] inline std::string ask(const query& q, std::string_view counted, random& r) {
  if (q.chained) return fill(r.pick(asked(q.second)), {{'k', described(q)}, {'e', counted}});
  const phrases forms = q.place_of_thing ? phrases(detail::place_asked) : q.backward ? asked_back(q.first) : asked(q.first);
  return fill(r.pick(forms), {{'k', q.key}, {'e', q.extra}});
}

}  // namespace worlds
