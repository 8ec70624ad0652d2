// SPDX-License-Identifier: MIT
/// A model as the command line names it: weights bound, words if it has any.
#pragma once

#include <blockattn/core/thread_executor.hpp>
#include <blockattn/model/session.hpp>
#include <blockattn/text/tokenizer.hpp>

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
  std::map<std::string, std::size_t> formats;  // tensors by element type

  /// The words, or an error that says how to give some.
  [[nodiscard]] ba::result<const ba::tokenizer*> tokenizer() const;
  [[nodiscard]] ba::position_policy position(const common_options& o) const;
};

/// Opens, binds and makes a session. `default_kv` is used where --kv is silent.
ba::result<runtime> open_runtime(const common_options& o, ba::dtype default_kv);

/// The tokenizer alone, without binding weights.
ba::result<ba::tokenizer> open_tokenizer(const common_options& o);

}  // namespace cli
