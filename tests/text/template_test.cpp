// SPDX-License-Identifier: MIT
#include <blockattn/text/template.hpp>

#include "../support/catch.hpp"

namespace ba = blockattn;

TEST_CASE("the paper's template, byte for byte", "[text][golden]") {
  const auto t = ba::find_template("paper");
  REQUIRE(t);
  const std::vector<ba::passage> passages = {{"Lodi, California", "\n Lodi is a city.\n"},
                                             {"Oakland", "A port.\nAnd a lake."}};
  const ba::rendered_prompt p = ba::render(*t, passages, "Where is Lodi?");
  CHECK(p.preamble ==
        "<|user|>\nYou are an intelligent AI assistant. Please answer questions based on the user's instructions. "
        "Below are some reference documents that may help you in answering the user's question.\n\n");
  REQUIRE(p.passages.size() == 2);
  CHECK(p.passages[0] == "- Title: Lodi, California\nLodi is a city.\n");
  CHECK(p.passages[1] == "- Title: Oakland\nA port.\nAnd a lake.\n");
  CHECK(p.final ==
        "\n\nPlease write a high-quality answer for the given question using only the provided search documents (some "
        "of which might be irrelevant).\nQuestion: Where is Lodi?\n<|assistant|>\n");
  CHECK(p.joined() == p.preamble + p.passages[0] + p.passages[1] + p.final);
  CHECK_FALSE(t->bos);
  // The whole, in one literal, as the authors' server receives it.
  CHECK(p.joined() ==
        "<|user|>\nYou are an intelligent AI assistant. Please answer questions based on the user's instructions. "
        "Below are some reference documents that may help you in answering the user's question.\n\n"
        "- Title: Lodi, California\nLodi is a city.\n- Title: Oakland\nA port.\nAnd a lake.\n"
        "\n\nPlease write a high-quality answer for the given question using only the provided search documents (some "
        "of which might be irrelevant).\nQuestion: Where is Lodi?\n<|assistant|>\n");
}

TEST_CASE("only the text of a passage is stripped", "[text]") {
  const auto t = ba::find_template("paper");
  REQUIRE(t);
  CHECK(ba::render(*t, {" a ", "\t b \xC2\xA0\n"}) == "- Title:  a \nb\n");
  CHECK(ba::render(*t, {"", ""}) == "- Title: \n\n");
  CHECK(ba::render(*t, {}, " why ").final.find("Question:  why \n") != std::string::npos);
  auto kept = *t;
  kept.strip = false;
  CHECK(ba::render(kept, {"a", " b "}) == "- Title: a\n b \n");
}

TEST_CASE("values are not filled again, and other braces stay", "[text]") {
  const auto t = ba::find_template("paper");
  REQUIRE(t);
  CHECK(ba::render(*t, {"{text}", "{title}{question}"}) == "- Title: {text}\n{title}{question}\n");
  ba::prompt_template own;
  own.passage = "{{title}} {titl} {text}{text}{";
  own.question = "{}{question}{text}";
  CHECK(ba::render(own, {"T", "x"}) == "{T} {titl} xx{");
  CHECK(ba::render(own, {}, "{text}").final == "{}{text}{text}");
  CHECK(ba::render(own, {}, "").preamble == "");
}

TEST_CASE("templates are found by name; an unknown name lists the known", "[text]") {
  const auto plain = ba::find_template("plain");
  REQUIRE(plain);
  CHECK(plain->bos);
  const std::vector<ba::passage> passages = {{"T", " x "}};
  CHECK(ba::render(*plain, passages, "Q?").joined() ==
        "Answer the question from the passages.\n\nT\nx\n\nQuestion: Q?\nAnswer:");
  for (const char* name : {"", "Paper", "vicuna"}) {
    const auto t = ba::find_template(name);
    REQUIRE_FALSE(t);
    CHECK(t.error().code == ba::errc::invalid_argument);
    CHECK(t.error().message.find("paper, plain") != std::string::npos);
    CHECK(t.error().message.find("\"" + std::string(name) + "\"") != std::string::npos);
  }
  for (const auto& t : ba::prompt_templates()) CHECK(ba::find_template(t.name).value() == t);
}
