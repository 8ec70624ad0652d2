// SPDX-License-Identifier: MIT
// Models whose tensors have different quantised types, as published files do: the same logits, to the bit, as the model
// of the decoded weights, and near them where rows are rounded to codes.
#include <blockattn/kernel/quantize.hpp>
#include <blockattn/model/llama.hpp>

#include <string>
#include <string_view>

#include "support.hpp"

namespace ba = blockattn;
using ba::dtype;

namespace {

// Random weights, of which the matrices are codes of mixed types; or the floats that these decode to.
class mixed_weights {
 public:
  mixed_weights(ba::model_config config, bool decoded) : plain_(std::move(config)), decoded_(decoded) {}

  [[nodiscard]] const ba::model_config& config() const noexcept { return plain_.config(); }
  [[nodiscard]] std::optional<ba::tensor_info> find(std::string_view name) const {
    auto info = plain_.find(name);
    if (!info || info->rows == 1 || decoded_) return info;
    info->type = type_of(name);
    info->bytes = info->rows * row_bytes(*info);
    return info;
  }
  [[nodiscard]] ba::result<ba::tensor_bytes> load(std::string_view name) const {
    const auto info = plain_.find(name);
    if (!info || info->rows == 1) return plain_.load(name);
    ba::tensor_info stored = *info;
    stored.type = type_of(name);
    std::vector<std::byte> codes = random_codes(name, stored);
    if (!decoded_) return ba::tensor_bytes(std::move(codes));
    std::vector<std::byte> floats(info->rows * info->cols * 4);
    std::vector<float> row(info->cols);
    for (std::size_t r = 0; r < info->rows; ++r) {
      ba::decode_row(stored.type, codes.data() + r * row_bytes(stored), info->cols, row.data());
      std::memcpy(floats.data() + r * info->cols * 4, row.data(), info->cols * 4);
    }
    return ba::tensor_bytes(std::move(floats));
  }
  void release(std::string_view) const noexcept {}

 private:
  // Values have another type than queries and keys, and up another than gate.
  static dtype type_of(std::string_view name) {
    const auto has = [&](std::string_view part) { return name.find(part) != std::string_view::npos; };
    if (has("embed_tokens")) return dtype::q6_k;
    if (has("v_proj")) return has("layers.0.") ? dtype::q6_k : dtype::q5_k;
    if (has("q_proj") || has("k_proj")) return dtype::q4_k;
    if (has("o_proj")) return dtype::q5_1;
    if (has("up_proj")) return dtype::q8_0;
    if (has("gate_proj")) return dtype::q4_0;
    return has("layers.0.") ? dtype::q5_0 : dtype::q4_1;  // down
  }
  static std::size_t row_bytes(const ba::tensor_info& info) {
    return info.cols / ba::block_elements(info.type) * ba::block_bytes(info.type);
  }
  static std::vector<std::byte> random_codes(std::string_view name, const ba::tensor_info& info) {
    blockattn_test::random_numbers random(ba::hasher(1).text(name).finish().low);
    std::vector<std::byte> out(info.rows * row_bytes(info));
    for (std::byte& b : out) b = static_cast<std::byte>(random.bits() & 255);
    // Upper bytes of halves: weights near 1 / 16, whatever the size of the codes.
    const bool k_type = ba::block_elements(info.type) == 256;
    const auto scale = std::byte{info.type == dtype::q8_0 ? std::uint8_t{0x12} : k_type ? std::uint8_t{0x0a} : std::uint8_t{0x20}};
    const std::size_t at = info.type == dtype::q6_k ? 209 : 1;
    for (std::size_t i = 0; i < out.size(); i += ba::block_bytes(info.type)) {
      out[i + at] = scale;
      if (ba::has_offsets(info.type)) out[i + 3] = scale;
    }
    return out;
  }

  ba::random_weights plain_;
  bool decoded_;
};

ba::model_config small(bool tied) {
  ba::model_config c{.layers = 2, .dim = 256, .heads = 4, .kv_heads = 2, .head_dim = 64, .ffn = 352, .vocab = 300,
                     .rope = {.rotary_dim = 64}};
  c.tied_embeddings = tied;
  return c;
}

}  // namespace

TEST_CASE("a model of mixed quantised types computes in f32 what its decoded weights do, to the bit", "[model]") {
  const auto config = small(true);
  const auto blocks = blockattn_test::random_blocks({9, 33, 6}, config.vocab);
  const mixed_weights codes(config, false), floats(config, true);
  const auto quantized = ba::llama<>::bind(codes, {.compute = ba::compute_type::f32}).value();
  const auto decoded = ba::llama<>::bind(floats, {.compute = ba::compute_type::f32}).value();
  CHECK(quantized.weight_bytes() * 3 < decoded.weight_bytes());
  ba::session a(quantized), b(decoded);
  const auto got = blockattn_test::assembled_logits(a, blocks), expected = blockattn_test::assembled_logits(b, blocks);
  float largest = 0;
  for (const float x : expected) largest = std::max(largest, std::abs(x));
  CHECK((largest > 0.01f && largest < 1e6f));
  CHECK(got == expected);

  // Rows rounded to codes: near, and the same for any number of workers.
  const auto rounded = ba::llama<>::bind(codes).value();
  ba::session c(rounded);
  const auto near = blockattn_test::assembled_logits(c, blocks);
  double error = 0, size = 0;
  for (std::size_t i = 0; i < near.size(); ++i) {
    error += std::pow(static_cast<double>(near[i]) - static_cast<double>(expected[i]), 2);
    size += std::pow(static_cast<double>(expected[i]), 2);
  }
  INFO("relative error " << std::sqrt(error / size));
  CHECK(error > 0);
  CHECK(std::sqrt(error / size) < 0.05);
  ba::thread_executor three(3);
  ba::session d(rounded, three);
  CHECK(blockattn_test::assembled_logits(d, blocks) == near);
}

TEST_CASE("random weights of every quantised type have the deviation that is wanted", "[model]") {
  const auto config = small(true);
  for (const dtype type : {dtype::q8_0, dtype::q4_0, dtype::q4_1, dtype::q5_0, dtype::q5_1, dtype::q4_k, dtype::q5_k, dtype::q6_k}) {
    ba::model_config whole = config;
    whole.ffn = 512;
    REQUIRE(ba::random_weights::fits(whole, type));
    CHECK(ba::random_weights::fits(config, type) == (ba::block_elements(type) == 32));  // its ffn is 352
    const ba::random_weights weights(whole, type, 3, 1.5f);
    const std::string name = "model.layers.1.mlp.down_proj.weight";
    const auto info = weights.find(name).value();
    const auto bytes = weights.load(name).value();
    REQUIRE(info.type == type);
    std::vector<float> row(info.cols);
    double sum = 0, squares = 0;
    for (std::size_t r = 0; r < info.rows; ++r) {
      ba::decode_row(type, bytes.bytes().data() + r * (info.bytes / info.rows), info.cols, row.data());
      for (const float x : row) sum += static_cast<double>(x), squares += static_cast<double>(x) * static_cast<double>(x);
    }
    const double n = static_cast<double>(info.rows * info.cols), wanted = 1.5 / std::sqrt(512.0);
    INFO(ba::to_string(type) << " deviation " << std::sqrt(squares / n) / wanted << " mean " << sum / n / wanted);
    CHECK(std::abs(std::sqrt(squares / n) / wanted - 1) < 0.1);
    CHECK(std::abs(sum / n / wanted) < 0.2);  // 16 codes have half of one to one side
    CHECK(ba::llama<>::bind(weights).has_value());
  }
}
