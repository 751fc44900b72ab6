/* Forms of masters and moments: which parameter has which, and how the tensors of a form come to
 * the host as FP32 and back.
 *
 *   f32     n x 4 bytes
 *   split   n x 2 bytes: upper halves, BF16 | n x 2 bytes: lower halves (num/split.h)
 *   bf16    n x 2 bytes */
#ifndef MZI_TRAIN_MASTERS_H
#define MZI_TRAIN_MASTERS_H

#include "train/model.h"

/* Bytes of `count` elements of `dtype` in a form; `dtype` is F32 unless the form is that. */
uint64_t mzi_form_bytes(mezzo_master form, mezzo_dtype dtype, int64_t count);

/* Elements [first, first + count) of FP32 values.  What does not fit into BF16 is rounded to
 * nearest, ties away from zero. */
mezzo_status mzi_state_write(mezzo_model *model, mzi_state *state, int64_t first, int64_t count,
                             const float *in);
mezzo_status mzi_state_read(mezzo_model *model, const mzi_state *state, int64_t first,
                            int64_t count, float *out);

/* Give the masters of a training graph, which has no update yet, the form that the model's
 * precision asks for where it can be had; the values stay.  Plans that exist are dropped if a form
 * changes.  On trial the graph alone changes, and the state stays as it is. */
mezzo_status mzi_masters_choose(mezzo_model *model, mezzo_graph *graph, bool is_trial);
/* Let a typed graph read masters in the forms that they have. */
mezzo_status mzi_masters_follow(mezzo_model *model, mezzo_graph *graph);

#endif
