// SPDX-License-Identifier: MIT
// `score` as a script runs it: formats, results by sample, going on after a kill; and templates that files ask for.
#include <cmath>

#include "program.hpp"
#include "tiny_model.hpp"

using namespace blockattn_test;

namespace {

std::string dataset(std::size_t n) {
  std::string out;
  for (std::size_t i = 0; i < n; ++i)
    out += "{\"passages\":[{\"title\":\"t\",\"text\":\"x" + std::to_string(i) + "\"},{\"text\":\"y\"}],\"question\":\"q" +
           std::to_string(i) + "\",\"answers\":[\"" + (i % 2 == 0 ? "The" : "never said") + "\"]}\n";
  return out;
}

std::vector<std::string> lines_of(const std::string& file) {
  std::vector<std::string> out;
  std::string text = slurp(file);
  for (std::size_t at = 0, end; (end = text.find('\n', at)) != std::string::npos; at = end + 1)
    out.push_back(text.substr(at, end - at));
  return out;
}

}  // namespace

TEST_CASE("cli: a scoring run that was killed goes on where it stopped") {
  BLOCKATTN_REQUIRE_CLI();
  const temporary_folder folder;
  const std::string m = folder.file("tiny.gguf", tiny_gguf().build());
  const std::string d = folder.file("d.jsonl", dataset(6)), log = folder / "results.jsonl", out = folder / "out.jsonl";
  const auto score = [&](arguments more) {
    arguments call = {"score", "--model", m, "--dataset", d, "--max-tokens", "4"};
    call.insert(call.end(), more.begin(), more.end());
    return call;
  };
  const json plain = run_json(score({}));
  CHECK((plain["n"] == 6 && plain["accuracy"] == 0.5 && plain["exact_match"].is_number()));
  CHECK_FALSE(plain.contains("resumed"));
  // A first run, whole; its lines say what it found.
  const json first = run_json(score({"--resume", log, "--out", out}));
  CHECK(first["resumed"] == 0);
  for (const char* field : {"accuracy", "nll", "n", "exact_match"}) CHECK(first[field] == plain[field]);
  const auto all = lines_of(log);
  REQUIRE(all.size() == 6);
  CHECK(lines_of(out) == all);
  double nll = 0, tokens = 0;
  for (std::size_t i = 0; i < 6; ++i) {
    const json o = json::parse(all[i]);
    CHECK((o["index"] == i && o["question"] == "q" + std::to_string(i)));
    CHECK(o["best_subspan_em"] == (i % 2 == 0));
    nll += o["nll"].get<double>();
    tokens += o["tokens"].get<double>();
  }
  CHECK(first["nll"].get<double>() == nll / tokens);
  // Killed in the middle of the fourth line.
  const std::string whole = slurp(log);
  const std::size_t third = all[0].size() + all[1].size() + all[2].size() + 3;
  for (const std::size_t size : {third + 1, third + 40, third + all[3].size(), third, std::size_t{5}, std::size_t{0}}) {
    folder.file("results.jsonl", whole.substr(0, size));
    const json again = run_json(score({"--resume", log, "--out", out}));
    CHECK(again["resumed"] == (size >= third ? 3 : 0));
    for (const char* field : {"accuracy", "nll", "n", "exact_match"}) CHECK(again[field] == plain[field]);
    CHECK(slurp(log) == whole);
    CHECK(slurp(out) == whole);
  }
  // Nothing is computed a second time, and another mode, template or length is another result.
  CHECK(run_json(score({"--resume", log}))["resumed"] == 6);
  CHECK(slurp(log) == whole);
  CHECK(run_json(score({"--resume", log, "--mode", "full"}))["resumed"] == 0);
  CHECK(run_json(score({"--resume", log, "--template", "plain"}))["resumed"] == 0);
  CHECK(run_json(score({"--resume", log, "--kv", "f32"}))["resumed"] == 0);
  CHECK(lines_of(log).size() == 24);
  CHECK(run_json(score({"--resume", log, "--mode", "full"}))["resumed"] == 6);
  // A whole line that is no result is not skipped in silence.
  folder.file("results.jsonl", all[0] + "\n{\"key\": 7}\n" + all[1] + "\n");
  const std::string why = check_refused(score({"--resume", log}), 1);
  CHECK(why.find("results.jsonl, line 2: expected a result") != std::string::npos);
  check_refused(score({"--resume", log, "--out", log}), 2);
  check_refused(score({"--out", folder / "none" + "/out"}), 1);
  check_refused(score({"--format", "squad"}), 2);
}

