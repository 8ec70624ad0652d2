// SPDX-License-Identifier: MIT
/// `finetune` as a script runs it: training sees what inference computes, a run goes on after a stop to the same bytes, and
/// the same seed gives the same model whatever the number of workers.
#include <chrono>
#include <csignal>
#include <thread>

#include "program.hpp"
#include "worlds/json.hpp"

using namespace blockattn_test;

namespace {

arguments tiny(const std::string& steps, arguments more, const char* threads = "1") {
  arguments out = {"finetune", "--new",   "16,2,2,1,24", "--pieces", "400",      "--train", "worlds:5",           "--steps",
                   steps,      "--lr",    "0.01",        "--warmup", "2",        "--batch-tokens", "1500", "--loss",
                   "dense",    "--seed",  "3",           "--threads", threads};
  out.insert(out.end(), more.begin(), more.end());
  return out;
}

}  // namespace

TEST_CASE("cli finetune: the loss of training is that of inference through store and context", "[cli][finetune]") {
  BLOCKATTN_REQUIRE_CLI();
  const temporary_folder folder;
  const std::string model = folder / "m.gguf";
  std::string lines;
  for (std::uint64_t n = 0; n < 3; ++n) lines += worlds::question_lines(worlds::make_world(8, n, {.questions = 4}));
  const std::string questions = folder.file("q.jsonl", lines);
  const json trained = run_json(tiny("3", {"--valid", questions, "--save", model}));
  CHECK(trained["steps"] == 3);
  CHECK(trained["stopped"] == false);
  for (const char* mode : {"full", "block"}) {
    const json scored = run_json({"score", "--model", model, "--dataset", questions, "--template", "plain", "--mode", mode,
                                  "--kv", "f32", "--compute", "f32", "--max-tokens", "1"});
    INFO(mode);
    CHECK(trained["valid"][mode]["n"] == scored["n"]);
    CHECK(trained["valid"][mode]["nll"].get<double>() == Approx(scored["nll"].get<double>()).epsilon(1e-4));
  }
  // The two modes differ, or the test would not tell one from the other.
  CHECK(trained["valid"]["full"]["nll"] != trained["valid"]["block"]["nll"]);
}

TEST_CASE("cli finetune: a run that goes on is one that was never stopped", "[cli][finetune]") {
  BLOCKATTN_REQUIRE_CLI();
  const temporary_folder folder;
  const std::string whole = folder / "whole.gguf", parts = folder / "parts.gguf", state = folder / "state";
  run_json(tiny("4", {"--curriculum", "1", "--save", whole}, "2"));
  // The second part is told of four steps too: schedule and curriculum are those of the whole.
  const json first = run_json(tiny("4", {"--curriculum", "1", "--checkpoint", state, "--stop-at", "2"}));
  CHECK((first["steps"] == 2 && first["stopped"] == true));
  const json second = run_json(tiny("4", {"--curriculum", "1", "--checkpoint", state, "--save", parts}));
  CHECK((second["steps"] == 4 && second["stopped"] == false));
  CHECK(slurp(whole) == slurp(parts));
  // What is over is over.
  CHECK(run_json(tiny("4", {"--curriculum", "1", "--checkpoint", state}))["steps"] == 4);
}

TEST_CASE("cli finetune: goes on from a model, on a file, and says how it went", "[cli][finetune]") {
  BLOCKATTN_REQUIRE_CLI();
  const temporary_folder folder;
  const std::string base = folder / "base.gguf", better = folder / "better.gguf", log = folder / "log";
  std::string lines;
  for (std::uint64_t n = 0; n < 4; ++n) lines += worlds::context_line(worlds::make_world(8, n, {.level = 1, .questions = 3}));
  const std::string data = folder.file("d.jsonl", lines);
  run_json(tiny("2", {"--save", base}));
  const json done = run_json({"finetune", "--model", base, "--train", data, "--valid", data, "--steps", "30", "--lr", "0.01",
                              "--warmup", "2", "--batch-tokens", "2000", "--valid-every", "10", "--mode", "block", "--save",
                              better, "--save-format", "q8_0", "--log", log, "--plot", folder / "accuracy.svg", "--schedule", "linear"});
  CHECK(done["saved"] == better);
  std::vector<json> told;
  const std::string text = slurp(log);
  for (std::size_t at = 0, end; (end = text.find('\n', at)) != std::string::npos; at = end + 1)
    told.push_back(json::parse(text.substr(at, end - at)));
  REQUIRE(told.size() == 3);
  CHECK((told[0]["step"] == 10 && told[2]["step"] == 30));
  CHECK(told[2]["loss"].get<double>() < 0.9 * told[0]["loss"].get<double>());
  CHECK(told[2]["valid"]["block"]["nll"].get<double>() < told[0]["valid"]["block"]["nll"].get<double>());
  CHECK(told[0]["valid"]["full"]["kinds"]["one"]["n"] == 12);
  const std::string drawn = slurp(folder / "accuracy.svg");
  std::size_t dots = 0;
  for (std::size_t at = drawn.find("<circle"); at != std::string::npos; at = drawn.find("<circle", at + 1)) ++dots;
  CHECK(dots == 6);  // three measurements of two modes
  CHECK((drawn.rfind("<svg", 0) == 0 && drawn.find("</svg>") != std::string::npos));
  // The result has its words: text goes in and comes out.
  const json answer = run_json({"generate", "--model", better, "--prompt", "Who sells salt?", "--max-tokens", "2"});
  CHECK(answer["prompt_ids"].size() > 2);
}

