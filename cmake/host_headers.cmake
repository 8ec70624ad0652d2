# SPDX-License-Identifier: MIT
# Cross builds: the header-only dependencies are the host's, one link each in a folder of the build tree. The host's
# include folder itself must stay out of the search path, since its C library is another machine's.
include_guard()

set(staged ${CMAKE_BINARY_DIR}/host-include)
file(MAKE_DIRECTORY ${staged})
function(blockattn_host_header folder target)
  foreach(parent "" eigen3/)
    if(EXISTS ${BLOCKATTN_HOST_HEADERS}/${parent}${folder} AND NOT TARGET ${target})
      file(CREATE_LINK ${BLOCKATTN_HOST_HEADERS}/${parent}${folder} ${staged}/${folder} SYMBOLIC)
      add_library(${target} INTERFACE IMPORTED GLOBAL)
      target_include_directories(${target} SYSTEM INTERFACE ${staged})
    endif()
  endforeach()
endfunction()
blockattn_host_header(Eigen Eigen3::Eigen)
blockattn_host_header(xsimd xsimd)
blockattn_host_header(nlohmann nlohmann_json::nlohmann_json)
blockattn_host_header(catch2 Catch2::Catch2)
blockattn_host_header(xxhash.h xxHash::xxhash)
