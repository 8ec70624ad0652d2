# SPDX-License-Identifier: MIT
# Debian builds xsimd with an option that makes its target link `xtl`, which the package neither installs nor needs: the
# headers use it only where a program defines XSIMD_ENABLE_XTL_COMPLEX. Without this every link would ask for -lxtl.
get_target_property(blockattn_xsimd_links xsimd INTERFACE_LINK_LIBRARIES)
if("xtl" IN_LIST blockattn_xsimd_links AND NOT TARGET xtl)
  find_package(xtl QUIET)
  if(NOT TARGET xtl)
    list(REMOVE_ITEM blockattn_xsimd_links xtl)
    set_target_properties(xsimd PROPERTIES INTERFACE_LINK_LIBRARIES "${blockattn_xsimd_links}")
  endif()
endif()
