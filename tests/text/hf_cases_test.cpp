// SPDX-License-Identifier: MIT
// Every step of a tokenizer.json, one at a time and in the combinations that models use, against the ids that Hugging
// Face's library gives; and the kinds of GGUF against the same.
#include <blockattn/text/hf_tokenizer.hpp>

#include "../support/catch.hpp"
#include "hf_cases.hpp"

namespace ba = blockattn;
using json = nlohmann::json;

TEST_CASE("tokenizer.json: ids equal Hugging Face's, step by step", "[text][hf][golden]") {
  const json texts = json::parse(blockattn_test::hf_texts);
  std::size_t compared = 0, kinds = 0;
  for (const char* source : blockattn_test::hf_cases) {
    const json c = json::parse(source);
    INFO(c["name"]);
    json document = json::parse(blockattn_test::hf_bases[c["base"].get<std::size_t>()]);
    document.merge_patch(json{{"model", c["patch"].value("model", json::object())}});
    // merge_patch takes null for a removal, which means the same here.
    for (const auto& [key, value] : c["patch"].items())
      if (key != "model") document[key] = value;
    auto v = ba::read_hf_vocabulary({document.dump(), {}, {}});
    if (!v) FAIL(v.error().message);
    std::vector<ba::vocabulary> same = {*v};
    if (c.contains("kind")) {
      same.push_back(*v);
      same.back().has_steps = false;
      same.back().pre = c["kind"].get<std::string>();
      ++kinds;
    }
    for (ba::vocabulary& one : same) {
      const bool lossless_model = one.model == ba::vocabulary::kind::bpe && one.normalizers.empty();
      const auto words = ba::tokenizer::from_vocabulary(one);
      if (!words) FAIL(words.error().message);
      for (std::size_t i = 0; i < c["ids"].size(); ++i) {
        const std::string text = texts[c.contains("texts") ? c["texts"][i].get<std::size_t>() : i].get<std::string>();
        INFO(json(text));
        const auto ids = words->encode(text, {.special = true});
        CHECK(json(ids) == c["ids"][i]);
        if (words->lossless()) CHECK(words->decode(words->encode(text)) == text);
        if (!lossless_model) CHECK_FALSE(words->lossless());
        ++compared;
      }
    }
  }
  CHECK(compared > 1000);
  CHECK(kinds >= 9);
}
