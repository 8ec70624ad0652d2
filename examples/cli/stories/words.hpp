// SPDX-License-Identifier: MIT
/// The words of stories: those of bAbI's files for tasks 1, 2, 5, 6, 8, 11 and 12, counted there and spelled as there.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace stories {

inline constexpr std::string_view people[] = {"Daniel", "John", "Mary", "Sandra"};
/// Who hands things on, in task 5.
inline constexpr std::string_view givers[] = {"Bill", "Fred", "Jeff", "Mary"};
inline constexpr std::string_view places[] = {"bathroom", "bedroom", "garden", "hallway", "kitchen", "office"};
inline constexpr std::string_view things[] = {"apple", "football", "milk"};

inline constexpr std::string_view moves[] = {"moved", "went", "journeyed", "travelled", "went back"};
inline constexpr std::string_view takes[] = {"got", "took", "grabbed", "picked up"};
inline constexpr std::string_view drops[] = {"left", "dropped", "discarded", "put down"};
inline constexpr std::string_view gives[] = {"gave", "passed", "handed"};
/// Before "he" and "she", in task 11.
inline constexpr std::string_view follows[] = {"Then", "Afterwards", "After that", "Following that"};

[[nodiscard]] constexpr bool is_woman(std::string_view name) noexcept { return name == "Mary" || name == "Sandra"; }

/// bAbI's task, by its number.
enum class task : std::uint8_t {
  where = 1,       ///< where somebody is, who moved about
  thing = 2,       ///< where a thing is, that somebody took along or put down
  given = 5,       ///< who gave what to whom
  whether = 6,     ///< whether somebody is in a place
  carried = 8,     ///< what somebody carries
  pronoun = 11,    ///< as `where`; each second sentence says "he" or "she"
  together = 12    ///< as `where`; two people move at once
};
inline constexpr std::array every_task = {task::where,   task::thing,   task::given,   task::whether,
                                          task::carried, task::pronoun, task::together};

/// "qa11": what a dataset made from the task's file calls its questions.
[[nodiscard]] inline std::string to_string(task t) { return "qa" + std::to_string(static_cast<unsigned>(t)); }

[[nodiscard]] constexpr std::optional<task> find_task(std::size_t number) noexcept {
  for (const task t : every_task)
    if (static_cast<std::size_t>(t) == number) return t;
  return std::nullopt;
}

}  // namespace stories
