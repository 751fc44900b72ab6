/* checkkern: every kernel against its reference.
 *
 * A family is described once, in checkkern_family.c: its operands, its shapes, its error bound.
 * From that each line of kernels.def is checked in every mode; a kernel for a known family needs no
 * test code.  Whoever has another implementation of a family (oneDNN, a GPU) builds a case with
 * ck_case_make and compares by ck_case_compare. */
#ifndef CHECKKERN_H
#define CHECKKERN_H

#include <stdbool.h>
#include <stdint.h>

#include "kernel/families.h"
#include "num/number.h"

/* What the inputs of a case hold. */
typedef enum ck_fill {
    CK_NORMAL, /* random values, mostly of magnitude 1                                  */
    CK_EXACT,  /* small integers and powers of two: every sum of products is exact in FP32 */
} ck_fill;

/* One string an aspect, one character an operand. */
typedef struct ck_case ck_case;
typedef struct ck_family {
    mzk_family family;
    const char *outs,
        *ins; /* x: any storage type, =: that of out[0], f: f32, h: bf16, d: f64, i: i32, u: u8 */
    /* v: any value, c: about 1, l: labels, k: dropout key, n: window positions, e: log-sum-exp,
     * s: optimizer scalars, q: squares (never negative), t: rows of a table, p: a place in the
     * spare part of a table of positions, b: 0 or not, r: row of a cache */
    const char *content;
    /* The signs that make every term of the result positive, so that the reference computes the sum
     * of magnitudes which error bounds are made of. */
    const char *signs;
    const char *nan;   /* 1: if all of this operand is NaN, so is all of out[0] */
    const char *place; /* for each output the input that it may share memory with, or - */
    bool exact;        /* CK_EXACT gives results without rounding before the last */
    int shapes;
    void (*shape)(ck_case *c, int k);   /* k of 0..shapes-1, or CK_BENCH_SHAPE */
    int (*roundings)(const ck_case *c); /* of FP32 on the way to one result */
    /* The bound where counting roundings is not enough; otherwise null. */
    void (*bound)(const ck_case *c, double *error[MZK_OUT_MAX]);
} ck_family;

enum {
    CK_BENCH_SHAPE = -1,
    CK_SPARE_POSITIONS = 3 /* rows of a table of positions beyond the longest sequence */
};

typedef struct ck_operand {
    mezzo_dtype type;
    int64_t count;
    bool absent; /* null */
    void *data;  /* between guard bands */
    char *block;
    size_t block_bytes;
} ck_operand;

/* One call. */
struct ck_case {
    const ck_family *about;
    ck_fill fill;
    uint64_t seed;
    mzk_params p;
    int64_t begin, end; /* rows of the domain */
    int64_t cut; /* the domain may be cut at multiples of this without changing a bit; 0: not */
    int64_t elements; /* asked of CK_BENCH_SHAPE */
    double worst;     /* share of the error bound that was used, by ck_case_compare */
    int outs, ins;
    void *scratch; /* what mzk_scratch_bytes says, or null */
    ck_operand out[MZK_OUT_MAX], in[MZK_IN_MAX];
};

/* checkkern_family.c: null if the family has no generator. */
const ck_family *ck_family_of(mzk_family family);

/* checkkern_case.c.  `types` gives the storage type of each operand marked x, outputs first. */
int ck_free_types(const ck_family *about);
bool ck_case_make(ck_case *c, const ck_family *about, int shape, ck_fill fill,
                  const mezzo_dtype *types, uint64_t seed);
void ck_case_free(ck_case *c);
mzk_args ck_case_args(const ck_case *c);
void ck_case_poison(ck_case *c); /* outputs and guard bands to 0xAA */
void ck_case_run(ck_case *c, mzk_fn *fn);
double ck_in(const ck_case *c, int k, int64_t i);
double ck_random(uint64_t *state);                                       /* uniform in [0, 1) */
bool ck_same(mezzo_dtype type, const void *a, const void *b, int64_t i); /* bits, or both NaN */

