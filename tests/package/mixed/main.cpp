// SPDX-License-Identifier: MIT
#include <cstdio>
#include <cstring>

double narrow();
double wide();
const char* narrow_isa();
const char* wide_isa();
#ifdef SHARE_KERNELS
void share();
#endif

int main() {
#ifdef SHARE_KERNELS
  share();
#endif
  const double narrow_error = narrow();
  // The wide half runs where the machine can run it.
  const bool runs_wide = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const double wide_error = runs_wide ? wide() : 0;
  std::printf("%s %g, %s %g\n", narrow_isa(), narrow_error, wide_isa(), wide_error);
  return narrow_error < 1e-5 && wide_error < 1e-5 && std::strcmp(narrow_isa(), wide_isa()) != 0 ? 0 : 1;
}
