// SPDX-License-Identifier: MIT
// Passages in, answers out: where blocks come from, what is kept in a folder, what three ways of computing cost.
#include "../support/data.hpp"
#include "program.hpp"
#include "tiny_model.hpp"

using namespace blockattn_test;

namespace {

constexpr const char* three_passages =
    "{\"title\": \"Maren\", \"text\": \"Maren keeps the ferry.\"}\n"
    "{\"title\": \"Market\", \"text\": \"Salt is sold at dawn.\"}\n"
    "{\"title\": \"Stone\", \"text\": \"Nobody builds below it.\"}\n";

std::vector<std::string> hits(const json& object) {
  std::vector<std::string> out;
  for (const json& b : object["blocks"]) out.push_back(b["hit"]);
  return out;
}

/// Blocks stand end to end, and every token is either computed or reused.
void check_blocks(const json& o) {
  std::size_t start = 0, computed = 0, reused = 0;
  for (const json& b : o["blocks"]) {
    CHECK(b["start"] == start);
    const auto n = b["tokens"].get<std::size_t>();
    CHECK(n > 0);
    start += n;
    (b["hit"] == "miss" ? computed : reused) += n;
  }
  CHECK(o["blocks"].back()["hit"] == "miss");  // the final block
  CHECK(o["timing"]["tokens_computed"] == computed);
  CHECK(o["timing"]["tokens_reused"] == reused);
  for (const char* field : {"ttft_ms", "encode_ms", "decode_tok_s"}) CHECK(o["timing"][field].get<double>() >= 0);
  CHECK(o["timing"]["ttft_ms"].get<double>() >= o["timing"]["encode_ms"].get<double>());
  for (const char* count : {"paper", "exact"}) {
    const json& f = o["flops"][count];
    CHECK((f["full"] > 0.0 && f["block"] > 0.0 && f["reduction"].is_number()));
    CHECK(f["block"].get<double>() <= f["full"].get<double>());
  }
}

std::vector<std::filesystem::path> files_of(const std::string& folder) {
  std::vector<std::filesystem::path> out;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) out.push_back(entry.path());
  std::sort(out.begin(), out.end());
  return out;
}

void flip_byte(const std::filesystem::path& file, std::size_t from_end) {
  std::string bytes = slurp(file.string());
  REQUIRE(bytes.size() > from_end);
  char& c = bytes[bytes.size() - 1 - from_end];
  c = static_cast<char>(c ^ 0x10);
  std::ofstream(file, std::ios::binary) << bytes;
}

}  // namespace

