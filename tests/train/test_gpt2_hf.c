/* GPT-2 against Hugging Face's GPT2LMHeadModel.
 *
 * In FP64, on the device `ref`, the two differ by the epsilon of layer norm, which is FP32's 1e-5
 * here and FP64's there, 2.5e-13 apart.  That changes what each of the 5 norms gives by at most
 * 2.5e-13 / (2 var) = 1.2e-11 of itself, since var is least behind the embedding, where it is that
 * of two uniform numbers in +-1/8, 1/96: together 6e-11 of the terms of a logit.  The order of sums
 * adds 5e-14. */
#include "train/hf_peer.h"

/* Element [k,n] of a Conv1D is element [n,k] here; everything else has its place. */
static void check_exported(const fixture *f, const mezzo_model *model, mezzo_safetensors *file) {
    assert_int_equal(mezzo_safetensors_count(file), 4 + 12 * f->layers);
    uint32_t stream = 0;
    for (int s = 0; s < mezzo_model_state_count(model); s++) {
        mezzo_state_info info = mezzo_model_state_at(model, s);
        char name[64];
        if (info.kind != MEZZO_STATE_PARAM)
            continue;
        snprintf(name, sizeof name, "transformer.%s", info.name);
        mezzo_safetensors_item item =
            mezzo_safetensors_at(file, mezzo_safetensors_find(file, name));
        assert_non_null(item.name);
        bool conv = info.shape.rank == 2 && strncmp(info.name, "h.", 2) == 0;
        int64_t rows = item.shape.dim[0], columns = item.shape.rank == 2 ? item.shape.dim[1] : 1;
        for (int64_t i = 0; i < mezzo_shape_count(item.shape); i++) {
            int64_t at = conv ? i % columns * rows + i / columns : i;
            assert_true((double)mzi_load(item.data, item.dtype, i) ==
                        initial_value(f, &info, stream, at));
        }
        stream++;
    }
}

static const hf_peer about = {.figures = "gpt2_hf",
                              .settings = {"model.kind=gpt2"},
                              .operations = 12,
                              .same_f64 = 1e-10,
                              .check_exported = check_exported};

static int setup_gpt2(void **state) {
    return setup(&about, state);
}

int main(void) {
    const struct CMUnitTest tests[] = {HF_PEER_TESTS};
    return cmocka_run_group_tests(tests, setup_gpt2, teardown);
}
