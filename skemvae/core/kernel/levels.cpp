// The pass for each vector width that the processor may have.
//
// Needs the vector extension of GCC and Clang; other compilers stop here, and the library then takes
// its path through BLAS.

#include "kernel.hpp"

#define INLINE inline __attribute__((always_inline))

#if defined(__x86_64__)

#if defined(__clang__)
#define TARGET_BEGIN(features) \
  _Pragma("clang attribute push(__attribute__((target(features))), apply_to = function)")
#define TARGET_END _Pragma("clang attribute pop")
#endif

#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512vl,avx2,fma")
#define NAME "avx512"
#define WIDTH 8
#define REGISTERS 32
namespace skemvae::avx512 {
#include "vector.inc"
#include "pass.inc"
}  // namespace skemvae::avx512
#undef NAME
#undef WIDTH
#undef REGISTERS
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx2,fma")
#define NAME "avx2"
#define WIDTH 4
#define REGISTERS 16
namespace skemvae::avx2 {
#include "vector.inc"
#include "pass.inc"
}  // namespace skemvae::avx2
#undef NAME
#undef WIDTH
#undef REGISTERS
#pragma GCC pop_options

#define NAME "sse2"
#define WIDTH 2
#define REGISTERS 16
namespace skemvae::sse2 {
#include "vector.inc"
#include "pass.inc"
}  // namespace skemvae::sse2

#else

#if defined(__aarch64__)
#define NAME "neon"
#else
#define NAME "baseline"
#endif
#define WIDTH 2
#define REGISTERS 32
namespace skemvae::baseline {
#include "vector.inc"
#include "pass.inc"
}  // namespace skemvae::baseline

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
#else
  static const Level* const all[] = {&baseline::level, nullptr};
  return all;
#endif
}

}  // namespace skemvae
