// SPDX-License-Identifier: MIT
/// Worlds: every answer follows from the passages as they are written, by a solver that shares nothing with the generator
/// but the words; it can be found in no other way; and a seed always gives the same bytes.
#include <set>

#include "../support/catch.hpp"
#include "blockattn/text/babi.hpp"
#include "blockattn/text/dataset.hpp"
#include "program.hpp"
#include "word_lists.hpp"
#include "worlds/json.hpp"
#include "worlds/lesson.hpp"

namespace {

using blockattn_test::among;
using blockattn_test::digest;
using worlds::relation;
using worlds::world;

// What the solver reads: a sentence, matched against all that may be said.
struct reading {
  relation what;
  std::string subject, object, extra;
  std::size_t passage;
};

// Splits `sentence` by a form like "{s} keeps {o} {e}."; false if it does not fit. A value is one word, or for a subject
// one with "The" before it.
bool match(std::string_view form, std::string_view sentence, reading& out) {
  while (!form.empty()) {
    if (form[0] != '{') {
      if (sentence.empty() || sentence[0] != form[0]) return false;
      form.remove_prefix(1), sentence.remove_prefix(1);
      continue;
    }
    std::string& value = form[1] == 's' ? out.subject : form[1] == 'o' ? out.object : out.extra;
    form.remove_prefix(3);
    std::size_t end = 0;
    if (&value == &out.subject && sentence.starts_with("The ")) end = 4;
    while (end < sentence.size() && sentence[end] != ' ' && sentence[end] != '.') ++end;
    value = std::string(sentence.substr(0, end));
    sentence.remove_prefix(end);
  }
  return sentence.empty();
}

bool is_person(std::string_view word) { return among(worlds::women, word) || among(worlds::men, word); }

// Whether the words fit the relation: "lives in" takes a town, "sells" a good.
bool fits(const reading& r) {
  const std::string s = r.subject.starts_with("The ") ? r.subject.substr(4) : r.subject;
  const bool someone = is_person(s) || s == "She" || s == "He" || among(worlds::trades, s);
  switch (r.what) {
    case relation::trade: return someone && among(worlds::trades, r.object);
    case relation::home: return someone && among(worlds::places, r.object);
    case relation::sells:
    case relation::wants: return someone && among(worlds::goods, r.object);
    case relation::keeps: return someone && among(worlds::numbers, r.object) && among(worlds::animals, r.extra);
    case relation::hid: return someone && among(worlds::things, r.object) && among(worlds::places, r.extra);
    case relation::ruler: return among(worlds::places, s) && is_person(r.object);
    case relation::known: return among(worlds::places, s) && among(worlds::goods, r.object);
    case relation::fair: return among(worlds::places, s) && among(worlds::months, r.object);
    case relation::has: return among(worlds::places, s) && among(worlds::numbers, r.object) && among(worlds::buildings, r.extra);
    case relation::seen: return is_person(s) && among(worlds::places, r.object);
    case relation::holder: return among(worlds::things, s) && is_person(r.object);
  }
  return false;
}

// Everything that a world's text says, with "she" and "the baker" resolved as a reader would.
std::vector<reading> read(const world& w) {
  std::vector<reading> out;
  std::vector<std::string> titles;  // whom the pages are about
  for (std::size_t p = 0; p < w.passages.size(); ++p) {
    std::string about;  // of a page without a name: the words after "the same", or the page before
    const std::string& title = w.passages[p].title;
    const std::string last = title.substr(title.rfind(' ') + 1);
    if (is_person(last)) about = last;
    std::string_view text = w.passages[p].text;
    const std::size_t same = text.find("same ");
    if (about.empty() && same != std::string_view::npos && same < 60) {
      const std::size_t from = same + 5;
      const std::string word(text.substr(from, text.find_first_of(" .", from) - from));
      if (among(worlds::trades, word)) about = "The " + word;
    }
    if (about.empty() && p != 0) about = titles.back();
    titles.push_back(about);
    while (!text.empty()) {
      const std::size_t end = text.find('.') + 1;
      const std::string_view sentence = text.substr(0, end);
      text.remove_prefix(std::min(text.size(), end + 1));
      std::size_t found = 0;
      for (std::size_t what = 0; what < worlds::relations; ++what)
        for (const std::string_view form : said(static_cast<relation>(what))) {
          reading r{static_cast<relation>(what), "", "", "", p};
          if (!match(form, sentence, r) || !fits(r)) continue;
          if (r.subject == "She" || r.subject == "He") r.subject = about;
          ++found;
          out.push_back(r);
        }
      INFO(sentence);
      CHECK(found <= 1);  // a sentence says one thing
    }
  }
  // "The baker": the one person whom an earlier passage calls a baker.
  for (reading& r : out) {
    if (!r.subject.starts_with("The ")) continue;
    const std::string trade = r.subject.substr(4);
    std::set<std::string> who;
    for (const reading& t : out)
      if (t.what == relation::trade && t.object == trade && !t.subject.starts_with("The ")) {
        who.insert(t.subject);
        CHECK((t.passage < r.passage || (w.passages.size() == 1 && &t < &r)));
      }
    CHECK(who.size() == 1);
    if (!who.empty()) r.subject = *who.begin();
  }
  return out;
}

// The values that answer a step, in the order of the text.
std::vector<std::string> step(const std::vector<reading>& all, const worlds::query& q) {
  std::vector<std::string> out;
  for (const reading& r : all) {
    if (r.what != q.first || (!q.extra.empty() && r.extra != q.extra)) continue;
    if (q.place_of_thing ? r.object == q.key : q.backward ? q.key.empty() || r.object == q.key : r.subject == q.key)
      out.push_back(q.place_of_thing ? r.extra : q.backward ? r.subject : r.object);
  }
  return out;
}

}  // namespace

