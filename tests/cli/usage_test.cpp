// SPDX-License-Identifier: MIT
// What scripts rely on whatever the model: exit codes, one object or nothing on standard output, a one-line reason.
#include "../io/llama2c_files.hpp"
#include "program.hpp"
#include "tiny_model.hpp"

using namespace blockattn_test;

namespace {

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

std::vector<std::string> keys_of(const std::string& object) {
  std::vector<std::string> out;
  const auto parsed = nlohmann::ordered_json::parse(object);
  for (const auto& [key, value] : parsed.items()) out.push_back(key);
  return out;
}

}  // namespace

TEST_CASE("cli: a wrong call exits with 2 before anything is read") {
  BLOCKATTN_REQUIRE_CLI();
  // No file of these names exists: the call is refused for what it says.
  const std::string m = "no-such-model.gguf";
  const arguments calls[] = {
      {},
      {"frobnicate"},
      {"inspect"},
      {"inspect", m, "--frobnicate"},
      {"inspect", m, "extra"},
      {"inspect", "--model", m, "--model", m},
      {"inspect", m, "--threads", "-1"},
      {"inspect", m, "--threads", "99999999"},
      {"inspect", m, "--kv", "f64"},
      {"inspect", m, "--compute", "f16"},
      {"inspect", m, "--position", "both"},
      {"inspect", m, "--mode", "half"},
      {"inspect", m, "--rope-theta", "nan"},
      {"inspect", m, "--rope-theta", "inf"},
      {"inspect", m, "--rope-theta", "0"},
      {"inspect", m, "--rope-factor", "-2"},
      {"inspect", m, "--rope-scaling", "dynamic"},
      {"inspect", m, "--rope-scaling", "yarn", "--rope-factor", "4"},
      {"inspect", m, "--rope-scaling", "llama3", "--rope-factor", "8"},
      {"tokenize", "--model", m},
      {"tokenize", "--text", "a"},
      {"tokenize", "--model", m, "--text", "a", "--file", "b"},
      {"tokenize", "--model", m, "--text"},
      {"detokenize", "--model", m},
      {"detokenize", "--model", m, "--ids", "1,x"},
      {"detokenize", "--model", m, "--ids", "1,,2"},
      {"detokenize", "--model", m, "--ids", "1,2,"},
      {"detokenize", "--model", m, "--ids", "1.5"},
      {"detokenize", "--model", m, "--ids", "99999999999"},
      {"generate", "--model", m},
      {"generate", "--ids", "1"},
      {"generate", "--model", m, "--ids", ""},
      {"generate", "--model", m, "--ids", "1", "--prompt", "a"},
      {"generate", "--model", m, "--prompt", "a", "--blocks", "1"},
      {"generate", "--model", m, "--ids", "1", "--max-tokens", "-5"},
      {"generate", "--model", m, "--ids", "1", "--max-tokens", "1.5"},
      {"generate", "--model", m, "--ids", "1", "--max-tokens", "ten"},
      {"generate", "--model", m, "--ids", "1", "--max-tokens", ""},
      {"generate", "--model", m, "--ids", "1", "--max-tokens", "99999999999999999999999"},
      {"generate", "--model", m, "--ids", "1", "--top-k", "-1"},
      {"generate", "--model", m, "--ids", "1", "--seed", "-1"},
      {"generate", "--model", m, "--ids", "1", "--temperature", "-0.5"},
      {"generate", "--model", m, "--ids", "1", "--temperature", "nan"},
      {"generate", "--model", m, "--ids", "1", "--temperature", "1e99"},
      {"generate", "--model", m, "--ids", "1", "--top-p", "0"},
      {"generate", "--model", m, "--ids", "1", "--top-p", "1.5"},
      {"generate", "--model", m, "--ids", "1", "--min-p", "2"},
      {"logits", "--model", m},
      {"logits", "--model", m, "--ids", " , "},
      {"logits", "--model", m, "--ids", "1,2,3", "--blocks", "1,1"},
      {"logits", "--model", m, "--ids", "1,2,3", "--blocks", "2,2"},
      {"logits", "--model", m, "--ids", "1,2,3", "--blocks", "3,0"},
      {"logits", "--model", m, "--ids", "1,2,3", "--blocks", "0,3"},
      {"logits", "--model", m, "--ids", "1,2,3", "--blocks", "-1,4"},
      {"logits", "--model", m, "--ids", "1,2,3", "--blocks", "18446744073709551615,4"},
      {"answer", "--model", m, "--question", "q"},
      {"answer", "--model", m, "--passages", "p"},
      {"answer", "--model", m, "--passages", "p", "--question", "q", "--budget", "-1"},
      {"answer", "--model", m, "--passages", "p", "--question", "q", "--budget", "4G"},
      {"answer", "--model", m, "--passages", "p", "--question", "q", "--template", "unheard"},
      {"pack", "--model", m, "--passages", "p"},
      {"pack", "--model", m, "--store", "s"},
      {"store", "--store", "s"},
      {"store", "ls"},
      {"store", "empty", "--store", "s"},
      {"store", "export", "--store", "s"},
      {"store", "import", "--store", "s"},
      {"store", "export", "--store", "s", "--from", "a.tar"},
      {"store", "import", "--store", "s", "--from", "a.tar", "--to", "b.tar"},
      {"store", "gc", "--store", "s", "--budget", "1G"},
      {"score", "--model", m},
      {"bench", "--shape", "llama-9000"},
      {"bench", "--format", "q3"},
      {"bench", "--context", "0"},
      {"bench", "--context", "100", "--block", "512"},
      {"bench", "--repeats", "0"},
  };
  for (const arguments& call : calls) {
    check_refused(call, 2);
    arguments as_json = call;
    as_json.push_back("--json");
    // Where an option waits for its value, --json is that value.
    if (!call.empty() && call.back() != "--text") check_refused(as_json, 2);
  }
  // The reason names the option, what was expected and what was found.
  const std::string why = check_refused({"generate", "--model", m, "--ids", "1", "--max-tokens", "-5"}, 2);
  CHECK((contains(why, "--max-tokens") && contains(why, "expected a whole number") && contains(why, "\"-5\"")));
  CHECK(contains(check_refused({"logits", "--model", m, "--ids", "1,2,3", "--blocks", "1,1"}, 2), "found \"1,1\""));
  CHECK(contains(check_refused({"answer", "--model", m, "--passages", "p", "--question", "q", "--template", "x"}, 2),
                 "paper, plain"));
}

