// SPDX-License-Identifier: MIT
/// A JSON document in blocks, for states that change little from one question to the next (the paper's appendix A: the
/// state of a game, frame by frame). An edit of one value changes exactly one block.
///
///     const std::vector<state_block> blocks = segment_json_state(text, {.leaves = 2, .together = 1}).value();
///     $.chips.p1: {"bet":10,"remain":990}
///     $.chips.p2: {"bet":50,"remain":950}
///
/// Every block is one line that says where it belongs and what stands there, because it is encoded without its
/// neighbours. Where blocks begin depends on keys and nesting only, never on what the values are: that is why an edit
/// cannot move a border. Paths are JSONPath's (RFC 9535): `$.a`, `$["odd key"]`, `$.list[3]`, `$.list[0:16]`.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "../core/json_text.hpp"
#include "../core/result.hpp"

namespace blockattn::inline v0 {

struct state_block {
  std::string place;  ///< unique within a state, and the same after an edit of values
  std::string text;   ///< `path: value` and a line break

  friend bool operator==(const state_block&, const state_block&) = default;
};

struct json_state_options {
  std::size_t leaves = 16;   ///< a subtree of at most so many values is one block
  std::size_t together = 4;  ///< members of at most so many values share a block, up to `leaves`
  std::size_t depth = 128;   ///< deeper nesting is refused
};

namespace detail {

struct state_node {
  enum class kind : std::uint8_t { value, object, array };
  kind type = kind::value;
  std::string text;  // of a value: its JSON; an empty object or list is a value, too
  std::vector<std::string> keys;  // of an object, in step with its children
  std::vector<state_node> children;
  std::size_t leaves = 1;
};

inline void append_json_string(std::string& out, std::string_view text) {
  out += '"';
  for (const char c : text) {
    switch (c) {
      case '"': out += "\\\""; break;
      case '\\': out += "\\\\"; break;
      case '\n': out += "\\n"; break;
      case '\r': out += "\\r"; break;
      case '\t': out += "\\t"; break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          constexpr const char* hex = "0123456789abcdef";
          out.append("\\u00").append(1, hex[(c >> 4) & 0xF]).append(1, hex[c & 0xF]);
        } else {
          out += c;
        }
    }
  }
  out += '"';
}

// Builds the tree from a parser's events. Numbers keep the digits they were written with where a double would not.
class state_builder {
 public:
  explicit state_builder(std::size_t depth) : limit_(depth) {}

  bool null() { return value("null"); }
  bool boolean(bool b) { return value(b ? "true" : "false"); }
  bool number_integer(std::int64_t n) { return value(std::to_string(n)); }
  bool number_unsigned(std::uint64_t n) { return value(std::to_string(n)); }
  bool number_float(double, const std::string& written) { return value(written); }
  bool string(std::string& s) {
    std::string text;
    append_json_string(text, s);
    return value(std::move(text));
  }
  bool binary(nlohmann::json::binary_t&) { return false; }
  bool key(std::string& k) {
    open_.back().keys.push_back(std::move(k));
    return true;
  }
  bool start_object(std::size_t) { return start(state_node::kind::object); }
  bool start_array(std::size_t) { return start(state_node::kind::array); }
  bool end_array() { return end(); }
  bool end_object() {
    // Sorted by bytes, so that a writer's order does not matter.
    state_node& n = open_.back();
    std::vector<std::size_t> order(n.keys.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return n.keys[a] < n.keys[b]; });
    std::vector<std::string> keys;
    std::vector<state_node> children;
    for (const std::size_t i : order) {
      if (!keys.empty() && keys.back() == n.keys[i]) {
        std::string name;
        append_json_string(name, keys.back().substr(0, 64));
        error = fail(errc::bad_format, "json state: key ", name, ": expected once in its object, found twice");
        return false;
      }
      keys.push_back(std::move(n.keys[i]));
      children.push_back(std::move(n.children[i]));
    }
    n.keys = std::move(keys);
    n.children = std::move(children);
    return end();
  }
  template <class Exception>
  bool parse_error(std::size_t position, const std::string& found, const Exception&) {
    error = fail(errc::bad_format, "json state, byte ", position, ": expected JSON, found \"", found.substr(0, 32), "\"");
    return false;
  }

  state_node root;
  failure error;

 private:
  bool value(std::string text) {
    state_node n;
    n.text = std::move(text);
    return add(std::move(n));
  }
  bool start(state_node::kind type) {
    if (open_.size() >= limit_) {
      error = fail(errc::unsupported, "json state: expected at most ", limit_, " levels, found more");
      return false;
    }
    open_.emplace_back().type = type;
    return true;
  }
  bool end() {
    state_node n = std::move(open_.back());
    open_.pop_back();
    if (n.children.empty()) {
      n.text = n.type == state_node::kind::object ? "{}" : "[]";
      n.type = state_node::kind::value;
    } else {
      n.leaves = 0;
      for (const state_node& c : n.children) n.leaves += c.leaves;
    }
    return add(std::move(n));
  }
  bool add(state_node n) {
    if (open_.empty())
      root = std::move(n);
    else
      open_.back().children.push_back(std::move(n));
    return true;
  }