TEST_CASE("cli: answer lists the preamble, the passages and the final block") {
  BLOCKATTN_REQUIRE_CLI();
  const temporary_folder folder;
  const std::string m = folder.file("tiny.gguf", tiny_gguf().build());
  const std::string passages = folder.file("p.jsonl", std::string(three_passages));
  const arguments call{"answer", "--model", m, "--passages", passages, "--question", "Who?", "--max-tokens", "4"};
  const auto with = [&](const arguments& more) {
    arguments all = call;
    all.insert(all.end(), more.begin(), more.end());
    return run_json(all);
  };
  const json o = with({});
  CHECK(o.size() == 5);
  check_blocks(o);
  CHECK((o["store"]["memory"]["misses"] == 4 && o["store"]["memory"]["blocks"] == 4));
  CHECK((o["store"]["memory"]["lookup"]["count"] == 1 && o["store"]["memory"]["encode"]["count"] == 1));
  CHECK(o["store"]["explain"][0] == json{{"from", "miss"}, {"memory", "never_seen"}});
  CHECK(o["store"]["tiers"] == json::array());  // no folder, no tier
  const json kept = with({"--store", folder / "kept"});
  REQUIRE(kept["store"]["tiers"].size() == 1);
  CHECK((kept["store"]["tiers"][0]["name"] == "directory" && kept["store"]["tiers"][0]["saves"] == 4));
  CHECK(hits(o) == std::vector<std::string>(5, "miss"));
  CHECK(o["answer"].is_string());
  // One token a byte, and no begin token: the paper's template has none. "- Title: Maren\nMaren keeps the ferry.\n"
  CHECK(o["blocks"][1]["tokens"] == 9 + 5 + 1 + 22 + 1);
  const json plain = with({"--template", "plain"});
  CHECK(plain["blocks"][0]["tokens"] == 1 + 40);  // the begin token, and the preamble with its empty line
  CHECK(plain["blocks"][1]["tokens"] == 5 + 1 + 22 + 2);

  // All modes on the same tokens.
  const json full = with({"--mode", "full"});
  REQUIRE(full["blocks"].size() == 1);
  const auto end = [](const json& x) {
    return x["blocks"].back()["start"].get<std::size_t>() + x["blocks"].back()["tokens"].get<std::size_t>();
  };
  CHECK(end(full) == end(o));
  check_blocks(with({"--local-blocks", "2"}));
  CHECK(with({"--local-blocks", "2"})["blocks"].size() == 3);
  for (const char* position : {"query_side", "key_side", "none"}) check_blocks(with({"--position", position}));
  check_blocks(with({"--budget", "0"}));

  const json three = with({"--compare"})["compare"];
  CHECK(three["same_bits"] == true);
  CHECK(three["warm"]["tokens_reused"] == o["blocks"].back()["start"]);
  CHECK(three["warm"]["tokens_computed"] == o["blocks"].back()["tokens"]);
  CHECK(three["cold"]["tokens_computed"] == end(o));
  CHECK(three["full"]["tokens_computed"] == end(o));
  CHECK(three["full"]["tokens_reused"] == 0);

  // For people: the answer, and with --compare a line of times before it.
  CHECK(run(call).out == o["answer"].get<std::string>() + "\n");
}

TEST_CASE("cli: answer from odd passages and questions") {
  BLOCKATTN_REQUIRE_CLI();
  const temporary_folder folder;
  const std::string m = folder.file("tiny.gguf", tiny_gguf().build());
  const auto ask = [&](const std::string& passages, const std::string& question, const std::string& form = "paper") {
    const json o = run_json({"answer", "--model", m, "--passages", folder.file("p.jsonl", passages), "--question",
                             question, "--max-tokens", "2", "--template", form});
    check_blocks(o);
    return o;
  };
  // No passages: the preamble and the question remain.
  CHECK(ask("", "Who?")["blocks"].size() == 2);
  CHECK(ask("\n\n", "Who?")["blocks"].size() == 2);
  // Empty texts and titles are blocks of what the template puts around them.
  const json empty = ask("{\"title\":\"\",\"text\":\"\"}\n{\"text\":\"   \"}\n", "");
  CHECK(empty["blocks"].size() == 4);
  // The same passage again is the same block again.
  CHECK(hits(empty) == std::vector<std::string>{"miss", "miss", "memory", "miss"});
  ask("{\"text\":\"caf\\u00e9 \\u0000 \\ud83d\\ude00\"}\n", "\xF0\x9F\x98");
  ask("{\"title\":\"{text}\",\"text\":\"{question}\"}\n", "{title}", "plain");
  ask(three_passages, std::string("\xFF\xFE\x01\x7F"), "plain");
}