TEST_CASE("cli finetune: Ctrl-C ends the run with what it has, and it goes on from there", "[cli][finetune]") {
  BLOCKATTN_REQUIRE_CLI();
  const temporary_folder folder;
  const std::string state = folder / "state", model = folder / "m.gguf", log = folder / "log";
  const arguments call = tiny("100000", {"--checkpoint", state, "--save", model, "--log", log, "--valid-every", "1", "--json"});
  const finished ended = run(call, [&](pid_t program) {
    for (int i = 0; i < 3000 && slurp(log).empty(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(20));
    REQUIRE(::kill(program, SIGINT) == 0);
  });
  const json first = ended.object();
  CHECK(first["stopped"] == true);
  const auto steps = first["steps"].get<std::uint64_t>();
  CHECK((steps >= 1 && steps < 100000));
  CHECK(first["saved"] == model);
  CHECK(slurp(model).starts_with("GGUF"));
  const json second = run_json(tiny("100000", {"--checkpoint", state, "--stop-at", std::to_string(steps + 1)}));
  CHECK(second["steps"] == steps + 1);
  CHECK(second["tokens"].get<std::uint64_t>() < 10000);  // one step, not all of them again
}

TEST_CASE("cli finetune: a run over a file goes on within an epoch as if it had not stopped", "[cli][finetune]") {
  BLOCKATTN_REQUIRE_CLI();
  const temporary_folder folder;
  std::string lines;
  for (std::uint64_t n = 0; n < 5; ++n) lines += worlds::context_line(worlds::make_world(8, n, {.level = 1, .questions = 3}));
  const std::string data = folder.file("d.jsonl", lines), base = folder / "base.gguf", state = folder / "state";
  run_json(tiny("2", {"--save", base}));
  const auto call = [&](arguments more) {
    arguments out{"finetune", "--model", base, "--train", data, "--steps", "7", "--lr", "0.01", "--warmup", "1", "--batch-tokens", "300"};
    out.insert(out.end(), more.begin(), more.end());
    return out;
  };
  run_json(call({"--save", folder / "whole.gguf"}));
  run_json(call({"--checkpoint", state, "--stop-at", "3"}));
  run_json(call({"--checkpoint", state, "--save", folder / "parts.gguf"}));
  CHECK(slurp(folder / "whole.gguf") == slurp(folder / "parts.gguf"));
}

TEST_CASE("cli finetune: distillation moves blocks towards a teacher that sees everything", "[cli][finetune]") {
  BLOCKATTN_REQUIRE_CLI();
  const temporary_folder folder;
  const std::string teacher = folder / "teacher.gguf", other = folder / "other.gguf";
  std::string lines;
  for (std::uint64_t n = 0; n < 4; ++n) lines += worlds::context_line(worlds::make_world(8, n, {.level = 1, .questions = 3}));
  const std::string data = folder.file("d.jsonl", lines);
  run_json(tiny("60", {"--mode", "full", "--save", teacher}));
  const auto distil = [&](arguments more) {
    arguments call{"finetune", "--model", teacher, "--teacher", teacher, "--train", data, "--mode", "block", "--steps", "40",
                   "--lr", "0.003", "--warmup", "2", "--batch-tokens", "1000", "--valid-every", "20", "--loss", "dense"};
    call.insert(call.end(), more.begin(), more.end());
    return call;
  };
  const std::string log = folder / "log";
  const json done = run_json(distil({"--log", log}));
  const std::string text = slurp(log);
  const json early = json::parse(text.substr(0, text.find('\n')));
  // A student that begins as its teacher differs from it by the mask alone.
  CHECK(early["loss"].get<double>() > 0);
  CHECK(done["loss"].get<double>() < 0.8 * early["loss"].get<double>());
  CHECK(run_json(distil({"--drop-blocks", "0.5", "--focus", "1", "--hard", "0.5", "--teacher-temperature", "2"}))["steps"] == 40);
  // A pass in parts with less memory is the same run.
  const json whole = run_json(distil({})), parts = run_json(distil({"--recompute"}));
  CHECK(parts["loss"] == whole["loss"]);
  CHECK(parts["pass_bytes"].get<double>() < whole["pass_bytes"].get<double>());
  check_refused({"finetune", "--model", teacher, "--train", data, "--focus", "1"}, 2);
  run_json({"finetune", "--new", "16,2,2,1,24", "--pieces", "300", "--train", "worlds:5", "--steps", "1", "--warmup", "0", "--save", other});
  arguments foreign = distil({});
  for (const std::string& file : {folder / "nothing", other}) {
    foreign[4] = file;
    check_refused(foreign, 1);
  }
}

TEST_CASE("cli finetune: sinks are learned before each passage, and inference puts them there", "[cli][finetune]") {
  BLOCKATTN_REQUIRE_CLI();
  const temporary_folder folder;
  const std::string base = folder / "base.gguf", with = folder / "with.gguf", more = folder / "more.gguf";
  std::string lines, contexts;
  for (std::uint64_t n = 0; n < 3; ++n) {
    lines += worlds::question_lines(worlds::make_world(8, n, {.level = 1, .questions = 3}));
    contexts += worlds::context_line(worlds::make_world(8, n, {.level = 1, .questions = 3}));
  }
  const std::string questions = folder.file("q.jsonl", lines), data = folder.file("d.jsonl", contexts);
  run_json(tiny("40", {"--mode", "full", "--save", base}));
  const auto tune = [&](const std::string& from, const std::string& to, arguments options) {
    arguments call{"finetune", "--model", from, "--train", data, "--valid", questions, "--mode", "both", "--steps", "20", "--lr", "0.01",
                   "--warmup", "2", "--batch-tokens", "1000", "--loss", "dense", "--save", to};
    call.insert(call.end(), options.begin(), options.end());
    return run_json(call);
  };
  const auto score = [&](const std::string& model, arguments options) {
    arguments call{"score", "--model", model, "--dataset", questions, "--template", "plain", "--kv", "f32", "--compute", "f32",
                   "--max-tokens", "1"};
    call.insert(call.end(), options.begin(), options.end());
    return run_json(call);
  };
  // Two words more; the teacher, which lacks them, never sees them.
  const json trained = tune(base, with, {"--sinks", "2", "--teacher", base, "--hard", "1"});
  CHECK(trained["parameters"].get<int>() == tune(base, more, {})["parameters"].get<int>() + 2 * 16);
  // `score` takes as many as the vocabulary has, and then sees what training saw.
  for (const char* mode : {"full", "block"})
    CHECK(trained["valid"][mode]["nll"].get<double>() == Approx(score(with, {"--mode", mode})["nll"].get<double>()).epsilon(1e-4));
  CHECK(score(with, {})["nll"] == score(with, {"--sinks", "2"})["nll"]);
  CHECK(score(with, {})["nll"] != score(with, {"--sinks", "0"})["nll"]);
  check_refused({"score", "--model", with, "--dataset", questions, "--template", "plain", "--sinks", "3"}, 1);
  check_refused({"score", "--model", with, "--dataset", questions, "--template", "plain", "--sinks", "65"}, 2);
  // A later run goes on with them, and can have more.
  CHECK(tune(with, more, {})["parameters"] == trained["parameters"]);
  CHECK(tune(with, more, {"--sinks", "3"})["parameters"].get<int>() == trained["parameters"].get<int>() + 16);
}

TEST_CASE("cli finetune: what cannot be done is refused", "[cli][finetune]") {
  BLOCKATTN_REQUIRE_CLI();
  const temporary_folder folder;
  check_refused({"finetune", "--train", "worlds:1"}, 2);
  check_refused({"finetune", "--new", "16,2,2", "--train", "worlds:1"}, 2);
  check_refused(tiny("2", {"--plot", folder / "p.svg"}), 2);  // of what log?
  check_refused({"finetune", "--new", "16,2,3,2,8", "--train", "worlds:1"}, 1);  // key heads divide heads
  check_refused({"finetune", "--new", "16,2,2,1,8", "--train", "worlds:x"}, 1);
  check_refused({"finetune", "--new", "16,2,2,1,8", "--train", folder / "nothing"}, 1);
  check_refused({"finetune", "--model", folder / "nothing", "--train", "worlds:1"}, 1);
  const std::string junk = folder.file("junk", std::string("no checkpoint"));
  const std::string reason = check_refused(tiny("2", {"--checkpoint", junk}), 1);
  CHECK(reason.find("junk") != std::string::npos);
  CHECK(slurp(junk) == "no checkpoint");
}
