# SPDX-License-Identifier: MIT
# A component is an INTERFACE target with a set of headers. Which headers belong to which target is written once, in
# CMakeLists.txt; installing and verifying (each header compiled alone) follow from it.
include_guard()

# Names of header sets that are verified; all if empty. A build for one instruction set of several need not compile once
# more what does not depend on it.
set(BLOCKATTN_VERIFIED_SETS "" CACHE STRING "Header sets compiled alone: HEADERS;vector, all if empty")

# blockattn_component(NAME HEADERS pattern... [VECTOR pattern...] [EXCLUDE file...] LINK target...)
# Patterns are relative to include/blockattn; VECTOR names those whose code depends on the instruction set, which become
# the header set `vector`. Makes target blockattn_NAME and alias blockattn::NAME; the core is plain `blockattn`.
function(blockattn_component name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "HEADERS;VECTOR;EXCLUDE;LINK")
  set(root ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/../include)
  cmake_path(NORMAL_PATH root)
  set(target blockattn_${name})
  if(name STREQUAL "blockattn")
    set(target blockattn)
  endif()

  list(TRANSFORM arg_HEADERS PREPEND ${root}/blockattn/)
  list(TRANSFORM arg_VECTOR PREPEND ${root}/blockattn/)
  list(TRANSFORM arg_EXCLUDE PREPEND ${root}/blockattn/)
  set(headers "")
  if(arg_HEADERS)
    file(GLOB headers CONFIGURE_DEPENDS ${arg_HEADERS})
  endif()
  if(arg_EXCLUDE)
    list(REMOVE_ITEM headers ${arg_EXCLUDE})
  endif()

  add_library(${target} INTERFACE)
  add_library(blockattn::${name} ALIAS ${target})
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${name})
  target_sources(${target} INTERFACE FILE_SET HEADERS BASE_DIRS ${root} FILES ${headers})
  if(arg_VECTOR)
    file(GLOB vector CONFIGURE_DEPENDS ${arg_VECTOR})
    target_sources(${target} INTERFACE FILE_SET vector TYPE HEADERS BASE_DIRS ${root} FILES ${vector})
  endif()
  if(BLOCKATTN_VERIFIED_SETS)
    set_target_properties(${target} PROPERTIES INTERFACE_HEADER_SETS_TO_VERIFY "${BLOCKATTN_VERIFIED_SETS}")
  endif()
  target_link_libraries(${target} INTERFACE ${arg_LINK})
  set_property(GLOBAL APPEND PROPERTY BLOCKATTN_TARGETS ${target})
endfunction()
