// SPDX-License-Identifier: MIT
/// The steps between a text and the words that merge, as data: what `tokenizer.json` lists under "normalizer" and
/// "pre_tokenizer", and how its added tokens are found. Readers fill them; normalize.hpp and pretokenize.hpp run them.
#pragma once

#include <cstdint>
#include <string>

#include "../core/config.hpp"

namespace blockattn::inline v0 {

/// One change of the text before it is cut.
struct normalize_step {
  enum class kind : std::uint8_t {
    nfc,
    nfd,
    nfkc,
    nfkd,
    prepend,          ///< `with` comes before a text that is not empty
    replace_text,     ///< every `what` becomes `with`
    replace_pattern,  ///< every match of `what` becomes `with`
    strip             ///< whitespace goes at the sides named
  };
  kind type = kind::nfc;
  std::string what;  ///< a text, or PCRE2 source
  std::string with;
  bool left = false, right = false;  ///< strip: the sides
};

/// What becomes of the matches of a pattern that cuts a text.
enum class split_behavior : std::uint8_t { removed, isolated, merged_with_previous, merged_with_next, contiguous };

/// One cut of the text into smaller pieces, or a change that only the pieces see.
struct split_step {
  enum class kind : std::uint8_t {
    cut,         ///< at the matches of `pattern`
    space_first, ///< a piece that does not begin with a space gets one
    metaspace,   ///< spaces become `pattern`, a text; where `prepend` says so one more comes first
    byte_letters ///< bytes become GPT-2's letters for the steps that follow (none follow: no such step is needed)
  };
  enum class prepending : std::uint8_t { never, first, always };
  kind type = kind::cut;
  std::string pattern;  ///< PCRE2 source
  split_behavior behavior = split_behavior::isolated;
  bool invert = false;  ///< what lies between the matches counts as the matches
  prepending prepend = prepending::never;
};

/// How a control or user-defined piece is found in a text, beyond its spelling.
struct added_token {
  token id = -1;
  bool lstrip = false;       ///< takes the whitespace before it along
  bool rstrip = false;       ///< and the whitespace after it
  bool single_word = false;  ///< only where no letter, digit or underscore touches it
  bool normalized = false;   ///< searched in the normalized text, as its own normalized spelling
};

}  // namespace blockattn::inline v0
