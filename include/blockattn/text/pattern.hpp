// SPDX-License-Identifier: MIT
/// Regular expressions over text of any bytes: PCRE2 behind a wall, compiled once, matched by any number of threads.
#pragma once

#ifndef PCRE2_CODE_UNIT_WIDTH
#define PCRE2_CODE_UNIT_WIDTH 8
#endif
#include <pcre2.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "../core/result.hpp"

namespace blockattn::inline v0 {

namespace detail {
struct pcre2_deleter {
  void operator()(pcre2_code_8* p) const noexcept { pcre2_code_free_8(p); }
  void operator()(pcre2_match_data_8* p) const noexcept { pcre2_match_data_free_8(p); }
  void operator()(pcre2_match_context_8* p) const noexcept { pcre2_match_context_free_8(p); }
};
}  // namespace detail

/// A compiled expression. A value; copies share the immutable code. Const methods are thread-safe.
class pattern {
 public:
  /// What a match writes to, and how much work it may do: one for each thread and call, so that threads share nothing
  /// but compiled code.
  class matcher {
   public:
    /// `bytes` is the size of the text to come. A match may take 10 million steps and 64 for each byte: far more than a
    /// linear expression needs, and an end to one that is not.
    explicit matcher(std::size_t bytes)
        : data_(pcre2_match_data_create_8(1, nullptr)), context_(pcre2_match_context_create_8(nullptr)) {
      if (!context_) return;
      const std::uint64_t steps = 10'000'000 + 64 * static_cast<std::uint64_t>(bytes);
      pcre2_set_match_limit_8(context_.get(), steps < 0xFFFFFFFFu ? static_cast<std::uint32_t>(steps) : 0xFFFFFFFFu);
      pcre2_set_depth_limit_8(context_.get(), 0xFFFFFFFFu);
      pcre2_set_heap_limit_8(context_.get(), 0xFFFFFFFFu);
    }
    /// Whether a match was given up: out of memory, or more steps than allowed.
    [[nodiscard]] bool gave_up() const noexcept { return gave_up_; }

   private:
    friend class pattern;
    std::unique_ptr<pcre2_match_data_8, detail::pcre2_deleter> data_;
    std::unique_ptr<pcre2_match_context_8, detail::pcre2_deleter> context_;
    bool gave_up_ = false;
  };

  /// Compiles PCRE2 source, valid UTF-8. `\d`, `\w` and `\s` know Unicode. Errors: `unsupported` with PCRE2's reason and
  /// its place; an expression that can match nothing is one too, because a scan would stand still.
  [[nodiscard]] static result<pattern> compile(std::string_view source) {
    int error = 0;
    std::size_t offset = 0;
    pattern out;
    out.code_.reset(pcre2_compile_8(reinterpret_cast<PCRE2_SPTR8>(source.data()), source.size(), PCRE2_UTF | PCRE2_UCP,
                                    &error, &offset, nullptr),
                    detail::pcre2_deleter{});
    if (!out.code_) {
      PCRE2_UCHAR8 reason[128] = {};
      pcre2_get_error_message_8(error, reason, sizeof reason);
      return fail(errc::unsupported, "expected an expression that PCRE2 compiles, found \"", source.substr(0, 64),
                  "\": ", reinterpret_cast<const char*>(reason), " at byte ", offset);
    }
    std::uint32_t empty = 0;
    pcre2_pattern_info_8(out.code_.get(), PCRE2_INFO_MATCHEMPTY, &empty);
    if (empty != 0)
      return fail(errc::unsupported, "expected an expression that always takes a character, found \"",
                  source.substr(0, 64), "\"");
    // Where just-in-time code is forbidden the same expression is interpreted.
    (void)pcre2_jit_compile_8(out.code_.get(), PCRE2_JIT_COMPLETE);
    return out;
  }

