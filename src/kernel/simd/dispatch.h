/* From the storage types of a call to a loop in which they are constants. */
#ifndef MZK_SIMD_DISPATCH_H
#define MZK_SIMD_DISPATCH_H

#include "kernel/simd/inline.h"
#include "kernel/table.h"

/* Of out[0], in[0] and in[1]. */
typedef struct types {
    mezzo_dtype out, a, b;
} types;

typedef void loop(const mzk_args *args, int64_t begin, int64_t end, types t);

/* Which operands have a storage type of the caller's choice; the others are f32. */
enum {
    VARY_OUT = 1,
    VARY_A = 2,
    VARY_B = 4
};

INLINE bool dispatch_b(loop *body, const mzk_args *args, int64_t begin, int64_t end, int vary,
                       mezzo_dtype out, mezzo_dtype a) {
    int b = vary & VARY_B ? args->in_type[1] : MEZZO_F32;
    if (b == MEZZO_F32)
        body(args, begin, end, (types){out, a, MEZZO_F32});
    else if (b == MEZZO_BF16)
        body(args, begin, end, (types){out, a, MEZZO_BF16});
    else if (b == MEZZO_F16)
        body(args, begin, end, (types){out, a, MEZZO_F16});
    else
        return false;
    return true;
}

INLINE bool dispatch_a(loop *body, const mzk_args *args, int64_t begin, int64_t end, int vary,
                       mezzo_dtype out) {
    int a = vary & VARY_A ? args->in_type[0] : MEZZO_F32;
    if (a == MEZZO_F32)
        return dispatch_b(body, args, begin, end, vary, out, MEZZO_F32);
    if (a == MEZZO_BF16)
        return dispatch_b(body, args, begin, end, vary, out, MEZZO_BF16);
    if (a == MEZZO_F16)
        return dispatch_b(body, args, begin, end, vary, out, MEZZO_F16);
    return false;
}

/* Runs `body` and returns true, or returns false if a type has no loop: `ref` takes those. */
INLINE bool dispatch(loop *body, const mzk_args *args, int64_t begin, int64_t end, int vary) {
    int out = vary & VARY_OUT ? args->out_type[0] : MEZZO_F32;
    if (out == MEZZO_F32)
        return dispatch_a(body, args, begin, end, vary, MEZZO_F32);
    if (out == MEZZO_BF16)
        return dispatch_a(body, args, begin, end, vary, MEZZO_BF16);
    if (out == MEZZO_F16)
        return dispatch_a(body, args, begin, end, vary, MEZZO_F16);
    return false;
}

#endif