TEST_CASE("cli: help and version are no errors") {
  BLOCKATTN_REQUIRE_CLI();
  for (const arguments& call : {arguments{"--help"}, {"generate", "--help"}, {"--version"}}) {
    const finished f = run(call);
    CHECK(f.code == 0);
    CHECK_FALSE(f.out.empty());
    CHECK(f.err.empty());
  }
}

TEST_CASE("cli: what cannot be done exits with 1 and says why") {
  BLOCKATTN_REQUIRE_CLI();
  const temporary_folder folder;
  const std::string model = folder.file("tiny.gguf", tiny_gguf().build());
  const std::string mute = folder.file("mute.gguf", tiny_gguf(false).build());
  const std::string passages = folder.file("p.jsonl", std::string("{\"title\": \"t\", \"text\": \"x\"}\n"));
  std::filesystem::create_directories(folder / "hf");
  folder.file("hf/config.json", std::string("{}"));
  const std::string tensors = folder.file("model.safetensors", std::string(64, ' '));
  const std::string hf_config =
      R"({"model_type":"llama","hidden_size":8,"num_hidden_layers":1,"num_attention_heads":2,"intermediate_size":8,"vocab_size":9})";
  const std::string words = folder.file("broken-tokenizer.bin", std::string("abc"));
  const auto says = [](const arguments& call, const std::string& part) {
    const std::string why = check_refused(call, 1);
    INFO(shown(call) << "\n" << why);
    CHECK(contains(why, part));
  };
  says({"inspect", folder / "none.gguf"}, "none.gguf: opening it failed");
  says({"inspect", folder / "no\nsuch\nfile.gguf"}, "no such file.gguf");
  says({"inspect", folder / "hf"}, "expected model.safetensors or model.safetensors.index.json in it, found neither");
  says({"inspect", tensors}, "config.json: opening it failed");
  folder.file("hf/model.safetensors", std::string(64, ' '));
  says({"inspect", folder / "hf"}, "hf/config.json: key model_type: expected text, found nothing");
  folder.file("hf/config.json", hf_config);
  says({"inspect", folder / "hf"}, "hf/model.safetensors: header: expected at most 56 bytes, found a length of");
  says({"inspect", folder.file("empty.gguf", std::string())}, "expected the magic");
  says({"inspect", folder.file("text.gguf", std::string("GGML what is this"))}, "expected the magic");
  says({"inspect", folder.file("empty.bin", std::string())}, "expected 28 bytes, found 0");
  says({"inspect", folder.file("text.txt", std::string("hello"))}, "expected a Hugging Face folder, a .safetensors or GGUF file or a llama2.c .bin file");
  says({"inspect", "/dev/null"}, "regular file");
  says({"generate", "--model", model, "--ids", "1", "--kv", "int8", "--position", "key_side"},
       "would round int8 keys again");
  says({"bench", "--format", "q4_k"}, "blocks of 256 for q4_k");
  says({"bench", "--context", "1000000000000"}, "MB of this machine");
  for (const char* verb : {"ls", "verify", "gc"}) says({"store", verb, "--store", folder / "none"}, "cannot list");
  says({"store", "export", "--store", folder / "none", "--to", folder / "a.tar"}, "cannot list");
  says({"store", "export", "--store", folder.path(), "--to", folder / "no/such/a.tar"}, "cannot write");
  says({"store", "import", "--store", folder.path(), "--from", folder / "none.tar"}, "opening it failed");
  says({"store", "import", "--store", folder.path(), "--from", folder.file("short.tar", std::string("x"))},
       "expected a header of 512 bytes, found 1");
  // Ids outside the vocabulary, in the final block and in others.
  for (const char* ids : {"260", "-1", "2147483647", "1,2,260"}) {
    says({"generate", "--model", model, "--ids", ids}, "must be in [0, 260)");
    says({"logits", "--model", model, "--ids", ids}, "must be in [0, 260)");
    says({"detokenize", "--model", model, "--ids", ids}, "must be in [0, 260)");
  }
  says({"logits", "--model", model, "--ids", "260,1,2", "--blocks", "1,2"}, "must be in [0, 260)");
  // Room that no machine has.
  says({"generate", "--model", model, "--ids", "1", "--max-tokens", "1000000000000"}, "MB of this machine");
  says({"answer", "--model", model, "--passages", passages, "--question", "q", "--max-tokens", "1000000000000"},
       "MB of this machine");
  // Words.
  for (const std::string command : {"tokenize", "generate"})
    says({command, "--model", mute, command == "tokenize" ? "--text" : "--prompt", "hi"}, "tokenizer");
  says({"generate", "--model", mute, "--prompt", "hi"}, "--tokenizer names one");
  says({"answer", "--model", mute, "--passages", passages, "--question", "q"}, "--tokenizer names one");
  says({"tokenize", "--model", model, "--text", "hi", "--tokenizer", words}, "broken-tokenizer.bin");
  says({"generate", "--model", model, "--ids", "1", "--tokenizer", folder / "none.bin"}, "none.bin");
  says({"tokenize", "--model", model, "--file", folder / "none.txt"}, "none.txt");
  // Passages and datasets.
  says({"answer", "--model", model, "--passages", folder / "none", "--question", "q"}, "none: cannot be opened");
  says({"answer", "--model", model, "--question", "q", "--passages",
        folder.file("bad.jsonl", std::string("{\"text\": \"x\"}\nnot json\n"))},
       "line 2");
  says({"score", "--model", model, "--dataset", folder.file("bad-score.jsonl", std::string("{\"question\": 1}\n"))},
       "line 1: question: expected a string, found number");
  says({"pack", "--model", model, "--passages", passages, "--store", passages + "/store"}, "cannot create");
}

