// SPDX-License-Identifier: MIT
/// What a world says, as data: facts with the words by which passages name their subjects, and the questions about them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace worlds {

/// What a fact tells of its subject. A person's facts first, then a town's, then news, of which the last one counts.
enum class relation : std::uint8_t {
  trade,   ///< a person's trade
  home,    ///< the town where a person lives
  sells,   ///< a good
  wants,   ///< a good
  keeps,   ///< number and kind of animals
  hid,     ///< a thing, and the town where it lies now
  ruler,   ///< a town's ruler
  known,   ///< the good that a town is known for
  fair,    ///< the month of a town's fair
  has,     ///< number and kind of a town's buildings
  seen,    ///< news: the town where a person was seen
  holder   ///< news: of a thing, who has it
};
inline constexpr std::size_t relations = 12;

/// How a passage names the subject of a fact.
enum class mention : std::uint8_t {
  name,      ///< by its name, in the sentence, or by a pronoun that the passage's own heading explains
  trade,     ///< as "the baker": whose trade that is, another passage says
  same,      ///< by a pronoun in a passage that begins with "The same baker": as above
  pronoun    ///< by a pronoun in a passage without any name: it goes on with the passage before it
};

struct fact {
  relation what;
  std::string subject;         ///< the name of the person, town or thing: what is true
  mention how = mention::name;
  std::string said;            ///< the word that names it in this passage: the name, or the trade; empty for a pronoun
  std::string object;          ///< what answers a question about it
  std::string extra;           ///< keeps, has: of what; hid: where
  std::size_t passage = 0;     ///< its number after shuffling
};

struct passage {
  std::string title, text;
  friend bool operator==(const passage&, const passage&) = default;
};

/// What a question needs.
enum class kind : std::uint8_t {
  one,        ///< one passage, by name
  two,        ///< two passages: the first gives a person or a town, the second says something about it
  later,      ///< the later of two passages or more that say the same kind of thing
  refer,      ///< a fact about "the baker", and the passage that says who that is
  continued,  ///< the same, where the fact stands behind a pronoun
  pronoun     ///< a fact behind a pronoun, and the passage before it
};
inline constexpr std::size_t kinds = 6;

[[nodiscard]] constexpr std::string_view to_string(kind k) noexcept {
  constexpr std::string_view names[] = {"one", "two", "later", "refer", "continued", "pronoun"};
  return names[static_cast<std::size_t>(k)];
}

/// A question as data: from a fact's object to its subject (`backward`) or the other way, and perhaps on to a fact about
/// what was found.
struct query {
  relation first;
  bool backward = false;
  std::string key;              ///< the subject, or, backward, the object
  std::string extra;            ///< keeps, has: of what
  bool place_of_thing = false;  ///< hid: asks where, not who or what
  bool chained = false;
  relation second = relation::trade;
  friend bool operator==(const query&, const query&) = default;
};

struct question {
  kind what;
  query meaning;
  std::string text, answer;
  std::string through;  ///< two, refer: the word that leads from one fact to the other
  /// What counts as an answer. The first is what a model is trained to say: where a fact leads to another, that step too.
  [[nodiscard]] std::vector<std::string> answers() const {
    return through.empty() ? std::vector{answer} : std::vector{through + ": " + answer, answer};
  }
};

struct world {
  std::vector<passage> passages;
  std::vector<fact> facts;  ///< in the order of the text
  std::vector<question> questions;
};

}  // namespace worlds
