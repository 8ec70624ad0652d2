// SPDX-License-Identifier: MIT
/// Small worlds in plain English: passages about people, towns, goods and news, and questions over them.
///
/// Every world draws its names anew and binds them at random, so that an answer comes from the passages or not at all.
/// Passages need each other, as pieces of real documents do: a price list says "the baker", a page goes on with "she",
/// and of two reports the later one counts. Level 4 is the whole thing; levels 1 to 3 are a way there for a learner.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ask.hpp"
#include "facts.hpp"
#include "inventory.hpp"
#include "phrases.hpp"
#include "random.hpp"

namespace worlds {

struct world_options {
  std::size_t level = 4;       ///< 1: two or three passages, one needed; 2: news; 3: two needed; 4: everything
  std::size_t passages = 10;   ///< of level 4; 8 to 16
  std::size_t questions = 14;  ///< at most
  bool fillers = true;         ///< sentences in between that say nothing, up to 50 words and marks a passage
};

namespace detail {

struct person {
  std::string name, trade, home, good, want, number, animal, thing, place;
  bool woman = false;
  bool has_page = false;
  bool trade_by_name = false;                // some passage says it, with the name
  std::array<bool, relations> stated = {};
  [[nodiscard]] bool& says(relation what) { return stated[static_cast<std::size_t>(what)]; }
};

// A passage before it has its place: facts with the words for their subjects.
struct draft {
  std::string title, opener;
  std::vector<std::pair<fact, std::string>> facts;
  bool pronouns = false;  // nobody else may be named in between
};

class builder {
 public:
  builder(random& r, const world_options& o) : r_(r), o_(o) {}

  world build() {
    const std::size_t count = o_.level >= 4 ? o_.passages + 4 : 8 + 2 * o_.level;
    make_people(count);
    choose_passages();
    return finish();
  }

 private:
  void make_people(std::size_t count) {
    places_ = r_.draw(worlds::places, count + 4);
    goods_ = r_.draw(worlds::goods, count + 4);
    const auto names_w = r_.draw(women, count), names_m = r_.draw(men, count);
    const auto trades = r_.draw(worlds::trades, count), animals = r_.draw(worlds::animals, count);
    const auto homes = r_.draw(places_, count), hiding = r_.draw(places_, count);
    const auto sold = r_.draw(goods_, count), wanted = r_.draw(goods_, count);
    things_ = r_.draw(worlds::things, count + 4);
    for (std::size_t i = 0; i < count; ++i) {
      person p;
      p.woman = r_.chance(50);
      p.name = p.woman ? names_w[i] : names_m[i];
      p.trade = trades[i];
      p.home = homes[i];
      p.good = sold[i];
      p.want = wanted[i];
      p.number = r_.pick(numbers);
      p.animal = animals[i % animals.size()];
      p.thing = things_[i];
      p.place = hiding[i];
      // More people than kinds of animals: the others keep none, so that "who keeps goats" has one answer.
      if (i >= animals.size()) p.says(relation::keeps) = true;
      people_.push_back(std::move(p));
    }
  }

  fact state(person& p, relation what, mention how = mention::name) {
    p.says(what) = true;
    fact f{what, p.name, how, how == mention::name ? p.name : how == mention::trade ? p.trade : "", "", ""};
    switch (what) {
      case relation::trade: f.object = p.trade; break;
      case relation::home: f.object = p.home; break;
      case relation::sells: f.object = p.good; break;
      case relation::wants: f.object = p.want; break;
      case relation::keeps: f.object = p.number, f.extra = p.animal; break;
      default: f.object = p.thing, f.extra = p.place; break;
    }
    if (how == mention::same) f.said = p.trade;
    if (what == relation::trade) p.trade_by_name = true;
    return f;
  }

  // People whom `good` allows, up to `count`, in random order.
  template <class Good>
  std::vector<person*> some(std::size_t count, const Good& good) {
    std::vector<person*> out;
    for (person& p : people_)
      if (good(p)) out.push_back(&p);
    r_.shuffle(out);
    if (out.size() > count) out.resize(count);
    return out;
  }
  std::string one_of(std::initializer_list<std::string_view> list) {
    return std::string(list.begin()[r_.below(list.size())]);
  }

