// SPDX-License-Identifier: MIT
// Texts cut into blocks: the golden vectors of the paper's code (PAPER 1.2), the rules, and nothing lost anywhere.
#include <blockattn/text/segment.hpp>
#include <blockattn/text/segment_chat.hpp>
#include <blockattn/text/template.hpp>

#include <algorithm>
#include <memory>
#include <regex>

#include "../support/catch.hpp"
#include "../support/random_model.hpp"

namespace ba = blockattn;
using pieces = std::vector<std::string>;

namespace {

template <class Views>
pieces owned(const Views& views) {
  return {views.begin(), views.end()};
}
template <class Pieces>
std::string joined(const Pieces& p) {
  std::string out;
  for (const auto& s : p) out += s;
  return out;
}

// The paper's rules once more, by regular expressions, as its code states them; for ASCII.
pieces by_regex(const std::string& text) {
  const std::pair<std::regex, bool> rules[] = {{std::regex("\\s*\n\n\\s*"), false},
                                               {std::regex("\\s*-{3,}\\s*"), true},
                                               {std::regex("\\s*={3,}\\s*"), true},
                                               {std::regex("\n\t"), true},
                                               {std::regex("\\s*\n\\s*"), false}};
  for (const auto& [rule, own] : rules) {
    // Text, delimiter, text, ..., text.
    pieces parts;
    std::size_t from = 0;
    for (std::sregex_iterator it(text.begin(), text.end(), rule), end; it != end; ++it) {
      const auto at = static_cast<std::size_t>(it->position());
      parts.push_back(text.substr(from, at - from));
      parts.push_back(it->str());
      from = at + it->str().size();
    }
    if (parts.empty()) continue;
    parts.push_back(text.substr(from));
    pieces out;
    const bool leading = parts[0].empty();
    for (std::size_t i = 0; i < parts.size(); ++i) {
      if (own) {
        out.push_back(parts[i]);
      } else if (leading ? i % 2 == 0 && i != 0 : i % 2 == 1) {
        out.push_back(parts[i - 1] + parts[i]);
      } else if (!leading && i + 1 == parts.size()) {
        out.push_back(parts[i]);
      }
    }
    out.erase(std::remove(out.begin(), out.end(), ""), out.end());
    return out;
  }
  return {text};
}

}  // namespace

TEST_CASE("the paper's delimiters: golden vectors", "[text][golden]") {
  const std::pair<std::string, pieces> cases[] = {
      {"a\n\nb\n\nc", {"a\n\n", "b\n\n", "c"}},
      {"a \n\n\n b\n\nc", {"a \n\n\n ", "b\n\n", "c"}},
      {"\n\na\n\nb", {"\n\na", "\n\nb"}},
      {"a\n\nb\n\n", {"a\n\n", "b\n\n"}},
      {"x\n-----\ny", {"x", "\n-----\n", "y"}},
      {"x === y", {"x", " === ", "y"}},
      {"a\n\tb", {"a", "\n\t", "b"}},
      {"a\nb\nc", {"a\n", "b\n", "c"}},
      {"  a\n b", {"  a\n ", "b"}},
      {"a\n\nb---c\nd", {"a\n\n", "b---c\nd"}},
      {"", {""}},
      {"abc", {"abc"}},
      {"\n", {"\n"}},
      {"a--b", {"a--b"}},
  };
  for (const auto& [text, expected] : cases) {
    INFO(text);
    CHECK(owned(ba::segment_by_delimiter(text)) == expected);
    CHECK(by_regex(text) == expected);
  }
  // Whitespace of any script belongs to a delimiter; half a character does not.
  CHECK(owned(ba::segment_by_delimiter("a\xE3\x80\x80\n\n\xC2\xA0" "b")) == pieces{"a\xE3\x80\x80\n\n\xC2\xA0", "b"});
  CHECK(owned(ba::segment_by_delimiter("a\x80\n\n\x80" "b")) == pieces{"a\x80\n\n", "\x80" "b"});
}

TEST_CASE("the paper's delimiters: any text, against its regular expressions", "[text]") {
  blockattn_test::random_numbers random(7);
  const std::string letters = "ab \n\n\n\t--==";
  for (int round = 0; round < 1000; ++round) {
    std::string text;
    for (std::size_t size = random.below(24); size > 0; --size) text += letters[random.below(letters.size())];
    const auto found = owned(ba::segment_by_delimiter(text));
    INFO("\"" << text << "\"");
    REQUIRE(found == by_regex(text));
    REQUIRE(joined(found) == text);
  }
}

