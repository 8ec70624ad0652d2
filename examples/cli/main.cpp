// SPDX-License-Identifier: MIT
// The command-line program: docs/cli.md lists its commands. With --json, standard output holds exactly one JSON object;
// everything else goes to standard error. Exit 0; 1 with a one-line reason; 2 for usage.
#include <CLI/CLI.hpp>
#include <blockattn/version.hpp>

#include <cstdio>
#include <new>

#include "options.hpp"

namespace {

void add_common(CLI::App& app, cli::common_options& o, bool needs_model) {
  auto* model = app.add_option("--model,model", o.model, "a GGUF file or a llama2.c .bin file");
  if (needs_model) model->required();
  app.add_flag("--json", o.json, "print one JSON object on standard output");
  app.add_option("--tokenizer", o.tokenizer, "a tokenizer file, if the model has none beside it");
  app.add_option("--threads", o.threads, "workers; 0: all");
  app.add_option("--kv", o.kv, "element type of keys and values")->check(CLI::IsMember({"f32", "bf16", "int8"}));
  app.add_option("--compute", o.compute, "arithmetic of products")->check(CLI::IsMember({"auto", "f32"}));
  app.add_option("--position", o.position, "what turns when a block moves")
      ->check(CLI::IsMember({"query_side", "key_side", "none"}));
  app.add_option("--mode", o.mode, "block or full attention")->check(CLI::IsMember({"block", "full"}));
  app.add_option("--local-blocks", o.local_blocks, "only the first N blocks stay local");
  app.add_option("--rope-theta", o.rope_theta)->check(CLI::PositiveNumber);
  app.add_option("--rope-scaling", o.rope_scaling)->check(CLI::IsMember({"none", "linear", "yarn", "llama3"}));
  app.add_option("--rope-factor", o.rope_factor)->check(CLI::PositiveNumber);
  app.add_option("--rope-original-context", o.rope_original_context)->check(CLI::PositiveNumber);
}

void add_sampling(CLI::App& app, cli::options& o) {
  app.add_option("--max-tokens", o.max_tokens);
  app.add_option("--temperature", o.temperature);
  app.add_option("--top-k", o.top_k);
  app.add_option("--top-p", o.top_p);
  app.add_option("--min-p", o.min_p);
  app.add_option("--seed", o.seed);
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
  auto* text = tokenize->add_option("--text", o.text);
  auto* file = tokenize->add_option("--file", o.file)->excludes(text);
  tokenize->add_flag("--bos", o.bos);
  tokenize->callback([&run, text, file] {
    if (text->count() + file->count() == 0) throw CLI::RequiredError("--text or --file");
    run = cli::tokenize;
  });
  add("detokenize", "token ids to text", cli::detokenize)->add_option("--ids", o.ids)->required();

  auto* generate = add("generate", "continue a prompt", cli::generate);
  auto* prompt = generate->add_option("--prompt", o.prompt);
  auto* ids = generate->add_option("--ids", o.ids)->excludes(prompt);
  generate->add_option("--blocks", o.blocks, "lengths of blocks, the last being the final block")->needs(ids);
  add_sampling(*generate, o);
  generate->callback([&run, prompt, ids] {
    if (prompt->count() + ids->count() == 0) throw CLI::RequiredError("--prompt or --ids");
    run = cli::generate;
  });

  auto* logits = add("logits", "logits of the last position, or of all", cli::logits);
  logits->add_option("--ids", o.ids)->required();
  logits->add_option("--blocks", o.blocks, "lengths of blocks, the last being the final block");
  logits->add_flag("--all", o.all);
  logits->add_option("--store", o.store, "a folder of encoded blocks");

  auto* answer = add("answer", "answer a question from passages", cli::answer);
  answer->add_option("--passages", o.passages, "JSON lines of {\"title\", \"text\"}")->required();
  answer->add_option("--question", o.question)->required();
  answer->add_option("--store", o.store, "a folder of encoded blocks");
  answer->add_option("--budget", o.budget, "bytes of blocks in memory");
  answer->add_option("--template", o.template_name);
  answer->add_flag("--compare", o.compare, "time full, cold and warm on the same tokens");
  add_sampling(*answer, o);

  auto* pack = add("pack", "encode passages into a folder", cli::pack);
  pack->add_option("--passages", o.passages)->required();
  pack->add_option("--store", o.store)->required();
  pack->add_option("--template", o.template_name);

  auto* store = add("store", "look after a folder of encoded blocks", cli::store, false);
  store->add_option("verb", o.store_verb)->required()->check(CLI::IsMember({"ls", "verify"}));
  store->add_option("--store", o.store)->required();

  auto* score = add("score", "accuracy and likelihood over questions", cli::score);
  score->add_option("--dataset", o.dataset, "JSON lines of {\"passages\", \"question\", \"answers\"}")->required();
  score->add_option("--template", o.template_name);
  score->add_option("--max-tokens", o.max_tokens);

  add("paper", "the paper's FLOPs table, and the exact one", cli::paper, false);

  auto* bench = add("bench", "time to first token of a shape, random weights", cli::bench, false);
  bench->add_option("--shape", o.shape);
  bench->add_option("--format", o.format)->check(CLI::IsMember({"f32", "bf16"}));
  bench->add_option("--context", o.context)->check(CLI::PositiveNumber);
  bench->add_option("--question", o.question_tokens)->check(CLI::PositiveNumber);
  bench->add_option("--block", o.block_tokens)->check(CLI::PositiveNumber);
  bench->add_option("--repeats", o.repeats)->check(CLI::PositiveNumber);

  add("demo", "the main job on a random model: nothing to download", cli::demo, false)
      ->add_option("--passages", o.passages, "JSON lines of {\"title\", \"text\"}")
      ->required();

  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& e) {
    return app.exit(e);
  } catch (const CLI::ParseError& e) {
    std::fprintf(stderr, "blockattn: %s\n", e.what());
    return 2;
  }

  try {
    const auto outcome = run(o);
    if (!outcome) {
      std::fprintf(stderr, "blockattn: %s\n", outcome.error().message.c_str());
      // A message that names an option tells of a wrong call; all others tell of a file or a model.
      return outcome.error().message.rfind("--", 0) == 0 ? 2 : 1;
    }
    if (o.common.json) std::printf("%s\n", outcome->dump(-1, ' ', false, cli::json::error_handler_t::replace).c_str());
    return 0;
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "blockattn: out of memory\n");
    return 1;
  }
}
