// SPDX-License-Identifier: MIT
// The command-line program. With --json, standard output holds exactly one JSON object; everything else goes to
// standard error. Exit 0; 1 with a one-line reason and an empty standard output; 2 for usage.
#include <CLI/CLI.hpp>
#include <blockattn/model/random_weights.hpp>
#include <blockattn/text/detokenize.hpp>
#include <blockattn/text/sinks.hpp>
#include <blockattn/text/template.hpp>
#include <blockattn/version.hpp>

#include <cstdio>
#include <exception>
#include <new>

#include "arguments.hpp"
#include "options.hpp"
#include "terminal.hpp"

namespace {

constexpr std::uint64_t many = std::uint64_t{1} << 40;  // more tokens or bytes than any machine holds
constexpr std::uint64_t any = ~std::uint64_t{0};

void add_common(CLI::App& app, cli::common_options& o, bool needs_model) {
  // Without the dashes too, but only where nothing else stands there: `inspect MODEL`, `store ls`.
  auto* model = app.add_option(needs_model ? "--model,model" : "--model", o.model, "a Hugging Face folder, a .safetensors, GGUF or llama2.c .bin file");
  if (needs_model) model->required();
  app.add_flag("--json", o.json, "print one JSON object on standard output");
  app.add_option("--tokenizer", o.tokenizer, "a tokenizer file, if the model has none beside it");
  app.add_option("--threads", o.threads, "workers; 0: all")->check(cli::whole(0, 1024));
  app.add_option("--kv", o.kv, "element type of keys and values")->check(CLI::IsMember({"f32", "bf16", "int8"}));
  app.add_option("--compute", o.compute, "arithmetic of products")->check(CLI::IsMember({"auto", "f32"}));
  app.add_option("--position", o.position, "what turns when a block moves")
      ->check(CLI::IsMember({"query_side", "key_side", "none"}));
  app.add_option("--mode", o.mode, "block or full attention")->check(CLI::IsMember({"block", "full"}));
  app.add_option("--local-blocks", o.local_blocks, "only the first N blocks stay local")->check(cli::whole(0, many));
  app.add_option("--rope-theta", o.rope_theta, "instead of the model's")->check(cli::real(1e-3, 1e30));
  app.add_option("--rope-scaling", o.rope_scaling, "instead of the model's")
      ->check(CLI::IsMember({"none", "linear", "yarn", "llama3"}));
  app.add_option("--rope-factor", o.rope_factor, "of the scaling")->check(cli::real(1e-6, 1e6));
  app.add_option("--rope-original-context", o.rope_original_context, "tokens that the model was trained for")
      ->check(cli::real(1, 1e12));
}

CLI::Option* add_max_tokens(CLI::App& app, cli::options& o) {
  return app.add_option("--max-tokens", o.max_tokens, "the most to generate")->check(cli::whole(0, many));
}

void add_sampling(CLI::App& app, cli::options& o) {
  add_max_tokens(app, o);
  app.add_option("--temperature", o.temperature, "0: the most likely token, always")->check(cli::real(0, 100));
  app.add_option("--top-k", o.top_k, "keep the K best; 0: all")->check(cli::whole(0, any));
  app.add_option("--top-p", o.top_p, "keep the best whose probability reaches P")->check(cli::real(1e-6, 1));
  app.add_option("--min-p", o.min_p, "drop what is less likely than P times the best")->check(cli::real(0, 1));
  app.add_option("--seed", o.seed, "of the random numbers")->check(cli::whole(0, any));
}

void add_template(CLI::App& app, cli::options& o) {
  app.add_option("--template", o.template_name, "the words around passages and question")
      ->check(CLI::Validator(
          [](std::string& name) {
            if (name == "auto") return std::string();
            const auto found = blockattn::find_template(name);
            return found ? std::string() : found.error().message + ", or auto";
          },
          "NAME"));
  app.add_option("--sinks", o.sinks, "learned tokens before each passage; else as many as the vocabulary has")
      ->check(cli::whole(0, blockattn::max_sinks));
}

// A message in one line of valid UTF-8, whatever a file or an argument brought into it.
std::string one_line(std::string_view text) {
  std::string out = blockattn::to_valid_utf8(text);
  while (!out.empty() && out.back() == '\n') out.pop_back();
  for (char& c : out)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  return out;
}

int failed(std::string_view reason, int code) {
  std::fprintf(stderr, "blockattn: %s\n", one_line(reason).c_str());
  return code;
}

// Runs a command. What it returns is printed here, so that an error leaves standard output empty.
int finish(cli::command run, const cli::options& o) {
  const auto outcome = run(o);
  if (!outcome) return failed(outcome.error().message, 1);
  if (o.common.json) cli::print(outcome->dump(-1, ' ', false, cli::json::error_handler_t::replace) + "\n");
  // A full disk or a closed pipe: an answer that nobody got is not a success.
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) return failed("standard output: cannot write", 1);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Block-Attention on CPUs"};
  app.set_version_flag("--version", blockattn::version_string);
  app.require_subcommand(1);
  cli::options o;
  cli::command run = nullptr;
  const auto add = [&](const char* name, const char* what, cli::command f, bool needs_model = true) {
    CLI::App* sub = app.add_subcommand(name, what);
    add_common(*sub, o.common, needs_model);
    sub->callback([&run, f] { run = f; });
    return sub;
  };
  add("inspect", "what a model file holds", cli::inspect);
  auto* tokenize = add("tokenize", "text to token ids", cli::tokenize);
  auto* text = tokenize->add_option("--text", o.text, "the text");
  auto* file = tokenize->add_option("--file", o.file, "a file of text")->excludes(text);
  tokenize->add_flag("--bos", o.bos, "begin with the begin token");
  auto* lengths = tokenize->add_option("--blocks", o.blocks_text, "lengths of blocks in bytes: compare them");
  tokenize->add_option("--cut", o.cut, "blocks end after this text (\\n, \\t): compare them")->excludes(lengths);
  tokenize->callback([&, text, file] {
    if (text->count() + file->count() == 0) throw CLI::RequiredError("--text or --file");
    o.blocks = cli::parse_list<std::size_t>("--blocks", o.blocks_text);
    run = cli::tokenize;
  });
  auto* detokenize = add("detokenize", "token ids to text", cli::detokenize);
  detokenize->add_option("--ids", o.ids_text, "ids with commas between them")->required();
  detokenize->callback([&] {
    cli::read_lists(o, false);
    run = cli::detokenize;
  });