TEST_CASE("worlds: every answer follows from the text, and only one does", "[cli][worlds]") {
  std::array<std::size_t, worlds::kinds> seen{};
  for (std::size_t n = 0; n < 300; ++n) {
    const std::size_t level = 1 + n % 4;
    const world w = worlds::make_world(11, n, {.level = level, .passages = 8 + n % 9});
    INFO("world " << n << " of level " << level);
    const auto all = read(w);
    CHECK(all.size() == w.facts.size());
    std::set<std::string> asked;
    for (const worlds::question& q : w.questions) {
      INFO(q.text << " -> " << q.answer);
      ++seen[static_cast<std::size_t>(q.what)];
      auto found = step(all, q.meaning);
      if (q.meaning.chained) {
        REQUIRE(found.size() == 1);
        CHECK(q.through == found.front());
        // What is counted stands in the question's words.
        std::vector<std::string> second;
        for (const reading& r : all)
          if (r.what == q.meaning.second && r.subject == found.front() && (r.extra.empty() || r.what == relation::hid || q.text.find(r.extra) != std::string::npos))
            second.push_back(r.object);
        found = second;
      }
      REQUIRE(!found.empty());
      if (q.what == worlds::kind::refer) {
        const std::string& who = q.meaning.backward ? q.answer : q.meaning.key;
        CHECK(std::any_of(all.begin(), all.end(), [&](const reading& r) {
          return r.what == relation::trade && r.subject == who && r.object == q.through;
        }));
      }
      CHECK(q.through.empty() == (q.what != worlds::kind::two && q.what != worlds::kind::refer));
      CHECK(q.answers().back() == q.answer);
      if (q.meaning.first < relation::seen) CHECK(found.size() == 1);
      if (q.what == worlds::kind::later) CHECK(found.size() > 1);
      CHECK(found.back() == q.answer);
      CHECK(std::count(found.begin(), found.end(), q.answer) == 1);
      CHECK(q.text.find(q.answer + " ") == std::string::npos);
      CHECK(q.text.find('{') == std::string::npos);
      CHECK(worlds::detail::asks(level, q.what));
    }
  }
  for (const std::size_t n : seen) CHECK(n > 20);
}

TEST_CASE("worlds: questions need the passages that their kind says", "[cli][worlds]") {
  for (std::size_t n = 0; n < 100; ++n) {
    const world w = worlds::make_world(12, n);
    for (const worlds::question& q : w.questions) {
      INFO(q.text << " -> " << q.answer);
      // The passages in which a question's key and its answer stand together.
      std::size_t together = 0;
      for (const worlds::passage& p : w.passages) {
        const std::string text = " " + p.title + " " + p.text;
        const std::string key = q.meaning.key.empty() ? q.meaning.extra : q.meaning.key;
        const auto has = [&](const std::string& word) {
          for (std::size_t at = text.find(" " + word); at != std::string::npos; at = text.find(" " + word, at + 1))
            if (const char after = text[at + 1 + word.size()]; after == ' ' || after == '.') return true;
          return false;
        };
        for (const worlds::fact& f : w.facts)
          if (&w.passages[f.passage] == &p && f.how != worlds::mention::name && (f.subject == key || f.subject == q.answer) &&
              (q.what == worlds::kind::refer || q.what == worlds::kind::continued || q.what == worlds::kind::pronoun))
            CHECK_FALSE(has(f.subject));
        together += has(key) && has(q.answer) ? 1u : 0u;
      }
      if (q.what == worlds::kind::one) CHECK(together >= 1);
    }
  }
}

