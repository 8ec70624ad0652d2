// SPDX-License-Identifier: MIT
/// The types that a GGUF file may name: of metadata values, and of tensor elements.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "../core/element.hpp"

namespace blockattn::inline v0 {

/// Types of metadata values, by their numbers in the file.
enum class gguf_type : std::uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64 };

/// The name of a metadata type, for messages: `"u32"`.
[[nodiscard]] constexpr std::string_view to_string(gguf_type type) noexcept {
  constexpr std::string_view names[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                        "bool", "string", "array", "u64", "i64", "f64"};
  const auto number = static_cast<std::uint32_t>(type);
  return number < std::size(names) ? names[number] : std::string_view("unknown");
}

/// Bytes of one value; 0 for strings and arrays, whose size stands in the file.
[[nodiscard]] constexpr std::size_t value_bytes(gguf_type type) noexcept {
  switch (type) {
    case gguf_type::u8:
    case gguf_type::i8:
    case gguf_type::boolean: return 1;
    case gguf_type::u16:
    case gguf_type::i16: return 2;
    case gguf_type::u32:
    case gguf_type::i32:
    case gguf_type::f32: return 4;
    case gguf_type::u64:
    case gguf_type::i64:
    case gguf_type::f64: return 8;
    case gguf_type::string:
    case gguf_type::array: return 0;
  }
  return 0;
}

/// How a tensor's elements are stored: groups of `elements` in `bytes`. Sizes are those of ggml's block structures.
struct gguf_format {
  std::uint32_t id;
  std::string_view name;
  std::uint32_t elements;
  std::uint32_t bytes;
};

/// The formats in use. More than this library computes with: the extents of every tensor are checked, and a refusal
/// should name the format.
inline constexpr std::array gguf_formats = {
    gguf_format{0, "F32", 1, 4},         gguf_format{1, "F16", 1, 2},         gguf_format{2, "Q4_0", 32, 18},
    gguf_format{3, "Q4_1", 32, 20},      gguf_format{6, "Q5_0", 32, 22},      gguf_format{7, "Q5_1", 32, 24},
    gguf_format{8, "Q8_0", 32, 34},      gguf_format{9, "Q8_1", 32, 36},      gguf_format{10, "Q2_K", 256, 84},
    gguf_format{11, "Q3_K", 256, 110},   gguf_format{12, "Q4_K", 256, 144},   gguf_format{13, "Q5_K", 256, 176},
    gguf_format{14, "Q6_K", 256, 210},   gguf_format{15, "Q8_K", 256, 292},   gguf_format{16, "IQ2_XXS", 256, 66},
    gguf_format{17, "IQ2_XS", 256, 74},  gguf_format{18, "IQ3_XXS", 256, 98}, gguf_format{19, "IQ1_S", 256, 50},
    gguf_format{20, "IQ4_NL", 32, 18},   gguf_format{21, "IQ3_S", 256, 110},  gguf_format{22, "IQ2_S", 256, 82},
    gguf_format{23, "IQ4_XS", 256, 136}, gguf_format{24, "I8", 1, 1},         gguf_format{25, "I16", 1, 2},
    gguf_format{26, "I32", 1, 4},        gguf_format{27, "I64", 1, 8},        gguf_format{28, "F64", 1, 8},
    gguf_format{29, "IQ1_M", 256, 56},   gguf_format{30, "BF16", 1, 2},       gguf_format{34, "TQ1_0", 256, 54},
    gguf_format{35, "TQ2_0", 256, 66},   gguf_format{39, "MXFP4", 32, 17}};

/// The format of that number, or nothing.
[[nodiscard]] constexpr const gguf_format* find_gguf_format(std::uint32_t id) noexcept {
  for (const gguf_format& format : gguf_formats)
    if (format.id == id) return &format;
  return nullptr;
}

/// The name of a tensor format: `"Q8_0"`, or `"type 57"` for a number that is not known here.
[[nodiscard]] inline std::string gguf_format_name(std::uint32_t id) {
  const gguf_format* format = find_gguf_format(id);
  return format != nullptr ? std::string(format->name) : "type " + std::to_string(id);
}

/// The element type of weights in that format, if kernels can read it.
[[nodiscard]] constexpr std::optional<dtype> gguf_weight_type(std::uint32_t id) noexcept {
  switch (id) {
    case 0: return dtype::f32;
    case 1: return dtype::f16;
    case 2: return dtype::q4_0;
    case 3: return dtype::q4_1;
    case 6: return dtype::q5_0;
    case 7: return dtype::q5_1;
    case 8: return dtype::q8_0;
    case 12: return dtype::q4_k;
    case 13: return dtype::q5_k;
    case 14: return dtype::q6_k;
    case 30: return dtype::bf16;
    default: return std::nullopt;
  }
}

}  // namespace blockattn::inline v0