  // A page about one person, and perhaps one that goes on with it.
  void add_page(bool goes_on) {
    const auto who = some(1, [](const person& p) { return !p.has_page && std::count(p.stated.begin(), p.stated.end(), true) == 0; });
    if (who.empty()) return;
    person& p = *who.front();
    p.has_page = true;
    std::vector<relation> rest{relation::home, relation::sells, relation::wants, relation::keeps, relation::hid};
    r_.shuffle(rest);
    const std::size_t here = goes_on ? 2 : r_.between(3, 4);
    draft page;
    page.pronouns = true;
    page.title = fill(one_of({"About {k}", "Notes on {k}", "The life of {k}"}), {{'k', p.name}});
    page.opener = fill(one_of({"Here is what people say of {k}.", "This page is about {k}.", "Many people know {k}."}), {{'k', p.name}});
    const std::string she = p.woman ? "She" : "He";
    std::vector<relation> told(rest.begin(), rest.begin() + static_cast<std::ptrdiff_t>(here));
    told.push_back(relation::trade);
    r_.shuffle(told);
    for (const relation what : told) page.facts.emplace_back(state(p, what), r_.chance(40) ? p.name : she);
    groups_.push_back({std::move(page)});
    if (!goes_on) return;
    draft next;
    next.pronouns = true;
    const bool bare = r_.chance(45);
    next.title = one_of({"Continued", "More of the same", "The next page"});
    next.opener = bare ? one_of({"There is more to tell.", "This goes on from the page before.", "And that is not all."})
                       : fill(one_of({"The same {k} is known for more.", "There is more to tell of the same {k}.",
                                      "This is again about the same {k}."}), {{'k', p.trade}});
    for (std::size_t i = here; i < rest.size(); ++i)
      next.facts.emplace_back(state(p, rest[i], bare ? mention::pronoun : mention::same), she);
    groups_.back().push_back(std::move(next));
  }

  void add_trades() {
    draft d{one_of({"The guild book", "Trades", "Who does what"}),
            one_of({"Here are the people of the guild.", "This book lists people and their work.", "Everyone has to work."}), {}};
    for (person* p : some(r_.between(4, 5), [](const person& x) { return !x.stated[0] && !x.has_page; }))
      d.facts.emplace_back(state(*p, relation::trade), p->name);
    add(std::move(d));
  }
  void add_homes() {
    draft d{one_of({"Houses", "Where people live", "The list of houses"}),
            one_of({"Here is where people live.", "This list was made for the tax.", "Everyone must live somewhere."}), {}};
    for (person* p : some(r_.between(4, 5), [](const person& x) { return !x.stated[1]; }))
      d.facts.emplace_back(state(*p, relation::home), p->name);
    add(std::move(d));
  }
  void add_market() {
    draft d{one_of({"The market", "For sale", "Buyers and sellers"}),
            one_of({"It was a busy day at the market.", "Here is what people buy and sell.", "The market opens early."}), {}};
    const std::size_t count = r_.between(4, 6);
    // Those with a known trade first: only they can be called by it.
    auto who = some(people_.size(), [](const person& x) { return !x.stated[2] && !x.stated[3]; });
    std::stable_sort(who.begin(), who.end(), [](const person* a, const person* b) { return a->trade_by_name > b->trade_by_name; });
    if (who.size() > count) who.resize(count);
    r_.shuffle(who);
    for (person* p : who) {
      const bool by_trade = o_.level >= 3 && p->trade_by_name && r_.chance(75);
      const relation what = r_.chance(60) ? relation::sells : relation::wants;
      d.facts.emplace_back(state(*p, what, by_trade ? mention::trade : mention::name), by_trade ? "The " + p->trade : p->name);
    }
    add(std::move(d));
  }
  void add_towns() {
    if (towns_.empty()) {
      // Towns where somebody lives, as far as passages say: only those lead on from a person. Each is told of once.
      for (const person& p : people_) towns_.push_back(p.home);
      r_.shuffle(towns_);
      std::stable_partition(towns_.begin(), towns_.end(), [&](const std::string& town) {
        return std::any_of(people_.begin(), people_.end(), [&](const person& p) {
          return (p.stated[1] && p.home == town) || (p.stated[5] && p.place == town);
        });
      });
      rulers_ = r_.draw(women, 4);
      for (const std::string_view name : r_.draw(men, 4)) rulers_.push_back(name);
      std::erase_if(rulers_, [&](std::string_view name) {
        return std::any_of(people_.begin(), people_.end(), [&](const person& p) { return p.name == name; });
      });
      known_ = r_.draw(goods_, goods_.size());
      fairs_ = r_.draw(months, std::size(months));
    }
    draft d{one_of({"Towns", "Notes on the towns", "The map"}),
            one_of({"Here is what one should know of the towns.", "Every town is different.", "These notes are for travellers."}), {}};
    std::vector<fact> all;
    for (std::size_t i = 0; i < 3 && !towns_.empty(); ++i) {
      const std::string town = towns_.front();
      towns_.erase(towns_.begin());
      std::vector<relation> what{relation::ruler, relation::known, relation::fair, relation::has};
      r_.shuffle(what);
      what.resize(2);
      for (const relation w : what) {
        fact f{w, town, mention::name, town, "", ""};
        if (w == relation::has) {
          f.object = r_.pick(numbers), f.extra = r_.pick(buildings);
        } else {
          auto& from = w == relation::ruler ? rulers_ : w == relation::known ? known_ : fairs_;
          if (from.empty()) continue;
          f.object = from.back();
          from.pop_back();
        }
        all.push_back(std::move(f));
      }
    }
    r_.shuffle(all);
    if (all.size() > 5) all.resize(5);
    for (fact& f : all) {
      const std::string town = f.subject;
      d.facts.emplace_back(std::move(f), town);
    }
    add(std::move(d));
  }
  void add_news() {
    if (travellers_.empty()) {
      for (person* p : some(4, [](const person&) { return true; })) travellers_.push_back(p->name);
      for (std::size_t i = 0; i < 3; ++i) moving_.push_back(std::string(things_[people_.size() + i]));
    }
    draft d{one_of({"News", "A letter", "Reports from the road"}),
            one_of({"This has just been heard.", "There is news from the road.", "A stranger told the following."}), {}};
    std::vector<fact> all;
    for (const std::string& name : r_.draw(travellers_, 3))
      all.push_back({relation::seen, name, mention::name, name, fresh(name, places_), ""});
    for (const std::string& thing : r_.draw(moving_, 2)) {
      std::vector<std::string_view> names;
      for (const person& p : people_) names.push_back(p.name);
      all.push_back({relation::holder, thing, mention::name, thing, fresh(thing, names), ""});
    }
    r_.shuffle(all);
    for (fact& f : all) {
      const std::string subject = f.subject;
      d.facts.emplace_back(std::move(f), subject);
    }
    add(std::move(d));
  }
  // Something that news has not said of a subject yet: if two reports agreed, order would not matter.
  std::string fresh(const std::string& subject, const std::vector<std::string_view>& from) {
    for (;;) {
      const std::string object(r_.pick(from));
      if (std::find(told_.begin(), told_.end(), std::pair(subject, object)) != told_.end()) continue;
      told_.emplace_back(subject, object);
      return object;
    }
  }

