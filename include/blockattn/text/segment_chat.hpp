// SPDX-License-Identifier: MIT
/// A conversation in blocks finer than its turns: each message cut by the paper's delimiters, and pieces merged again
/// until there are few enough (PAPER 1.2; this is how the authors prepare the data for fine-tuning).
#pragma once

#include <functional>
#include <queue>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../core/result.hpp"
#include "chat_template.hpp"
#include "segment.hpp"

namespace blockattn::inline v0 {

/// Merges neighbouring pieces within each group until the groups hold fewer than `limit` pieces together, or one each.
///
/// Of all pieces in groups of at least two, the shortest (by code points; of equals the first) joins its left
/// neighbour, or the right one if it is the first of its group. This is the rule that the paper's code means: as
/// published, it forgets the minimum and merges in the last group only. O(n log n) for n pieces.
[[nodiscard]] inline std::vector<std::vector<std::string_view>> merge_pieces(
    std::vector<std::vector<std::string_view>> groups, std::size_t limit) {
  // All pieces in one list, linked within their group by index; what is merged away has no length any more.
  constexpr std::size_t none = static_cast<std::size_t>(-1);
  struct item {
    std::string_view text;
    std::size_t length = 0, left = none, right = none;
    bool alive = true;
  };
  std::vector<item> items;
  for (const auto& group : groups) {
    for (std::size_t i = 0; i < group.size(); ++i) {
      const std::size_t self = items.size();
      std::size_t length = 0;  // bytes that begin a character
      for (const char c : group[i]) length += (static_cast<unsigned char>(c) & 0xC0) != 0x80 ? 1u : 0u;
      items.push_back({group[i], length, i == 0 ? none : self - 1, i + 1 == group.size() ? none : self + 1, true});
    }
  }
  using entry = std::pair<std::size_t, std::size_t>;  // length, index
  std::priority_queue<entry, std::vector<entry>, std::greater<>> shortest;
  const auto offer = [&](std::size_t i) {
    if (items[i].left != none || items[i].right != none) shortest.emplace(items[i].length, i);
  };
  for (std::size_t i = 0; i < items.size(); ++i) offer(i);
  std::size_t count = items.size();
  while (count >= limit && !shortest.empty()) {
    const auto [length, at] = shortest.top();
    shortest.pop();
    if (!items[at].alive || items[at].length != length) continue;  // merged since it was offered
    item& self = items[at];
    const std::size_t into = self.left != none ? self.left : at;
    const std::size_t gone = self.left != none ? at : self.right;
    if (gone == none) continue;
    item &keep = items[into], &drop = items[gone];
    // Pieces of a message are contiguous, so their union is a view of the message.
    keep.text = std::string_view(keep.text.data(), keep.text.size() + drop.text.size());
    keep.length += drop.length;
    keep.right = drop.right;
    if (drop.right != none) items[drop.right].left = into;
    drop.alive = false;
    --count;
    offer(into);
  }
  std::size_t i = 0;
  for (auto& group : groups) {
    const std::size_t n = group.size();
    group.clear();
    for (const std::size_t end = i + n; i < end; ++i)
      if (items[i].alive) group.push_back(items[i].text);
  }
  return groups;
}

namespace detail {

// How many bytes a template puts behind message `i`.
[[nodiscard]] inline std::size_t behind(const chat_template& t, std::span<const chat_message> messages,
                                        std::size_t i) noexcept {
  const bool last = i + 1 == messages.size();
  switch (messages[i].role) {
    case chat_role::system: return t.system.after.size();
    case chat_role::user: return t.user.after.size() + (last ? t.generation.size() : 0);
    default: return t.assistant.after.size() + (last ? 0 : t.next.size());
  }
}

}  // namespace detail

/// A conversation as blocks: each message cut by `segment_by_delimiter`, pieces merged until fewer than `limit` blocks
/// are left (0: no limit). With `limit` or more messages none is cut. A message's first piece carries what the template
/// puts before it, its last what comes behind. Joined, the blocks are what `render_messages` gives; the last is final.
/// Errors: those of `render_messages`.
[[nodiscard]] inline result<std::vector<marked_text>> segment_messages(const chat_template& t,
                                                                       std::span<const chat_message> messages,
                                                                       std::size_t limit = 0) {
  auto whole = render_messages(t, messages);
  if (!whole) return whole;
  if (limit != 0 && messages.size() >= limit) return whole;
  std::vector<std::vector<std::string_view>> pieces;
  for (const chat_message& m : messages) {
    const bool trim = t.trim || (t.trim_answer && m.role == chat_role::assistant);
    pieces.push_back(segment_by_delimiter(trim ? stripped(m.content) : std::string_view(m.content)));
  }
  if (limit != 0) pieces = merge_pieces(std::move(pieces), limit);
  std::vector<marked_text> out;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    // The message stands in its rendered form as it is; around it, the template's text and markers.
    const marked_text& full = (*whole)[i];
    std::size_t content = 0;
    for (const std::string_view p : pieces[i]) content += p.size();
    const std::size_t before = full.text.size() - content - detail::behind(t, messages, i);
    std::size_t from = 0, end = before, next_marker = 0;
    for (std::size_t k = 0; k < pieces[i].size(); ++k) {
      end += pieces[i][k].size();
      const std::size_t stop = k + 1 == pieces[i].size() ? full.text.size() : end;
      marked_text& block = out.emplace_back();
      block.text = full.text.substr(from, stop - from);
      for (; next_marker < full.markers.size() && full.markers[next_marker].begin < stop; ++next_marker)
        block.markers.push_back({full.markers[next_marker].begin - from, full.markers[next_marker].size});
      from = stop;
    }
  }
  return out;
}

}  // namespace blockattn::inline v0
