# SPDX-License-Identifier: MIT
# blockattn_dev: how our own tests, examples and benchmarks are compiled. Never installed and never seen by a consumer.
include_guard()
include(CheckCXXCompilerFlag)

add_library(blockattn_dev INTERFACE)
target_compile_options(blockattn_dev INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  target_compile_options(blockattn_dev INTERFACE -Wno-restrict)  # false alarms on std::string's operator+ (GCC 105651)
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
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    target_compile_options(blockattn_dev INTERFACE -Wno-maybe-uninitialized)  # false alarms in instrumented std::function
  endif()
endif()

# Every component of this build, for a program that uses them all.
get_property(blockattn_targets GLOBAL PROPERTY BLOCKATTN_TARGETS)
add_library(blockattn_all INTERFACE)
target_link_libraries(blockattn_all INTERFACE ${blockattn_targets})