TEST_CASE("cli: inspect says what a file holds, with words or without") {
  BLOCKATTN_REQUIRE_CLI();
  const temporary_folder folder;
  const std::string names[] = {folder.file("words.gguf", tiny_gguf().build()),
                               folder.file("mute.gguf", tiny_gguf(false).build())};
  std::string fingerprint;
  for (const std::string& model : names) {
    const finished f = run({"inspect", model, "--json"});
    const json o = f.object();
    const std::vector<std::string> keys{
        "architecture",   "layers", "dim",     "heads",        "kv_heads",           "head_dim", "ffn",        "vocab",
        "context_length", "rope",   "formats", "weight_bytes", "kv_bytes_per_token", "isa",      "fingerprint"};
    CHECK(keys_of(f.out) == keys);
    CHECK(
        (o["architecture"] == "llama" && o["layers"] == 2 && o["dim"] == 16 && o["heads"] == 4 && o["kv_heads"] == 2));
    CHECK((o["head_dim"] == 4 && o["ffn"] == 24 && o["vocab"] == 260 && o["context_length"] == 64));
    CHECK((o["rope"]["theta"] == 10000.0 && o["rope"]["rotary_dim"] == 4 && o["rope"]["layout"] == "half_split"));
    CHECK(o["formats"] == json{{"F32", 20}});
    // Two layers of two heads; keys of 4 and values padded to 16, in two bytes each.
    CHECK(o["kv_bytes_per_token"] == 2 * 2 * (4 + 16) * 2);
    CHECK(o["weight_bytes"].get<std::size_t>() >= 4u * 16 * tiny_vocab);
    CHECK_FALSE(o["isa"].get<std::string>().empty());
    CHECK(o["fingerprint"].get<std::string>().size() == 32);
    if (fingerprint.empty()) fingerprint = o["fingerprint"];
    CHECK(o["fingerprint"] == fingerprint);  // the words are no part of it
  }
  const std::string other = folder.file("other.gguf", tiny_gguf(true, 2).build());
  CHECK(run_json({"inspect", other})["fingerprint"] != fingerprint);
  CHECK(run_json({"inspect", names[0], "--kv", "f32"})["kv_bytes_per_token"] == 2 * 2 * (4 + 16) * 4);
  const json turned =
      run_json({"inspect", names[0], "--rope-scaling", "linear", "--rope-factor", "4", "--rope-theta", "5e5"})["rope"];
  CHECK((turned["scaling"] == "linear" && turned["factor"] == 4.0 && turned["theta"] == 5e5));
  const json yarn = run_json(
      {"inspect", names[0], "--rope-scaling", "yarn", "--rope-factor", "4", "--rope-original-context", "256"})["rope"];
  CHECK((yarn["scaling"] == "yarn" && yarn["original_context"] == 256.0));

  const std::string llama2c = folder.file("small.bin", llama2c_file({.version = 1, .tied = false}));
  const json o = run_json({"inspect", llama2c});
  CHECK((o["vocab"] == 10 && o["formats"] == json{{"F32", 21}}));
  // For people: the same words.
  CHECK(contains(run({"inspect", llama2c}).out, "fingerprint"));
}

