/* Two hashes.  The numerics hash covers what the numbers mean: operations, constants, types, the
 * recipe of the step; a resumed run must have the same.  The execution hash covers how they are
 * computed here: kernels, offsets, chunks, libraries; when it differs, bits may. */
#include "base/digest.h"
#include "graph/plan.h"

static void add_tensor(mzi_digest *digest, const mezzo_tensor *tensor) {
    mzi_digest_add_i64(digest, tensor->dtype);
    mzi_digest_add_i64(digest, tensor->shape.rank);
    for (int d = 0; d < tensor->shape.rank; d++)
        mzi_digest_add_i64(digest, tensor->shape.dim[d]);
}

void mzi_hash_numerics(const mezzo_graph *graph, const char *recipe, char hex[65]) {
    mzi_digest digest;
    mzi_digest_init(&digest);
    mzi_digest_add_text(&digest, "mezzo numerics 1");
    mzi_digest_add_text(&digest, recipe);
    for (int32_t n = 0; n < graph->node_count; n++) {
        const mzi_node *node = &graph->nodes[n];
        if (node->is_meter) /* changes no number */
            continue;
        mzi_digest_add_text(&digest, node->op->name);
        mzi_digest_add_i64(&digest, node->op->version);
        mzi_digest_add_text(&digest, node->name);
        mzi_digest_add_i64(&digest, node->phase);
        mzi_digest_add_i64(&digest, node->compute);
        for (int k = 0; k < MEZZO_OP_INT_MAX; k++)
            mzi_digest_add_i64(&digest, node->attrs.i[k]);
        for (int k = 0; k < MEZZO_OP_REAL_MAX; k++)
            mzi_digest_add_f64(&digest, node->attrs.f[k]);
        for (int k = 0; k < node->in_count; k++) {
            mzi_digest_add_text(&digest, graph->values[node->in[k]].name);
            add_tensor(&digest, &graph->values[node->in[k]].tensor);
        }
        for (int k = 0; k < node->out_count; k++)
            add_tensor(&digest, &graph->values[node->out[k]].tensor);
    }
    mzi_digest_end(&digest, hex);
}

void mzi_hash_execution(mzi_plan *plan) {
    mzi_digest digest;
    mzi_digest_init(&digest);
    mzi_digest_add_text(&digest, "mezzo execution 1");
    mzi_digest_add_text(&digest, plan->numerics_hash);
    mzi_digest_add_text(&digest, plan->target->versions(plan->target));
    for (int32_t c = 0; c < plan->lowering.call_count; c++) {
        const mzi_call *call = &plan->lowering.calls[c];
        mzi_digest_add_text(&digest, call->choice.kernel);
        mzi_digest_add_i64(&digest, call->rows);
        mzi_digest_add_i64(&digest, call->grain);
        for (int k = 0; k < MZK_OUT_MAX; k++)
            mzi_digest_add_i64(&digest, (int64_t)plan->places[call->out[k].value].offset);
        for (int k = 0; k < MZK_IN_MAX; k++)
            mzi_digest_add_i64(&digest, (int64_t)plan->places[call->in[k].value].offset);
    }
    mzi_digest_end(&digest, plan->execution_hash);
}
