// SPDX-License-Identifier: MIT
/// The steps of a `tokenizer.json`: "normalizer", "pre_tokenizer" and "decoder", read into plain data. What is not
/// understood exactly is `unsupported` and names its place; nothing is guessed or skipped.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hf_json.hpp"
#include "pattern.hpp"
#include "pretokenizer_kinds.hpp"
#include "spm.hpp"
#include "steps.hpp"

namespace blockattn::inline v0::detail {

/// Calls `read(step)` for `at` and, if it is a Sequence, for its members under `list`; null has none. Sequences in
/// Sequences are flattened; parse_json bounds their depth.
template <class Read>
[[nodiscard]] result<void> for_each_step(const json_place& at, const char* list, const Read& read) {
  if (at.is_null()) return {};
  if (auto r = at.object(); !r) return r;
  const json_place type = at["type"];
  if (!type.value().is_string()) return type.error(errc::bad_format, "the name of a step");
  if (type.value() != "Sequence") return read(at);
  const json_place steps = at[list];
  if (auto r = steps.array(); !r) return r;
  for (std::size_t i = 0; i < steps.value().size(); ++i)
    if (auto r = for_each_step(steps[i], list, read); !r) return r;
  return {};
}

/// A "pattern" member, {"String": ...} or {"Regex": ...}, as PCRE2 source; `plain` gets the text of the first kind.
[[nodiscard]] inline result<std::string> read_pattern(const json_place& at, std::string* plain = nullptr) {
  if (!at["String"].is_null()) {
    auto text = at["String"].text();
    if (!text) return text;
    if (text->empty()) return at["String"].error(errc::unsupported, "a text that is not empty");
    if (plain != nullptr) *plain = *text;
    return literal_pattern(*text);
  }
  auto source = at["Regex"].text();
  if (!source) return at.error(errc::bad_format, "{\"String\": ...} or {\"Regex\": ...}");
  auto translated = from_oniguruma(*source);
  if (!translated) return fail(translated.error().code, at["Regex"].path(), ": ", translated.error().message);
  // Compiled here only to say where in the file a bad one stands.
  if (const auto compiled = pattern::compile(*translated); !compiled)
    return fail(compiled.error().code, at["Regex"].path(), ": ", compiled.error().message);
  return translated;
}

[[nodiscard]] inline result<std::vector<normalize_step>> read_normalizer(const json_place& root) {
  using kind = normalize_step::kind;
  std::vector<normalize_step> out;
  auto read = for_each_step(root, "normalizers", [&](const json_place& at) -> result<void> {
    const auto type = at["type"].one_of({"NFC", "NFD", "NFKC", "NFKD", "Prepend", "Replace", "Strip"});
    if (!type) return type.error();
    normalize_step step;
    if (*type < 4) {
      step.type = static_cast<kind>(*type);
    } else if (*type == 4) {
      step.type = kind::prepend;
      auto text = at["prepend"].text();
      if (!text) return text.error();
      step.with = *std::move(text);
    } else if (*type == 5) {
      auto source = read_pattern(at["pattern"], &step.what);
      if (!source) return source.error();
      step.type = step.what.empty() ? kind::replace_pattern : kind::replace_text;
      if (step.type == kind::replace_pattern) step.what = *std::move(source);
      auto with = at["content"].text();
      if (!with) return with.error();
      step.with = *std::move(with);
    } else {
      step.type = kind::strip;
      const auto left = at["strip_left"].boolean(), right = at["strip_right"].boolean();
      if (!left) return left.error();
      if (!right) return right.error();
      step.left = *left;
      step.right = *right;
    }
    out.push_back(std::move(step));
    return {};
  });
  if (!read) return std::move(read).error();
  return out;
}

/// How a `tokenizer.json` cuts text. `byte_level`: what merges is bytes, not characters.
struct hf_splits {
  std::vector<split_step> steps;
  bool byte_level = false;
};

[[nodiscard]] inline result<split_behavior> read_behavior(const json_place& at) {
  const auto which = at.one_of({"Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"});
  if (!which) return which.error();
  return static_cast<split_behavior>(*which);
}

/// The replacement and the prepending of a Metaspace step, in the old spelling too.
[[nodiscard]] inline result<split_step> read_metaspace(const json_place& at) {
  split_step step;
  step.type = split_step::kind::metaspace;
  auto text = at["replacement"].text();
  if (!text) return text.error();
  if (next_utf8(*text + '\0').bytes != text->size())
    return at["replacement"].error(errc::bad_format, "one character");
  step.pattern = *std::move(text);
  step.prepend = split_step::prepending::always;
  if (!at["prepend_scheme"].is_null()) {
    const auto scheme = at["prepend_scheme"].one_of({"never", "first", "always"});
    if (!scheme) return scheme.error();
    step.prepend = static_cast<split_step::prepending>(*scheme);
  } else {
    const auto add = at["add_prefix_space"].boolean(true);
    if (!add) return add.error();
    if (!*add) step.prepend = split_step::prepending::never;
  }
  return step;
}

[[nodiscard]] inline result<hf_splits> read_pre_tokenizer(const json_place& root) {
  hf_splits out;
  const auto change = [&](split_step::kind type) {
    split_step step;
    step.type = type;
    out.steps.push_back(std::move(step));
  };
  const auto cut = [&](std::string source, split_behavior behavior, bool invert = false) {
    out.steps.push_back({.pattern = std::move(source), .behavior = behavior, .invert = invert});
  };
  auto read = for_each_step(root, "pretokenizers", [&](const json_place& at) -> result<void> {
    const auto type = at["type"].one_of({"Split", "ByteLevel", "Digits", "Metaspace", "Punctuation", "Whitespace",
                                         "WhitespaceSplit"});
    if (!type) return type.error();
    switch (*type) {
      case 0: {
        auto source = read_pattern(at["pattern"]);
        if (!source) return source.error();
        const auto behavior = read_behavior(at["behavior"]);
        if (!behavior) return behavior.error();
        const auto invert = at["invert"].boolean(false);
        if (!invert) return invert.error();
        cut(*std::move(source), *behavior, *invert);
        return {};
      }
      case 1: {
        if (out.byte_level) return at["type"].error(errc::unsupported, "one ByteLevel step");
        const auto space = at["add_prefix_space"].boolean(true), words = at["use_regex"].boolean(true);
        if (!space) return space.error();
        if (!words) return words.error();
        if (*space) change(split_step::kind::space_first);
        if (*words) cut(gpt2_pattern, split_behavior::isolated);
        change(split_step::kind::byte_letters);
        out.byte_level = true;
        return {};
      }
      case 2: {
        const auto each = at["individual_digits"].boolean(false);
        if (!each) return each.error();
        cut(R"(\p{N})", *each ? split_behavior::isolated : split_behavior::contiguous);
        return {};
      }
      case 3: {
        auto step = read_metaspace(at);
        if (!step) return step.error();
        const auto split = at["split"].boolean(true);
        if (!split) return split.error();
        const std::string marker = step->pattern;
        out.steps.push_back(*std::move(step));
        if (*split) cut(literal_pattern(marker), split_behavior::merged_with_next);
        return {};
      }
      case 4: {
        split_behavior behavior = split_behavior::isolated;
        if (!at["behavior"].is_null()) {
          const auto given = read_behavior(at["behavior"]);
          if (!given) return given.error();
          behavior = *given;
        }
        cut(R"([\p{P}$+<=>^`|~])", behavior);
        return {};
      }
      case 5: {
        auto source = from_oniguruma(R"(\w+|[^\w\s]+)");
        cut(*std::move(source), split_behavior::removed, true);
        return {};
      }
      default: {
        auto source = from_oniguruma(R"(\s)");
        cut(*std::move(source), split_behavior::removed);
        return {};
      }
    }
  });
  if (!read) return std::move(read).error();
  // Letters for bytes matter only to steps that follow.
  if (!out.steps.empty() && out.steps.back().type == split_step::kind::byte_letters) out.steps.pop_back();
  return out;
}

/// How pieces become text: per piece, and what happens at the start of a text.
struct hf_decoder {
  struct step {
    enum class kind { replace, bytes, strip } type;
    std::string what, with;  // strip: `what` goes
    std::size_t start = 0, stop = 0;
  };
  bool given = false;  // null joins pieces with spaces, which no model of ours wants
  bool byte_level = false;
  bool byte_fallback = false;
  bool strip_first_space = false;
  std::vector<step> steps;

