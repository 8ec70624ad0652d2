// SPDX-License-Identifier: MIT
#include "part.hpp"

double wide();
double wide() { return run_kernels(); }
const char* wide_isa();
const char* wide_isa() { return blockattn::isa_name(); }

#ifdef SHARE_KERNELS
// Defined in narrow.cpp, for narrow.cpp's type of that name. It must not link.
void shared(blockattn::native_kernels&);
void share();
void share() {
  blockattn::native_kernels kernels;
  shared(kernels);
}
#endif