TEST_CASE("cli: options stand in any order after the command") {
  BLOCKATTN_REQUIRE_CLI();
  const temporary_folder folder;
  const std::string m = folder.file("tiny.gguf", tiny_gguf().build());
  const json first = run_json({"generate", "--model", m, "--ids", "1,70,71", "--max-tokens", "5", "--threads", "1"});
  for (const arguments& call :
       {arguments{"generate", "--threads", "1", "--max-tokens=5", "--ids", "1,70,71", "--model", m},
        {"generate", "--ids", "1 70 71", "--threads=1", m, "--max-tokens", "005"}}) {
    const json again = run_json(call);
    CHECK(again["ids"] == first["ids"]);
    CHECK(again["prompt_ids"] == json({1, 70, 71}));
  }
}

TEST_CASE("cli: text to ids and back") {
  BLOCKATTN_REQUIRE_CLI();
  const temporary_folder folder;
  const std::string m = folder.file("tiny.gguf", tiny_gguf().build());
  const auto id = [](unsigned char byte) { return 4 + static_cast<int>(byte); };
  const json o = run_json({"tokenize", "--model", m, "--text", "Hi!"});
  CHECK(o["ids"] == json({id('H'), id('i'), id('!')}));
  CHECK(o["pieces"] == json({"<0x48>", "<0x69>", "<0x21>"}));
  CHECK(keys_of(run({"tokenize", "--model", m, "--text", "a", "--json"}).out) ==
        std::vector<std::string>{"ids", "pieces"});
  // The begin token only if it is asked for, and other special tokens never.
  CHECK(run_json({"tokenize", "--model", m, "--text", "Hi", "--bos"})["ids"] == json({1, id('H'), id('i')}));
  CHECK(run_json({"tokenize", "--model", m, "--text", "<s>"})["ids"] == json({id('<'), id('s'), id('>')}));
  CHECK(run_json({"tokenize", "--model", m, "--text", ""})["ids"] == json::array());
  // Text that looks like an option, and like a list to CLI11.
  CHECK(run_json({"tokenize", "--model", m, "--text", "--json"})["ids"].size() == 6);
  CHECK(run_json({"tokenize", "--model", m, "--text", "[]"})["ids"].size() == 2);
  // Any bytes: the output stays JSON, which is UTF-8.
  const std::string bytes = std::string("a\xFF\xC3") + "\n\t\xE2\x82";
  const std::string file = folder.file("bytes.txt", bytes);
  for (const arguments& call :
       {arguments{"tokenize", "--model", m, "--text", bytes}, {"tokenize", "--model", m, "--file", file}}) {
    const json any = run_json(call);
    CHECK(any["ids"].size() == bytes.size());
    const json text = run_json({"detokenize", "--model", m, "--ids", joined(any["ids"].get<std::vector<int>>())});
    CHECK(text["text"] == "a\uFFFD\uFFFD\n\t\uFFFD");
  }
  // A file may hold zeros, an argument may not.
  const std::string zero = folder.file("zero.txt", std::string("a\0b", 3));
  CHECK(run_json({"tokenize", "--model", m, "--file", zero})["ids"] == json({id('a'), id(0), id('b')}));
  const finished plain = run({"detokenize", "--model", m, "--ids", joined(std::vector<int>{id('a'), id(0), id('b')})});
  CHECK(plain.out == std::string("a\0b\n", 4));
  CHECK(run_json({"detokenize", "--model", m, "--ids", ""})["text"] == "");
  CHECK(run_json({"detokenize", "--model", m, "--ids", " 1, 76 ,109\n2"})["text"] == "Hi");
}

