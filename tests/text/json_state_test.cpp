// SPDX-License-Identifier: MIT
// A JSON state in blocks: nothing lost, and an edit of one value changes exactly one block.
#include <blockattn/text/json_state.hpp>

#include <map>
#include <set>

#include <nlohmann/json.hpp>

#include "../support/catch.hpp"
#include "../support/random_model.hpp"

namespace ba = blockattn;
using nlohmann::json;

namespace {

std::vector<std::string> lines(const std::vector<ba::state_block>& blocks) {
  std::vector<std::string> out;
  for (const auto& b : blocks) out.push_back(b.text);
  return out;
}

// Rebuilds the document from the lines alone: the inverse that shows that no value is lost or misplaced.
class rebuilder {
 public:
  json root;
  std::size_t twice = 0;  // values that were said before

  void add(const std::string& line) {
    json* at = &root;
    std::size_t i = 1, offset = 0;
    while (line[i] != ':' || line[i + 1] != ' ') {
      if (line[i] == '.') {
        const std::size_t end = line.find_first_of(".[:", i + 1);
        at = &(*at)[line.substr(i + 1, end - i - 1)];
        i = end;
      } else if (line[i + 1] == '"') {
        std::size_t end = i + 2;
        while (line[end] != '"') end += line[end] == '\\' ? 2u : 1u;
        at = &(*at)[json::parse(line.substr(i + 1, end - i)).get<std::string>()];
        i = end + 2;
      } else {
        const std::size_t end = line.find(']', i);
        const std::string inside = line.substr(i + 1, end - i - 1);
        if (inside.find(':') != std::string::npos)
          offset = std::stoul(inside);
        else
          at = &(*at)[std::stoul(inside)];
        i = end + 1;
      }
    }
    const json value = json::parse(line.substr(i + 2));
    if (value.is_object() && !value.empty()) {
      for (const auto& [k, v] : value.items()) put((*at)[k], v);
    } else if (value.is_array() && !value.empty()) {
      for (std::size_t k = 0; k < value.size(); ++k) put((*at)[offset + k], value[k]);
    } else {
      put(*at, value);
    }
  }

 private:
  void put(json& place, const json& value) {
    twice += place.is_null() ? 0u : 1u;
    place = value;
  }
};

class random_json {
 public:
  explicit random_json(std::uint64_t seed) : random_(seed) {}

  std::size_t below(std::size_t n) { return random_.below(n); }
  json value() {
    switch (below(6)) {
      case 0: return below(1000000);
      case 1: return -static_cast<std::int64_t>(below(1000));
      case 2: return 0.5 + static_cast<double>(below(100));
      case 3: return below(2) == 0;
      case 4: return json(nullptr);
      default: return std::string(below(9), 'x') + "\"\n\\: ]$\xC3\xA9";
    }
  }
  json document(std::size_t depth) {
    const std::size_t kind = below(8);
    if (depth == 0 || kind == 0) return value();
    json out = kind < 4 ? json::array() : json::object();
    for (std::size_t n = below(depth > 2 ? 9 : 24); n > 0; --n) {
      constexpr const char* keys[] = {"a", "hp", "x_1", "odd key", "7", "", "a.b", "q\"", "[0]", "\xC3\xA9", "A", "$"};
      json child = document(depth - 1);
      if (out.is_array())
        out.push_back(std::move(child));
      else
        out[keys[below(12)] + (below(2) == 0 ? std::string() : std::to_string(below(40)))] = std::move(child);
    }
    return out;
  }
  // Every place of a scalar.
  static void leaves(json& j, std::vector<json*>& out) {
    if (j.is_structured() && !j.empty())
      for (json& child : j) leaves(child, out);
    else
      out.push_back(&j);
  }

 private:
  blockattn_test::random_numbers random_;
};

}  // namespace

TEST_CASE("a state in blocks, as it looks", "[text][golden]") {
  const char* state =
      "{\"round\": 3, \"chips\": {\"p2\": {\"bet\": 10, \"remain\": 990}, \"p1\": {\"bet\": 20, \"remain\": 980}},\n"
      " \"board\": [\"Ah\", \"Kd\", \"2c\"], \"odd key\": {\"x\": [1, 2, 3, 4, 5, 6, 7]}, \"done\": false}";
  CHECK(lines(ba::segment_json_state(state, {.leaves = 3, .together = 2}).value()) ==
        std::vector<std::string>{"$.board: [\"Ah\",\"Kd\",\"2c\"]\n", "$.chips: {\"p1\":{\"bet\":20,\"remain\":980}}\n",
                                 "$.chips: {\"p2\":{\"bet\":10,\"remain\":990}}\n", "$: {\"done\":false}\n",
                                 "$[\"odd key\"].x[0:3]: [1,2,3]\n", "$[\"odd key\"].x[3:6]: [4,5,6]\n",
                                 "$[\"odd key\"].x[6:7]: [7]\n", "$: {\"round\":3}\n"});
  CHECK(lines(ba::segment_json_state(" 7 ").value()) == std::vector<std::string>{"$: 7\n"});
  CHECK(lines(ba::segment_json_state("{}").value()) == std::vector<std::string>{"$: {}\n"});
  // Numbers keep the digits they were written with; strings are escaped where they must be and nowhere else.
  CHECK(lines(ba::segment_json_state("[1.10, 12345678901234567890123, 1E5, -0.0, \"\\u00e9\\/\\u0001\\n\"]").value()) ==
        std::vector<std::string>{"$: [1.10,12345678901234567890123,1E5,-0.0,\"\xC3\xA9/\\u0001\\n\"]\n"});
}

