# SPDX-License-Identifier: MIT
# cmake -DPROJECT=... -DBUILD=... -P run.cmake: configures, builds and runs a consumer from nothing. With
# EXPECT_CONFIGURE_ERROR or EXPECT_BUILD_ERROR (a regular expression) that step must fail and say so.
file(REMOVE_RECURSE ${BUILD})

if(PKG_CONFIG)
  # No CMake at all: the compiler and pkg-config.
  file(MAKE_DIRECTORY ${BUILD})
  set(ENV{PKG_CONFIG_PATH} ${STAGE}/share/pkgconfig)
  execute_process(COMMAND ${PKG_CONFIG} --define-variable=prefix=${STAGE} --cflags --libs blockattn
                  OUTPUT_VARIABLE flags OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  separate_arguments(flags UNIX_COMMAND "${flags}")
  execute_process(COMMAND ${COMPILER} -std=c++20 ${PROJECT}/main.cpp ${flags} -o ${BUILD}/consumer COMMAND_ERROR_IS_FATAL ANY)
  execute_process(COMMAND ${BUILD}/consumer COMMAND_ERROR_IS_FATAL ANY)
  return()
endif()

function(step name expected)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE code OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(expected)
    if(code EQUAL 0 OR NOT output MATCHES "${expected}")
      message(FATAL_ERROR "${name}: expected a failure that says '${expected}', exit ${code}:\n${output}")
    endif()
    set(stop TRUE PARENT_SCOPE)
  elseif(NOT code EQUAL 0)
    message(FATAL_ERROR "${name}: exit ${code}:\n${output}")
  endif()
endfunction()

step(configure "${EXPECT_CONFIGURE_ERROR}" ${CMAKE_COMMAND} -S ${PROJECT} -B ${BUILD} -G ${GENERATOR}
     -DCMAKE_CXX_COMPILER=${COMPILER} -DCMAKE_CXX_FLAGS=${FLAGS} -DCMAKE_PREFIX_PATH=${STAGE} -DBLOCKATTN_SOURCE=${SOURCE}
     -DWANTED_VERSION=${VERSION} -DWANTED_COMPONENTS=${COMPONENTS},${EXTRA} -DDEFINE=${DEFINE} --no-warn-unused-cli)
if(stop)
  return()
endif()
step(build "${EXPECT_BUILD_ERROR}" ${CMAKE_COMMAND} --build ${BUILD})
if(stop)
  return()
endif()
step(run "" ${BUILD}/consumer)
