/* Reference: softmax cross-entropy over rows of logits. */
#include "kernel/ref/ref.h"

static double row_max(const mzk_args *args, int64_t row, int64_t V) {
    double max = -HUGE_VAL;
    for (int64_t v = 0; v < V; v++) {
        double x = get(args, 0, row * V + v);
        if (isnan(x))
            return x;
        max = x > max ? x : max;
    }
    return max;
}

/* The label is the first maximum of its row.  A NaN maximum equals nothing. */
static bool is_first_max(const mzk_args *args, int64_t row, int64_t V, int64_t label, double max) {
    int64_t v = 0;
    while (v < V && get(args, 0, row * V + v) != max)
        v++;
    return v == label;
}

/* The mean of the row's logits by the target: 1 - s on the label, and s spread over all V. */
static double target_logit(const mzk_args *args, int64_t row, int64_t label) {
    int64_t V = args->p.loss.V;
    double s = (double)args->p.loss.smoothing, sum = 0, logit = get(args, 0, row * V + label);
    if (s == 0) /* else an infinite logit elsewhere would give 0 times infinity */
        return logit;
    for (int64_t v = 0; v < V; v++)
        sum += get(args, 0, row * V + v);
    return (1 - s) * logit + s / (double)V * sum;
}

void mzk_xent_part_ref(const mzk_args *args, int64_t begin, int64_t end) {
    const int32_t *labels = args->in[1];
    int64_t V = args->p.loss.V, grain = args->p.loss.grain;
    for (int64_t b = begin; b < end; b = chunk_end(b, grain, end)) {
        double loss = 0, valid = 0, correct = 0;
        for (int64_t row = b; row < chunk_end(b, grain, end); row++) {
            double max = row_max(args, row, V), sum = 0;
            for (int64_t v = 0; v < V; v++)
                sum += exp(get(args, 0, row * V + v) - max);
            double lse = max + log(sum);
            put(args, 0, row, lse);
            if (labels[row] < 0)
                continue;
            loss += lse - target_logit(args, row, labels[row]);
            valid += 1;
            correct += is_first_max(args, row, V, labels[row], max);
        }
        put(args, 1, b / grain * 3, loss);
        put(args, 1, b / grain * 3 + 1, valid);
        put(args, 1, b / grain * 3 + 2, correct);
    }
}

void mzk_xent_valid_ref(const mzk_args *args, int64_t begin, int64_t end) {
    const int32_t *labels = args->in[0];
    double valid = 0;
    for (int64_t row = 0; row < args->p.loss.M && begin < end; row++)
        valid += labels[row] >= 0;
    if (begin < end)
        put(args, 0, 0, valid);
}

void mzk_xent_total_ref(const mzk_args *args, int64_t begin, int64_t end) {
    double loss = 0, valid = 0, correct = 0;
    if (begin >= end)
        return;
    for (int64_t k = 0; k < args->p.e.parts; k++) {
        loss += get(args, 0, 3 * k);
        valid += get(args, 0, 3 * k + 1);
        correct += get(args, 0, 3 * k + 2);
    }
    put(args, 0, 0, loss / (valid > 1 ? valid : 1));
    put(args, 1, 0, correct);
    put(args, 2, 0, valid);
}

void mzk_xent_bwd_ref(const mzk_args *args, int64_t begin, int64_t end) {
    const int32_t *labels = args->in[1];
    int64_t V = args->p.loss.V;
    double s = (double)args->p.loss.smoothing, rest = s / (double)V;
    double valid = get(args, 4, 0), factor = get(args, 3, 0) / (valid > 1 ? valid : 1);
    for (int64_t row = begin; row < end; row++)
        for (int64_t v = 0; v < V; v++) {
            double p = exp(get(args, 0, row * V + v) - get(args, 2, row));
            double target = v == labels[row] ? 1 - s + rest : rest;
            put(args, 0, row * V + v, labels[row] < 0 ? 0 : (p - target) * factor);
        }
}