TEST_CASE("random states: nothing is lost, and an edit of one value changes one block", "[text]") {
  random_json random(11);
  std::size_t edits = 0, many = 0;
  for (int round = 0; round < 60; ++round) {
    json state = random.document(4);
    const ba::json_state_options options{.leaves = 1 + random.below(20), .together = 1 + random.below(6)};
    const auto before = ba::segment_json_state(state.dump(), options).value();
    std::set<std::string> places;
    rebuilder again;
    for (const auto& b : before) {
      places.insert(b.place);
      again.add(b.text);
    }
    REQUIRE(again.twice == 0);
    REQUIRE(again.root == state);
    REQUIRE(places.size() == before.size());  // each place once
    many += before.size() > 50 ? 1u : 0u;

    // Another layout is the same state.
    REQUIRE(ba::segment_json_state(state.dump(3), options).value() == before);

    std::vector<json*> leaves;
    random_json::leaves(state, leaves);
    for (int edit = 0; edit < 5; ++edit) {
      json& leaf = *leaves[random.below(leaves.size())];
      const json old = std::exchange(leaf, random.value());
      const auto after = ba::segment_json_state(state.dump(), options).value();
      REQUIRE(after.size() == before.size());
      std::size_t changed = 0, moved = 0;
      for (std::size_t i = 0; i < after.size(); ++i) {
        moved += after[i].place != before[i].place ? 1u : 0u;
        changed += after[i].text != before[i].text ? 1u : 0u;
      }
      REQUIRE(moved == 0);
      REQUIRE(changed == (leaf == old ? 0u : 1u));
      edits += changed;
      leaf = old;
    }
  }
  CHECK(edits > 100);
  CHECK(many > 5);
}

TEST_CASE("keys in any order are the same state", "[text]") {
  const auto sorted = ba::segment_json_state("{\"a\":1,\"b\":{\"c\":2,\"d\":[3]}}").value();
  CHECK(ba::segment_json_state("{ \"b\" : {\"d\":[ 3 ],\"c\":2} ,\"a\":1 }").value() == sorted);
}

TEST_CASE("a new key disturbs its group, not the others", "[text]") {
  json state;
  for (int i = 0; i < 400; ++i) state["units"]["unit_" + std::to_string(1000 + 2 * i)] = {{"hp", i}, {"x", 1}};
  const auto before = lines(ba::segment_json_state(state.dump()).value());
  REQUIRE(before.size() > 40);
  const std::set<std::string> old(before.begin(), before.end());
  std::size_t fresh = 0;
  for (const int key : {1001, 1255, 1401, 1799}) {
    json more = state;
    more["units"]["unit_" + std::to_string(key)] = {{"hp", 9}, {"x", 9}};
    for (const auto& line : lines(ba::segment_json_state(more.dump()).value())) fresh += old.count(line) == 0 ? 1u : 0u;
  }
  // Groups are at most 8 units; a key that hashes to a border ends the disturbance.
  CHECK(fresh >= 4);
  CHECK(fresh <= 4 * 6);
  // A list that grows at its end changes its last group.
  json list = json::array();
  for (int i = 0; i < 100; ++i) list.push_back(i);
  const auto short_list = lines(ba::segment_json_state(list.dump()).value());
  list.push_back(100);
  const auto long_list = lines(ba::segment_json_state(list.dump()).value());
  REQUIRE(short_list.size() == 7);
  CHECK(std::equal(short_list.begin(), short_list.end() - 1, long_list.begin()));
}

TEST_CASE("what is no state is an error that says where", "[text]") {
  struct bad {
    std::string text;
    ba::errc code;
    const char* what;
  };
  const bad cases[] = {
      {"", ba::errc::bad_format, "expected JSON"},
      {"{\"a\":}", ba::errc::bad_format, "byte 6"},
      {std::string("4\0 {}", 5), ba::errc::bad_format, "json state: expected JSON, found a zero byte at byte 1"},
      {"[1,2", ba::errc::bad_format, "expected JSON"},
      {"{} {}", ba::errc::bad_format, "byte"},
      {"[1e999]", ba::errc::bad_format, "expected JSON"},
      {"\"\xFF\"", ba::errc::bad_format, "expected JSON"},
      {"{\"k\":1,\"j\":2,\"k\":3}", ba::errc::bad_format, "key \"k\": expected once"},
      {std::string(129, '[') + std::string(129, ']'), ba::errc::unsupported, "at most 128 levels"},
      {std::string(1 << 20, '['), ba::errc::unsupported, "levels"},
  };
  for (const bad& c : cases) {
    const auto r = ba::segment_json_state(c.text);
    REQUIRE_FALSE(r);
    INFO(r.error().message);
    CHECK(r.error().code == c.code);
    CHECK(r.error().message.find(c.what) != std::string::npos);
  }
  CHECK(ba::segment_json_state(std::string(128, '[') + std::string(128, ']')));
}