  auto* generate = add("generate", "continue a prompt", cli::generate);
  auto* prompt = generate->add_option("--prompt", o.prompt, "text to continue");
  auto* ids = generate->add_option("--ids", o.ids_text, "ids to continue")->excludes(prompt);
  generate->add_option("--blocks", o.blocks_text, "lengths of blocks, the last being the final block")->needs(ids);
  add_sampling(*generate, o);
  generate->callback([&, prompt, ids] {
    if (prompt->count() + ids->count() == 0) throw CLI::RequiredError("--prompt or --ids");
    o.has_ids = ids->count() != 0;
    cli::read_lists(o, o.has_ids);
    run = cli::generate;
  });

  auto* logits = add("logits", "logits of the last position, or of all", cli::logits);
  logits->add_option("--ids", o.ids_text, "ids with commas between them")->required();
  logits->add_option("--blocks", o.blocks_text, "lengths of blocks, the last being the final block");
  logits->add_flag("--all", o.all, "a row for each id");
  logits->add_option("--store", o.store, "a folder of encoded blocks");
  logits->callback([&] {
    cli::read_lists(o, true);
    run = cli::logits;
  });

  auto* answer = add("answer", "answer a question from passages", cli::answer);
  answer->add_option("--passages", o.passages, "JSON lines of {\"title\", \"text\"}")->required();
  answer->add_option("--question", o.question, "the question")->required();
  answer->add_option("--store", o.store, "a folder of encoded blocks");
  answer->add_option("--budget", o.budget, "bytes of blocks in memory")->check(cli::whole(0, any));
  answer->add_flag("--compare", o.compare, "time full, cold and warm on the same tokens");
  add_template(*answer, o);
  add_sampling(*answer, o);

  auto* pack = add("pack", "encode passages into a folder", cli::pack);
  pack->add_option("--passages", o.passages, "JSON lines of {\"title\", \"text\"}")->required();
  pack->add_option("--store", o.store, "the folder")->required();
  pack->add_option("--budget", o.store_budget, "bytes of the folder's blocks; the oldest go")->check(cli::whole(0, any));
  add_template(*pack, o);

