/* Tokens that can be checked by hand; merging and learning against the obvious slow forms; what is
 * refused. */
#include "base/rng.h"
#include "data/byte_letters.h"
#include "data/tokenizer.h"
#include "unit/tokenizer_tools.h"

static void test_bytes(void **state) {
    (void)state;
    mezzo_tokenizer *t;
    assert_int_equal(mezzo_tokenizer_bytes(&t, ctx), MEZZO_OK);
    assert_int_equal(mezzo_tokenizer_vocab(t), 256);
    assert_int_equal(mezzo_tokenizer_end_of_text(t), -1);
    char all[256];
    for (int i = 0; i < 256; i++)
        all[i] = (char)i;
    int32_t *ids;
    size_t count, bytes;
    char *back;
    assert_int_equal(mezzo_tokenizer_encode(t, all, 256, true, &ids, &count), MEZZO_OK);
    assert_int_equal(count, 256);
    for (int i = 0; i < 256; i++) {
        assert_int_equal(ids[i], i);
        assert_int_equal(mezzo_tokenizer_token_bytes(t, i), 1);
    }
    assert_int_equal(mezzo_tokenizer_token_bytes(t, 256), -1);
    assert_int_equal(mezzo_tokenizer_token_bytes(t, -1), -1);
    assert_int_equal(mezzo_tokenizer_decode(t, ids, count, &back, &bytes), MEZZO_OK);
    assert_int_equal(bytes, 256);
    assert_memory_equal(back, all, 256);
    assert_int_equal(back[256], 0);
    mezzo_tokenizer_free_text(t, back, bytes);
    mezzo_tokenizer_free_ids(t, ids, count);
    assert_int_equal(mezzo_tokenizer_encode(t, NULL, 0, false, &ids, &count), MEZZO_OK);
    assert_int_equal(count, 0);
    mezzo_tokenizer_free_ids(t, ids, count);
    assert_int_equal(mezzo_tokenizer_save(t, path), MEZZO_INVALID_ARGUMENT);
    mezzo_tokenizer_destroy(t);
    mezzo_tokenizer_destroy(NULL);
}

static void test_merges_by_rank_then_place(void **state) {
    (void)state;
    mezzo_tokenizer *t = open_text(small_vocab);
    assert_int_equal(mezzo_tokenizer_vocab(t), 256 + 6 + 1);
    assert_int_equal(mezzo_tokenizer_end_of_text(t), 262);
    expect_ids(t, "", false, (const int32_t[]){-1});
    int32_t *none;
    size_t count = 1;
    assert_int_equal(mezzo_tokenizer_encode(t, NULL, 0, true, &none, &count), MEZZO_OK);
    assert_int_equal(count, 0);
    mezzo_tokenizer_free_ids(t, none, count);
    expect_ids(t, "a", false, IDS(64));
    expect_ids(t, "ab", false, IDS(256));
    expect_ids(t, "abcbc", false, IDS(257, 258)); /* ab, then abc, then bc */
    expect_ids(t, "bcab", false, IDS(258, 256));
    expect_ids(t, "aabcc", false, IDS(64, 257, 66));
    expect_ids(t, "ddd", false, IDS(259, 67)); /* the leftmost of equal ones */
    expect_ids(t, "dddddd", false, IDS(260, 259));
    expect_ids(t, "d dd", false, IDS(67, 220, 259)); /* not over the end of a piece */
    expect_ids(t, " abc", false, IDS(220, 257));     /* ab stands before blank a */
    expect_ids(t, " ac", false, IDS(261, 66));
    expect_ids(t, "abcbc", false, IDS(257, 258)); /* as before: remembered */
    assert_int_equal(mezzo_tokenizer_token_bytes(t, 257), 3);
    assert_int_equal(mezzo_tokenizer_token_bytes(t, 262), 0);
    mezzo_tokenizer_destroy(t);
}

