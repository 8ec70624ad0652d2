# SPDX-License-Identifier: MIT
# blockattn_dev: how our own tests, examples and benchmarks are compiled. Never installed and never seen by a consumer.
include_guard()
include(CheckCXXCompilerFlag)

add_library(blockattn_dev INTERFACE)
target_compile_options(blockattn_dev INTERFACE -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion)
# Files that are compiled together hide each other's names.
target_compile_options(blockattn_dev INTERFACE $<$<NOT:$<BOOL:$<TARGET_PROPERTY:UNITY_BUILD>>>:-Wshadow>)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # False alarms of this compiler: std::string's operator+ (GCC 105651), and the undefined registers that its own
  # AVX-512 intrinsics start from (GCC 105593). The clang build keeps both kinds of warning.
  target_compile_options(blockattn_dev INTERFACE -Wno-restrict -Wno-uninitialized -Wno-maybe-uninitialized)
endif()
if(BLOCKATTN_WERROR)
  target_compile_options(blockattn_dev INTERFACE -Werror)
endif()

if(BLOCKATTN_DEV_ARCH)
  check_cxx_compiler_flag(-march=${BLOCKATTN_DEV_ARCH} BLOCKATTN_DEV_ARCH_WORKS)
  if(NOT BLOCKATTN_DEV_ARCH_WORKS)
    message(FATAL_ERROR "blockattn: the compiler does not know -march=${BLOCKATTN_DEV_ARCH} (BLOCKATTN_DEV_ARCH)")
  endif()
  target_compile_options(blockattn_dev INTERFACE -march=${BLOCKATTN_DEV_ARCH})
endif()

if(BLOCKATTN_SANITIZE)
  list(JOIN BLOCKATTN_SANITIZE "," sanitizers)
  target_compile_options(blockattn_dev INTERFACE -fsanitize=${sanitizers} -fno-sanitize-recover=all
                                                 -fno-omit-frame-pointer)
  target_link_options(blockattn_dev INTERFACE -fsanitize=${sanitizers})
endif()

# Every component of this build, for a program that uses them all.
get_property(blockattn_targets GLOBAL PROPERTY BLOCKATTN_TARGETS)
add_library(blockattn_all INTERFACE)
target_link_libraries(blockattn_all INTERFACE ${blockattn_targets})

# The kernels, compiled once: they are most of what a compiler does with the library. For programs of this build that
# reach kernels through a model; tests/package and the kernel tests compile them as header-only users do.
file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/kernels.cpp
     CONTENT "#include <blockattn/kernel/native_definitions.hpp>\n")
add_library(blockattn_kernels STATIC EXCLUDE_FROM_ALL ${PROJECT_BINARY_DIR}/kernels.cpp)
target_compile_definitions(blockattn_kernels PUBLIC BLOCKATTN_COMPILED_KERNELS)
target_link_libraries(blockattn_kernels PUBLIC blockattn PRIVATE blockattn_dev)
# For what holds kernels. g++ takes minutes to follow the hundreds of temporaries of an unrolled tile on the stack. What
# kernels read and write lies on the heap, and that stays checked.
set(BLOCKATTN_KERNEL_OPTIONS "")
if("address" IN_LIST BLOCKATTN_SANITIZE AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  set(BLOCKATTN_KERNEL_OPTIONS --param=asan-stack=0)
endif()
target_compile_options(blockattn_kernels PRIVATE ${BLOCKATTN_KERNEL_OPTIONS})