TEST_CASE("cli: a folder of blocks is used, kept whole and mended") {
  BLOCKATTN_REQUIRE_CLI();
  const temporary_folder folder;
  const std::string m = folder.file("tiny.gguf", tiny_gguf().build());
  const std::string passages = folder.file("p.jsonl", std::string(three_passages));
  const std::string store = folder / "deep/er/store";
  const arguments pack{"pack", "--model", m, "--passages", passages, "--store", store};

  const json first = run_json(pack);
  CHECK((first.size() == 5 && first["blocks"] == 4 && first["reused"] == 0 && first["encode_ms"] >= 0.0));
  const json again = run_json(pack);
  CHECK((again["blocks"] == 4 && again["reused"] == 4));
  CHECK((again["tokens"] == first["tokens"] && again["bytes"] == first["bytes"]));
  const auto files = files_of(store);
  CHECK(files.size() == 4);
  for (const auto& file : files) CHECK(file.extension() == ".safetensors");  // nothing unfinished is left

  const json listed = run_json({"store", "ls", "--store", store});
  CHECK(listed["blocks"] == 4);
  CHECK(listed["files"].size() == 4);
  CHECK(listed["bytes"].get<std::size_t>() > first["bytes"].get<std::size_t>());
  CHECK(run_json({"store", "verify", "--store", store})["bad"] == 0);

  // Another process answers from it. A budget that can hold no block changes nothing.
  const arguments ask{"answer", "--model", m, "--passages", passages, "--question", "Who?", "--max-tokens", "4"};
  const auto with = [&](const arguments& more) {
    arguments all = ask;
    all.insert(all.end(), more.begin(), more.end());
    return all;
  };
  const std::vector<std::string> restored{"directory", "directory", "directory", "directory", "miss"};
  const json warm = run_json(with({"--store", store}));
  check_blocks(warm);
  CHECK(hits(warm) == restored);
  CHECK(hits(run_json(with({"--store", store, "--budget", "0"}))) == restored);
  CHECK(warm["answer"] == run_json(ask)["answer"]);
  // Blocks in another element type or arithmetic are other blocks.
  CHECK(hits(run_json(with({"--store", folder / "f32", "--kv", "f32"}))) == std::vector<std::string>(5, "miss"));
  CHECK(hits(run_json(with({"--store", store, "--kv", "f32"}))) == std::vector<std::string>(5, "miss"));
  CHECK(hits(run_json(with({"--store", store, "--rope-theta", "5000"}))) == std::vector<std::string>(5, "miss"));
  CHECK(files_of(store).size() == 12);

  // A damaged file is named, encoded again and replaced.
  flip_byte(files[1], 1000);
  const json verified = run_json({"store", "verify", "--store", store});
  CHECK(verified["bad"] == 1);
  CHECK(run({"store", "verify", "--store", store}).out.find("damaged") != std::string::npos);
  arguments again_call = with({"--store", store, "--json"});
  const finished mended = run(again_call);
  CHECK(mended.object()["answer"] == warm["answer"]);
  const auto found = hits(mended.object());
  CHECK(std::count(found.begin(), found.end(), "miss") == 2);
  CHECK(mended.err.find("encoded again: ") != std::string::npos);
  CHECK(mended.err.find(files[1].stem().string()) != std::string::npos);
  CHECK(run_json({"store", "verify", "--store", store})["bad"] == 0);
  CHECK(hits(run_json(with({"--store", store}))) == restored);

  // What is not a block is not listed; what pretends to be one is damaged.
  std::ofstream(store + "/notes.txt") << "notes";
  std::filesystem::create_directories(store + "/folder.safetensors");
  std::ofstream(store + "/foreign.safetensors") << "foreign";
  CHECK(run_json({"store", "ls", "--store", store})["blocks"] == 13);
  CHECK(run_json({"store", "verify", "--store", store})["bad"] == 1);
}