  /// The text of a piece that is not an added token.
  [[nodiscard]] std::string text_of(std::string_view piece) const {
    if (byte_level) return bytes_of_piece(piece);
    std::string out(piece);
    bool is_byte = false;
    for (const step& s : steps) {
      if (is_byte) break;
      if (s.type == step::kind::bytes) {
        if (const int byte = byte_of_piece(out); byte >= 0) {
          out.assign(1, static_cast<char>(byte));
          is_byte = true;
        }
      } else if (s.type == step::kind::replace) {
        std::string next;
        std::size_t at = 0;
        for (std::size_t hit; (hit = out.find(s.what, at)) != std::string::npos; at = hit + s.what.size())
          next.append(out, at, hit - at).append(s.with);
        out = next.append(out, at, std::string::npos);
      } else {
        const std::size_t n = s.what.size();
        for (std::size_t i = 0; i < s.start && std::string_view(out).substr(0, n) == s.what; ++i) out.erase(0, n);
        for (std::size_t i = 0; i < s.stop && out.size() >= n && std::string_view(out).substr(out.size() - n) == s.what;
             ++i)
          out.resize(out.size() - n);
      }
    }
    return out;
  }
};

[[nodiscard]] inline result<hf_decoder> read_decoder(const json_place& root) {
  using kind = hf_decoder::step::kind;
  hf_decoder out;
  out.given = !root.is_null();
  bool fused = false;
  auto read = for_each_step(root, "decoders", [&](const json_place& at) -> result<void> {
    const auto type = at["type"].one_of({"ByteLevel", "Replace", "ByteFallback", "Fuse", "Strip", "Metaspace"});
    if (!type) return type.error();
    // Once pieces are one text, a step could reach across them; only taking the first space away is of use there.
    if (fused && *type != 3 && *type != 4) return at["type"].error(errc::unsupported, "Strip after Fuse");
    if ((out.byte_level || out.strip_first_space) && *type != 3)
      return at["type"].error(errc::unsupported, "no further step");
    switch (*type) {
      case 0:
        if (!out.steps.empty()) return at["type"].error(errc::unsupported, "ByteLevel as the first step");
        out.byte_level = true;
        return {};
      case 1: {
        std::string plain;
        if (auto source = read_pattern(at["pattern"], &plain); !source) return source.error();
        if (plain.empty()) return at["pattern"].error(errc::unsupported, "{\"String\": ...}");
        auto with = at["content"].text();
        if (!with) return with.error();
        if (with->size() > 64) return at["content"].error(errc::unsupported, "at most 64 bytes");
        out.steps.push_back({kind::replace, std::move(plain), *std::move(with)});
        return {};
      }
      case 2:
        out.byte_fallback = true;
        out.steps.push_back({kind::bytes, {}, {}});
        return {};
      case 3: fused = true; return {};
      case 4: {
        auto what = at["content"].text();
        const auto start = at["start"].number(1000), stop = at["stop"].number(1000);
        if (!what) return what.error();
        if (!start) return start.error();
        if (!stop) return stop.error();
        if (what->empty()) return at["content"].error(errc::bad_format, "one character");
        if (!fused) {
          out.steps.push_back({kind::strip, *std::move(what), {}, *start, *stop});
        } else {
          if (*what != " ") return at["content"].error(errc::unsupported, "a space");
          if (*start > 1) return at["start"].error(errc::unsupported, "0 or 1");
          if (*stop != 0) return at["stop"].error(errc::unsupported, "0");
          out.strip_first_space = *start == 1;
        }
        return {};
      }
      default: {
        auto step = read_metaspace(at);
        if (!step) return step.error();
        out.steps.push_back({kind::replace, step->pattern, " "});
        out.strip_first_space = step->prepend != split_step::prepending::never;
        return {};
      }
    }
  });
  if (!read) return std::move(read).error();
  return out;
}

}  // namespace blockattn::inline v0::detail