TEST_CASE("worlds: a lesson is facts alone, and no word stands in two of them", "[cli][worlds]") {
  std::size_t most = 0, questions = 0;
  for (std::size_t n = 0; n < 200; ++n) {
    INFO("lesson " << n);
    const std::size_t sentences = 2 + n % 9;
    const world w = worlds::make_lesson(11, n, sentences);
    REQUIRE(w.passages.size() == 1);
    CHECK(w.facts.size() <= sentences);
    most = std::max(most, w.facts.size());
    const std::string& text = w.passages.front().text;
    CHECK(static_cast<std::size_t>(std::count(text.begin(), text.end(), '.')) == w.facts.size());
    const auto all = read(w);
    REQUIRE(all.size() == w.facts.size());
    const auto ends = worlds::ends_of(w);
    CHECK(ends.size() == 2 * w.facts.size());
    std::set<std::string> given;
    for (const auto& [word, other] : ends) {
      CHECK(given.insert(word).second);
      CHECK(std::count_if(all.begin(), all.end(), [&, &word = word, &other = other](const reading& r) {
              return (r.subject == word && r.object == other) ||
                     (r.object == word && (r.what == relation::hid ? r.extra : r.subject) == other);
            }) == 1);
    }
    for (const worlds::question& q : w.questions) {
      INFO(q.text << " -> " << q.answer);
      CHECK(step(all, q.meaning) == std::vector<std::string>{q.answer});
      ++questions;
    }
  }
  CHECK(most == 10);
  CHECK(questions > 1000);
  CHECK(worlds::make_lesson(1, 5, 6).passages == worlds::make_lesson(1, 5, 6).passages);
  CHECK(worlds::make_lesson(1, 5, 6).passages != worlds::make_lesson(1, 6, 6).passages);
}

TEST_CASE("worlds: a lesson of links says the same two things of everybody", "[cli][worlds]") {
  std::array<std::size_t, worlds::kinds> asked{};
  for (std::size_t n = 0; n < 200; ++n) {
    INFO("lesson " << n);
    const std::size_t count = 2 + n % 5;
    const world w = worlds::make_links(11, n, count, 30);
    REQUIRE(w.passages.size() == 1);
    REQUIRE(w.facts.size() == 2 * count);
    const auto all = read(w);
    REQUIRE(all.size() == w.facts.size());
    std::map<relation, std::size_t> said;
    for (const reading& r : all) ++said[r.what];
    CHECK(said.size() == 2);
    for (const auto& [what, times] : said) CHECK(times == count);
    for (const worlds::question& q : w.questions) {
      INFO(q.text << " -> " << q.answer);
      ++asked[static_cast<std::size_t>(q.what)];
      auto found = step(all, q.meaning);
      REQUIRE(found.size() == 1);
      if (q.meaning.chained) {
        CHECK(found.front() == q.through);
        found.clear();
        for (const reading& r : all)
          if (r.what == q.meaning.second && r.subject == q.through) found.push_back(r.object);
      }
      CHECK(found == std::vector<std::string>{q.answer});
    }
  }
  CHECK(asked[static_cast<std::size_t>(worlds::kind::one)] > 300);
  CHECK(asked[static_cast<std::size_t>(worlds::kind::two)] > 300);
  CHECK(asked[static_cast<std::size_t>(worlds::kind::refer)] > 300);
}

TEST_CASE("worlds: nothing can be guessed", "[cli][worlds]") {
  std::map<std::string, std::size_t> answers, questions;
  std::map<std::string, std::map<std::string, std::size_t>> by_question;
  std::size_t all = 0, passages = 0, smallest = 1000, largest = 0;
  for (std::size_t n = 0; n < 400; ++n) {
    const world w = worlds::make_world(13, n);
    CHECK(w.passages.size() == 10);
    CHECK(w.questions.size() == 14);
    for (const worlds::question& q : w.questions) {
      ++answers[q.answer], ++all;
      // The question without its names: if that told the answer, no passage would be needed.
      ++by_question[q.text.substr(0, q.text.find(' ', q.text.find(' ') + 1))][q.answer];
    }
    for (const worlds::passage& p : w.passages) {
      std::size_t words = 4;  // two line ends, the first word of both
      for (const char c : p.title + p.text) words += c == ' ' || c == '.' || c == ',' ? 1u : 0u;
      smallest = std::min(smallest, words), largest = std::max(largest, words), ++passages;
    }
  }
  for (const auto& [answer, n] : answers) CHECK(n * 100 < all);
  for (const auto& [question, list] : by_question) {
    std::size_t sum = 0, most = 0;
    for (const auto& [answer, n] : list) sum += n, most = std::max(most, n);
    INFO(question);
    if (sum > 200) CHECK(most * 6 < sum);
  }
  CHECK(smallest >= 50);
  CHECK(largest <= 80);
}