TEST_CASE("cli: generate says what it read, what it wrote and why it ended") {
  BLOCKATTN_REQUIRE_CLI();
  const temporary_folder folder;
  const std::string m = folder.file("tiny.gguf", tiny_gguf().build());
  const finished f = run({"generate", "--model", m, "--prompt", "Hi", "--max-tokens", "6", "--json"});
  const json o = f.object();
  CHECK(keys_of(f.out) == std::vector<std::string>{"prompt_ids", "ids", "text", "finish", "timing"});
  CHECK(o["prompt_ids"] == json({1, 76, 109}));  // the begin token by the tokenizer's rule
  const std::string finish = o["finish"];
  CHECK((finish == "length" ? o["ids"].size() == 6 : finish == "stop" && o["ids"].size() < 6));
  CHECK((o["timing"]["ttft_ms"] > 0.0 && o["timing"].contains("decode_tok_s")));
  CHECK(run_json({"generate", "--model", m, "--ids", "76,109", "--max-tokens", "1"})["prompt_ids"] == json({76, 109}));
  const json none = run_json({"generate", "--model", m, "--ids", "76", "--max-tokens", "0"});
  CHECK((none["ids"] == json::array() && none["text"] == "" && none["finish"] == "length"));
  CHECK(none["timing"]["decode_tok_s"] == 0.0);

  // A model whose stop token is the most likely one ends at once, and the token is in neither list nor text.
  gguf_writer stops = tiny_gguf();
  const std::size_t best = o["ids"].empty() ? 2 : o["ids"][0].get<std::size_t>();
  stops.u32("tokenizer.ggml.eos_token_id", static_cast<std::uint32_t>(best));
  const json stopped = run_json(
      {"generate", "--model", folder.file("stops.gguf", stops.build()), "--prompt", "Hi", "--max-tokens", "6"});
  CHECK((stopped["ids"] == json::array() && stopped["text"] == "" && stopped["finish"] == "stop"));

  // The same seed gives the same tokens; temperature 0 does not look at it.
  const arguments warm{"generate", "--model", m, "--ids", "76,109", "--max-tokens", "20", "--temperature", "1.5"};
  const auto seeded = [&](const char* seed) {
    arguments call = warm;
    call.insert(call.end(), {"--seed", seed});
    return run_json(call)["ids"];
  };
  CHECK(seeded("7") == seeded("7"));
  CHECK(seeded("7") != seeded("8"));
  CHECK(run_json({"generate", "--model", m, "--ids", "76", "--seed", "1"})["ids"] ==
        run_json({"generate", "--model", m, "--ids", "76", "--seed", "2"})["ids"]);
  CHECK(run_json({"generate", "--model", m, "--ids", "76", "--temperature", "2", "--top-k", "1"})["ids"] ==
        run_json({"generate", "--model", m, "--ids", "76"})["ids"]);

  // Without words there are ids, and an empty text.
  const std::string mute = folder.file("mute.gguf", tiny_gguf(false).build());
  const json silent = run_json({"generate", "--model", mute, "--ids", "76,109", "--max-tokens", "4"});
  CHECK((silent["ids"].size() == 4 && silent["text"] == "" && silent["finish"] == "length"));
  // For people: the text alone.
  CHECK(run({"generate", "--model", m, "--prompt", "Hi", "--max-tokens", "6"}).out ==
        o["text"].get<std::string>() + "\n");
}

