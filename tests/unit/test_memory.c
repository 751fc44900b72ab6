/* Counted memory and arenas, with an allocator that can be told to fail. */
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/ctx.h"
#include "unit/cmocka_all.h"

typedef struct heap {
    int64_t live_bytes;
    int64_t live_blocks;
    uint64_t calls;
    uint64_t fail_from; /* this call and all after it; 0: none */
    size_t last_align;
} heap;

static void *heap_alloc(void *user, size_t bytes, size_t align) {
    heap *h = user;
    h->calls++;
    h->last_align = align;
    if (h->fail_from && h->calls >= h->fail_from)
        return NULL;
    void *memory = NULL;
    if (posix_memalign(&memory, align, bytes) != 0)
        return NULL;
    memset(memory, 0xa5, bytes);
    h->live_bytes += (int64_t)bytes;
    h->live_blocks++;
    return memory;
}

static void heap_free(void *user, void *memory, size_t bytes) {
    heap *h = user;
    h->live_bytes -= (int64_t)bytes;
    h->live_blocks--;
    free(memory);
}

static mezzo_ctx_config config_of(heap *h) {
    return (mezzo_ctx_config){.allocator = {heap_alloc, heap_free, h}, .threads = 1};
}

static mezzo_ctx *create(heap *h) {
    mezzo_ctx_config config = config_of(h);
    mezzo_ctx *ctx = NULL;
    assert_int_equal(mezzo_ctx_create(&ctx, &config, NULL), MEZZO_OK);
    return ctx;
}

static void destroy(mezzo_ctx *ctx, const heap *h) {
    mezzo_ctx_destroy(ctx);
    assert_int_equal(h->live_bytes, 0);
    assert_int_equal(h->live_blocks, 0);
}

static bool is_zero(const void *memory, size_t bytes) {
    const unsigned char *byte = memory;
    for (size_t i = 0; i < bytes; i++)
        if (byte[i])
            return false;
    return true;
}

static void test_counts(void **state) {
    (void)state;
    heap h = {0};
    mezzo_ctx *ctx = create(&h);
    mezzo_memory_use before = mezzo_ctx_memory(ctx);
    assert_int_equal(before.bytes_used, h.live_bytes);
    assert_int_equal(before.alloc_count, h.calls);
    void *a = mzi_alloc(ctx, 1000);
    void *b = mzi_alloc(ctx, 500);
    assert_true(is_zero(a, 1000) && is_zero(b, 500));
    assert_int_equal((uintptr_t)a % MZI_ALIGN, 0);
    assert_int_equal(h.last_align, MZI_ALIGN);
    mzi_free(ctx, a, 1000);
    mezzo_memory_use after = mezzo_ctx_memory(ctx);
    assert_int_equal(after.bytes_used, before.bytes_used + 500);
    assert_int_equal(after.bytes_used_max, before.bytes_used + 1500);
    assert_int_equal(after.alloc_count, before.alloc_count + 2);
    mzi_free(ctx, b, 500);
    mzi_free(ctx, NULL, 500);
    assert_int_equal(mezzo_ctx_memory(ctx).bytes_used, before.bytes_used);
    void *empty = mzi_alloc(ctx, 0);
    assert_non_null(empty);
    mzi_free(ctx, empty, 0);
    destroy(ctx, &h);
}

static void test_exhausted(void **state) {
    (void)state;
    heap h = {0};
    mezzo_ctx *ctx = create(&h);
    h.fail_from = h.calls + 1;
    uint64_t used = mezzo_ctx_memory(ctx).bytes_used;
    assert_null(mzi_alloc(ctx, 12345));
    assert_int_equal(mezzo_ctx_memory(ctx).bytes_used, used);
    assert_int_equal(mzi_out_of_memory(ctx, 12345, "a thing"), MEZZO_OUT_OF_MEMORY);
    assert_non_null(strstr(mezzo_ctx_error(ctx)->text, "a thing"));
    assert_non_null(strstr(mezzo_ctx_error(ctx)->text, "12345"));
    destroy(ctx, &h);
}

