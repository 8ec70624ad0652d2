# SPDX-License-Identifier: MIT
# Everything this project takes from elsewhere, in one place. A package that is installed is used. Nothing is downloaded
# unless BLOCKATTN_FETCH_DEPS is on, and then only an archive whose URL and SHA256 the user has set.
include_guard()
include(FetchContent)

list(APPEND CMAKE_MODULE_PATH ${CMAKE_CURRENT_LIST_DIR}/modules)
if(BLOCKATTN_HOST_HEADERS)
  include(${CMAKE_CURRENT_LIST_DIR}/host_headers.cmake)
endif()

# blockattn_require(PACKAGE TARGET NEEDED_BY DEBIAN_PACKAGE [MINIMUM version])
# The version is checked by hand: the version files of xsimd and Eigen refuse a newer major version.
macro(blockattn_require package target needed_by debian)
  cmake_parse_arguments(require "" "MINIMUM" "" ${ARGN})
  if(NOT TARGET ${target})
    find_package(${package} QUIET)
    if(TARGET ${target} AND require_MINIMUM AND DEFINED ${package}_VERSION AND ${package}_VERSION VERSION_LESS require_MINIMUM)
      message(FATAL_ERROR "blockattn: ${needed_by} needs ${package} ${require_MINIMUM} or newer, found ${${package}_VERSION}")
    endif()
  endif()
  if(NOT TARGET ${target} AND BLOCKATTN_FETCH_DEPS)
    set(BLOCKATTN_${package}_URL "" CACHE STRING "Archive of ${package}'s sources")
    set(BLOCKATTN_${package}_SHA256 "" CACHE STRING "SHA256 of that archive")
    if(NOT BLOCKATTN_${package}_URL OR NOT BLOCKATTN_${package}_SHA256)
      message(FATAL_ERROR "blockattn: ${package} is not installed; to download it set BLOCKATTN_${package}_URL and "
                          "BLOCKATTN_${package}_SHA256 (an archive that is not pinned is never fetched)")
    endif()
    FetchContent_Declare(${package} URL ${BLOCKATTN_${package}_URL} URL_HASH SHA256=${BLOCKATTN_${package}_SHA256}
                         DOWNLOAD_EXTRACT_TIMESTAMP ON)
    FetchContent_MakeAvailable(${package})
  endif()
  if(NOT TARGET ${target})
    message(FATAL_ERROR "blockattn: ${needed_by} needs ${package} (target ${target}), which was not found. "
                        "On Debian: apt-get install ${debian}, or sh cmake/bootstrap.sh deps for everything")
  endif()
endmacro()

# xsimd exports its target without a namespace, in every version.
blockattn_require(Eigen3 Eigen3::Eigen "the core" libeigen3-dev MINIMUM 3.4)
blockattn_require(xsimd xsimd "the core" libxsimd-dev MINIMUM 8.1)
include(${CMAKE_CURRENT_LIST_DIR}/blockattn-xsimd.cmake)
blockattn_require(Threads Threads::Threads "the core" libc6-dev)

set(known_components openmp io text)
foreach(component IN LISTS BLOCKATTN_COMPONENTS)
  if(NOT component IN_LIST known_components)
    message(FATAL_ERROR "blockattn: unknown component '${component}' in BLOCKATTN_COMPONENTS; there are ${known_components}")
  endif()
endforeach()
if("text" IN_LIST BLOCKATTN_COMPONENTS AND NOT "io" IN_LIST BLOCKATTN_COMPONENTS)
  list(APPEND BLOCKATTN_COMPONENTS io)  # text reads what io opens
endif()

if("openmp" IN_LIST BLOCKATTN_COMPONENTS)
  blockattn_require(OpenMP OpenMP::OpenMP_CXX "component openmp" "g++, or libomp-dev for clang")
endif()
if("io" IN_LIST BLOCKATTN_COMPONENTS)
  blockattn_require(nlohmann_json nlohmann_json::nlohmann_json "component io" nlohmann-json3-dev)
endif()
if("text" IN_LIST BLOCKATTN_COMPONENTS)
  blockattn_require(PCRE2 PCRE2::8BIT "component text" libpcre2-dev)
endif()
if(BLOCKATTN_TESTS)
  blockattn_require(Catch2 Catch2::Catch2 "the tests" catch2)
endif()
if(BLOCKATTN_BENCH)
  blockattn_require(benchmark benchmark::benchmark "the benchmarks" libbenchmark-dev)
endif()
if(BLOCKATTN_EXAMPLES)
  blockattn_require(CLI11 CLI11::CLI11 "the command-line program" libcli11-dev)
endif()
