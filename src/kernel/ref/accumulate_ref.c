/* Reference: a sum over several runs, the first of which starts it. */
#include "kernel/ref/ref.h"

static bool is_first(const mzk_args *args, int k) {
    return *(const int32_t *)args->in[k] != 0;
}

void mzk_accumulate_ref(const mzk_args *args, int64_t begin, int64_t end) {
    bool first = is_first(args, 3);
    for (int64_t i = begin; i < end; i++) {
        double more = get(args, 2, 0) * get(args, 0, i);
        put(args, 0, i, first ? more : get(args, 1, i) + more);
    }
}

void mzk_choose_ref(const mzk_args *args, int64_t begin, int64_t end) {
    int from = is_first(args, 2) ? 0 : 1;
    for (int64_t i = begin; i < end; i++)
        put(args, 0, i, get(args, from, i));
}
