// SPDX-License-Identifier: MIT
/// Generation as a range of tokens whose end says why it ended.
#pragma once

#include <atomic>
#include <functional>
#include <iterator>
#include <optional>
#include <string>
#include <vector>

#include "../core/result.hpp"
#include "sampler.hpp"

namespace blockattn::inline v0 {

/// Why a generation ended.
enum class finish_reason : std::uint8_t {
  running,    ///< it has not: the loop was left early
  stop,       ///< a stop token or a stop string
  length,     ///< max_tokens
  cancelled,  ///< the cancel flag
  failed      ///< see error(): the room of the context is used up, most likely
};

[[nodiscard]] constexpr const char* to_string(finish_reason reason) noexcept {
  switch (reason) {
    case finish_reason::running: return "running";
    case finish_reason::stop: return "stop";
    case finish_reason::length: return "length";
    case finish_reason::cancelled: return "cancelled";
    case finish_reason::failed: return "failed";
  }
  return "unknown";
}

struct generate_options {
  std::size_t max_tokens = 256;
  std::vector<token> stop = {};                // end before such a token; it is neither yielded nor appended
  std::vector<std::string> stop_strings = {};  // end after the token that completes one; needs `text`
  std::function<std::string(token)> text = {}; // the bytes of a token
  const std::atomic<bool>* cancel = nullptr;   // looked at before each token
};

/// An input range of tokens. Each yielded token has been sampled from the context's logits; it is appended to the
/// context before the next one is sampled, and after the last one too, so that a conversation goes on from there.
/// A token that the caller breaks out on is not appended.
template <class Session, class Context, class Sampler>
class generation {
 public:
  class iterator {
   public:
    using iterator_concept = std::input_iterator_tag;
    using value_type = token;
    using difference_type = std::ptrdiff_t;

    iterator() = default;
    explicit iterator(generation& owner) : owner_(&owner) {}
    [[nodiscard]] token operator*() const { return owner_->current_; }
    iterator& operator++() {
      owner_->accept();
      return *this;
    }
    void operator++(int) { ++*this; }
    [[nodiscard]] friend bool operator==(const iterator& i, std::default_sentinel_t) { return i.at_end(); }

   private:
    [[nodiscard]] bool at_end() const { return !owner_->has_current_; }

    generation* owner_ = nullptr;
  };

  generation(Session& runner, Context& sequence, Sampler&& sampler, generate_options options)
      : session_(&runner), context_(&sequence), sampler_(std::forward<Sampler>(sampler)), options_(std::move(options)) {}

  /// Samples the first token. Call once.
  [[nodiscard]] iterator begin() {
    if (!context_->has_logits()) {
      end(finish_reason::failed,
          fail(errc::invalid_argument, "generate: expected a prefilled context, found one without logits"));
    } else {
      sample();
    }
    return iterator(*this);
  }
  [[nodiscard]] std::default_sentinel_t end() const noexcept { return {}; }

  [[nodiscard]] finish_reason finish() const noexcept { return finish_; }
  /// What went wrong, if finish() is `failed`.
  [[nodiscard]] const std::optional<failure>& error() const noexcept { return error_; }
  /// Tokens yielded so far.
  [[nodiscard]] std::size_t count() const noexcept { return count_; }

 private:
  void end(finish_reason reason, std::optional<failure> error = std::nullopt) {
    has_current_ = false;
    finish_ = reason;
    error_ = std::move(error);
  }

  void sample() {
    has_current_ = false;
    if (options_.cancel != nullptr && options_.cancel->load(std::memory_order_relaxed)) return end(finish_reason::cancelled);
    if (count_ == options_.max_tokens) return end(finish_reason::length);
    current_ = sampler_(session_->logits_to_sample(*context_), context_->tail_tokens());
    if (std::find(options_.stop.begin(), options_.stop.end(), current_) != options_.stop.end())
      return end(finish_reason::stop);
    has_current_ = true;
    ++count_;
  }

  // The caller is done with the current token: it joins the context, and the next one is sampled.
  void accept() {
    if (auto done = session_->decode(*context_, current_); !done) return end(finish_reason::failed, std::move(done).error());
    if (completes_stop_string()) return end(finish_reason::stop);
    sample();
  }

  bool completes_stop_string() {
    if (options_.stop_strings.empty() || !options_.text) return false;
    const std::string piece = options_.text(current_);
    written_ += piece;
    std::size_t longest = 0;
    for (const std::string& stop : options_.stop_strings) {
      longest = std::max(longest, stop.size());
      if (stop.empty()) continue;
      // Only an occurrence that ends in this token is new.
      const std::size_t from = written_.size() - std::min(written_.size(), piece.size() + stop.size() - 1);
      if (written_.find(stop, from) != std::string::npos) return true;
    }
    if (written_.size() > 2 * longest + 64) written_.erase(0, written_.size() - longest);
    return false;
  }

  Session* session_;
  Context* context_;
  Sampler sampler_;
  generate_options options_;
  token current_ = 0;
  bool has_current_ = false;
  std::size_t count_ = 0;
  finish_reason finish_ = finish_reason::running;
  std::optional<failure> error_;
  std::string written_;  // the end of the generated text, as long as a stop string may need
};

}  // namespace blockattn::inline v0
