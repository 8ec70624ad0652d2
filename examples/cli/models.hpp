// SPDX-License-Identifier: MIT
/// A model as the command line names it: weights bound, words if it has any.
#pragma once

#include <blockattn/cache/context.hpp>
#include <blockattn/core/thread_executor.hpp>
#include <blockattn/model/session.hpp>
#include <blockattn/text/tokenizer.hpp>
#include <blockattn/train/parameters.hpp>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "options.hpp"

namespace cli {

namespace ba = blockattn;
using model = ba::llama<>;
using session = ba::session<model, ba::executor_ref>;
using token_lists = std::vector<std::vector<ba::token>>;

/// Everything that a command needs; stays where it is, because the session points into it.
struct runtime {
  std::unique_ptr<ba::thread_executor> pool;
  std::unique_ptr<model> weights;
  std::unique_ptr<session> chat;
  std::optional<ba::tokenizer> words;
  std::optional<ba::failure> no_words;         // why not, if there was something to read
  std::map<std::string, std::size_t> formats;  // tensors by element type

  /// The words, or an error that says why there are none and how to give some.
  [[nodiscard]] ba::result<const ba::tokenizer*> tokenizer() const;
  void take_words(ba::result<ba::tokenizer> read) {
    if (read)
      words = *std::move(read);
    else
      no_words = std::move(read).error();
  }
  /// The tokens that end a generation; none without words.
  [[nodiscard]] std::vector<ba::token> stops() const;
};

/// How a session stores keys and values: what --kv says, else `otherwise`. int8 takes its key factors from the weights.
ba::result<ba::session_options> session_options_of(const model& weights, const common_options& o, ba::dtype otherwise);

[[nodiscard]] ba::position_policy position_of(const common_options& o);

/// Greedy unless the options say otherwise. Errors: `invalid_argument`.
inline ba::result<ba::sampler> make_sampler(const options& o) {
  return ba::sampler::make(
      {.temperature = o.temperature, .top_k = o.top_k, .top_p = o.top_p, .min_p = o.min_p, .seed = o.seed});
}

/// A speed for JSON: of `n` decoded tokens; 0 if there is nothing to time.
inline double tokens_per_second(std::size_t n, double milliseconds) {
  return n < 2 ? 0.0 : 1000.0 * static_cast<double>(n) / std::max(milliseconds, 1e-3);
}

/// Whether this machine has memory for `bytes` more. Asked before numbers from the command line become sizes: memory
/// that is only promised is a program killed later. Errors: `out_of_memory` names `what`.
ba::result<void> check_memory(const std::string& what, double bytes);

/// A context with room for `prompt` tokens and `more` generated ones. Errors: `out_of_memory`.
ba::result<ba::context> make_context(const session& chat, std::size_t prompt, std::size_t more,
                                     const common_options& o);

/// Opens, binds and makes a session. `default_kv` is used where --kv is silent.
ba::result<runtime> open_runtime(const common_options& o, ba::dtype default_kv);

/// All weights of a model as floats, to be trained.
ba::result<ba::parameters<>> open_parameters(const common_options& o);

/// The tokenizer alone, without binding weights.
ba::result<ba::tokenizer> open_tokenizer(const common_options& o);

}  // namespace cli