  /// The first match at or after `from`; {size, size} if there is none or `m` gave up. `text` must be valid UTF-8.
  [[nodiscard]] std::pair<std::size_t, std::size_t> find(std::string_view text, std::size_t from,
                                                         matcher& m) const noexcept {
    const std::pair<std::size_t, std::size_t> none{text.size(), text.size()};
    if (m.gave_up_) return none;
    if (!m.data_) {
      m.gave_up_ = true;
      return none;
    }
    const auto attempt = [&](std::uint32_t options) {
      return pcre2_match_8(code_.get(), reinterpret_cast<PCRE2_SPTR8>(text.data()), text.size(), from,
                           PCRE2_NO_UTF_CHECK | options, m.data_.get(), m.context_.get());
    };
    int found = attempt(0);
    // Just-in-time code has a stack of fixed size; the interpreter keeps its own on the heap.
    if (found == PCRE2_ERROR_JIT_STACKLIMIT) found = attempt(PCRE2_NO_JIT);
    if (found == PCRE2_ERROR_NOMATCH) return none;
    if (found < 0) {
      m.gave_up_ = true;
      return none;
    }
    const std::size_t* at = pcre2_get_ovector_pointer_8(m.data_.get());
    // \K can put a match before `from`, or make it empty; nothing else can.
    return at[1] > at[0] && at[0] >= from ? std::pair{at[0], at[1]} : none;
  }

 private:
  std::shared_ptr<pcre2_code_8> code_;
};

/// `text` as an expression that matches it and nothing else.
[[nodiscard]] inline std::string literal_pattern(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = byte >= 0x80 || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (byte == 0) {
      out += "\\x{0}";
    } else {
      if (!plain && byte >= 0x20 && byte != 0x7F) out += '\\';
      out += c;
    }
  }
  return out;
}

/// Whitespace as Unicode defines it, in a class: PCRE2's own `\s` counts U+180E too.
#define BLOCKATTN_SPACES R"(\x{9}-\x{d} \x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})"

/// An expression of a `tokenizer.json`, which is in Oniguruma's dialect, as PCRE2 writes it: `\s` and `\w` are Unicode's
/// sets, `\uHHHH` a character, `$` the end of a line. What the two read differently and no known tokenizer uses (`\h`,
/// `&&` in a class, `{n,m}+`) is `unsupported`.
[[nodiscard]] inline result<std::string> from_oniguruma(std::string_view source) {
  constexpr const char* word = R"(\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc})";
  std::string out = "(?m)";
  bool in_class = false;
  const auto refuse = [&](const char* what, std::size_t at) {
    return fail(errc::unsupported, "expected an expression that PCRE2 reads as Oniguruma does, found ", what,
                " at byte ", at);
  };
  for (std::size_t i = 0; i < source.size(); ++i) {
    const char c = source[i];
    if (c == '\\' && i + 1 < source.size()) {
      const char next = source[++i];
      if (next == 's' || next == 'w') {
        const char* set = next == 's' ? BLOCKATTN_SPACES : word;
        out.append(in_class ? "" : "[").append(set).append(in_class ? "" : "]");
      } else if ((next == 'S' || next == 'W') && !in_class) {
        out.append("[^").append(next == 'S' ? BLOCKATTN_SPACES : word).append("]");
      } else if (next == 'h' || next == 'H' || next == 'K' || next == 'G' || next == 'R' || next == 'X') {
        return refuse("an escape with two meanings", i - 1);
      } else if (next == 'u') {
        const std::string_view digits = source.substr(i + 1, 4);
        if (digits.size() != 4 || digits.find_first_not_of("0123456789abcdefABCDEF") != std::string_view::npos)
          return refuse("\\u without four digits", i - 1);
        out.append("\\x{").append(digits).append("}");
        i += 4;
      } else {
        out.append({'\\', next});
      }
      continue;
    }
    if (in_class) {
      if (c == '&' && source.substr(i, 2) == "&&") return refuse("&& in a class", i);
      if (c == '[' && source.substr(i, 2) != "[:") return refuse("a class in a class", i);
      if (c == '[') {  // [:name:]
        const std::size_t end = source.find(":]", i);
        if (end == std::string_view::npos) return refuse("[: without :]", i);
        out.append(source.substr(i, end + 2 - i));
        i = end + 1;
        continue;
      }
      in_class = c != ']';
    } else if (c == '[') {
      in_class = true;
      out += c;
      // A bracket that comes first is a member.
      if (source.substr(i + 1, 1) == "^") out += source[++i];
      if (source.substr(i + 1, 1) == "]") out.append("\\]"), ++i;
      continue;
    } else if (c == '}' && source.substr(i + 1, 1) == "+") {
      const std::size_t open = source.rfind('{', i);
      if (open != std::string_view::npos && open + 1 < i &&
          source.substr(open + 1, i - open - 1).find_first_not_of("0123456789,") == std::string_view::npos)
        return refuse("+ after {n,m}", i);
    }
    out += c;
  }
  return out;
}

}  // namespace blockattn::inline v0