TEST_CASE("worlds: inventories share no word", "[cli][worlds]") {
  std::map<std::string_view, int> count;
  const auto add = [&](const auto& list) {
    for (const std::string_view word : list) ++count[word];
  };
  add(worlds::women), add(worlds::men), add(worlds::places), add(worlds::goods), add(worlds::trades), add(worlds::things);
  add(worlds::animals), add(worlds::buildings), add(worlds::numbers), add(worlds::months);
  for (const auto& [word, n] : count) {
    INFO(word);
    CHECK(n == 1);
  }
  CHECK(std::size(worlds::women) + std::size(worlds::men) == 100);
  CHECK(std::size(worlds::places) == 60);
  CHECK(std::size(worlds::goods) == 80);
}

TEST_CASE("worlds: a seed gives the same bytes on every machine", "[cli][worlds]") {
  std::string all;
  for (std::size_t level = 1; level <= 4; ++level) all += worlds::context_line(worlds::make_world(1, level, {.level = level}));
  CHECK(digest(all) == 0xdb8c2a84310846b1u);
  CHECK(worlds::context_line(worlds::make_world(1, 5)) == worlds::context_line(worlds::make_world(1, 5)));
  CHECK(worlds::context_line(worlds::make_world(1, 5)) != worlds::context_line(worlds::make_world(2, 5)));
}

TEST_CASE("worlds: both formats are datasets that say the same", "[cli][worlds]") {
  const world w = worlds::make_world(3, 0);
  const auto lines = blockattn::read_dataset(worlds::question_lines(w)), context = blockattn::read_dataset(worlds::context_line(w));
  REQUIRE(lines);
  REQUIRE(context);
  CHECK(*lines == *context);
  REQUIRE(lines->size() == w.questions.size());
  CHECK((*lines)[3].question == w.questions[3].text);
  CHECK((*lines)[3].answers == w.questions[3].answers());
  CHECK((*lines)[3].kind == to_string(w.questions[3].what));
}

TEST_CASE("cli worlds: prints the worlds of a seed, or writes them", "[cli][worlds]") {
  using namespace blockattn_test;
  BLOCKATTN_REQUIRE_CLI();
  const auto printed = run({"worlds", "--seed", "3", "--count", "2", "--format", "contexts"});
  CHECK(printed.code == 0);
  CHECK(printed.out == worlds::context_line(worlds::make_world(3, 0)) + worlds::context_line(worlds::make_world(3, 1)));
  const temporary_folder folder;
  const json said = run_json({"worlds", "--seed", "3", "--first", "1", "--level", "2", "--out", folder / "w.jsonl"});
  const world w = worlds::make_world(3, 1, {.level = 2});
  CHECK(slurp(folder / "w.jsonl") == worlds::question_lines(w));
  CHECK(said["questions"] == w.questions.size());
  check_refused({"worlds", "--level", "5"}, 2);
  check_refused({"worlds", "--json"}, 2);
  check_refused({"worlds", "--out", folder / "no/such/file"}, 1);
}

TEST_CASE("cli babi: a task becomes a dataset that score reads", "[cli][worlds]") {
  using namespace blockattn_test;
  BLOCKATTN_REQUIRE_CLI();
  const temporary_folder folder;
  const std::string task = folder.file("qa1_easy.txt", std::string("1 Mary went home.\n2 John slept.\n3 Where is Mary? \thome\t1\n"));
  const auto printed = run({"babi", task, "--group", "1"});
  CHECK(printed.code == 0);
  const auto read = blockattn::read_dataset(printed.out);
  REQUIRE(read);
  auto expected = blockattn::read_babi("1 Mary went home.\n2 John slept.\n3 Where is Mary? \thome\t1\n", 1).value();
  expected.front().kind = "qa1";
  CHECK(*read == expected);
  CHECK(run_json({"babi", task, "--out", folder / "d.jsonl"})["questions"] == 1);
  CHECK(blockattn::open_dataset(folder / "d.jsonl").value().front().passages.size() == 1);
  const std::string why = check_refused({"babi", folder.file("bad.txt", std::string("no number\n"))}, 1);
  CHECK(why.find("line 1") != std::string::npos);
  check_refused({"babi", folder / "missing"}, 1);
}
