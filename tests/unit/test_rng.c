/* Random bits and the keyed permutation. */
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "mezzo/number.h"
#include "unit/cmocka_all.h"

/* The vectors of philox4x32-10 in the authors' Random123 (kat_vectors). */
static void test_philox_vectors(void **state) {
    (void)state;
    static const struct {
        uint32_t counter[4], key[2], out[4];
    } known[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        uint32_t out[4];
        mezzo_philox(out, known[i].counter, known[i].key);
        assert_memory_equal(out, known[i].out, sizeof out);
    }
}

static void test_streams_differ(void **state) {
    (void)state;
    uint32_t base[4], other[4];
    mzi_rng4(base, 1, 2, 3, 4);
    const uint64_t change[][3] = {{9, 2, 3},
                                  {1, 9, 3},
                                  {1, 2, 9},
                                  {1, 2 + (1ull << 40), 3},
                                  {1 + (1ull << 40), 2, 3},
                                  {1, 2, 3 + (1ull << 40)}};
    for (size_t i = 0; i < sizeof change / sizeof *change; i++) {
        mzi_rng4(other, change[i][0], change[i][1], change[i][2], 4);
        assert_memory_not_equal(base, other, sizeof base);
    }
    mzi_rng4(other, 1, 2, 3, 5);
    assert_memory_not_equal(base, other, sizeof base);
    assert_true(mzi_name_hash("conv1.weight") != mzi_name_hash("conv2.weight"));
    assert_true(mzi_name_hash("") == 0xcbf29ce484222325u);
    assert_true(mzi_name_hash("a") == 0xaf63dc4c8601ec8cu);
}

static void test_uniform(void **state) {
    (void)state;
    assert_true(mzi_uniform(0) == 0.0f);
    assert_true(mzi_uniform(~0u) == 1.0f - 0x1p-24f);
    assert_true(mzi_uniform(0x80000000u) == 0.5f);
}

static void check_permutation(uint64_t count, uint64_t seed, uint64_t stream, uint64_t *place) {
    unsigned char *seen = calloc(count, 1);
    assert_non_null(seen);
    for (uint64_t i = 0; i < count; i++) {
        place[i] = mzi_permute(i, count, seed, stream);
        assert_true(place[i] < count);
        assert_int_equal(seen[place[i]], 0);
        seen[place[i]] = 1;
    }
    free(seen);
}

static void test_permute_is_bijective(void **state) {
    (void)state;
    static const uint64_t counts[] = {1, 2, 3, 4, 5, 7, 16, 17, 100, 255, 256, 257, 1000, 60000};
    static uint64_t a[60000], b[60000], c[60000];
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        uint64_t count = counts[i];
        check_permutation(count, 1, 0, a);
        check_permutation(count, 1, 1, b);
        check_permutation(count, 2, 0, c);
        if (count < 100)
            continue;
        assert_memory_not_equal(a, b, count * sizeof *a);
        assert_memory_not_equal(a, c, count * sizeof *a);
        assert_memory_not_equal(b, c, count * sizeof *a);
    }
    assert_int_equal(mzi_permute(0, 0, 1, 1), 0);
}

/* Large domains cannot be listed, but distinct indices must have distinct places there too. */
static void test_permute_large(void **state) {
    (void)state;
    static const uint64_t counts[] = {(1ull << 32) + 1, 1ull << 63, UINT64_MAX};
    for (size_t k = 0; k < sizeof counts / sizeof *counts; k++) {
        uint64_t place[256];
        for (uint64_t i = 0; i < 256; i++) {
            place[i] = mzi_permute(i < 128 ? i : counts[k] - 256 + i, counts[k], 7, 7);
            assert_true(place[i] < counts[k]);
            for (uint64_t j = 0; j < i; j++)
                assert_true(place[i] != place[j]);
        }
    }
}

/* Over N streams the place of one index is uniform: its count in each of K places is binomial with
 * mean N / K and standard deviation below sqrt(N / K); six of those are exceeded with a probability
 * of 2e-9 a place.  All 6 orders of 3 likewise. */
static void test_permute_is_fair(void **state) {
    (void)state;
    enum {
        STREAMS = 60000,
        PLACES = 10
    };
    int at[PLACES] = {0}, order[9] = {0};
    for (uint64_t stream = 0; stream < STREAMS; stream++) {
        at[mzi_permute(3, PLACES, 42, stream)]++;
        order[3 * mzi_permute(0, 3, 42, stream) + mzi_permute(1, 3, 42, stream)]++;
    }
    for (int i = 0; i < PLACES; i++) {
        double off = at[i] - (double)STREAMS / PLACES;
        assert_true(off * off < 36.0 * STREAMS / PLACES);
    }
    for (int i = 0; i < 9; i++) {
        double off = order[i] - (i % 4 == 0 ? 0 : STREAMS / 6.0);
        assert_true(off * off < 36.0 * STREAMS / 6 && (i % 4 != 0 || order[i] == 0));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_philox_vectors), cmocka_unit_test(test_streams_differ),
        cmocka_unit_test(test_uniform),        cmocka_unit_test(test_permute_is_bijective),
        cmocka_unit_test(test_permute_large),  cmocka_unit_test(test_permute_is_fair),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