TEST_CASE("cli: logits are the floats themselves, one row or a row for each id") {
  BLOCKATTN_REQUIRE_CLI();
  const temporary_folder folder;
  const std::string m = folder.file("tiny.gguf", tiny_gguf(false).build());
  const std::string ids = "5,6,7,8,9,10,11,12,13,14";
  const finished f = run({"logits", "--model", m, "--ids", ids, "--blocks", "3,4,3", "--json"});
  const json last = f.object();
  CHECK(keys_of(f.out) == std::vector<std::string>{"logits", "tokens", "blocks"});
  CHECK(last["tokens"] == 10);
  CHECK(last["blocks"] == json::parse(R"([{"tokens":3,"start":0,"hit":"miss"},{"tokens":4,"start":3,"hit":"miss"},
                                          {"tokens":3,"start":7,"hit":"miss"}])"));
  CHECK(last["logits"].size() == tiny_vocab);
  // What is printed is exactly a float: no digit is lost on the way back.
  bool exact = true;
  for (const json& x : last["logits"]) {
    const double value = x.get<double>();
    exact = exact && static_cast<double>(static_cast<float>(value)) == value;
  }
  CHECK(exact);

  const json all = run_json({"logits", "--model", m, "--ids", ids, "--blocks", "3,4,3", "--all"});
  REQUIRE(all["logits"].size() == 10);
  CHECK(all["logits"][9] == last["logits"]);
  CHECK(all["logits"][0].size() == tiny_vocab);
  // A block sees itself alone: its rows are those of the block as a prompt of its own.
  const json alone = run_json({"logits", "--model", m, "--ids", "8,9,10,11", "--all"});
  for (std::size_t i = 0; i < 4; ++i) CHECK(all["logits"][3 + i] == alone["logits"][i]);

  // Full mode and no local blocks are one thing, and another than block mode; one local block is full attention.
  const json full = run_json({"logits", "--model", m, "--ids", ids, "--blocks", "3,4,3", "--mode", "full"});
  CHECK(full["blocks"] == json::parse(R"([{"tokens":10,"start":0,"hit":"miss"}])"));
  CHECK(full["logits"] == run_json({"logits", "--model", m, "--ids", ids})["logits"]);
  CHECK(full["logits"] ==
        run_json({"logits", "--model", m, "--ids", ids, "--blocks", "3,4,3", "--local-blocks", "0"})["logits"]);
  CHECK(full["logits"] != last["logits"]);
  const json one = run_json({"logits", "--model", m, "--ids", ids, "--blocks", "3,4,3", "--local-blocks", "1"});
  CHECK((one["blocks"].size() == 2 && one["blocks"][1]["tokens"] == 7));
  // Equal blocks of one request are encoded once.
  const json twice = run_json({"logits", "--model", m, "--ids", "5,6,5,6,7", "--blocks", "2,2,1"});
  CHECK((twice["blocks"][0]["hit"] == "miss" && twice["blocks"][1]["hit"] == "memory"));
  // float is the default here, and says more than bf16.
  CHECK(last["logits"] ==
        run_json({"logits", "--model", m, "--ids", ids, "--blocks", "3,4,3", "--kv", "f32"})["logits"]);
  CHECK(last["logits"] !=
        run_json({"logits", "--model", m, "--ids", ids, "--blocks", "3,4,3", "--kv", "bf16"})["logits"]);
  // Any number of workers gives the same bits.
  for (const char* threads : {"1", "2", "5"})
    CHECK(run_json({"logits", "--model", m, "--ids", ids, "--blocks", "3,4,3", "--threads", threads}) == last);
}

TEST_CASE("cli: a model that computes no numbers is an error, not null") {
  BLOCKATTN_REQUIRE_CLI();
  const temporary_folder folder;
  gguf_writer w = tiny_gguf();
  w.floats("output_norm.weight", {16}, std::vector<float>(16, std::nanf("")));
  const std::string model = folder.file("nan.gguf", w.build());
  CHECK(contains(check_refused({"logits", "--model", model, "--ids", "1,2", "--json"}, 1), "expected a finite number"));
  const std::string dataset =
      folder.file("d.jsonl", std::string("{\"passages\":[],\"question\":\"q\",\"answers\":[\"a\"]}\n"));
  CHECK(contains(check_refused({"score", "--model", model, "--dataset", dataset, "--json"}, 1), "finite"));
  const json ids = run_json({"generate", "--model", model, "--ids", "1,2", "--max-tokens", "3"})["ids"];
  CHECK(ids.size() <= 3);  // it must end, whatever it says
}
