// SPDX-License-Identifier: MIT
/// What the machine can do, measured in the run that quotes it: multiply-adds from registers, products of bf16 pairs,
/// reading of memory. Shares of these carry over to other machines; absolute figures do not.
#pragma once

#include <algorithm>
#include <chrono>
#include <vector>

#include <blockattn/core/executor.hpp>
#include <blockattn/core/memory.hpp>
#include <blockattn/simd/amx.hpp>
#include <blockattn/simd/code_dot.hpp>
#include <blockattn/simd/dot.hpp>

#if __has_include(<unistd.h>)
#include <unistd.h>
#endif

namespace bench {

namespace ba = blockattn;

inline double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Keeps a value alive for the optimiser.
template <class T>
inline void keep(const T& value) {
#if defined(__GNUC__)
  asm volatile("" : : "m"(value) : "memory");
#else
  static volatile const void* sink;
  sink = &value;
#endif
}

/// The shortest of `rounds` runs of `work` on all workers at once, in seconds.
template <class Work>
double shortest(ba::executor_ref workers, int rounds, Work&& work) {
  double best = 1e30;
  for (int i = 0; i < rounds; ++i) {
    const double begin = seconds();
    workers.for_each(workers.concurrency(), [&](std::size_t, std::size_t task) { work(task); });
    best = std::min(best, seconds() - begin);
  }
  return best;
}

/// GFLOP/s of float multiply-adds (two operations each) on all workers. Chains enough to hide the latency of any core:
/// twelve native registers, operands in registers.
inline double fma_peak(ba::executor_ref workers) {
  constexpr std::size_t chains = 12;
  constexpr std::size_t steps = 400'000;
  const double time = shortest(workers, 15, [](std::size_t) {
    ba::native_f32 acc[chains], x(1.0f), y(1e-9f);
    asm volatile("" : "+m"(x), "+m"(y));
    ba::unroll<chains>([&](auto c) BLOCKATTN_LAMBDA_INLINE { acc[c] = ba::native_f32(static_cast<float>(c)); });
    for (std::size_t i = 0; i < steps; ++i)
      ba::unroll<chains>([&](auto c) BLOCKATTN_LAMBDA_INLINE { acc[c] = ba::isa_detail::fused(x, y, acc[c]); });
    ba::unroll<chains>([&](auto c) BLOCKATTN_LAMBDA_INLINE { keep(acc[c]); });
  });
  return 2e-9 * static_cast<double>(workers.concurrency() * chains * steps * ba::native_f32::size) / time;
}

/// GFLOP/s of products of bf16 pairs, as the tile kernel multiplies them from the L1 cache; 0 where the instruction set
/// has none.
template <class Row = ba::row_operand_t<ba::bf16>>
double dot_peak(ba::executor_ref workers) {
  if constexpr (ba::has_bf16_dot) {
    constexpr std::size_t rows = ba::f32x16::registers == 1 ? 12 : 6;
    constexpr std::size_t steps = 200'000;
    const double time = shortest(workers, 15, [](std::size_t) {
      alignas(64) Row a[2 * rows] = {}, b[32] = {};
      asm volatile("" : : "m"(a), "m"(b) : "memory");
      ba::f32x16 acc[rows][1];
      ba::unroll<rows>([&](auto r) BLOCKATTN_LAMBDA_INLINE { acc[r][0] = ba::zero16(); });
      for (std::size_t i = 0; i < steps; ++i) ba::dot_step<ba::bf16, Row>::template apply<rows, 1>(acc, a, 2, b, 0);
      ba::unroll<rows>([&](auto r) BLOCKATTN_LAMBDA_INLINE { keep(acc[r][0]); });
    });
    return 4e-9 * static_cast<double>(workers.concurrency() * rows * steps * 16) / time;
  } else {
    return 0.0;
  }
}

/// Gop/s of integer products of codes (a product and a sum are two operations), as the tile kernel multiplies them from
/// the L1 cache, without scales.
inline double code_peak(ba::executor_ref workers) {
  constexpr std::size_t rows = ba::f32x16::registers == 1 ? 12 : ba::f32x16::registers == 2 ? 4 : 3;
  constexpr std::size_t steps = 200'000;
  const double time = shortest(workers, 15, [](std::size_t) {
    alignas(64) std::byte a[8 * rows] = {};
    alignas(64) std::uint8_t b[64] = {};
    asm volatile("" : : "m"(a), "m"(b) : "memory");
    ba::i32x16 acc[rows][1];
    ba::unroll<rows>([&](auto r) BLOCKATTN_LAMBDA_INLINE { acc[r][0] = ba::broadcast(std::int32_t{0}); });
    for (std::size_t i = 0; i < steps; ++i) {
      ba::code_step::apply<rows, 1>(acc, a, ba::code_step::row_bytes, b, 0);
    }
    ba::unroll<rows>([&](auto r) BLOCKATTN_LAMBDA_INLINE { keep(acc[r][0]); });
  });
  return 8e-9 * static_cast<double>(workers.concurrency() * rows * steps * 16) / time;
}

/// 1e9 operations a second of products of whole tiles of bf16 (or of 8-bit integers) from tile registers, two by two as
/// the kernels multiply them; 0 where this process has no tile registers.
template <bool Int8 = false>
inline double tile_peak([[maybe_unused]] ba::executor_ref workers) {
#if BLOCKATTN_HAS_AMX && (defined(__AMX_INT8__) || defined(__AMXINT8__))
  if (!ba::amx_granted()) return 0.0;
  constexpr std::size_t steps = 20'000;
  const double time = shortest(workers, 15, [](std::size_t) {
    const ba::amx_tiles shape(32);
    _tile_zero(0); _tile_zero(1); _tile_zero(2); _tile_zero(3);
    _tile_zero(4); _tile_zero(5); _tile_zero(6); _tile_zero(7);
    for (std::size_t i = 0; i < steps; ++i) {
      if constexpr (Int8) {
        _tile_dpbssd(0, 4, 6); _tile_dpbssd(1, 4, 7); _tile_dpbssd(2, 5, 6); _tile_dpbssd(3, 5, 7);
      } else {
        _tile_dpbf16ps(0, 4, 6); _tile_dpbf16ps(1, 4, 7); _tile_dpbf16ps(2, 5, 6); _tile_dpbf16ps(3, 5, 7);
      }
    }
  });
  return 1e-9 * static_cast<double>(workers.concurrency() * steps * 4) * 16 * 16 * (Int8 ? 128 : 64) / time;
#else
  return 0.0;
#endif
}

/// What bf16 products can reach: the larger of the two, since the kernels choose the same.
inline double bf16_peak(ba::executor_ref workers) {
  const double tiles = tile_peak(workers);
  return tiles > 0 ? tiles : dot_peak(workers);
}

/// Reads bytes, and adds them up: in `Streams` streams that the processor prefetches, or in a single one that this code
/// prefetches a few KiB ahead, as tiles of few rows read panels. `bytes` in steps of 256.
template <std::size_t Streams>
inline void read_streams(const std::byte* from, std::size_t bytes) {
  constexpr std::size_t lines = 4 / Streams;  // of a stream at a time
  const float* at = reinterpret_cast<const float*>(from);
  const std::size_t stream = bytes / Streams / sizeof(float);
  ba::f32x16 acc[4];
  ba::unroll<4>([&](auto c) BLOCKATTN_LAMBDA_INLINE { acc[c] = ba::zero16(); });
  for (std::size_t i = 0; i < stream; i += 16 * lines)
    ba::unroll<4>([&](auto c) BLOCKATTN_LAMBDA_INLINE {
      const float* const line = at + c / lines * stream + i + c % lines * 16;
      acc[c] = acc[c] + ba::load(line);
      if constexpr (Streams == 1) ba::prefetch_near(reinterpret_cast<const std::byte*>(line) + ba::stream_ahead);
    });
  ba::unroll<4>([&](auto c) BLOCKATTN_LAMBDA_INLINE { keep(acc[c]); });
}

/// Bytes of which the last cache holds a third at most; at least 256 MiB, at most a quarter of the memory there is.
inline std::size_t beyond_caches() {
  std::size_t bytes = std::size_t{256} << 20;
#if defined(_SC_LEVEL3_CACHE_SIZE) && defined(_SC_PHYS_PAGES)
  const long cache = sysconf(_SC_LEVEL3_CACHE_SIZE), pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
  if (cache > 0) bytes = std::max(bytes, 3 * static_cast<std::size_t>(cache));
  if (pages > 0 && page > 0) bytes = std::min(bytes, static_cast<std::size_t>(pages) / 4 * static_cast<std::size_t>(page));
#endif
  return bytes;
}

/// GB/s of reading memory that no cache holds, all workers together. The buffer stays for the next call.
inline double read_bandwidth(ba::executor_ref workers) {
  static ba::aligned_buffer<> buffer;
  if (buffer.size() == 0) {
    buffer = ba::aligned_buffer<>(beyond_caches());
    // No two pages alike: a host could keep equal ones once.
    for (std::size_t i = 0; i < buffer.size() / sizeof(float); ++i) buffer.as<float>()[i] = static_cast<float>(i / 1024);
  }
  const std::size_t part = buffer.size() / workers.concurrency() / 1024 * 1024;
  // Which way is faster depends on the processor.
  const double four = shortest(workers, 5, [&](std::size_t task) { read_streams<4>(buffer.data() + task * part, part); });
  const double one = shortest(workers, 5, [&](std::size_t task) { read_streams<1>(buffer.data() + task * part, part); });
  const double time = std::min(four, one);
  return 1e-9 * static_cast<double>(part * workers.concurrency()) / time;
}

}  // namespace bench
