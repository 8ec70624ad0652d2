// SPDX-License-Identifier: MIT
// kernel/pack.hpp: panels against the index formulas of their layouts, element by element.
#include <blockattn/kernel/pack.hpp>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include <blockattn/core/memory.hpp>

#include "support/catch.hpp"
#include "support/executors.hpp"

namespace ba = blockattn;

namespace {

struct source {
  std::mt19937 gen{11};
  float next() { return static_cast<float>(static_cast<double>(gen()) / 2147483648.0 - 1.0); }
};

// Rows of any type, as a file holds them, with their values.
struct rows_of {
  std::vector<std::byte> bytes;
  std::vector<float> values;
  std::size_t row_bytes;

  rows_of(ba::dtype type, std::size_t rows, std::size_t cols) {
    source random;
    row_bytes = cols / ba::block_elements(type) * ba::block_bytes(type);
    bytes.resize(rows * row_bytes);
    values.resize(rows * cols);
    for (std::size_t r = 0; r < rows; ++r)
      for (std::size_t c = 0; c < cols; ++c) {
        std::byte* at = bytes.data() + r * row_bytes;
        float& value = values[r * cols + c];
        value = random.next();
        if (type == ba::dtype::f32) std::memcpy(at + 4 * c, &value, 4);
        if (type == ba::dtype::bf16) put(at + 2 * c, ba::to_bf16(value).bits, value, ba::widen(ba::to_bf16(value)));
        if (type == ba::dtype::f16) put(at + 2 * c, ba::to_f16(value).bits, value, ba::widen(ba::to_f16(value)));
        if (type == ba::dtype::q8_0) {
          std::byte* block = at + c / 32 * 34;
          const float scale = 0.0625f * static_cast<float>(1 + (r + c / 32) % 5);
          const std::uint16_t half = ba::to_f16(scale).bits;
          std::memcpy(block, &half, 2);
          const auto q = static_cast<std::int8_t>(value * 127.0f);
          block[2 + c % 32] = static_cast<std::byte>(q);
          value = scale * static_cast<float>(q);
        }
      }
  }

 private:
  static void put(std::byte* at, std::uint16_t bits, float& value, float stored) {
    std::memcpy(at, &bits, 2);
    value = stored;
  }
};

// The element of (row, col) in a packed matrix, by the formula of its comment.
float packed_at(const ba::packed_matrix& m, const std::byte* data, std::size_t row, std::size_t col) {
  const std::size_t lane = m.lane();
  const std::size_t at =
      ((row / 16 * ba::ceil_div(m.cols, lane) + col / lane) * 16 + row % 16) * lane + col % lane;
  if (m.type == ba::dtype::f32) return reinterpret_cast<const float*>(data)[at];
  return ba::widen(reinterpret_cast<const ba::bf16*>(data)[at]);
}

}  // namespace

TEST_CASE("packed weights are where the layout says, and padding is zero", "[pack]") {
  for (const ba::dtype from : {ba::dtype::f32, ba::dtype::bf16, ba::dtype::f16, ba::dtype::q8_0})
    for (const ba::dtype to : {ba::dtype::f32, ba::dtype::bf16})
      for (const std::size_t rows : {1u, 15u, 16u, 37u})
        for (const std::size_t cols : {32u, 64u, 288u, 1u, 33u, 257u, 515u}) {
          if (cols % ba::block_elements(from) != 0) continue;
          const rows_of in(from, rows, cols);
          ba::packed_matrix m{nullptr, to, rows, cols};
          ba::aligned_buffer<> out(m.bytes());
          std::memset(out.data(), 0xff, out.size());
          blockattn_test::racing_executor two{2};
          ba::pack_weights(two, m, out.data(), 0, from, in.bytes.data(), rows);
          bool right = true;
          for (std::size_t r = 0; r < ba::round_up(rows, 16); ++r)
            for (std::size_t c = 0; c < ba::round_up(cols, m.lane()); ++c) {
              float expected = r < rows && c < cols ? in.values[r * cols + c] : 0.0f;
              if (to == ba::dtype::bf16) expected = ba::widen(ba::to_bf16(expected));
              right = right && packed_at(m, out.data(), r, c) == expected;
            }
          INFO(ba::to_string(from) << " to " << ba::to_string(to) << ", " << rows << " x " << cols);
          CHECK(right);

          // Rows come back as they went in.
          m.data = out.data();
          std::vector<float> row(cols + 1, -7.0f);
          for (std::size_t r = 0; r < rows; r += 5) {
            ba::gather_row(m, r, row.data());
            bool back = row[cols] == -7.0f;
            for (std::size_t c = 0; c < cols; ++c) back = back && row[c] == packed_at(m, out.data(), r, c);
            CHECK(back);
          }
        }
}