  void add(draft d) {
    if (!d.facts.empty()) groups_.push_back({std::move(d)});
  }
  [[nodiscard]] std::size_t passages() const {
    std::size_t n = 0;
    for (const auto& group : groups_) n += group.size();
    return n;
  }

  // What comes first binds people; what comes later uses them. The order in the world is another.
  void choose_passages() {
    if (o_.level <= 1) {
      std::vector<void (builder::*)()> makers{&builder::add_plain_page, &builder::add_trades, &builder::add_homes,
                                              &builder::add_market, &builder::add_towns};
      r_.shuffle(makers);
      makers.resize(r_.between(2, 3));
      for (const auto make : makers) (this->*make)();
    } else if (o_.level == 2) {
      std::vector<void (builder::*)()> makers{&builder::add_plain_page, &builder::add_trades, &builder::add_homes,
                                              &builder::add_towns};
      r_.shuffle(makers);
      makers.resize(r_.between(2, 4));
      for (const auto make : makers) (this->*make)();
      add_news();
      add_news();
    } else if (o_.level == 3) {
      add_page(r_.chance(50));
      if (r_.chance(50)) add_plain_page();
      add_trades();
      add_homes();
      add_market();
      if (r_.chance(50)) add_towns();
      add_news();
      if (r_.chance(50)) add_news();
    } else {
      // Eight that every world has; the others are more of some of them.
      std::size_t pages = 1, news = 2, markets = 1, towns = 1, longer = 1;
      for (std::size_t n = 8; n < o_.passages;) {
        const std::size_t which = r_.below(6);
        if (which <= 1 && n + 2 <= o_.passages) ++longer, n += 2;
        else if (which == 2 && pages < 4) ++pages, ++n;
        else if (which == 3 && news < 4) ++news, ++n;
        else if (which == 4 && markets < 2) ++markets, ++n;
        else if (which == 5 && towns < 3) ++towns, ++n;
      }
      for (std::size_t i = 0; i < longer; ++i) add_page(true);
      for (std::size_t i = 1; i < pages; ++i) add_plain_page();
      add_trades();
      add_homes();
      for (std::size_t i = 0; i < markets; ++i) add_market();
      for (std::size_t i = 0; i < towns; ++i) add_towns();
      for (std::size_t i = 0; i < news; ++i) add_news();
    }
  }
  void add_plain_page() { add_page(false); }