static void test_bytes_are_in_the_order_of_gpt2(void **state) {
    (void)state;
    mezzo_tokenizer *t = open_text("#version: 0.2\n");
    assert_int_equal(mezzo_tokenizer_vocab(t), 257);
    int32_t ids[256];
    bool seen[256] = {false};
    for (int i = 0; i < 256; i++)
        ids[i] = i;
    char *text;
    size_t bytes;
    assert_int_equal(mezzo_tokenizer_decode(t, ids, 256, &text, &bytes), MEZZO_OK);
    assert_int_equal(bytes, 256);
    for (int i = 0; i < 256; i++) {
        assert_false(seen[(uint8_t)text[i]]);
        seen[(uint8_t)text[i]] = true;
    }
    assert_memory_equal(text, "!\"#$%&'", 7);
    static const struct {
        int id, byte;
    } known[] = {{93, 0x7e}, {94, 0xa1}, {105, 0xac}, {106, 0xae}, {187, 0xff}, {188, 0},
                 {198, 10},  {220, 32},  {221, 0x7f}, {254, 0xa0}, {255, 0xad}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        assert_int_equal((uint8_t)text[known[i].id], known[i].byte);
    /* The letters of all bytes, and back. */
    char letters[513];
    uint8_t back[256];
    size_t size = mzi_letters_of_bytes(letters, (const uint8_t *)text, 256);
    assert_int_equal(size, 94 + 2 * 162);
    assert_int_equal(mzi_bytes_of_letters(back, letters, size), 256);
    assert_memory_equal(back, text, 256);
    mezzo_tokenizer_free_text(t, text, bytes);
    mezzo_tokenizer_destroy(t);
}

/* Pieces with a bar behind each. */
static void expect_pieces(mezzo_pattern pattern, const char *text, const char *want) {
    mzi_pretokenizer *split;
    char got[256];
    size_t used = 0, size;
    const uint8_t *piece = NULL;
    assert_int_equal(mzi_pretokenizer_create(&split, ctx, pattern), MEZZO_OK);
    mzi_pretokenizer_start(split, text, strlen(text), 0);
    for (;;) {
        assert_int_equal(mzi_pretokenizer_next(split, &piece, &size), MEZZO_OK);
        if (size == 0)
            break;
        used += mzi_format(got + used, sizeof got - used, "%.*s|", (int)size, (const char *)piece);
    }
    got[used] = '\0';
    assert_string_equal(got, want);
    mzi_pretokenizer_destroy(split);
}

static void test_pieces(void **state) {
    (void)state;
    const mezzo_pattern gpt2 = MEZZO_PATTERN_GPT2, gpt4 = MEZZO_PATTERN_GPT4;
    expect_pieces(gpt2, "I'll go, HE'LL  stay 12345x!?\r\n\n  end ",
                  "I|'ll| go|,| HE|'|LL| | stay| 12345|x|!?|\r\n\n | end| |");
    expect_pieces(gpt4, "I'll go, HE'LL  stay 12345x!?\r\n\n  end ",
                  "I|'ll| go|,| HE|'LL| | stay| |123|45|x|!?\r\n\n| | end| |");
    /* letters, numbers and blanks of other scripts */
    expect_pieces(gpt2, "\u043c\u0438\u0440\u00b2 \u0663\u4e16\u754c\u3000!\u00a0x",
                  "\u043c\u0438\u0440|\u00b2| \u0663|\u4e16\u754c|\u3000|!|\u00a0|x|");
    expect_pieces(gpt4, "$a (b) 3.14 'S \u00a0x", "$a| (|b|)| |3|.|14| '|S| |\u00a0x|");
}

static void test_special_tokens(void **state) {
    (void)state;
    mezzo_tokenizer *t = open_text(small_vocab);
    expect_ids(t, "ab<|endoftext|>ab<|endoftext|>", true, IDS(256, 262, 256, 262));
    expect_ids(t, "<|endoftext|>", true, IDS(262));
    expect_ids(t, "<|endoftext|", true,
               IDS(27, 91, 68, 77, 67, 78, 69, 83, 68, 87, 83, 91)); /* not whole: text */
    expect_ids(t, "<|endoftext|>", false, IDS(27, 91, 68, 77, 67, 78, 69, 83, 68, 87, 83, 91, 29));
    /* A piece ends where a special token begins. */
    expect_ids(t, "d<|endoftext|>d", true, IDS(67, 262, 67));
    assert_int_equal(mezzo_tokenizer_save(t, path), MEZZO_OK);
    mezzo_tokenizer_destroy(t);
    /* Two more: a longer one, and one that is always found. */
    size_t bytes;
    char *text = read_file(&bytes), *more = calloc(1, bytes + 200);
    const char *place = strstr(text, "],\"normalizer\"");
    snprintf(more, bytes + 200,
             "%.*s,{\"id\":263,\"content\":\"<|endoftext|>>\",\"special\":true},"
             "{\"id\":264,\"content\":\"  \"}%s",
             (int)(place - text), text, place);
    t = open_text(more);
    assert_int_equal(mezzo_tokenizer_vocab(t), 265);
    assert_int_equal(mezzo_tokenizer_end_of_text(t), 262);
    expect_ids(t, "<|endoftext|>>><|endoftext|>", true, IDS(263, 29, 262));
    expect_ids(t, "a   ab", true, IDS(64, 264, 220, 256));
    expect_ids(t, "a   ab", false, IDS(64, 264, 220, 256));
    assert_int_equal(mezzo_tokenizer_token_bytes(t, 263), 0);
    assert_int_equal(mezzo_tokenizer_token_bytes(t, 264), 2);
    mezzo_tokenizer_destroy(t);
    free(text);
    free(more);
}

/* 1 to 4 bytes of a character: any of the four lengths, no surrogate. */
static size_t put_character(char *out, uint32_t random) {
    static const uint32_t below[] = {0x80, 0x800, 0xd800, 0x110000};
    static const uint32_t from[] = {0, 0x80, 0x800, 0x10000};
    uint32_t kind = random % 8 < 4 ? 0 : random % 8 - 4;
    uint32_t c = from[kind] + random / 8 % (below[kind] - from[kind]);
    if (kind == 0) {
        out[0] = (char)c;
    } else {
        for (uint32_t i = kind; i > 0; i--, c >>= 6)
            out[i] = (char)(0x80 | (c & 0x3f));
        out[0] = (char)((0xff00u >> (kind + 1) & 0xff) | c);
    }
    return kind + 1;
}

static void test_round_trip_of_random_text(void **state) {
    (void)state;
    char text[8 * 40];
    for (int pattern = 0; pattern < 2; pattern++) {
        const char *sample = "the the the cat cat sat sat on on mat mat \n\n\n\n";
        mezzo_tokenizer *t = learn(sample, strlen(sample), 270, (mezzo_pattern)pattern, true);
        for (uint32_t round = 0; round < 5000; round++) {
            size_t bytes = 0;
            uint32_t r[4];
            mzi_rng4(r, 1, 0, round, 0);
            for (uint32_t i = 0, n = r[0] % 40; i < n; i++) {
                uint32_t q[4];
                mzi_rng4(q, 2, i, round, 0);
                bytes += put_character(text + bytes,
                                       q[0] % 3 ? q[1] : 8 * (uint32_t) " the\n1'!"[q[1] % 8]);
            }
            int32_t *ids;
            size_t count, back_bytes;
            char *back;
            assert_int_equal(mezzo_tokenizer_encode(t, text, bytes, true, &ids, &count), MEZZO_OK);
            int64_t sum = 0;
            for (size_t i = 0; i < count; i++)
                sum += mezzo_tokenizer_token_bytes(t, ids[i]);
            assert_int_equal(sum, bytes);
            assert_int_equal(mezzo_tokenizer_decode(t, ids, count, &back, &back_bytes), MEZZO_OK);
            assert_int_equal(back_bytes, bytes);
            assert_memory_equal(back, text, bytes);
            mezzo_tokenizer_free_text(t, back, back_bytes);
            mezzo_tokenizer_free_ids(t, ids, count);
        }
        mezzo_tokenizer_destroy(t);
    }
}

/* The definition: the pair of the lowest rank, the leftmost of them, again and again. */
static size_t merge_slowly(const mzi_bpe *bpe, int32_t *ids, size_t count) {
    for (;;) {
        int32_t best = INT32_MAX;
        size_t place = 0;
        for (size_t i = 0; i + 1 < count; i++) {
            int32_t rank = mzi_bpe_rank(bpe, ids[i], ids[i + 1]);
            if (rank >= 0 && rank < best) {
                best = rank;
                place = i;
            }
        }
        if (best == INT32_MAX)
            return count;
        ids[place] = mzi_bpe_merge(bpe, best).result;
        memmove(ids + place + 1, ids + place + 2, (--count - place - 1) * sizeof *ids);
    }
}

static void test_merging_equals_its_definition(void **state) {
    (void)state;
    enum {
        LONGEST = 300
    };
    char text[4000];
    for (uint32_t letters = 1; letters <= 4; letters++) {
        for (uint32_t i = 0; i < sizeof text; i++) {
            uint32_t r[4];
            mzi_rng4(r, letters, 0, i, 0);
            text[i] = (char)(r[0] % 9 == 0 ? ' ' : 'a' + (int)(r[1] % letters));
        }
        mezzo_tokenizer *t =
            learn(text, sizeof text, 256 + (letters == 1 ? 8 : 100), MEZZO_PATTERN_GPT2, false);
        int32_t byte_ids[256];
        uint8_t order[256];
        mzi_byte_order(order);
        for (int i = 0; i < 256; i++)
            byte_ids[order[i]] = i;
        for (uint32_t round = 0; round < 3000; round++) {
            uint32_t r[4];
            mzi_rng4(r, 7, letters, round, 0);
            char word[LONGEST];
            int32_t want[LONGEST], *ids;
            size_t bytes = 1 + r[0] % (r[1] % 4 ? 20 : LONGEST - 1), count;
            for (size_t i = 0; i < bytes; i++) {
                uint32_t q[4];
                mzi_rng4(q, 8, i, round, letters);
                word[i] = (char)('a' + q[0] % letters);
                want[i] = byte_ids[(uint8_t)word[i]];
            }
            size_t want_count = merge_slowly(t->bpe, want, bytes);
            for (int again = 0; again < 2; again++) { /* the second time it may be remembered */
                assert_int_equal(mezzo_tokenizer_encode(t, word, bytes, false, &ids, &count),
                                 MEZZO_OK);
                assert_int_equal(count, want_count);
                assert_memory_equal(ids, want, count * sizeof *ids);
                mezzo_tokenizer_free_ids(t, ids, count);
            }
        }
        mezzo_tokenizer_destroy(t);
    }
}

static void test_pieces_without_end(void **state) {
    (void)state;
    enum {
        BYTES = 1 << 21
    };
    mezzo_tokenizer *t = open_text("#version: 0.2\na a\naa aa\n\u0120 \u0120\n");
    char *text = malloc(BYTES);
    assert_non_null(text);
    int32_t *ids;
    size_t count;
    memset(text, 'a', BYTES);
    assert_int_equal(mezzo_tokenizer_encode(t, text, BYTES, false, &ids, &count), MEZZO_OK);
    assert_int_equal(count, BYTES / 4);
    mezzo_tokenizer_free_ids(t, ids, count);
    memset(text, ' ', BYTES);
    assert_int_equal(mezzo_tokenizer_encode(t, text, BYTES, false, &ids, &count), MEZZO_OK);
    assert_int_equal(count, BYTES / 2);
    mezzo_tokenizer_free_ids(t, ids, count);
    text[BYTES - 1] = '!'; /* blanks: an odd number is left, one of them goes with the mark */
    assert_int_equal(mezzo_tokenizer_encode(t, text, BYTES, false, &ids, &count), MEZZO_OK);
    assert_int_equal(count, BYTES / 2 - 1 + 2);
    mezzo_tokenizer_free_ids(t, ids, count);
    free(text);
    mezzo_tokenizer_destroy(t);
}

/* Words: low x5, lower x2, newest x6, widest x3 (the blank before each is a part of it). */
static void test_learns_by_count_then_ids(void **state) {
    (void)state;
    const char *text = " low low low low low lower lower newest newest newest newest newest newest"
                       " widest widest widest";
    mezzo_tokenizer *t = learn(text, strlen(text), 256 + 7 + 1, MEZZO_PATTERN_GPT2, true);
    expect_ids(t, "es", false, IDS(256));   /* 9: (68,82) before (82,83) */
    expect_ids(t, "est", false, IDS(257));  /* 9 */
    expect_ids(t, "lo", false, IDS(258));   /* 7: (75,78) before (78,86) and (220,75) */
    expect_ids(t, " lo", false, IDS(259));  /* (220,258) before (258,86), both 7 */
    expect_ids(t, " low", false, IDS(260)); /* 7 */
    expect_ids(t, "ew", false, IDS(261));   /* 6: (68,86) before (77,68), (86,257), (220,77) */
    expect_ids(t, "new", false, IDS(262));  /* 6: (77,261) before (220,77) and (261,257) */
    assert_int_equal(mezzo_tokenizer_end_of_text(t), 263);
    mezzo_tokenizer_destroy(t);
}

/* The definition: count all pairs anew for each merge. */
static int32_t learn_slowly(int32_t words[][64], const int32_t *sizes, int32_t word_count,
                            mzi_merge *merges, int32_t wanted) {
    int32_t lengths[256];
    memcpy(lengths, sizes, (size_t)word_count * sizeof *sizes);
    for (int32_t made = 0; made < wanted; made++) {
        static int32_t counts[400][400];
        memset(counts, 0, sizeof counts);
        int32_t best = 1, left = 0, right = 0;
        for (int32_t w = 0; w < word_count; w++)
            for (int32_t i = 0; i + 1 < lengths[w]; i++)
                counts[words[w][i]][words[w][i + 1]]++;
        for (int32_t a = 0; a < 400; a++)
            for (int32_t b = 0; b < 400; b++)
                if (counts[a][b] > best) {
                    best = counts[a][b];
                    left = a;
                    right = b;
                }
        if (best < 2)
            return made;
        merges[made] = (mzi_merge){left, right, 256 + made};
        for (int32_t w = 0; w < word_count; w++) {
            int32_t kept = 0;
            for (int32_t i = 0; i < lengths[w]; i++) {
                bool merge = i + 1 < lengths[w] && words[w][i] == left && words[w][i + 1] == right;
                words[w][kept++] = merge ? 256 + made : words[w][i];
                i += merge;
            }
            lengths[w] = kept;
        }
    }
    return wanted;
}

static void test_learning_equals_its_definition(void **state) {
    (void)state;
    for (uint32_t round = 0; round < 24; round++) {
        enum {
            WORDS = 120,
            WANTED = 60
        };
        static int32_t words[WORDS][64];
        int32_t sizes[WORDS];
        char text[WORDS * 64];
        size_t bytes = 0;
        for (uint32_t w = 0; w < WORDS; w++) {
            uint32_t r[4];
            mzi_rng4(r, 3, round, w, 0);
            sizes[w] = (int32_t)(2 + r[0] % (round % 3 == 0 ? 60 : 8));
            for (int32_t i = 0; i < sizes[w]; i++) {
                uint32_t q[4];
                mzi_rng4(q, 4, w, (uint64_t)i, round);
                char c = (char)(i == 0 ? ' ' : 'a' + (int)(q[0] % (1 + round % 4)));
                text[bytes++] = c;
                words[w][i] = c == ' ' ? 220 : c - 33;
            }
        }
        mzi_merge want[WANTED];
        int32_t count = learn_slowly(words, sizes, WORDS, want, WANTED);
        mezzo_tokenizer *t = learn(text, bytes, 256 + count, MEZZO_PATTERN_GPT2, false);
        for (int32_t i = 0; i < count; i++) {
            mzi_merge got = mzi_bpe_merge(t->bpe, i);
            assert_memory_equal(&got, &want[i], sizeof got);
            for (int32_t k = 0; k < i; k++) { /* no token is made twice */
                const mzi_token *a = &t->tokens[256 + i], *b = &t->tokens[256 + k];
                assert_false(a->size == b->size &&
                             memcmp(a->bytes, b->bytes, (size_t)a->size) == 0);
            }
        }
        mezzo_tokenizer_destroy(t);
        /* One merge more is asked for than there is. */
        if (count == WANTED)
            continue;
        const mezzo_tokenizer_train_config config = {257 + count, MEZZO_PATTERN_GPT2, false};
        assert_int_equal(mezzo_tokenizer_train(&t, ctx, text, bytes, &config), MEZZO_DATA);
    }
}

static void test_refuses_bad_arguments(void **state) {
    (void)state;
    mezzo_tokenizer *t = (mezzo_tokenizer *)&ctx, *same = t;
    mezzo_tokenizer_train_config config = {255, MEZZO_PATTERN_GPT2, false};
    expect_error(mezzo_tokenizer_train(&t, ctx, "a", 1, &config), MEZZO_INVALID_ARGUMENT, "256");
    config = (mezzo_tokenizer_train_config){256, MEZZO_PATTERN_GPT2, true};
    expect_error(mezzo_tokenizer_train(&t, ctx, "a", 1, &config), MEZZO_INVALID_ARGUMENT, "257");
    config.vocab = (1 << 20) + 1;
    expect_error(mezzo_tokenizer_train(&t, ctx, "a", 1, &config), MEZZO_INVALID_ARGUMENT,
                 "1048576");
    config = (mezzo_tokenizer_train_config){300, (mezzo_pattern)2, true};
    expect_error(mezzo_tokenizer_train(&t, ctx, "a", 1, &config), MEZZO_INVALID_ARGUMENT,
                 "pattern");
    config = (mezzo_tokenizer_train_config){300, MEZZO_PATTERN_GPT4, true};
    expect_error(mezzo_tokenizer_train(&t, ctx, NULL, 1, &config), MEZZO_INVALID_ARGUMENT, "null");
    expect_error(mezzo_tokenizer_train(&t, ctx, "a", SIZE_MAX, &config), MEZZO_INVALID_ARGUMENT,
                 "2147483647");
    expect_error(mezzo_tokenizer_train(&t, ctx, "a", 1, NULL), MEZZO_INVALID_ARGUMENT, "config");
    expect_error(mezzo_tokenizer_train(&t, ctx, "aa aa bb", 8, &config), MEZZO_DATA,
                 "after 1 merges");
    expect_error(mezzo_tokenizer_train(&t, ctx, "aa aa\x80", 6, &config), MEZZO_DATA, "offset 5");
    expect_error(mezzo_tokenizer_open(&t, ctx, NULL), MEZZO_INVALID_ARGUMENT, "path");
    expect_error(mezzo_tokenizer_open(&t, ctx, path), MEZZO_DATA, path);
    assert_ptr_equal(t, same);
    t = open_text(small_vocab);
    int32_t *ids = (int32_t *)&ctx;
    size_t count = 7, bytes = 7;
    char *text = (char *)&ctx;
    expect_error(mezzo_tokenizer_encode(t, NULL, 1, false, &ids, &count), MEZZO_INVALID_ARGUMENT,
                 "null");
    expect_error(mezzo_tokenizer_encode(t, "a", SIZE_MAX, false, &ids, &count),
                 MEZZO_INVALID_ARGUMENT, "2147483647");
    expect_error(mezzo_tokenizer_encode(t, "a", 1, false, NULL, &count), MEZZO_INVALID_ARGUMENT,
                 "ids");
    expect_error(mezzo_tokenizer_decode(t, IDS(256, 263), 2, &text, &bytes), MEZZO_DATA,
                 "token 1 is 263, and this tokenizer has the ids 0 to 262");
    expect_error(mezzo_tokenizer_decode(t, IDS(-1), 1, &text, &bytes), MEZZO_DATA, "is -1");
    expect_error(mezzo_tokenizer_decode(t, NULL, 1, &text, &bytes), MEZZO_INVALID_ARGUMENT, "ids");
    expect_error(mezzo_tokenizer_save(t, NULL), MEZZO_INVALID_ARGUMENT, "path");
    assert_ptr_equal(ids, &ctx);
    assert_ptr_equal(text, &ctx);
    assert_int_equal(count + bytes, 14);
    mezzo_tokenizer_destroy(t);
}

static void test_refuses_text_that_is_not_utf8(void **state) {
    (void)state;
    static const struct {
        const char *text;
        size_t bytes, offset;
    } bad[] = {
        {"\x80", 1, 0},
        {"ab\xff", 3, 2},
        {"word \xc3", 6, 5},            /* cut off */
        {"word \xc0\xaf", 7, 5},        /* overlong */
        {"a \xed\xa0\x80", 5, 2},       /* a surrogate */
        {"a \xf4\x90\x80\x80", 6, 2},   /* beyond U+10FFFF */
        {"\0\0\xe4\xb8 ", 5, 2},        /* NULs are text */
        {"<|endoftext|>x\xfe", 15, 14}, /* behind a special token */
        {"\xe4<|endoftext|>", 14, 0},   /* before one */
    };
    for (int pattern = 0; pattern < 2; pattern++) {
        mezzo_tokenizer *t = learn("aa aa", 5, 258, (mezzo_pattern)pattern, true);
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
            int32_t *ids;
            size_t count;
            char want[32];
            snprintf(want, sizeof want, "not UTF-8 at offset %zu ", bad[i].offset);
            expect_error(mezzo_tokenizer_encode(t, bad[i].text, bad[i].bytes, true, &ids, &count),
                         MEZZO_DATA, want);
        }
        mezzo_tokenizer_destroy(t);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_bytes),
        TEST(test_merges_by_rank_then_place),
        TEST(test_bytes_are_in_the_order_of_gpt2),
        TEST(test_pieces),
        TEST(test_special_tokens),
        TEST(test_round_trip_of_random_text),
        TEST(test_merging_equals_its_definition),
        TEST(test_pieces_without_end),
        TEST(test_learns_by_count_then_ids),
        TEST(test_learning_equals_its_definition),
        TEST(test_refuses_bad_arguments),
        TEST(test_refuses_text_that_is_not_utf8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
