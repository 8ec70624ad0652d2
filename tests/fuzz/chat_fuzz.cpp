// SPDX-License-Identifier: MIT
// Fuzz target: recognition of chat templates, tokenizer_config.json, and conversations of any text: joined, the blocks
// are the conversation; encoded, no text of a message is ever a control token.
#include <blockattn/text/prompt.hpp>
#include <blockattn/text/recognise.hpp>
#include <blockattn/text/segment_chat.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace {

namespace ba = blockattn;

void require(bool ok) {
  if (!ok) __builtin_trap();
}

// Bytes, and the markers of all templates: half of them as control pieces, half as pieces that stand in any text.
const ba::tokenizer& words() {
  static const ba::tokenizer made = [] {
    ba::vocabulary v = ba::byte_vocabulary();
    for (const auto& t : ba::chat_templates())
      for (const std::string& m : t.markers)
        if (std::find(v.pieces.begin(), v.pieces.end(), m) == v.pieces.end()) {
          v.pieces.push_back(m);
          v.types.push_back(v.pieces.size() % 2 == 0 ? 3 : 4);
        }
    return ba::tokenizer::from_vocabulary(std::move(v)).value();
  }();
  return made;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const std::uint8_t choice = data[0], limit = data[1];
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 2, size - 2);
  if (const auto t = ba::recognise_chat_template(bytes)) require(ba::find_chat_template(t->name).has_value());
  if (const auto text = ba::read_chat_template(bytes)) (void)ba::recognise_chat_template(*text);

  // A conversation: a message for each stretch between zero bytes.
  std::vector<ba::chat_message> messages;
  if (choice % 2 == 1) messages.push_back({ba::chat_role::system, {}});
  bool user = true;
  for (std::string_view rest = bytes;; user = !user) {
    const std::size_t end = rest.find('\0');
    messages.push_back({user ? ba::chat_role::user : ba::chat_role::assistant, std::string(rest.substr(0, end))});
    if (end == std::string_view::npos || messages.size() > 40) break;
    rest.remove_prefix(end + 1);
  }
  static const auto all = ba::chat_templates();
  const ba::chat_template& t = all[choice / 2 % all.size()];
  ba::marked_text whole, turns, cut;
  const auto each = ba::render_messages(t, messages).value();
  const auto by_turn = ba::render_turns(t, messages).value();
  const auto by_piece = ba::segment_messages(t, messages, limit).value();
  for (const auto& m : each) whole.add(m);
  for (const auto& m : by_turn) turns.add(m);
  for (const auto& m : by_piece) cut.add(m);
  require(turns == whole && cut == whole);

  const auto ids = ba::encode(words(), whole, ba::options_of(t, words(), false));
  require(words().decode(ids, {.special = true}) == whole.text);
  // Every marker of the template is one token, and only those are: a text's spelling never is.
  std::size_t markers = 0;
  for (const ba::token id : ids)
    markers += std::find(t.markers.begin(), t.markers.end(), words().piece(id)) != t.markers.end() ? 1u : 0u;
  require(markers == whole.markers.size());
  return 0;
}
