// SPDX-License-Identifier: MIT
#include "part.hpp"

double narrow();
double narrow() { return run_kernels(); }
const char* narrow_isa();
const char* narrow_isa() { return blockattn::isa_name(); }

#ifdef SHARE_KERNELS
void shared(blockattn::native_kernels&);
void shared(blockattn::native_kernels&) {}
#endif