TEST_CASE("hostile texts cost no more than others", "[text]") {
  const std::size_t n = std::size_t{1} << 20;
  for (const std::string part : {" ", "\n", "\n \n\t", "-", "- ", "--- ", "=\n", "\n- Title:", "\xE3\x80\x80", "a\n\n", "\x80"}) {
    std::string text;
    while (text.size() < n) text += part;
    for (const char* by : {"whole", "delimiter", "passages", "bbh", "drop", "answers", "turns"})
      CHECK(joined(ba::segment(text, by).value()) == text);
  }
}

TEST_CASE("passages, demonstrations, turns", "[text]") {
  const auto form = ba::find_template("paper").value();
  const std::vector<ba::passage> passages = {{"A", "one\n- not a title"}, {"B", "two"}, {"C", "three"}};
  const auto prompt = ba::render(form, passages, "Why?");
  pieces blocks{prompt.preamble};
  blocks.insert(blocks.end(), prompt.passages.begin(), prompt.passages.end());
  blocks.push_back(prompt.final);
  CHECK(owned(ba::segment_at(prompt.joined(), ba::passage_cuts)) == blocks);

  CHECK(owned(ba::segment("Intro\n\nQ: a\nA: b\n\nQ: c\nA: d\n\nQ: e", "bbh").value()) ==
        pieces{"Intro\n\n", "Q: a\nA: b\n\n", "Q: c\nA: d\n\n", "Q: e"});
  CHECK(owned(ba::segment("x\n---\ny\n---\nz", "drop").value()) == pieces{"x", "\n---\ny", "\n---\nz"});
  CHECK(owned(ba::segment("<|user|>\nq<|end_of_text|>\n<|user|>\nr<|end_of_text|>\n", "answers").value()) ==
        pieces{"<|user|>\nq<|end_of_text|>\n", "<|user|>\nr<|end_of_text|>\n"});
  CHECK(owned(ba::segment("<|user|>\na\n<|assistant|>\nb\n<|user|>\nc", "turns").value()) ==
        pieces{"<|user|>\na\n<|assistant|>\nb\n", "<|user|>\nc"});
  for (const char* by : {"whole", "delimiter", "passages", "turns"}) CHECK(owned(ba::segment("", by).value()) == pieces{""});
  // A program's own rules: the first listed counts where several fit; empty patterns never match.
  const std::array<ba::cut_rule, 3> own{{{"", 0}, {"ab", 1}, {"a", 0}}};
  CHECK(owned(ba::segment_at("xabxaa", own)) == pieces{"xa", "bx", "a", "a"});
  const auto unknown = ba::segment("x", "semantic");
  REQUIRE_FALSE(unknown);
  CHECK(unknown.error().code == ba::errc::invalid_argument);
  CHECK(unknown.error().message.find("whole, delimiter, passages, bbh") != std::string::npos);
}

TEST_CASE("messages in pieces carry their turn", "[text][golden]") {
  const auto t = ba::find_chat_template("tulu").value();
  const std::vector<ba::chat_message> messages = {{ba::chat_role::system, "sys a\n\nsys b"},
                                                  {ba::chat_role::user, "u1\n\nu2\n\nu3"}};
  const auto texts = [](const std::vector<ba::marked_text>& blocks) {
    pieces out;
    for (const auto& b : blocks) out.push_back(b.text);
    return out;
  };
  const auto blocks = ba::segment_messages(t, messages).value();
  // The golden vector, with the generation prompt that belongs to the last block.
  CHECK(texts(blocks) == pieces{"<|system|>\nsys a\n\n", "sys b\n", "<|user|>\nu1\n\n", "u2\n\n", "u3\n<|assistant|>\n"});
  CHECK(blocks[0].markers == std::vector<ba::marked_text::marker>{{0, 10}});
  CHECK(blocks[1].markers.empty());
  CHECK(blocks[4].markers == std::vector<ba::marked_text::marker>{{3, 13}});
  // Fewer than four: the shortest piece is "u3"; it joins its left neighbour.
  CHECK(texts(ba::segment_messages(t, messages, 5).value()) ==
        pieces{"<|system|>\nsys a\n\n", "sys b\n", "<|user|>\nu1\n\n", "u2\n\nu3\n<|assistant|>\n"});
  // As many messages as the limit: none is cut.
  CHECK(ba::segment_messages(t, messages, 2).value().size() == 2);

  // Every template, every limit: joined they are the conversation, markers and all.
  const std::vector<ba::chat_message> more = {{ba::chat_role::system, "a\n\nb"},
                                              {ba::chat_role::user, "<|user|>\n---\nc"},
                                              {ba::chat_role::assistant, " d\ne\n"},
                                              {ba::chat_role::user, "\n\nf\n\n"}};
  for (const auto& any : ba::chat_templates()) {
    ba::marked_text whole;
    const auto rendered = ba::render_messages(any, more).value();
    for (const auto& m : rendered) whole.add(m);
    for (const std::size_t limit : {0u, 2u, 5u, 6u, 7u, 100u}) {
      INFO(any.name << ", " << limit);
      ba::marked_text sum;
      const auto cut = ba::segment_messages(any, more, limit).value();
      for (const auto& b : cut) sum.add(b);
      CHECK(sum == whole);
      if (limit != 0) CHECK(cut.size() < std::max<std::size_t>(limit, more.size() + 1));
    }
  }
}