/* checkkern_compare.c: what is wrong with the outputs of a case that was run, or null; the text is
 * valid until the next call. */
typedef enum ck_rule {
    CK_BITS,     /* as the reference, bit for bit                                        */
    CK_BOUND,    /* within the derived bound of the exact result; NaN where that is NaN  */
    CK_INFINITE, /* the same, but a NaN made from infinities may come out as an infinity */
    CK_OVERFLOW  /* the same, and FP32 may overflow where FP64 did not                   */
} ck_rule;
const char *ck_case_compare(ck_case *c, ck_rule rule);

/* checkkern_bound.c: |result before the last rounding - exact result|, for every output element. */
void ck_bound(const ck_case *c, double *error[MZK_OUT_MAX]);
void ck_bound_matmul(const ck_case *c, double *error[MZK_OUT_MAX]);
void ck_bound_gelu(const ck_case *c, double *error[MZK_OUT_MAX]);
void ck_bound_gelu_bwd(const ck_case *c, double *error[MZK_OUT_MAX]);
void ck_bound_ln(const ck_case *c, double *error[MZK_OUT_MAX]);
void ck_bound_ln_bwd(const ck_case *c, double *error[MZK_OUT_MAX]);
void ck_bound_xent_part(const ck_case *c, double *error[MZK_OUT_MAX]);
void ck_bound_xent_bwd(const ck_case *c, double *error[MZK_OUT_MAX]);
void ck_bound_adamw(const ck_case *c, double *error[MZK_OUT_MAX]);
void ck_bound_lion(const ck_case *c, double *error[MZK_OUT_MAX]);
void ck_bound_ema(const ck_case *c, double *error[MZK_OUT_MAX]);

/* checkkern_llama.c */
void ck_bound_rms(const ck_case *c, double *error[MZK_OUT_MAX]);
void ck_bound_rms_bwd(const ck_case *c, double *error[MZK_OUT_MAX]);
void ck_bound_swiglu(const ck_case *c, double *error[MZK_OUT_MAX]);
void ck_bound_swiglu_bwd(const ck_case *c, double *error[MZK_OUT_MAX]);
void ck_bound_rope(const ck_case *c, double *error[MZK_OUT_MAX]);

/* checkkern_attention.c: shapes and bounds of the attention families. */
enum {
    CK_ATTENTION_SHAPES = 16,
    CK_DECODE_SHAPES = 10
};
void ck_shape_attention(ck_case *c, int k);
void ck_shape_decode(ck_case *c, int k);
void ck_bound_attention(const ck_case *c, double *error[MZK_OUT_MAX]);
void ck_bound_attention_bwd(const ck_case *c, double *error[MZK_OUT_MAX]);
void ck_bound_attention_decode(const ck_case *c, double *error[MZK_OUT_MAX]);

/* checkkern_modes.c */
typedef struct ck_run {
    const mzk_kernel *kernel;
    const ck_family *about;
    const char *mode;
    uint64_t seed;
    bool quiet, all;
    int64_t calls, failures;
    char note[48]; /* about the case, for messages */
    double worst;  /* share of the error bounds that was used, FP32 outputs only */
} ck_run;
typedef struct ck_mode {
    const char *name;
    void (*run)(ck_run *run);
} ck_mode;
extern const ck_mode ck_modes[];
extern const int ck_mode_count;
void ck_fail(ck_run *run, const ck_case *c, const char *what);

/* checkkern_patterns.c */
void ck_patterns(ck_run *run);
/* checkkern_attention.c: NaN on the other side of the diagonal. */
void ck_causal(ck_run *run);
/* checkkern_masters.c: updates of masters and moments in every form, and embeddings of masters. */
void ck_masters(ck_run *run);

/* checkkern_epilogue.c: figures that products give of their tiles. */
void ck_epilogue(ck_run *run);

/* checkkern_self.c: kernels that are wrong on purpose; how many were not caught. */
int ck_self_test(uint64_t seed);

/* checkkern_bench.c */
void ck_bench(const mzk_kernel *kernel, const ck_family *about, int64_t elements, uint64_t seed);

#endif