/* Creation fails cleanly at each of its allocations, and succeeds when none of them fails. */
static void test_create_exhausted(void **state) {
    (void)state;
    for (uint64_t fail = 1;; fail++) {
        assert_true(fail < 10);
        heap h = {.fail_from = fail};
        mezzo_ctx_config config = config_of(&h);
        mezzo_ctx *ctx = NULL;
        mezzo_error error;
        mezzo_status status = mezzo_ctx_create(&ctx, &config, &error);
        if (status == MEZZO_OK) {
            assert_true(fail > 1);
            destroy(ctx, &h);
            break;
        }
        assert_int_equal(status, MEZZO_OUT_OF_MEMORY);
        assert_int_equal(error.status, MEZZO_OUT_OF_MEMORY);
        assert_null(ctx);
        assert_int_equal(h.live_blocks, 0);
    }
}

static void test_grow(void **state) {
    (void)state;
    heap h = {0};
    mezzo_ctx *ctx = create(&h);
    int32_t *values = NULL;
    int32_t capacity = 0;
    for (int32_t i = 0; i < 1000; i++) {
        assert_int_equal(mzi_grow(ctx, (void **)&values, &capacity, i + 1, sizeof *values), 0);
        assert_true(capacity > i);
        assert_int_equal(values[capacity - 1], 0);
        values[i] = i + 1;
    }
    for (int32_t i = 0; i < 1000; i++)
        assert_int_equal(values[i], i + 1);
    assert_true(h.calls < 20); /* doubling: about log2(1000) calls */
    int32_t *same = values, held = capacity;
    h.fail_from = h.calls + 1;
    assert_int_equal(mzi_grow(ctx, (void **)&values, &capacity, 5000, sizeof *values),
                     MEZZO_OUT_OF_MEMORY);
    assert_ptr_equal(values, same);
    assert_int_equal(capacity, held);
    mzi_error_clear(ctx);
    assert_int_equal(mzi_grow(ctx, (void **)&values, &capacity, 5000, SIZE_MAX / 2),
                     MEZZO_OUT_OF_MEMORY);
    mzi_free(ctx, values, (size_t)capacity * sizeof *values);
    destroy(ctx, &h);
}

static void test_text(void **state) {
    (void)state;
    heap h = {0};
    mezzo_ctx *ctx = create(&h);
    char *copy = mzi_copy_text(ctx, "conv1.weight");
    assert_string_equal(copy, "conv1.weight");
    mzi_free_text(ctx, copy);
    mzi_free_text(ctx, NULL);
    h.fail_from = h.calls + 1;
    assert_null(mzi_copy_text(ctx, "x"));
    destroy(ctx, &h);
}

static void test_arena(void **state) {
    (void)state;
    heap h = {0};
    mezzo_ctx *ctx = create(&h);
    mzi_arena arena;
    mzi_arena_init(&arena, ctx);
    enum {
        COUNT = 3000
    };
    static unsigned char *block[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        size_t bytes = i * 37 % 301;
        block[i] = mzi_arena_push(&arena, bytes);
        assert_non_null(block[i]);
        assert_int_equal((uintptr_t)block[i] % 16, 0);
        assert_true(is_zero(block[i], bytes));
        memset(block[i], (int)(i % 251 + 1), bytes);
    }
    for (size_t i = 0; i < COUNT; i++)
        for (size_t k = 0; k < i * 37 % 301; k++)
            assert_int_equal(block[i][k], i % 251 + 1);
    assert_true(h.live_blocks < 20); /* 450 kB in blocks of 64 KiB */
    unsigned char *large = mzi_arena_push(&arena, 1000000);
    assert_true(is_zero(large, 1000000));
    char *text = mzi_arena_text(&arena, "%s.%d", "block", 12);
    assert_string_equal(text, "block.12");
    assert_null(mzi_arena_push(&arena, SIZE_MAX - 8));
    h.fail_from = h.calls + 1;
    assert_null(mzi_arena_push(&arena, 100000));
    assert_null(mzi_arena_text(&arena, "%0100000d", 1));
    mzi_arena_deinit(&arena);
    mzi_arena_deinit(&arena);
    destroy(ctx, &h);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_exhausted),
        cmocka_unit_test(test_create_exhausted),
        cmocka_unit_test(test_grow),
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_arena),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
