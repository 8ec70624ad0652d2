// SPDX-License-Identifier: MIT
// A kernel of your own in place of one of the library's: derive from the set, hide one name, give the set to the model.
// Here the projections are counted and timed and then left to the original; a call into another library fits as well.
//
// The set is a template parameter of the model, so there is no virtual call; sessions take it from their model.
#include <blockattn/blockattn.hpp>
#include <blockattn/model/random_weights.hpp>

#include <algorithm>
#include <chrono>
#include <iostream>
#include <vector>

namespace ba = blockattn;

// region: body
struct watched_kernels : ba::native_kernels {
  static inline std::size_t calls = 0, multiplications = 0;
  static inline std::chrono::nanoseconds spent{};

  // y(rows, w.rows) = x(rows, w.cols) W^T. The library calls it from the session's thread and lends it the workers.
  static void project(ba::executor_ref workers, const ba::packed_matrix& w, ba::compute_type compute, const float* x,
                      std::size_t x_stride, std::size_t rows, float* y, std::size_t y_stride,
                      std::span<std::byte> scratch) noexcept {
    const auto begin = std::chrono::steady_clock::now();
    ba::native_kernels::project(workers, w, compute, x, x_stride, rows, y, y_stride, scratch);
    spent += std::chrono::steady_clock::now() - begin;
    ++calls;
    multiplications += rows * w.rows * w.cols;
  }
};
static_assert(ba::kernel_set<watched_kernels>);
// endregion: body

int main() {
  const ba::model_config config{.layers = 2, .dim = 64, .heads = 4, .kv_heads = 2, .head_dim = 16, .ffn = 128,
                                .vocab = 258, .rope = {.rotary_dim = 16}};
  const ba::random_weights weights(config);
  const auto model = ba::llama<>::bind(weights).value();
  const auto watched = ba::llama<watched_kernels>::bind(weights).value();
  const std::vector<ba::token> passage{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, question{11, 12, 13};

  // The same steps on both models; only the type of the model differs.
  const auto run = [&](const auto& on) {
    ba::session chat(on);
    ba::context context(chat, {.room = 32});
    const std::vector<ba::block_handle> blocks{chat.encode(passage).value()};
    context.assemble(blocks).value();
    const std::size_t encoding = watched_kernels::calls;
    chat.prefill(context, question).value();
    const std::size_t prefill = watched_kernels::calls;
    chat.decode(context, ba::greedy{}(context.logits())).value();
    if (prefill != 0)
      std::cout << "projections: " << encoding << " to encode, " << prefill - encoding << " to prefill, "
                << watched_kernels::calls - prefill << " to decode one token\n";
    return std::vector<float>(context.logits().begin(), context.logits().end());
  };
  const auto expected = run(model);
  const bool same = run(watched) == expected;
  std::cout << watched_kernels::multiplications << " multiplications in " << watched_kernels::spent.count()
            << " ns; the logits are " << (same ? "the same\n" : "DIFFERENT\n");
  // Four projections in each layer and one for the logits; a block's last layer stops at its keys and values.
  return same && watched_kernels::calls == 5 + 9 + 9 ? 0 : 1;
}
