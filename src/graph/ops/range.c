#include "graph/ops/range.h"

#include <math.h>

mezzo_range mzi_range_sum(double terms, mezzo_range x) {
    double mean = terms * x.mean, variance = terms * (x.rms * x.rms - x.mean * x.mean);
    return (mezzo_range){.rms = sqrt(variance + mean * mean), .mean = mean};
}

/* E (a + b)^2 = E a^2 + E b^2 + 2 E a E b */
mezzo_range mzi_range_add(mezzo_range a, mezzo_range b) {
    return (mezzo_range){.rms = sqrt(a.rms * a.rms + b.rms * b.rms + 2.0 * a.mean * b.mean),
                         .mean = a.mean + b.mean};
}

mezzo_range mzi_range_mul(mezzo_range a, mezzo_range b) {
    return (mezzo_range){.rms = a.rms * b.rms, .mean = a.mean * b.mean};
}

mezzo_range mzi_range_times(mezzo_range x, double factor) {
    return (mezzo_range){.rms = x.rms * fabs(factor), .mean = x.mean * fabs(factor)};
}

mezzo_range mzi_range_same(const mezzo_op_use *use, const mezzo_range *in) {
    (void)use;
    return in[0];
}

/* relu(x)^2 + relu(-x)^2 = x^2, so of a symmetric x half of E x^2 is left; gelu leaves less.  The
 * mean is that of a normal x: E max(x, 0) = rms / sqrt(2 pi).  With a mean x need not be symmetric.
 */
mezzo_range mzi_range_half(const mezzo_op_use *use, const mezzo_range *in) {
    (void)use;
    const double root_half = 0.70710678118654752, root_2pi = 2.5066282746310005;
    if (in[0].mean > 0.0)
        return in[0];
    return (mezzo_range){.rms = in[0].rms * root_half, .mean = in[0].rms / root_2pi};
}

mezzo_range mzi_range_norm(const mezzo_op_use *use, const mezzo_range *in) {
    (void)use;
    return mzi_range_add((mezzo_range){.rms = in[1].rms, .mean = 0.0}, in[2]);
}