  std::string filler(const draft& d) {
    if (d.pronouns || r_.chance(40)) return std::string(r_.pick(detail::fillers));
    // Whom a passage calls by trade it does not name: another passage is needed for that.
    const auto two = some(2, [&](const person& p) {
      return std::none_of(d.facts.begin(), d.facts.end(), [&](const auto& f) {
        return f.first.how != mention::name && f.first.subject == p.name;
      });
    });
    // One after another: the order in which a call's arguments are computed is the compiler's.
    const std::string_view form = r_.pick(busy_fillers), good = r_.pick(goods_), town = r_.pick(places_),
                           month = r_.pick(months);
    return fill(form, {{'p', two[0]->name}, {'q', two[1]->name}, {'g', good}, {'t', town}, {'m', month}});
  }
  // Words and marks: what a tokenizer with a piece for each word counts, but for line breaks.
  static std::size_t size_of(std::string_view text) {
    std::size_t n = 1;
    for (const char c : text) n += c == ' ' || c == '.' || c == ',' ? 1u : 0u;
    return n;
  }

  // Shuffles the passages; but who is a baker is said before "the baker" sells something, as documents introduce people.
  void shuffle_passages() {
    const auto refers = [](const std::vector<draft>& group) {
      return std::any_of(group.front().facts.begin(), group.front().facts.end(),
                         [](const auto& f) { return f.first.how == mention::trade; });
    };
    std::vector<std::vector<draft>> later;
    for (auto& group : groups_)
      if (refers(group)) later.push_back(std::move(group));
    std::erase_if(groups_, [](const auto& group) { return group.empty(); });
    r_.shuffle(groups_);
    for (auto& group : later) {
      std::size_t first = 0;
      for (const auto& [wanted, subject] : group.front().facts)
        for (std::size_t i = 0; i < groups_.size() && wanted.how == mention::trade; ++i)
          for (const auto& [f, said] : groups_[i].front().facts)
            if (f.what == relation::trade && f.subject == wanted.subject) first = std::max(first, i + 1);
      groups_.insert(groups_.begin() + static_cast<std::ptrdiff_t>(r_.between(first, groups_.size())), std::move(group));
    }
  }

  world finish() {
    shuffle_passages();
    world w;
    for (auto& group : groups_) {
      for (draft& d : group) {
        std::vector<std::string> sentences;
        std::size_t size = size_of(d.title) + size_of(d.opener) + 2;
        for (auto& [f, subject] : d.facts) {
          f.passage = w.passages.size();
          sentences.push_back(fill(r_.pick(said(f.what)), {{'s', subject}, {'o', f.object}, {'e', f.extra}}));
          size += size_of(sentences.back());
          w.facts.push_back(f);
        }
        const std::size_t wanted = r_.between(50, 66);
        while (o_.fillers && size < wanted) {
          std::string more = filler(d);
          if (std::find(sentences.begin(), sentences.end(), more) != sentences.end()) continue;
          size += size_of(more);
          sentences.insert(sentences.begin() + static_cast<std::ptrdiff_t>(r_.below(sentences.size() + 1)), std::move(more));
        }
        passage p{d.title, d.opener};
        for (const std::string& s : sentences) p.text += " " + s;
        w.passages.push_back(std::move(p));
      }
    }
    w.questions = choose_questions(w.facts, o_.level, o_.questions, r_);
    return w;
  }

  random& r_;
  const world_options& o_;
  std::vector<person> people_;
  std::vector<std::string_view> places_, goods_, things_, rulers_, known_, fairs_;
  std::vector<std::string> towns_, travellers_, moving_;
  std::vector<std::pair<std::string, std::string>> told_;
  std::vector<std::vector<draft>> groups_;
};

}  // namespace detail

/// The n-th world of a seed: the same on every machine.
[[nodiscard]] inline world make_world(std::uint64_t seed, std::uint64_t n, const world_options& options = {}) {
  random r(seed, n);
  return detail::builder(r, options).build();
}

}  // namespace worlds