TEST_CASE("stacked pieces are one matrix, whatever rows they start at and in any order", "[pack]") {
  constexpr std::size_t cols = 70, pieces[] = {5, 16, 20, 9};
  const rows_of in(ba::dtype::f32, 50, cols);
  for (const ba::dtype to : {ba::dtype::f32, ba::dtype::bf16}) {
    const ba::packed_matrix m{nullptr, to, 50, cols};
    ba::aligned_buffer<> whole(m.bytes()), stacked(m.bytes());
    std::memset(stacked.data(), 0xff, stacked.size());
    ba::inline_executor here;
    ba::pack_weights(here, m, whole.data(), 0, ba::dtype::f32, in.bytes.data(), 50);
    std::size_t end = 50;
    for (std::size_t i = 4; i-- > 0;) {  // the last piece first
      end -= pieces[i];
      ba::pack_weights(here, m, stacked.data(), end, ba::dtype::f32, in.bytes.data() + end * in.row_bytes, pieces[i]);
    }
    CHECK(std::memcmp(whole.data(), stacked.data(), m.bytes()) == 0);
  }
}

TEST_CASE("equal types keep their bits", "[pack]") {
  // A signalling NaN, which a conversion would quieten.
  const std::uint32_t wide = 0x7f812345u;
  const std::uint16_t narrow = 0x7f81u;
  ba::inline_executor here;
  ba::aligned_buffer<> out(1024);
  ba::pack_weights(here, {nullptr, ba::dtype::f32, 1, 1}, out.data(), 0, ba::dtype::f32,
                   reinterpret_cast<const std::byte*>(&wide), 1);
  CHECK(std::memcmp(out.data(), &wide, 4) == 0);
  ba::pack_weights(here, {nullptr, ba::dtype::bf16, 1, 1}, out.data(), 0, ba::dtype::bf16,
                   reinterpret_cast<const std::byte*>(&narrow), 1);
  CHECK(std::memcmp(out.data(), &narrow, 2) == 0);
}

TEST_CASE("keys and values are stored where their layout says, rounded once", "[pack]") {
  for (const ba::dtype type : {ba::dtype::f32, ba::dtype::bf16})
    for (const std::uint32_t head_dim : {2u, 48u, 64u, 80u, 256u})
      for (const std::size_t room : {16u, 33u}) {
        const ba::kv_shape shape{1, 3, head_dim, type};
        const std::size_t n = 9, first = 4, width = shape.kv_heads * head_dim, stride = 2 * width + 3;
        std::vector<float> rows(n * stride);
        source random;
        for (float& x : rows) x = random.next();
        ba::aligned_buffer<> layer(shape.layer_bytes(room));
        std::memset(layer.data(), 0xff, layer.size());
        ba::store_kv(shape, rows.data(), rows.data() + width, stride, layer.data(), room, first, n);
        // Every byte that belongs to another slot is as it was; then the padding is zeroed.
        const auto at = [&](bool key, std::size_t head, std::size_t slot, std::size_t dim) {
          const std::byte* base = layer.data() + (key ? shape.key_offset(head, room) : shape.value_offset(head, room));
          const std::size_t i = key ? shape.key_index(slot, dim) : shape.value_index(slot, dim);
          if (type == ba::dtype::f32) {
            std::uint32_t bits;
            std::memcpy(&bits, base + 4 * i, 4);
            return bits;
          }
          std::uint16_t bits;
          std::memcpy(&bits, base + 2 * i, 2);
          return std::uint32_t{bits} << 16;
        };
        const std::uint32_t untouched = type == ba::dtype::f32 ? 0xffffffffu : 0xffff0000u;
        const auto check = [&](std::size_t zero_from) {
          bool right = true;
          for (std::size_t head = 0; head < shape.kv_heads; ++head)
            for (std::size_t slot = 0; slot < 16; ++slot)
              for (std::size_t dim = 0; dim < ba::round_up(head_dim, 16); ++dim)
                for (const bool key : {true, false}) {
                  if (key && dim >= head_dim) continue;
                  std::uint32_t expected = slot >= zero_from ? 0u : untouched;
                  if (slot >= first && slot < first + n) {
                    const float x = dim < head_dim
                                        ? rows[(slot - first) * stride + (key ? 0 : width) + head * head_dim + dim]
                                        : 0.0f;
                    expected = std::bit_cast<std::uint32_t>(type == ba::dtype::f32 ? x : ba::widen(ba::to_bf16(x)));
                  }
                  right = right && at(key, head, slot, dim) == expected;
                }
          return right;
        };
        INFO(ba::to_string(type) << " head size " << head_dim << " room " << room);
        CHECK(check(16));
        ba::zero_kv_padding(shape, layer.data(), room, first + n);
        CHECK(check(first + n));
      }
}
