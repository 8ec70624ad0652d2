// SPDX-License-Identifier: MIT
/// Stories in the manner of bAbI without end: people move about, take things, put them down and hand them on, and
/// whatever the sentences tell can be asked when they are over.
///
/// Each story is a simulation with a state of its own: everybody is somewhere and so is every thing, before a sentence says
/// so. A thing is taken where it lies and given to somebody who is there; nobody moves to where they are. bAbI's files ask
/// one question for every two sentences; a story here asks everything that it tells, at its end.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../worlds/random.hpp"
#include "words.hpp"

namespace stories {

using worlds::random;

struct question {
  std::string text, answer;
};

struct story {
  task what;
  std::vector<std::string> sentences;
  std::vector<question> questions;
  /// A word, or two, and what the last sentence about it says: a question without its words, for a learner.
  std::vector<std::pair<std::string, std::string>> ends;
};

struct story_options {
  std::vector<task> tasks = {task::where, task::given, task::whether, task::pronoun, task::together};
  std::size_t sentences = 0;   ///< 0: drawn anew for each story, about as often as in bAbI's files
  std::size_t questions = 14;  ///< at most
  bool lesson = false;         ///< for a learner: seven people instead of four, and nobody twice before all have had their
                               ///< turn; or, for `given`, everybody and everything in one place
};

namespace detail {

/// A number of sentences, about as often as a question of bAbI's files sees so many.
[[nodiscard]] inline std::size_t draw_length(task t, random& r) {
  switch (t) {
    case task::given:
    case task::thing: {
      const std::size_t most = r.below(20);  // a few are long
      return r.between(2, 20) + (most < 6 ? r.below(20) : 0) + (most == 0 ? r.below(50) : 0);
    }
    case task::carried: return r.between(2, 14);
    default: return r.between(2, 10);
  }
}

class builder {
 public:
  builder(task t, bool lesson, random& r) : task_(t), lesson_(lesson), r_(r) {
    if (lesson || t == task::given) name_.assign(std::begin(givers), std::end(givers));
    if (t != task::given)
      for (const std::string_view one : people)
        if (std::find(name_.begin(), name_.end(), one) == name_.end()) name_.push_back(one);
    known_.resize(name_.size()), took_.resize(name_.size());
    const std::size_t here = r_.below(std::size(places));
    const auto draw_place = [&] { return lesson && t == task::given ? here : r_.below(std::size(places)); };
    for (std::size_t i = 0; i < name_.size(); ++i) at_.push_back(draw_place());
    for (std::size_t& place : lies_) place = draw_place();
  }

  story build(std::size_t sentences, std::size_t questions) {
    story_.what = task_;
    // A story of gifts goes on until there is one, of things until there is one.
    const std::size_t most = sentences + 60;
    while (story_.sentences.size() < most && (story_.sentences.size() < sentences || !can_ask())) tell();
    ask();
    r_.shuffle(story_.questions);
    if (story_.questions.size() > questions) story_.questions.resize(questions);
    return std::move(story_);
  }

 private:
  static constexpr std::size_t nobody = ~std::size_t{0};
  struct gift {
    std::size_t from, thing, to;
  };

  void say(std::string sentence) { story_.sentences.push_back(std::move(sentence)); }
  static std::string the(std::string_view thing) { return " the " + std::string(thing); }
  std::string name(std::size_t who) const { return std::string(name_[who]); }

  void move(std::size_t who, std::size_t place) { at_[who] = place, known_[who] = true; }
  std::string moved(const std::string& subject, std::size_t place) {
    return subject + " " + std::string(r_.pick(moves)) + " to" + the(places[place]) + ".";
  }
  // A place where none of them is.
  std::size_t elsewhere(std::size_t a, std::size_t b) {
    for (;;)
      if (const std::size_t place = r_.below(std::size(places)); place != at_[a] && place != at_[b]) return place;
  }

  std::size_t somebody() {
    if (!lesson_) return r_.below(name_.size());
    if (turns_.empty()) {
      for (std::size_t i = 0; i < name_.size(); ++i) turns_.push_back(i);
      r_.shuffle(turns_);
    }
    const std::size_t out = turns_.back();
    turns_.pop_back();
    return out;
  }

  void tell() {
    const bool goes_on = task_ == task::pronoun && story_.sentences.size() % 2 == 1;
    const std::size_t who = goes_on ? last_ : somebody();
    if (task_ == task::together) {
      std::size_t other = somebody();
      while (other == who) other = somebody();
      const std::size_t place = elsewhere(who, other);
      move(who, place), move(other, place);
      return say(moved(name(who) + " and " + name(other), place));
    }
    if (goes_on) {
      const std::size_t place = elsewhere(who, who);
      move(who, place);
      return say(moved(std::string(r_.pick(follows)) + (is_woman(name_[who]) ? " she" : " he"), place));
    }
    if (task_ == task::where || task_ == task::pronoun || !handle(who)) {
      std::size_t place = elsewhere(who, who);
      // Gifts need company.
      if (const std::size_t host = at_[r_.below(at_.size())]; task_ == task::given && host != at_[who] && r_.chance(60)) place = host;
      move(who, place);
      say(moved(name(who), place));
    }
    last_ = who;
  }

