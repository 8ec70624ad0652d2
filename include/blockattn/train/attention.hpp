// SPDX-License-Identifier: MIT
/// Attention of a packed batch, forwards and backwards, over all workers: a task for each sample and head of keys.
#pragma once

#include "attention_pass.hpp"
#include "bf16_attention.hpp"

namespace blockattn::inline v0 {
inline namespace BLOCKATTN_ISA {

namespace isa_detail {
// f(task) for each.
template <class T, class F>
void for_heads(executor_ref workers, std::vector<attention_space<T>>& spaces, const training_batch& batch,
               const attention_rows_shape& shape, T scale, const T* qkv, product_type products, F&& f) {
  workers.for_each(batch.samples.size() * shape.kv_heads, [&](std::size_t worker, std::size_t i) {
    const packed_sample& sample = batch.samples[i / shape.kv_heads];
    const std::size_t head = i % shape.kv_heads;
    if constexpr (std::is_same_v<T, float>) {
      if (products == product_type::bf16) {
        bf16_attention_pass task(batch, sample, shape, scale, head, qkv, spaces[worker]);
        return f(task);
      }
    }
    attention_pass<T> task(batch, sample, shape, scale, head, qkv, spaces[worker], product_type::f32);
    f(task);
  });
}
}  // namespace isa_detail

/// All attention of a pass: `spaces` has one for each worker. Shapes as in `attention_pass::forward`.
template <class T>
void attend_training(executor_ref workers, std::vector<attention_space<T>>& spaces, const training_batch& batch,
                     const attention_rows_shape& shape, T scale, const T* qkv, T* out, T* sums,
                     product_type products = product_type::f32) {
  isa_detail::for_heads<T>(workers, spaces, batch, shape, scale, qkv, products, [&](auto& task) { task.forward(out, sums); });
}

/// The derivative: `d_qkv` is written in full.
template <class T>
void attend_training_back(executor_ref workers, std::vector<attention_space<T>>& spaces, const training_batch& batch,
                          const attention_rows_shape& shape, T scale, const T* qkv, const T* out, const T* sums,
                          const T* d_out, T* d_qkv, product_type products = product_type::f32) {
  isa_detail::for_heads<T>(workers, spaces, batch, shape, scale, qkv, products,
                           [&](auto& task) { task.backward(out, sums, d_out, d_qkv); });
}

}  // namespace BLOCKATTN_ISA
}  // namespace blockattn::inline v0