TEST_CASE("the cheapest merge of all, again and again", "[text]") {
  const auto views = [](const std::vector<pieces>& groups) {
    // Pieces must be contiguous, so each group is cut from one string that outlives the test.
    static std::vector<std::unique_ptr<std::string>> kept;
    std::vector<std::vector<std::string_view>> out;
    for (const pieces& g : groups) {
      kept.push_back(std::make_unique<std::string>(joined(g)));
      std::string_view rest = *kept.back();
      auto& views_of_group = out.emplace_back();
      for (const std::string& p : g) {
        views_of_group.push_back(rest.substr(0, p.size()));
        rest.remove_prefix(p.size());
      }
    }
    return out;
  };
  const auto merged = [&](const std::vector<pieces>& groups, std::size_t limit) {
    std::vector<pieces> out;
    for (const auto& g : ba::merge_pieces(views(groups), limit)) out.push_back(owned(g));
    return out;
  };
  using groups = std::vector<pieces>;
  CHECK(merged({{"aaa", "b"}, {"cc", "dd"}}, 5) == groups{{"aaa", "b"}, {"cc", "dd"}});
  CHECK(merged({{"aaa", "b"}, {"cc", "dd"}}, 4) == groups{{"aaab"}, {"cc", "dd"}});
  CHECK(merged({{"aaa", "b"}, {"cc", "dd"}}, 3) == groups{{"aaab"}, {"ccdd"}});
  CHECK(merged({{"aaa", "b"}, {"cc", "dd"}}, 1) == groups{{"aaab"}, {"ccdd"}});
  // The shortest of all counts, wherever it stands: not that of the last group, as the published code has it.
  CHECK(merged({{"x", "yyyy"}, {"ccc", "ddd"}}, 4) == groups{{"xyyyy"}, {"ccc", "ddd"}});
  // The first of its group joins to the right; a lone short piece is no candidate; code points count, not bytes.
  CHECK(merged({{"a"}, {"bb", "cccc", "ddd"}}, 4) == groups{{"a"}, {"bbcccc", "ddd"}});
  CHECK(merged({{"\xC3\xA9\xC3\xA9", "xyz"}, {"abc", "de"}}, 4) == groups{{"\xC3\xA9\xC3\xA9xyz"}, {"abc", "de"}});

  // Random groups against the rule taken literally.
  blockattn_test::random_numbers random(3);
  for (int round = 0; round < 200; ++round) {
    groups start;
    std::size_t count = 0;
    for (int g = 0; g < 4; ++g) {
      pieces p;
      for (std::size_t n = 1 + random.below(6); n > 0; --n)
        p.push_back(std::string(1 + random.below(8), static_cast<char>('a' + g)));
      count += p.size();
      start.push_back(p);
    }
    const auto limit = 2 + random.below(16);
    groups expected = start;
    for (; count >= limit; --count) {
      std::size_t best = 0, at = 0, length = 1000;
      for (std::size_t g = 0; g < expected.size(); ++g)
        for (std::size_t i = 0; expected[g].size() > 1 && i < expected[g].size(); ++i)
          if (expected[g][i].size() < length) best = g, at = i, length = expected[g][i].size();
      if (length == 1000) break;
      pieces& p = expected[best];
      const std::size_t left = at == 0 ? 0 : at - 1;
      p[left] += p[left + 1];
      p.erase(p.begin() + static_cast<std::ptrdiff_t>(left) + 1);
    }
    REQUIRE(merged(start, limit) == expected);
  }
}
