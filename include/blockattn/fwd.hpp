// SPDX-License-Identifier: MIT
/// Names of the core for headers that only hand these types around. Includes nothing of the library.
///
/// Default template arguments have one home, the definition, so templates stand here without theirs; so do types of an
/// instruction set (`native_kernels`, `llama`, `session`), whose namespace depends on compiler flags, and templates
/// constrained by a concept (`kv_store`): those are absent.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace blockattn::inline v0 {

// core/
using token = std::int32_t;
enum class errc;
struct failure;
class exception;
template <class T>
class result;
struct bf16;
struct f16;
enum class dtype : std::uint8_t;
struct hash128;
class hasher;
template <class Allocator>
class aligned_buffer;
template <class Allocator>
class arena;
class task_ref;
class executor_ref;
struct inline_executor;
class thread_executor;
class omp_executor;

// tensor/
template <std::size_t... Sizes>
class extents;
struct row_major;
struct strided;
template <std::size_t Multiple>
struct padded_rows;
template <class T, class Extents, class Layout>
class view;
template <class T, class Extents, class Layout, class Allocator>
class tensor;
struct kv_shape;

// kernel/, the parts that are data
struct rope_config;
struct rope_frequencies;
struct packed_matrix;
struct kv_segment;
struct attention_job;
struct attention_shape;

// cache/
struct block_realm;
struct block_key;
class kv_block;
using block_handle = std::shared_ptr<const kv_block>;
template <class Allocator>
class basic_context;

// model/
class key_factors;
struct model_config;
struct tensor_info;
class tensor_bytes;
class span_weights;

}  // namespace blockattn::inline v0