  auto* store = add("store", "look after a folder of encoded blocks", cli::store, false);
  store->add_option("verb", o.store_verb, "what to do")
      ->required()
      ->check(CLI::IsMember({"ls", "verify", "gc", "export", "import"}));
  store->add_option("--store", o.store, "the folder")->required();
  store->add_option("--budget", o.store_budget, "bytes of the folder's blocks, for gc and import")
      ->check(cli::whole(0, any));
  auto* to = store->add_option("--to", o.archive, "the archive that export writes (tar)");
  auto* from = store->add_option("--from", o.archive, "the archive that import reads (tar)")->excludes(to);
  store->callback([&, to, from] {
    if (o.store_verb == "export" && to->count() == 0) throw CLI::RequiredError("--to");
    if (o.store_verb == "import" && from->count() == 0) throw CLI::RequiredError("--from");
    run = cli::store;
  });

  auto* score = add("score", "accuracy and likelihood over questions", cli::score);
  score->add_option("--dataset", o.dataset, "questions over passages, with answers")->required();
  score->add_option("--format", o.dataset_format, "of the dataset")
      ->check(CLI::IsMember({"auto", "lines", "nq", "tqa", "hotpotqa", "2wiki", "musique"}));
  score->add_option("--top-passages", o.top_passages, "only the first N of each question; 0: all")
      ->check(cli::whole(0, many));
  score->add_option("--budget", o.budget, "bytes of blocks in memory")->check(cli::whole(0, any));
  auto* resume = score->add_option("--resume", o.resume, "a file of results: those in it are not computed again");
  score->add_option("--out", o.out, "a new file of all results, one JSON object a line");
  add_template(*score, o);
  add_max_tokens(*score, o);
  score->callback([&, resume] {
    if (resume->count() != 0 && o.resume == o.out)
      throw CLI::ValidationError("--out", "expected another file than that of --resume, found \"" + o.out + "\"");
    run = cli::score;
  });

  add("paper", "the paper's FLOPs table, and the exact one", cli::paper, false);

  auto* bench = add("bench", "time to first token of a shape, random weights", cli::bench, false);
  bench->add_option("--shape", o.shape, "a published shape")
      ->check(CLI::Validator(
          [](std::string& name) {
            const auto found = blockattn::published_shape(name);
            return found ? std::string() : found.error().message;
          },
          "NAME"));
  bench->add_option("--format", o.format, "of the weights")->check(CLI::IsMember(
      {"f32", "bf16", "f16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q4_k", "q5_k", "q6_k"}));
  bench->add_option("--context", o.context, "tokens of all blocks")->check(cli::whole(1, many));
  bench->add_option("--question", o.question_tokens, "tokens of the question")->check(cli::whole(1, many));
  bench->add_option("--block", o.block_tokens, "tokens of a block")->check(cli::whole(1, many));
  bench->add_option("--pass", o.pass_rows, "rows that go through the model at once, at most")->check(cli::whole(16, 1u << 16));
  bench->add_option("--repeats", o.repeats, "warm questions")->check(cli::whole(1, 1000));
  bench->add_option("--layers", o.layers, "instead of the shape's")->check(cli::whole(1, 1000));
  bench->add_option("--dim", o.dim, "instead of the shape's")->check(cli::whole(1, 65536));
  bench->add_option("--heads", o.heads, "instead of the shape's")->check(cli::whole(1, 4096));
  bench->add_option("--kv-heads", o.kv_heads, "instead of the shape's")->check(cli::whole(1, 4096));
  bench->add_option("--head-dim", o.head_dim, "instead of the shape's")->check(cli::whole(2, 256));
  bench->add_option("--ffn", o.ffn, "instead of the shape's")->check(cli::whole(1, 1u << 20));
  bench->add_option("--vocab", o.vocab, "instead of the shape's")->check(cli::whole(1, 1u << 24));
  bench->add_option("--plot", o.plot, "an SVG of time to first token against context, measured at halved contexts too");
  bench->add_flag("--no-full", o.no_full, "leave out full attention, whose time grows with the square of the context");
  bench->callback([&] {
    if (o.context < o.block_tokens)
      throw CLI::ValidationError("--context", "expected at least one block of " + std::to_string(o.block_tokens) +
                                                  " tokens, found " + std::to_string(o.context));
    run = cli::bench;
  });

  auto* demo = add("demo", "questions over passages, each from the store and with full attention", cli::demo);
  demo->add_option("--passages", o.passages, "JSON lines of {\"title\", \"text\"}")->required();
  demo->add_option("--questions", o.questions_file, "a question on each line")->required();
  demo->add_option("--edit", o.edit, "OLD=NEW: then a word of one passage changes, and the first question is asked again")
      ->check([](const std::string& edit) {
        const std::size_t at = edit.find('=');
        return at == std::string::npos || at == 0 ? "expected OLD=NEW, found " + edit : std::string();
      });