  std::size_t limit_;
  std::vector<state_node> open_;
};

inline void append_state(std::string& out, const state_node& n, std::size_t from, std::size_t to);
inline void append_state(std::string& out, const state_node& n) { append_state(out, n, 0, n.children.size()); }
// Children [from, to) of a node, or a value.
inline void append_state(std::string& out, const state_node& n, std::size_t from, std::size_t to) {
  if (n.type == state_node::kind::value) {
    out += n.text;
    return;
  }
  const bool object = n.type == state_node::kind::object;
  out += object ? '{' : '[';
  for (std::size_t i = from; i < to; ++i) {
    if (i != from) out += ',';
    if (object) {
      append_json_string(out, n.keys[i]);
      out += ':';
    }
    append_state(out, n.children[i]);
  }
  out += object ? '}' : ']';
}

class state_cutter {
 public:
  explicit state_cutter(json_state_options options) : options_(options) {
    options_.leaves = std::max<std::size_t>(options_.leaves, 1);
    options_.together = std::min(std::max<std::size_t>(options_.together, 1), options_.leaves);
  }

  std::vector<state_block> blocks;

  void cut(const state_node& n, const std::string& path) {
    if (n.leaves <= options_.leaves || n.type == state_node::kind::value) {
      std::string text = path + ": ";
      append_state(text, n);
      blocks.push_back({path, std::move(text.append("\n"))});
      return;
    }
    const bool object = n.type == state_node::kind::object;
    // Small members share blocks with their small neighbours; the others are blocks of their own, or several.
    std::size_t from = 0, leaves = 0;
    const auto flush = [&](std::size_t to) {
      if (from < to) group(n, path, from, to);
      from = to;
      leaves = 0;
    };
    for (std::size_t i = 0; i < n.children.size(); ++i) {
      const state_node& child = n.children[i];
      if (child.leaves > options_.together) {
        flush(i);
        cut(child, path + step(n, i));
        from = i + 1;
        continue;
      }
      if (leaves + child.leaves > options_.leaves) flush(i);
      leaves += child.leaves;
      // The key decides where a group ends, so that a new key disturbs its own group and not all behind it.
      if (object && hash(n.keys[i]) % options_.leaves == 0) flush(i + 1);
    }
    flush(n.children.size());
  }

 private:
  void group(const state_node& n, const std::string& path, std::size_t from, std::size_t to) {
    std::string place = path, line = path;
    if (n.type == state_node::kind::object) {
      place.append("{");
      append_json_string(place, n.keys[from]);
    } else {
      line.append("[").append(std::to_string(from)).append(":").append(std::to_string(to)).append("]");
      place = line;
    }
    line.append(": ");
    append_state(line, n, from, to);
    blocks.push_back({std::move(place), std::move(line.append("\n"))});
  }
  static std::string step(const state_node& n, std::size_t i) {
    if (n.type == state_node::kind::array) return "[" + std::to_string(i) + "]";
    const std::string& key = n.keys[i];
    const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; };
    const bool bare = !key.empty() && letter(key[0]) &&
                      std::all_of(key.begin(), key.end(), [&](char c) { return letter(c) || (c >= '0' && c <= '9'); });
    if (bare) return "." + key;
    std::string out = "[";
    append_json_string(out, key);
    return out += ']';
  }
  static std::uint64_t hash(std::string_view text) noexcept {  // FNV-1a, mixed
    std::uint64_t h = 0xcbf29ce484222325u;
    for (const char c : text) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
    return h ^ (h >> 29);
  }

  json_state_options options_;
};

}  // namespace detail

/// The blocks of a JSON document. Joined, they name every value once.
///
/// Canonical form: members sorted by the bytes of their keys, no whitespace, strings escaped where they must be, numbers
/// as they are written (integers without leading zeros as JSON has them; -0 is 0). So another order or layout of the
/// same document gives the same blocks. A subtree of at most `leaves` values is a block, however long its strings are.
///
/// What changes: an edit of one value, exactly one block. A new key, its group, or its own block. A new element at the
/// end of a list, the last group, or its own block. A subtree that grows past `leaves` is cut anew.
///
/// Errors: `bad_format` (not JSON, a number out of range, a key twice in an object), `unsupported` (too deep). Linear,
/// but for the sorting of keys.
[[nodiscard]] inline result<std::vector<state_block>> segment_json_state(std::string_view json,
                                                                         json_state_options options = {}) {
  if (auto plain = detail::refuse_zero_bytes(json); !plain)
    return fail(errc::bad_format, "json state: ", plain.error().message);
  detail::state_builder builder(options.depth);
  if (!nlohmann::json::sax_parse(json.begin(), json.end(), &builder)) {
    if (builder.error.message.empty()) builder.error = fail(errc::bad_format, "json state: expected JSON");
    return builder.error;
  }
  detail::state_cutter cutter(options);
  cutter.cut(builder.root, "$");
  return std::move(cutter.blocks);
}

}  // namespace blockattn::inline v0
