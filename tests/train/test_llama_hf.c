/* Llama against Hugging Face's LlamaForCausalLM, with grouped heads and a head of its own.
 *
 * In FP64, on the device `ref`, the two differ by the epsilon of the norms, which is FP32's 1e-5
 * here and FP64's there, 2.5e-13 apart.  That changes what each of the 5 norms gives by at
 * most 2.5e-13 / (2 m) = 2.4e-11 of itself, since the mean square m is least behind the embedding,
 * where it is that of a uniform number in +-1/8, 1/192: together 1.2e-10 of the terms of a logit.
 * The order of sums adds 5e-14; angles are up to 31 radians, and right to FP64's last digits in
 * both. */
#include "train/hf_peer.h"

/* A tensor of the file is rows [first, first + rows) of one of ours. */
typedef struct slice {
    const char *ours, *theirs;
    int64_t first, rows;
} slice;

static void check_slice(const fixture *f, const mezzo_state_info *info, uint32_t stream,
                        mezzo_safetensors *file, const char *name, int64_t first, int64_t rows) {
    mezzo_safetensors_item item = mezzo_safetensors_at(file, mezzo_safetensors_find(file, name));
    if (!item.name)
        fail_msg("no tensor %s", name);
    int64_t columns = info->shape.rank == 2 ? info->shape.dim[1] : 1;
    assert_int_equal(item.shape.rank, info->shape.rank);
    assert_int_equal(item.shape.dim[0], rows);
    assert_int_equal(mezzo_shape_count(item.shape), rows * columns);
    for (int64_t i = 0; i < rows * columns; i++)
        assert_true(mzi_load(item.data, item.dtype, i) ==
                    initial_value(f, info, stream, first * columns + i));
}

/* 8 shares of the rows: 4 of queries, 2 of keys, 2 of values; gates, then what they multiply. */
static void check_exported(const fixture *f, const mezzo_model *model, mezzo_safetensors *file) {
    static const slice slices[] = {{"qkv_proj", "q_proj", 0, 4},
                                   {"qkv_proj", "k_proj", 4, 2},
                                   {"qkv_proj", "v_proj", 6, 2},
                                   {"gate_up_proj", "gate_proj", 0, 4},
                                   {"gate_up_proj", "up_proj", 4, 4}};
    uint32_t stream = 0;
    assert_int_equal(mezzo_safetensors_count(file), 3 + 9 * f->layers);
    for (int s = 0; s < mezzo_model_state_count(model); s++) {
        mezzo_state_info info = mezzo_model_state_at(model, s);
        char name[96];
        if (info.kind != MEZZO_STATE_PARAM)
            continue;
        bool cut = false;
        for (size_t k = 0; k < sizeof slices / sizeof slices[0]; k++) {
            const char *at = strstr(info.name, slices[k].ours);
            int64_t eighth = info.shape.dim[0] / 8;
            if (!at)
                continue;
            cut = true;
            snprintf(name, sizeof name, "model.%.*s%s.weight", (int)(at - info.name), info.name,
                     slices[k].theirs);
            check_slice(f, &info, stream, file, name, slices[k].first * eighth,
                        slices[k].rows * eighth);
        }
        bool head = strcmp(info.name, "lm_head.weight") == 0;
        snprintf(name, sizeof name, "%s%s", head ? "" : "model.", info.name);
        if (!cut)
            check_slice(f, &info, stream, file, name, 0, info.shape.dim[0]);
        stream++;
    }
}

static const hf_peer about = {
    .figures = "llama_hf",
    .settings = {"model.kind=llama", "model.tied=false", "model.rope_theta=500"},
    .operations = 13,
    .same_f64 = 1.3e-10,
    .check_exported = check_exported};

static int setup_llama(void **state) {
    return setup(&about, state);
}

/* The figures are of this base and epsilon. */
static void test_settings(void **state) {
    const fixture *f = *state;
    assert_true(peer_number(f, "theta") == mezzo_config_real(f->config, "model.rope_theta"));
    assert_true(peer_number(f, "eps") == mezzo_config_real(f->config, "model.norm_eps"));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_settings), HF_PEER_TESTS};
    return cmocka_run_group_tests(tests, setup_llama, teardown);
}