  // Something with a thing, if this person can and chance wants it; a sentence then.
  bool handle(std::size_t who) {
    std::vector<std::size_t> here, held;
    for (std::size_t i = 0; i < std::size(things); ++i) {
      if (held_[i] == who) held.push_back(i);
      if (held_[i] == nobody && lies_[i] == at_[who]) here.push_back(i);
    }
    std::vector<std::size_t> company;
    for (std::size_t i = 0; i < at_.size(); ++i)
      if (i != who && at_[i] == at_[who]) company.push_back(i);
    // These shares make sentences of each kind about as frequent as in the files.
    if (!here.empty() && r_.chance(65)) {
      const std::size_t thing = r_.pick(here);
      held_[thing] = who, took_[who] = true;
      if (const std::pair took(who, thing); std::find(taken_.begin(), taken_.end(), took) == taken_.end()) taken_.push_back(took);
      say(name(who) + " " + std::string(r_.pick(takes)) + the(things[thing]) + " there.");
      return true;
    }
    if (held.empty()) return false;
    const std::size_t thing = r_.pick(held);
    if (task_ == task::given && !company.empty() && r_.chance(90)) {
      const std::size_t to = r_.pick(company);
      held_[thing] = to;
      say(name(who) + " " + std::string(r_.pick(gives)) + the(things[thing]) + " to " + name(to) + ".");
      gifts_.push_back({who, thing, to});
      return true;
    }
    if (!r_.chance(70)) return false;
    held_[thing] = nobody, lies_[thing] = at_[who], lies_known_[thing] = known_[who];
    say(name(who) + " " + std::string(r_.pick(drops)) + the(things[thing]) + (r_.chance(20) ? " there." : "."));
    return true;
  }

  // Whether the text says where a thing is: with somebody who moved, or put down by somebody who had.
  bool place_known(std::size_t thing) const {
    return held_[thing] == nobody ? lies_known_[thing] : known_[held_[thing]];
  }

  bool can_ask() const {
    const auto in = [](const auto& list) { return std::find(list.begin(), list.end(), true) != list.end(); };
    if (task_ == task::given) return !gifts_.empty();
    if (task_ == task::carried) return in(took_);
    if (task_ == task::thing) return place_known(0) || place_known(1) || place_known(2);
    return in(known_);
  }

  void put(std::string text, std::string_view answer) { story_.questions.push_back({std::move(text), std::string(answer)}); }

  void ask() {
    if (task_ == task::given) return ask_gifts();
    if (task_ == task::thing) {
      for (std::size_t i = 0; i < std::size(things); ++i)
        if (place_known(i)) ask_place("the " + std::string(things[i]), std::string(things[i]), held_[i] == nobody ? lies_[i] : at_[held_[i]]);
      return;
    }
    for (std::size_t who = 0; who < name_.size(); ++who) {
      if (task_ == task::carried) {
        if (took_[who]) put("What is " + name(who) + " carrying?", in_hands(who));
      } else if (known_[who]) {
        if (task_ == task::whether) ask_whether(who);
        else ask_place(name(who), name(who), at_[who]);
      }
    }
  }
  void ask_place(const std::string& of, std::string word, std::size_t place) {
    put("Where is " + of + "?", places[place]);
    story_.ends.emplace_back(std::move(word), places[place]);
  }
  // Both answers, so that neither is the better guess.
  void ask_whether(std::size_t who) {
    const std::string here(places[at_[who]]), other(places[elsewhere(who, who)]);
    put("Is " + name(who) + " in the " + here + "?", "yes");
    put("Is " + name(who) + " in the " + other + "?", "no");
    story_.ends.emplace_back(name(who), here);
  }
  // In the order in which this person took each of them for the first time.
  std::string in_hands(std::size_t who) const {
    std::string all;
    for (const auto& [by, thing] : taken_)
      if (by == who && held_[thing] == who) all += (all.empty() ? "" : ",") + std::string(things[thing]);
    return all.empty() ? "nothing" : all;
  }

  // Of gifts that a question fits, the last one counts.
  void ask_gifts() {
    std::vector<std::string> asked;
    const auto once = [&](std::string text, std::string_view answer) {
      if (std::find(asked.begin(), asked.end(), text) != asked.end()) return;
      asked.push_back(text);
      put(std::move(text), answer);
    };
    for (std::size_t i = gifts_.size(); i-- > 0;) {
      const gift& g = gifts_[i];
      const std::string thing(things[g.thing]), from = name(g.from), to = name(g.to);
      once("What did " + from + " give to " + to + "?", thing);
      once("Who gave the " + thing + "?", from);
      once("Who gave the " + thing + " to " + to + "?", from);
      once("Who received the " + thing + "?", to);
      once("Who did " + from + " give the " + thing + " to?", to);
    }
  }

  task task_;
  bool lesson_;
  random& r_;
  std::vector<std::size_t> turns_;  // of a lesson
  std::vector<std::string_view> name_;
  std::vector<std::size_t> at_;
  std::vector<bool> known_;  // by a sentence
  std::array<std::size_t, 3> held_ = {nobody, nobody, nobody}, lies_{};
  std::array<bool, 3> lies_known_{};
  std::vector<bool> took_;
  std::vector<std::pair<std::size_t, std::size_t>> taken_;  // who took what, each once
  std::size_t last_ = 0;
  std::vector<gift> gifts_;
  story story_{};
};

}  // namespace detail

/// The n-th story of a seed: the same on every machine.
[[nodiscard]] inline story make_story(std::uint64_t seed, std::uint64_t n, const story_options& options = {}) {
  random r(seed ^ 0x73746f7279u, n);
  const task t = r.pick(options.tasks);
  const std::size_t sentences = options.sentences != 0 ? options.sentences : detail::draw_length(t, r);
  return detail::builder(t, options.lesson, r).build(sentences, options.questions);
}

}  // namespace stories