TEST_CASE("cli: score reads published formats, and the first passages of each") {
  BLOCKATTN_REQUIRE_CLI();
  const temporary_folder folder;
  const std::string m = folder.file("tiny.gguf", tiny_gguf().build());
  const auto score = [&](const std::string& text, arguments more) {
    arguments call = {"score", "--model", m, "--dataset", folder.file("d.json", text), "--max-tokens", "2"};
    call.insert(call.end(), more.begin(), more.end());
    return run_json(call);
  };
  const std::string lines =
      "{\"passages\":[{\"title\":\"T\",\"text\":\"a b\"},{\"title\":\"U\",\"text\":\"c\"}],\"question\":\"q\",\"answers\":[\"z\"]}";
  const std::string hotpot =
      "[{\"context\":[[\"T\",[\"a\",\" b\"]],[\"U\",[\"c\"]]],\"question\":\"q\",\"answer\":\"z\"}]";
  const json one = score(lines, {});
  CHECK(score(hotpot, {}) == one);
  CHECK(score(hotpot, {"--format", "hotpotqa"}) == one);
  CHECK(score(hotpot, {"--top-passages", "2"}) == one);
  CHECK(score(hotpot, {"--top-passages", "1"})["nll"] != one["nll"]);
  CHECK(check_refused({"score", "--model", m, "--dataset", folder / "d.json", "--format", "nq"}, 1)
            .find("d.json: line 1: ctxs: expected a member") != std::string::npos);
}

TEST_CASE("cli: a template by the file's own wish") {
  BLOCKATTN_REQUIRE_CLI();
  const temporary_folder folder;
  const std::string passages = folder.file("p.jsonl", std::string("{\"title\": \"T\", \"text\": \"x\"}\n"));
  const auto answer = [&](const std::string& model, const char* name) {
    return arguments{"answer", "--model", model, "--passages", passages, "--question", "q", "--max-tokens", "1",
                     "--template", name};
  };
  const auto blocks = [&](const std::string& model, const char* name) { return run_json(answer(model, name))["blocks"]; };
  gguf_writer w = tiny_gguf();
  w.text("tokenizer.chat_template", "{{'<|im_start|>' + role + '\\n' + content + '<|im_end|>'}}");
  const std::string chatml = folder.file("chatml.gguf", w.build());
  CHECK(blocks(chatml, "auto") == blocks(chatml, "chatml"));
  CHECK(blocks(chatml, "auto") == blocks(chatml, "qwen"));
  CHECK(blocks(chatml, "auto") != blocks(chatml, "paper"));
  CHECK(blocks(chatml, "tulu") == blocks(chatml, "paper"));
  gguf_writer odd = tiny_gguf();
  odd.text("tokenizer.chat_template", "{{ messages }}");
  CHECK(check_refused(answer(folder.file("odd.gguf", odd.build()), "auto"), 1).find("--template NAME") != std::string::npos);
  CHECK(check_refused(answer(folder.file("none.gguf", tiny_gguf().build()), "auto"), 1).find("found none") !=
        std::string::npos);
}

TEST_CASE("cli score: accuracy with its interval, and by kind where questions have one") {
  BLOCKATTN_REQUIRE_CLI();
  const temporary_folder folder;
  const std::string m = folder.file("tiny.gguf", tiny_gguf().build());
  std::string lines;
  for (std::size_t i = 0; i < 6; ++i)  // of three easy questions two are answered "The", of three hard ones one
    lines += "{\"passages\":[{\"text\":\"x\"}],\"question\":\"q" + std::to_string(i) + "\",\"answers\":[\"" +
             (i == 0 || i == 1 || i == 3 ? "The" : "never said") + "\"],\"kind\":\"" + (i < 3 ? "easy" : "hard") + "\"}\n";
  const json scored = run_json({"score", "--model", m, "--dataset", folder.file("d.jsonl", lines), "--max-tokens", "4"});
  const auto near = [](const json& found, double expected) { return std::abs(found.get<double>() - expected) < 5e-5; };
  CHECK(scored["accuracy"] == 0.5);
  // Wilson's interval of 3 of 6, 2 of 3 and 1 of 3, computed by hand.
  CHECK(near(scored["low"], 0.18762));
  CHECK(near(scored["high"], 0.81238));
  REQUIRE(scored["kinds"].size() == 2);
  const json &easy = scored["kinds"]["easy"], &hard = scored["kinds"]["hard"];
  CHECK((easy["n"] == 3 && near(easy["accuracy"], 2.0 / 3) && near(easy["low"], 0.20766) && near(easy["high"], 0.93851)));
  CHECK((hard["n"] == 3 && near(hard["accuracy"], 1.0 / 3) && near(hard["low"], 0.06149) && near(hard["high"], 0.79234)));
}
