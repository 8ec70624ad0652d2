// SPDX-License-Identifier: MIT
/// The questions that a world's facts answer, each with the kind of reading that it needs.
#pragma once

#include <algorithm>
#include <array>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "facts.hpp"
#include "phrases.hpp"
#include "random.hpp"

namespace worlds::detail {

[[nodiscard]] constexpr bool is_news(relation what) noexcept { return what >= relation::seen; }
[[nodiscard]] constexpr bool is_town(relation what) noexcept {
  return what >= relation::ruler && what <= relation::has;
}
[[nodiscard]] constexpr kind kind_of(mention how) noexcept {
  return how == mention::name    ? kind::one
         : how == mention::trade ? kind::refer
         : how == mention::same  ? kind::continued
                                 : kind::pronoun;
}

struct candidate {
  kind what;
  query meaning;
  std::string answer;
  std::string counted = {};  // of the second step
  std::string through = {};
};

/// Every question that can be asked. Facts of one relation have different objects, so each has one answer.
[[nodiscard]] inline std::vector<candidate> all_questions(const std::vector<fact>& facts) {
  std::vector<candidate> out;
  std::map<std::pair<relation, std::string>, std::vector<const fact*>> news;
  for (const fact& f : facts) {
    if (is_news(f.what)) {
      news[{f.what, f.subject}].push_back(&f);
      continue;
    }
    const kind k = kind_of(f.how);
    const std::string through = k == kind::refer ? f.said : "";
    out.push_back({k, {f.what, false, f.subject, f.what == relation::hid ? "" : f.extra}, f.object, "", through});
    if (f.what == relation::keeps)
      out.push_back({k, {f.what, true, "", f.extra}, f.subject, "", through});
    else if (f.what != relation::has)
      out.push_back({k, {f.what, true, f.object, ""}, f.subject, "", through});
    // Where a thing lies can be read without knowing who brought it there.
    if (f.what == relation::hid) out.push_back({kind::one, {f.what, false, f.object, "", true}, f.extra});
  }
  for (const auto& [about, list] : news)
    out.push_back({list.size() > 1 ? kind::later : kind::one, {about.first, false, about.second, ""}, list.back()->object});

  // Two steps, from passage to passage, both by name.
  for (const fact& a : facts) {
    for (const fact& b : facts) {
      if (a.passage == b.passage || a.how != mention::name || b.how != mention::name || is_news(a.what) || is_news(b.what))
        continue;
      const std::string counted = b.what == relation::keeps || b.what == relation::has ? b.extra : "";
      if (!is_town(a.what) && a.what != relation::hid && !is_town(b.what) && a.subject == b.subject)
        out.push_back({kind::two,
                       {a.what, true, a.what == relation::keeps ? "" : a.object,
                        a.what == relation::keeps ? a.extra : "", false, true, b.what},
                       b.object, counted, a.subject});
      if (a.what == relation::home && is_town(b.what) && a.object == b.subject)
        out.push_back({kind::two, {a.what, false, a.subject, "", false, true, b.what}, b.object, counted, a.object});
      if (a.what == relation::hid && is_town(b.what) && a.extra == b.subject)
        out.push_back({kind::two, {a.what, false, a.object, "", true, true, b.what}, b.object, counted, a.extra});
    }
  }
  return out;
}

/// Whether a level asks questions of a kind.
[[nodiscard]] constexpr bool asks(std::size_t level, kind k) noexcept {
  return k == kind::one || level >= 3 || (level == 2 && k == kind::later);
}

/// At most `count` of them: kinds by their shares, as long as there are questions of a kind left.
[[nodiscard]] inline std::vector<question> choose_questions(const std::vector<fact>& facts, std::size_t level,
                                                            std::size_t count, random& r) {
  constexpr std::array<std::size_t, kinds> share = {26, 20, 14, 14, 14, 12};
  std::array<std::vector<candidate>, kinds> left;
  for (candidate& c : all_questions(facts))
    if (asks(level, c.what)) left[static_cast<std::size_t>(c.what)].push_back(std::move(c));
  for (auto& list : left) r.shuffle(list);
  std::vector<question> out;
  while (out.size() < count) {
    std::size_t sum = 0;
    for (std::size_t k = 0; k < kinds; ++k) sum += left[k].empty() ? 0 : share[k];
    if (sum == 0) break;
    std::size_t at = r.below(sum), k = 0;
    for (;; ++k) {
      if (left[k].empty()) continue;
      if (at < share[k]) break;
      at -= share[k];
    }
    candidate& c = left[k].back();
    std::string text = ask(c.meaning, c.counted, r);
    out.push_back({c.what, std::move(c.meaning), std::move(text), std::move(c.answer), std::move(c.through)});
    left[k].pop_back();
  }
  return out;
}

}  // namespace worlds::detail
