/* A context, a small network, its model and its trainer. */
#ifndef TESTS_TRAIN_BENCH_H
#define TESTS_TRAIN_BENCH_H

#include <stdlib.h>

#include "train/small_net.h"

typedef struct bench {
    mezzo_ctx *ctx;
    net net;
    mezzo_model *model;
    mezzo_trainer *trainer;
} bench;

static inline bench *bench_make(mezzo_dtype compute, net n, const mezzo_trainer_config *config) {
    bench *b = calloc(1, sizeof *b);
    assert_non_null(b);
    b->net = n;
    b->ctx = net_ctx(2);
    b->model = net_model(b->ctx, &b->net, compute);
    NET_OK(b->ctx, mezzo_trainer_create(&b->trainer, b->model, config));
    return b;
}

static inline void bench_end(bench *b) {
    mezzo_trainer_destroy(b->trainer);
    mezzo_model_destroy(b->model);
    mezzo_ctx_destroy(b->ctx);
    free(b);
}

/* Tensors, one behind the other. */
enum {
    SNAPSHOT = 1 << 19
};
typedef struct snapshot {
    int64_t count;
    float values[SNAPSHOT];
} snapshot;

static inline bool same(const snapshot *a, const snapshot *b) {
    return a->count == b->count &&
           memcmp(a->values, b->values, (size_t)a->count * sizeof *a->values) == 0;
}

#endif