TEST_CASE("cli: a folder of blocks is collected, kept within a budget, exported and imported") {
  BLOCKATTN_REQUIRE_CLI();
  const temporary_folder folder;
  const std::string m = folder.file("tiny.gguf", tiny_gguf().build());
  const std::string passages = folder.file("p.jsonl", std::string(three_passages));
  const std::string store = folder / "store", archive = folder / "blocks.tar", other = folder / "other";
  const arguments pack{"pack", "--model", m, "--passages", passages, "--store", store};
  run_json(pack);
  const auto files = files_of(store);
  const std::size_t bytes = run_json({"store", "ls", "--store", store})["bytes"];

  // Out and in again: the same files; what is there already stays. Any tar program reads the archive.
  const json out = run_json({"store", "export", "--store", store, "--to", archive});
  CHECK((out["blocks"] == 4 && out["bytes"] == bytes && out["skipped"] == 0));
  const json in = run_json({"store", "import", "--store", other, "--from", archive});
  CHECK((in["blocks"] == 4 && in["bytes"] == bytes && in["present"] == 0 && in["refused"] == 0));
  const json again = run_json({"store", "import", "--store", other, "--from", archive});
  CHECK((again["blocks"] == 0 && again["present"] == 4));
  for (const auto& file : files)
    CHECK(read_text(file) == read_text(std::filesystem::path(other) / file.filename()));
  if (std::system("tar --version >/dev/null 2>&1") == 0) {
    std::filesystem::create_directory(folder / "untarred");
    REQUIRE(std::system(("tar -xf '" + archive + "' -C '" + folder / "untarred" + "'").c_str()) == 0);
    CHECK(files_of(folder / "untarred").size() == 4);
    REQUIRE(std::system(("tar -cf '" + folder / "theirs.tar" + "' --format=ustar -C '" + folder.path() + "' ./untarred").c_str()) == 0);
    const json theirs = run_json({"store", "import", "--store", folder / "third", "--from", folder / "theirs.tar"});
    CHECK((theirs["blocks"] == 4 && theirs["refused"] == 0));
  }

  // Damage is left out of archives, and refused out of them; the rest is taken.
  flip_byte(files[1], 1000);
  const finished partly = run({"store", "export", "--store", store, "--to", folder / "partly.tar", "--json"});
  CHECK((partly.object()["blocks"] == 3 && partly.object()["skipped"] == 1));
  CHECK(partly.err.find(files[1].filename().string()) != std::string::npos);
  flip_byte(archive, 2000);
  const finished refused = run({"store", "import", "--store", folder / "fourth", "--from", archive, "--json"});
  CHECK((refused.object()["blocks"] == 3 && refused.object()["refused"] == 1));
  CHECK_FALSE(refused.err.empty());  // it names the block

  // Collecting: what is damaged and what a dead process left go, what is not ours stays; then the oldest.
  std::ofstream(store + "/" + files[0].filename().string() + ".1.00.tmp") << "unfinished";
  std::ofstream(store + "/notes.txt") << "notes";
  const json clean = run_json({"store", "gc", "--store", store});
  CHECK((clean["leftovers"] == 1 && clean["damaged"] == 1 && clean["evicted"] == 0 && clean["blocks"] == 3));
  CHECK(std::filesystem::exists(store + "/notes.txt"));
  const json small = run_json({"store", "gc", "--store", store, "--budget", std::to_string(bytes / 2)});
  CHECK((small["evicted"].get<int>() >= 1 && small["bytes"].get<std::size_t>() <= bytes / 2));
  arguments budgeted = pack;
  // The largest block alone is more than half of all bytes.
  budgeted.insert(budgeted.end(), {"--budget", std::to_string(bytes / 4 * 3)});
  CHECK(run_json(budgeted)["blocks"] == 4);
  CHECK(run_json({"store", "ls", "--store", store})["bytes"].get<std::size_t>() <= bytes / 4 * 3);
  budgeted.back() = std::to_string(bytes / 4);
  CHECK(check_refused(budgeted, 1).find("expected room for") != std::string::npos);
}

