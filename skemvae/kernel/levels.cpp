// The arithmetic for each vector width that a processor may have.
//
// Needs the vector extension of GCC and Clang. Other compilers stop here, and the library then takes
// its path through BLAS.

#ifndef __GNUC__
#error "the kernel needs GCC or Clang"
#endif

#include "kernel.hpp"

#define ALWAYS_INLINE __attribute__((always_inline))
#define INLINE inline ALWAYS_INLINE
#define PRAGMA(text) _Pragma(#text)
#if defined(__clang__)
#define BEGIN(features) \
  PRAGMA(clang attribute push(__attribute__((target(features))), apply_to = function))
#define END PRAGMA(clang attribute pop)
#else
#define BEGIN(features) PRAGMA(GCC push_options) PRAGMA(GCC target(features))
#define END PRAGMA(GCC pop_options)
#endif

#if defined(__x86_64__)

BEGIN("avx512f,avx512dq,avx512vl,avx2,fma")
#define LEVEL avx512
#define WIDTH 8
#define REGISTERS 32
#include "level.inc"
END

BEGIN("avx2,fma")
#define LEVEL avx2
#define WIDTH 4
#define REGISTERS 16
#include "level.inc"
END

#define LEVEL sse2
#define WIDTH 2
#define REGISTERS 16
#include "level.inc"

#elif defined(__aarch64__)

#define LEVEL neon
#define WIDTH 2
#define REGISTERS 32
#include "level.inc"

#else

#define LEVEL baseline
#define WIDTH 2
#define REGISTERS 16
#include "level.inc"

#endif

namespace skemvae {

const Level* const* levels() {
#if defined(__x86_64__)
  static const Level* const all[] = {&avx512::level, &avx2::level, &sse2::level, nullptr};
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    return all;
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? all + 1 : all + 2;
#elif defined(__aarch64__)
  static const Level* const all[] = {&neon::level, nullptr};
  return all;
#else
  static const Level* const all[] = {&baseline::level, nullptr};
  return all;
#endif
}

}  // namespace skemvae
