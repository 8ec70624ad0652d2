// SPDX-License-Identifier: MIT
// Fuzz target: segmenters lose nothing; a JSON state is cut into blocks at distinct places, or is an error; and another
// value in its place changes one block.
#include <blockattn/text/json_state.hpp>
#include <blockattn/text/segment.hpp>

#include <cstddef>
#include <cstdint>
#include <set>

namespace {

namespace ba = blockattn;

void require(bool ok) {
  if (!ok) __builtin_trap();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 1) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  for (const char* by : {"whole", "delimiter", "passages", "bbh", "drop", "answers", "turns"}) {
    const auto blocks = ba::segment(bytes, by).value();
    std::size_t at = 0;
    for (const std::string_view b : blocks) {
      require(b.data() == bytes.data() + at && (!b.empty() || bytes.empty()));
      at += b.size();
    }
    require(at == bytes.size());
  }
  const ba::json_state_options options{.leaves = data[0] % 16u + 1u, .together = data[0] / 16u + 1u, .depth = 40};
  const auto blocks = ba::segment_json_state(bytes, options);
  if (!blocks) {
    require(!blocks.error().message.empty());
    return 0;
  }
  std::set<std::string> places;
  for (const auto& b : *blocks) {
    require(places.insert(b.place).second);
    require(b.text.front() == '$' && b.text.back() == '\n' && b.text.find('\n') == b.text.size() - 1);
  }
  // A digit in the document that is a whole value: another digit there is an edit of one value.
  for (std::size_t i = 1; i + 1 < bytes.size(); ++i) {
    const auto edge = [&](char c) { return c == ',' || c == '[' || c == ']' || c == ':' || c == '}'; };
    if (bytes[i] < '1' || bytes[i] > '9' || !edge(bytes[i - 1]) || !edge(bytes[i + 1])) continue;
    std::string edited(bytes);
    edited[i] = bytes[i] == '9' ? '1' : static_cast<char>(bytes[i] + 1);
    const auto after = ba::segment_json_state(edited, options);
    if (!after) break;  // the digit was a part of a string that is a key
    // It may have been inside a string, where the same holds; inside a key, where it does not.
    if (after->size() != blocks->size()) break;
    std::size_t changed = 0;
    bool same_places = true;
    for (std::size_t k = 0; k < after->size(); ++k) {
      changed += (*after)[k].text != (*blocks)[k].text ? 1u : 0u;
      same_places = same_places && (*after)[k].place == (*blocks)[k].place;
    }
    require(!same_places || bytes.find('"') != std::string_view::npos || changed == 1);
    break;
  }
  return 0;
}
