// SPDX-License-Identifier: MIT
/// Text while it is being generated: tokens may end inside a character, a screen must not.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "tokenizer.hpp"
#include "utf8.hpp"

namespace blockattn::inline v0 {

/// Bytes in, whole characters out. What `push` and `flush` return is always valid UTF-8, in any division of the bytes
/// the same text: a character waits until its last byte has come, and bytes that cannot become one are replaced by
/// U+FFFD as soon as that is certain. A value; not for use by two threads at once.
class utf8_stream {
 public:
  /// The text completed by `bytes`. The view lives until the next call.
  [[nodiscard]] std::string_view push(std::string_view bytes) {
    using kind = utf8_step::kind;
    pending_.append(bytes);
    ready_.clear();
    std::string_view rest = pending_;
    while (!rest.empty()) {
      const utf8_step step = next_utf8(rest);
      if (step.state == kind::incomplete) break;
      if (step.state == kind::valid)
        ready_.append(rest.substr(0, step.bytes));
      else
        ready_.append(replacement);
      rest.remove_prefix(step.bytes);
    }
    pending_.erase(0, pending_.size() - rest.size());
    return ready_;
  }

  /// What was waiting for bytes that will not come: nothing, or one U+FFFD. The stream is then as new.
  [[nodiscard]] std::string_view flush() {
    ready_.assign(pending_.empty() ? std::string_view() : replacement);
    pending_.clear();
    return ready_;
  }

  /// Bytes of a character that is not complete; at most 3.
  [[nodiscard]] std::size_t pending() const noexcept { return pending_.size(); }

 private:
  static constexpr std::string_view replacement = "\xEF\xBF\xBD";
  std::string pending_;
  std::string ready_;
};

/// `bytes` as valid UTF-8: U+FFFD where it is not.
[[nodiscard]] inline std::string to_valid_utf8(std::string_view bytes) {
  utf8_stream stream;
  std::string out(stream.push(bytes));
  return out.append(stream.flush());
}

/// Tokens in, whole characters out: `tokenizer::decode` one token at a time. The pieces joined are
/// `to_valid_utf8(decode(ids))`. Keeps the tokenizer alive.
class detokenizer {
 public:
  explicit detokenizer(tokenizer words, decode_options options = {})
      : words_(std::move(words)), options_(options), strip_(words_.strips_at_start(options)) {}

  /// The text that `id` completes, perhaps none. The view lives until the next call.
  [[nodiscard]] std::string_view push(token id) { return stream_.push(words_.next_text(id, options_, strip_)); }

  /// The end of the text: what was left of a cut character, as U+FFFD. The next token begins a new text.
  [[nodiscard]] std::string_view flush() {
    strip_ = words_.strips_at_start(options_);
    return stream_.flush();
  }

 private:
  tokenizer words_;
  decode_options options_;
  bool strip_;
  utf8_stream stream_;
};

}  // namespace blockattn::inline v0
