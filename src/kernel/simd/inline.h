/* Everything that is compiled once per instruction set is inlined where it is used: an ordinary
 * inline function compiled for AVX-512 could be the copy that the linker keeps for everybody. */
#ifndef MZK_SIMD_INLINE_H
#define MZK_SIMD_INLINE_H

#define INLINE static inline __attribute__((always_inline))

#endif