TEST_CASE("cli: cold and restored blocks give the same bits") {
  BLOCKATTN_REQUIRE_CLI();
  const temporary_folder folder;
  const std::string m = folder.file("tiny.gguf", tiny_gguf(false).build());
  for (const char* kv : {"f32", "bf16"}) {
    for (const char* position : {"query_side", "key_side"}) {
      const std::string store = folder / (std::string(kv) + position);
      const arguments call{"logits", "--model",    m,       "--ids", "5,6,7,8,9,10,11,12", "--blocks", "3,4,1", "--kv",
                           kv,       "--position", position};
      arguments stored = call;
      stored.insert(stored.end(), {"--store", store});
      const json without = run_json(call), cold = run_json(stored), warm = run_json(stored);
      CHECK(cold["logits"] == without["logits"]);
      CHECK(warm["logits"] == without["logits"]);
      CHECK(hits(cold) == std::vector<std::string>{"miss", "miss", "miss"});
      CHECK(hits(warm) == std::vector<std::string>{"directory", "directory", "miss"});
      // Damage in either block is found, and the bits stay.
      for (const auto& file : files_of(store)) {
        flip_byte(file, 200);
        stored.push_back("--json");
        const finished mended = run(stored);
        stored.pop_back();
        CHECK(mended.object()["logits"] == without["logits"]);
        CHECK(mended.err.find("damaged") != std::string::npos);
      }
      CHECK(hits(run_json(stored)) == std::vector<std::string>{"directory", "directory", "miss"});
      // A block of another model under this name is refused.
      const std::string other = folder.file("other.gguf", tiny_gguf(false, 2).build());
      arguments foreign = stored;
      foreign[2] = other;
      CHECK(hits(run_json(foreign)) == std::vector<std::string>{"miss", "miss", "miss"});
    }
  }
}

TEST_CASE("cli: score counts right answers and their likelihood") {
  BLOCKATTN_REQUIRE_CLI();
  const temporary_folder folder;
  const std::string m = folder.file("tiny.gguf", tiny_gguf().build());
  const auto score = [&](const std::string& lines) {
    const json o = run_json({"score", "--model", m, "--dataset", folder.file("d.jsonl", lines), "--max-tokens", "4"});
    CHECK(o.size() == 6);
    return o;
  };
  const json none = score("");
  CHECK((none["n"] == 0 && none["accuracy"] == 0.0 && none["nll"] == 0.0));
  const std::string wrong =
      "{\"passages\":[{\"text\":\"x\"}],\"question\":\"q\",\"answers\":[\"no model says this\"]}\n";
  const std::string right = "{\"passages\":[{\"text\":\"x\"}],\"question\":\"q\",\"answers\":[\"no such\", \"The\"]}\n";
  const json one = score(wrong);
  CHECK((one["n"] == 1 && one["accuracy"] == 0.0));
  CHECK((one["nll"] > 0.0 && one["nll"] < 100.0));
  const json both = score(wrong + right);
  CHECK((both["n"] == 2 && both["accuracy"] == 0.5));
}

TEST_CASE("cli: paper and bench speak JSON") {
  BLOCKATTN_REQUIRE_CLI();
  const json table = run_json({"paper"});
  CHECK(table["columns"].size() > 3);
  CHECK(table["columns"][0]["paper"]["full"] == "7.5e11");
  CHECK(run({"paper"}).out.find("7.5e11") != std::string::npos);
}

TEST_CASE("cli: three ways to answer on a trained model") {
  BLOCKATTN_REQUIRE_CLI();
  BLOCKATTN_REQUIRE_DATA(data);
  const temporary_folder folder;
  const std::string passages = folder.file("p.jsonl", std::string(three_passages));
  for (const char* model : {"stories260K.bin", "stories260K-F16.gguf", "babyllama105-Q8_0.gguf"}) {
    for (const char* position : {"query_side", "key_side"}) {
      INFO(model << ", " << position);
      const json o = run_json({"answer", "--model", (data / "models" / model).string(), "--passages", passages,
                               "--question", "Who keeps the ferry?", "--max-tokens", "8", "--compare", "--template",
                               "plain", "--position", position});
      check_blocks(o);
      CHECK(o["blocks"].size() == 5);
      CHECK(o["compare"]["same_bits"] == true);
      CHECK(o["compare"]["warm"]["tokens_reused"] == o["blocks"].back()["start"]);
    }
  }
}