  auto* worlds = app.add_subcommand("worlds", "small worlds in English: passages and questions, as JSON lines");
  worlds->add_option("--seed", o.seed, "of the random numbers")->check(cli::whole(0, any));
  worlds->add_option("--count", o.count, "how many")->check(cli::whole(1, many));
  worlds->add_option("--first", o.first, "the number of the first one")->check(cli::whole(0, many));
  worlds->add_option("--level", o.level, "1 to 4: how much a question needs")->check(cli::whole(1, 4));
  worlds->add_option("--passages", o.world_passages, "of a world of level 4")->check(cli::whole(8, 16));
  worlds->add_option("--questions", o.questions, "of a world, at most")->check(cli::whole(1, 1000));
  worlds->add_option("--format", o.world_format, "lines: a question a line, for score; contexts: a world a line, for finetune")
      ->check(CLI::IsMember({"lines", "contexts"}));
  auto* worlds_out = worlds->add_option("--out", o.out, "a file instead of standard output");
  worlds->add_flag("--json", o.common.json, "print one JSON object on standard output")->needs(worlds_out);
  worlds->callback([&] { run = cli::worlds; });

  auto* stories = app.add_subcommand("stories", "stories in the manner of bAbI: sentences and questions, as JSON lines");
  stories->add_option("--seed", o.seed, "of the random numbers")->check(cli::whole(0, any));
  stories->add_option("--count", o.count, "how many")->check(cli::whole(1, many));
  stories->add_option("--first", o.first, "the number of the first one")->check(cli::whole(0, many));
  stories->add_option("--tasks", o.tasks_text, "bAbI's numbers with commas between them; else 1,5,6,11,12");
  stories->add_option("--sentences", o.sentences, "of a story; 0: as in bAbI's files")->check(cli::whole(0, 1000));
  stories->add_option("--questions", o.questions, "of a story, at most")->check(cli::whole(1, 1000));
  auto* stories_out = stories->add_option("--out", o.out, "a file instead of standard output");
  stories->add_flag("--json", o.common.json, "print one JSON object on standard output")->needs(stories_out);
  stories->callback([&] {
    cli::read_tasks(o);
    run = cli::stories;
  });

  auto* babi = app.add_subcommand("babi", "a task of bAbI as a dataset, JSON lines");
  babi->add_option("--file,file", o.file, "the task's file")->required();
  babi->add_option("--group", o.group, "sentences of a passage")->check(cli::whole(1, many));
  auto* babi_out = babi->add_option("--out", o.out, "a file instead of standard output");
  babi->add_flag("--json", o.common.json, "print one JSON object on standard output")->needs(babi_out);
  babi->callback([&] { run = cli::babi; });

