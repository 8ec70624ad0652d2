# SPDX-License-Identifier: MIT
# find_package(blockattn 0.1 COMPONENTS io text): one export per component, so that a program which wants the core alone
# needs none of the other components' dependencies.
include_guard()
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

set(package_dir ${CMAKE_INSTALL_DATADIR}/cmake/blockattn)  # no architecture in the path: there is nothing but headers

get_property(blockattn_targets GLOBAL PROPERTY BLOCKATTN_TARGETS)
set(installed_components "")
foreach(target IN LISTS blockattn_targets)
  get_target_property(name ${target} EXPORT_NAME)
  get_target_property(sets ${target} INTERFACE_HEADER_SETS)
  list(TRANSFORM sets PREPEND "FILE_SET;")
  install(TARGETS ${target} EXPORT blockattn-${name} ${sets})
  install(EXPORT blockattn-${name} NAMESPACE blockattn:: DESTINATION ${package_dir} FILE blockattn-${name}.cmake)
  list(APPEND installed_components ${name})
endforeach()

configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/blockattn-config.cmake.in
                              ${PROJECT_BINARY_DIR}/blockattn-config.cmake INSTALL_DESTINATION ${package_dir})
# Before 1.0 a new minor version may break sources, so only the patch number may differ.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/blockattn-config-version.cmake
                                 COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
install(FILES ${PROJECT_BINARY_DIR}/blockattn-config.cmake ${PROJECT_BINARY_DIR}/blockattn-config-version.cmake
              ${CMAKE_CURRENT_LIST_DIR}/blockattn-xsimd.cmake ${CMAKE_CURRENT_LIST_DIR}/modules/FindPCRE2.cmake
              ${CMAKE_CURRENT_LIST_DIR}/modules/FindxxHash.cmake ${CMAKE_CURRENT_LIST_DIR}/modules/Findhiredis.cmake
              ${CMAKE_CURRENT_LIST_DIR}/modules/Findutf8proc.cmake
        DESTINATION ${package_dir})

configure_file(${CMAKE_CURRENT_LIST_DIR}/../blockattn.pc.in ${PROJECT_BINARY_DIR}/blockattn.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/blockattn.pc DESTINATION ${CMAKE_INSTALL_DATADIR}/pkgconfig)
install(FILES ${CMAKE_CURRENT_LIST_DIR}/../LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
