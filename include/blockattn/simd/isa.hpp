// SPDX-License-Identifier: MIT
/// The instruction set of this translation unit, and the inline namespace that is named after it.
///
/// A header-only library runs on what its includer compiles for. Everything under `simd/` and `kernel/` that holds
/// vector code lives in `inline namespace BLOCKATTN_ISA`, so two translation units with different `-m` flags get
/// different types and functions: sharing a session between them fails to link instead of merging silently.
/// Rule: compile all translation units of a program that include kernels with the same `-m` flags.
#pragma once

#include "../core/config.hpp"

// Some compilers spell these without the underscore.
#if ((defined(__AMX_TILE__) && defined(__AMX_BF16__)) || (defined(__AMXTILE__) && defined(__AMXBF16__))) && \
    defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__) && \
    defined(__AVX512BF16__) && defined(__AVX512VNNI__) && defined(__AVX512VBMI__) && defined(__linux__) &&              \
    defined(__x86_64__)
#define BLOCKATTN_HAS_AMX 1
#else
#define BLOCKATTN_HAS_AMX 0
#endif

// NOLINTBEGIN: the name must be a macro, namespaces cannot be computed.
#if BLOCKATTN_HAS_AMX
#define BLOCKATTN_ISA isa_x86_64_v4_amx
#elif defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#if defined(__AVX512BF16__) && defined(__AVX512VNNI__)
#define BLOCKATTN_ISA isa_x86_64_v4_bf16_vnni
#elif defined(__AVX512BF16__)
#define BLOCKATTN_ISA isa_x86_64_v4_bf16
#elif defined(__AVX512VNNI__)
#define BLOCKATTN_ISA isa_x86_64_v4_vnni
#else
#define BLOCKATTN_ISA isa_x86_64_v4
#endif
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__) && defined(__AVXVNNI__)
#define BLOCKATTN_ISA isa_x86_64_v3_vnni
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#define BLOCKATTN_ISA isa_x86_64_v3
#elif defined(__AVX__)
#define BLOCKATTN_ISA isa_x86_64_avx
#elif defined(__SSE4_1__)
#define BLOCKATTN_ISA isa_x86_64_sse41
#elif defined(__SSE2__)
#define BLOCKATTN_ISA isa_x86_64
#elif defined(__aarch64__) && defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC) && defined(__ARM_FEATURE_MATMUL_INT8)
#define BLOCKATTN_ISA isa_neon64_bf16_i8mm
#elif defined(__aarch64__) && defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC) && defined(__ARM_FEATURE_DOTPROD)
#define BLOCKATTN_ISA isa_neon64_bf16_dot
#elif defined(__aarch64__) && defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
#define BLOCKATTN_ISA isa_neon64_bf16
#elif defined(__aarch64__) && defined(__ARM_FEATURE_MATMUL_INT8)
#define BLOCKATTN_ISA isa_neon64_i8mm
#elif defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)
#define BLOCKATTN_ISA isa_neon64_dot
#elif defined(__aarch64__)
#define BLOCKATTN_ISA isa_neon64
#else
#define BLOCKATTN_ISA isa_scalar
#endif

#define BLOCKATTN_TEXT_(x) #x
#define BLOCKATTN_TEXT(x) BLOCKATTN_TEXT_(x)
// NOLINTEND

namespace blockattn::inline v0 {
inline namespace BLOCKATTN_ISA {

#if BLOCKATTN_HAS_AMX
/// Whether this process may use tile registers. Linux 5.16 or newer grants them on demand, but not under every sandbox or
/// emulator, and not to a process that has an alternate signal stack too small for them. Asked once; then it stays, so
/// that all products of a process have the same bits. Thread-safe.
[[nodiscard]] inline bool amx_granted() noexcept {
  static const bool granted = [] {
    // arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA), for which the C library has no function.
    constexpr long arch_prctl = 158, request_permission = 0x1023, tile_data = 18;
    long answer = arch_prctl;
    asm volatile("syscall" : "+a"(answer) : "D"(request_permission), "S"(tile_data) : "rcx", "r11", "memory");
    return answer == 0;
  }();
  return granted;
}
/// The instruction set that this translation unit was compiled for, without the prefix; where the system refuses tile
/// registers, the one whose bits the kernels make instead.
[[nodiscard]] inline const char* isa_name() noexcept {
  return amx_granted() ? &BLOCKATTN_TEXT(BLOCKATTN_ISA)[4] : "x86_64_v4_bf16_vnni";
}
#else
/// The instruction set that this translation unit was compiled for, without the prefix: `"x86_64_v3"`.
[[nodiscard]] constexpr const char* isa_name() noexcept { return &BLOCKATTN_TEXT(BLOCKATTN_ISA)[4]; }
#endif

/// Whether products of bf16 pairs run as one instruction. Where they do not, bf16 is widened and multiplied in float,
/// and activations are not rounded.
#if (defined(__AVX512BF16__) && defined(__AVX512VL__)) || defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
inline constexpr bool has_bf16_dot = true;
#else
inline constexpr bool has_bf16_dot = false;
#endif

}  // namespace BLOCKATTN_ISA
}  // namespace blockattn::inline v0