  auto* finetune = app.add_subcommand("finetune", "train a model for block attention, or a new one from scratch");
  auto* base = finetune->add_option("--model", o.common.model, "the model to go on from");
  finetune->add_option("--new", o.new_text, "DIM,LAYERS,HEADS,KV_HEADS,FFN: a new model, with a tokenizer of its own")
      ->excludes(base);
  finetune->add_option("--tokenizer", o.common.tokenizer, "a GGUF file whose tokenizer a new model takes");
  finetune->add_option("--pieces", o.pieces, "of a new tokenizer, at most")->check(cli::whole(258, 1u << 20));
  finetune->add_option("--deviation", o.deviation, "of the normal distribution that a new model's matrices are drawn from")
      ->check(CLI::PositiveNumber);
  finetune->add_option("--train", o.train, "a dataset, or worlds:SEED or stories:SEED for fresh ones without end")->required();
  finetune->add_option("--valid", o.valid, "a dataset, worlds:SEED or stories:SEED, to measure on");
  finetune->add_option("--valid-count", o.valid_count, "contexts of it at most")->check(cli::whole(1, many));
  finetune->add_option("--valid-every", o.valid_every, "steps; 0: twenty times")->check(cli::whole(0, many));
  finetune->add_option("--mode", o.train_mode, "how samples are seen")->check(CLI::IsMember({"both", "full", "block"}));
  finetune->add_option("--steps", o.steps, "of the optimizer")->check(cli::whole(1, many));
  finetune->add_option("--stop-at", o.stop_at, "stop there as if by Ctrl-C, to go on later; 0: at the end")->check(cli::whole(0, many));
  finetune->add_option("--batch-tokens", o.batch_tokens, "of a step, once for each mode")->check(cli::whole(1, 1u << 30));
  finetune->add_option("--lr", o.lr, "learning rate")->check(cli::real(0, 10));
  finetune->add_option("--schedule", o.schedule, "of the learning rate")->check(CLI::IsMember({"constant", "linear"}));
  finetune->add_option("--warmup", o.warmup, "steps")->check(cli::whole(0, many));
  finetune->add_option("--weight-decay", o.weight_decay, "of AdamW")->check(cli::real(0, 10));
  finetune->add_option("--beta2", o.beta2, "of AdamW")->check(cli::real(0, 0.999999));
  finetune->add_option("--clip", o.clip, "the gradient's norm at most; 0: any")->check(cli::real(0, 1e9));
  finetune->add_option("--products", o.products, "the factors of products: as they are, or rounded")->check(CLI::IsMember({"f32", "bf16"}));
  finetune->add_option("--loss", o.loss, "answer: on answers; dense: on every token")->check(CLI::IsMember({"answer", "dense"}));
  finetune->add_option("--dense-weight", o.dense_weight, "of tokens outside answers")->check(cli::real(0, 1000));
  finetune->add_option("--pass-tokens", o.pass_tokens, "run at once; more in turn")->check(cli::whole(1, 1u << 30));
  finetune->add_flag("--recompute", o.recompute, "less memory, a third more time");
  auto* teacher = finetune->add_option("--teacher", o.teacher, "distillation: a model whose full attention is to be matched");
  finetune->add_option("--teacher-temperature", o.temperature_of_teacher, "of both distributions")->check(cli::real(0.01, 100))->needs(teacher);
  finetune->add_option("--focus", o.focus, "up to so much more weight where the two differ")->check(cli::real(0, 1000))->needs(teacher);
  finetune->add_option("--hard", o.hard, "weight of the answers themselves beside the teacher")->check(cli::real(0, 1000))->needs(teacher);
  finetune->add_option("--drop-blocks", o.drop_blocks, "part of the blocks that each step leaves out")->check(cli::real(0, 0.9))->needs(teacher);
  finetune->add_option("--curriculum", o.curriculum, "part of the steps until worlds or stories are whole; else 0.7 for --new, 0 for --model")
      ->check(cli::real(0, 1));
  finetune->add_option("--tasks", o.tasks_text, "of stories: bAbI's numbers with commas between them; else 1,5,6,11,12");
  finetune->add_option("--questions", o.questions, "of a world or story, at most")->check(cli::whole(1, 1000));
  finetune->add_option("--seed", o.seed, "of weights and of the order of samples")->check(cli::whole(0, any));
  finetune->add_option("--threads", o.common.threads, "workers; 0: all")->check(cli::whole(0, 1024));
  finetune->add_option("--save", o.save, "the GGUF file of the result");
  finetune->add_option("--save-format", o.save_format, "of its matrices")->check(CLI::IsMember({"f32", "f16", "bf16", "q8_0"}));
  finetune->add_option("--checkpoint", o.checkpoint, "a file that the run is kept in, and goes on from");
  auto* log_file = finetune->add_option("--log", o.log, "a file of JSON lines: loss, speed and accuracy as they come");
  finetune->add_option("--plot", o.plot, "an SVG of the accuracies that the log holds, earlier runs included")->needs(log_file);
  add_template(*finetune, o);
  finetune->add_flag("--json", o.common.json, "print one JSON object on standard output");
  finetune->callback([&, base] {
    if (base->count() == 0 && o.new_text.empty()) throw CLI::RequiredError("--model or --new");
    o.new_shape = cli::parse_list<std::uint32_t>("--new", o.new_text);
    if (!o.new_text.empty() && o.new_shape.size() != 5)
      throw CLI::ValidationError("--new", "expected DIM,LAYERS,HEADS,KV_HEADS,FFN, found \"" + o.new_text + "\"");
    cli::read_tasks(o);
    if (finetune->get_option("--template")->count() == 0) o.template_name = "plain";
    run = cli::finetune;
  });

  try {
    app.parse(argc, argv);
    cli::check_rope(o.common);
  } catch (const CLI::Success& e) {
    return app.exit(e);
  } catch (const CLI::ParseError& e) {
    return failed(e.what(), 2);
  }
  try {
    return finish(run, o);
  } catch (const std::bad_alloc&) {
    return failed("out of memory", 1);
  } catch (const std::exception& e) {  // of the standard library: the system refused something
    return failed(e.what(), 1);
  }
}
