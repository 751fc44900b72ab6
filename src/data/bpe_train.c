/* Learning merges.
 *
 * Text is a set of different pieces ("words") with counts.  A pair's count is kept up to date: when
 * (a,b) becomes c, only the words that hold (a,b) change, and in them only the pairs beside it:
 *
 *   x a b y  ->  x c y      (x,a) and (b,y) lose, (x,c) and (c,y) gain, the word's count each
 *
 * A heap has the pairs by count.  A count that has shrunk since stays too high there, and is put
 * right when it comes up.
 *
 * A merged pair never comes back, and no token is made twice: bytes that stand in one word without
 * a token reaching over their ends are always cut the same way. */
#include <string.h>

#include "data/bytes_map.h"
#include "data/tokenizer.h"

#define NONE (-1)

typedef struct word {
    int32_t begin, size; /* in symbols */
    int64_t count;
} word;

typedef struct pair {
    int32_t left, right;
    int64_t count;
    int32_t places; /* the first of its words, or NONE */
    bool grown;     /* since the last merge */
} pair;

typedef struct place {
    int32_t word, next;
} place;

typedef struct candidate {
    int64_t count;
    int32_t pair;
} candidate;

typedef struct learner {
    mezzo_ctx *ctx;
    mzi_bytes_map seen; /* pieces -> words */
    word *words;
    int32_t *symbols;
    pair *pairs;
    int32_t *slots; /* index of a pair + 1; 0: free */
    size_t slot_count;
    place *places;
    candidate *heap;
    int32_t *grown;
    int32_t word_count, word_capacity, symbol_count, symbol_capacity, pair_count, pair_capacity;
    int32_t place_count, place_capacity, heap_count, heap_capacity, grown_count, grown_capacity;
} learner;

static mezzo_status grow(const learner *l, void **memory, int32_t *capacity, int32_t count,
                         int32_t more, size_t element_bytes) {
    if (more > INT32_MAX - count)
        return mzi_out_of_memory(l->ctx, SIZE_MAX, "learning merges");
    return mzi_grow(l->ctx, memory, capacity, count + more, element_bytes);
}

static mezzo_status add_word(learner *l, const uint8_t *piece, size_t bytes, uint64_t hash,
                             const int32_t byte_ids[256]) {
    int32_t size = (int32_t)bytes;
    MZI_TRY(grow(l, (void **)&l->words, &l->word_capacity, l->word_count, 1, sizeof *l->words));
    MZI_TRY(grow(l, (void **)&l->symbols, &l->symbol_capacity, l->symbol_count, size,
                 sizeof *l->symbols));
    MZI_TRY(mzi_bytes_map_add(&l->seen, piece, bytes, hash, l->word_count));
    l->words[l->word_count++] = (word){l->symbol_count, size, 1};
    for (int32_t i = 0; i < size; i++)
        l->symbols[l->symbol_count++] = byte_ids[piece[i]];
    return MEZZO_OK;
}

static mezzo_status count_words(learner *l, mzi_pretokenizer *split, const char *text, size_t bytes,
                                const int32_t byte_ids[256]) {
    const uint8_t *piece = NULL;
    size_t size = 0;
    mzi_pretokenizer_start(split, text, bytes, 0);
    for (;;) {
        MZI_TRY(mzi_pretokenizer_next(split, &piece, &size));
        if (size == 0)
            return MEZZO_OK;
        uint64_t hash = mzi_bytes_hash(piece, size);
        int32_t found = mzi_bytes_map_find(&l->seen, piece, size, hash);
        if (found >= 0 && found < l->word_count) /* the second is always so */
            l->words[found].count++;
        else
            MZI_TRY(add_word(l, piece, size, hash, byte_ids));
    }
}

static int32_t *slot_of(const learner *l, int32_t left, int32_t right) {
    uint64_t hash =
        ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * UINT64_C(0x9e3779b97f4a7c15);
    size_t at = (size_t)(hash >> 32) & (l->slot_count - 1);
    while (l->slots[at] != 0 &&
           (l->pairs[l->slots[at] - 1].left != left || l->pairs[l->slots[at] - 1].right != right))
        at = (at + 1) & (l->slot_count - 1);
    return &l->slots[at];
}

static mezzo_status make_slots(learner *l) {
    size_t before = l->slot_count, count = before ? 2 * before : 4096;
    int32_t *slots = mzi_alloc(l->ctx, count * sizeof *slots);
    if (!slots)
        return mzi_out_of_memory(l->ctx, count * sizeof *slots, "learning merges");
    mzi_free(l->ctx, l->slots, before * sizeof *slots);
    l->slots = slots;
    l->slot_count = count;
    for (int32_t i = 0; i < l->pair_count; i++)
        *slot_of(l, l->pairs[i].left, l->pairs[i].right) = i + 1;
    return MEZZO_OK;
}

static mezzo_status find_or_add(learner *l, int32_t left, int32_t right, int32_t *found) {
    if (2 * ((size_t)l->pair_count + 1) > l->slot_count)
        MZI_TRY(make_slots(l));
    int32_t *slot = slot_of(l, left, right);
    if (*slot == 0) {
        MZI_TRY(grow(l, (void **)&l->pairs, &l->pair_capacity, l->pair_count, 1, sizeof *l->pairs));
        l->pairs[l->pair_count++] = (pair){left, right, 0, NONE, false};
        *slot = l->pair_count;
    }
    *found = *slot - 1;
    return MEZZO_OK;
}

static mezzo_status gain(learner *l, int32_t left, int32_t right, int32_t in_word) {
    int32_t index = NONE;
    MZI_TRY(find_or_add(l, left, right, &index));
    pair *p = &l->pairs[index];
    p->count += l->words[in_word].count;
    if (!p->grown) {
        MZI_TRY(
            grow(l, (void **)&l->grown, &l->grown_capacity, l->grown_count, 1, sizeof *l->grown));
        l->grown[l->grown_count++] = index;
        p->grown = true;
    }
    /* Words are gone through one after the other: this one would be the list's first. */
    if (p->places != NONE && l->places[p->places].word == in_word)
        return MEZZO_OK;
    MZI_TRY(grow(l, (void **)&l->places, &l->place_capacity, l->place_count, 1, sizeof *l->places));
    l->places[l->place_count] = (place){in_word, p->places};
    p->places = l->place_count++;
    return MEZZO_OK;
}

static void lose(learner *l, int32_t left, int32_t right, int32_t in_word) {
    l->pairs[*slot_of(l, left, right) - 1].count -= l->words[in_word].count;
}

static mezzo_status count_pairs(learner *l) {
    for (int32_t w = 0; w < l->word_count; w++) {
        const int32_t *symbols = l->symbols + l->words[w].begin;
        for (int32_t i = 0; i + 1 < l->words[w].size; i++)
            MZI_TRY(gain(l, symbols[i], symbols[i + 1], w));
    }
    return MEZZO_OK;
}

/* More frequent, or as frequent with smaller ids. */
static bool comes_first(const learner *l, candidate a, candidate b) {
    const pair *p = &l->pairs[a.pair], *q = &l->pairs[b.pair];
    if (a.count != b.count)
        return a.count > b.count;
    return p->left != q->left ? p->left < q->left : p->right < q->right;
}

static mezzo_status heap_push(learner *l, int32_t index) {
    candidate c = {l->pairs[index].count, index};
    if (c.count < 2)
        return MEZZO_OK;
    MZI_TRY(grow(l, (void **)&l->heap, &l->heap_capacity, l->heap_count, 1, sizeof *l->heap));
    int32_t at = l->heap_count++;
    for (int32_t parent; at > 0 && comes_first(l, c, l->heap[parent = (at - 1) / 2]); at = parent)
        l->heap[at] = l->heap[parent];
    l->heap[at] = c;
    return MEZZO_OK;
}

static candidate heap_pop(learner *l) {
    candidate first = l->heap[0], last = l->heap[--l->heap_count];
    int32_t at = 0;
    for (int32_t child = 1; child < l->heap_count; child = 2 * at + 1) {
        if (child + 1 < l->heap_count && comes_first(l, l->heap[child + 1], l->heap[child]))
            child++;
        if (!comes_first(l, l->heap[child], last))
            break;
        l->heap[at] = l->heap[child];
        at = child;
    }
    l->heap[at] = last;
    return first;
}

static mezzo_status push_grown(learner *l) {
    for (int32_t i = 0; i < l->grown_count; i++) {
        l->pairs[l->grown[i]].grown = false;
        MZI_TRY(heap_push(l, l->grown[i]));
    }
    l->grown_count = 0;
    return MEZZO_OK;
}

static mezzo_status merge_word(learner *l, int32_t w, mzi_merge m) {
    word *in = &l->words[w];
    int32_t *s = l->symbols + in->begin, kept = 0;
    for (int32_t i = 0; i < in->size; i++) {
        if (i + 1 == in->size || s[i] != m.left || s[i + 1] != m.right) {
            s[kept++] = s[i];
            continue;
        }
        if (kept > 0) {
            lose(l, s[kept - 1], m.left, w);
            MZI_TRY(gain(l, s[kept - 1], m.result, w));
        }
        if (i + 2 < in->size) {
            lose(l, m.right, s[i + 2], w);
            MZI_TRY(gain(l, m.result, s[i + 2], w));
        }
        s[kept++] = m.result;
        i++;
    }
    in->size = kept;
    return MEZZO_OK;
}

static mezzo_status apply(learner *l, int32_t index, mzi_merge merge) {
    for (int32_t at = l->pairs[index].places; at != NONE; at = l->places[at].next)
        MZI_TRY(merge_word(l, l->places[at].word, merge));
    l->pairs[index].count = 0;
    return push_grown(l);
}

static mezzo_status learn(learner *l, mzi_merge *merges, int32_t *count) {
    int32_t made = 0;
    MZI_TRY(count_pairs(l));
    MZI_TRY(push_grown(l));
    while (made < *count && l->heap_count > 0) {
        candidate best = heap_pop(l);
        const pair *p = &l->pairs[best.pair];
        if (best.count != p->count) {
            if (best.count > p->count)
                MZI_TRY(heap_push(l, best.pair));
            continue;
        }
        merges[made] = (mzi_merge){p->left, p->right, 256 + made};
        MZI_TRY(apply(l, best.pair, merges[made]));
        made++;
    }
    *count = made;
    return MEZZO_OK;
}

mezzo_status mzi_bpe_learn(mezzo_ctx *ctx, mzi_pretokenizer *split, const char *text, size_t bytes,
                           const int32_t byte_ids[256], mzi_merge *merges, int32_t *count) {
    learner l = {.ctx = ctx, .seen = {.ctx = ctx}};
    mezzo_status status = count_words(&l, split, text, bytes, byte_ids);
    if (status == MEZZO_OK)
        status = learn(&l, merges, count);
    mzi_bytes_map_deinit(&l.seen);
    mzi_free(ctx, l.words, (size_t)l.word_capacity * sizeof *l.words);
    mzi_free(ctx, l.symbols, (size_t)l.symbol_capacity * sizeof *l.symbols);
    mzi_free(ctx, l.pairs, (size_t)l.pair_capacity * sizeof *l.pairs);
    mzi_free(ctx, l.slots, l.slot_count * sizeof *l.slots);
    mzi_free(ctx, l.places, (size_t)l.place_capacity * sizeof *l.places);
    mzi_free(ctx, l.heap, (size_t)l.heap_capacity * sizeof *l.heap);
    mzi_free(ctx, l.grown, (size_t)l.grown_capacity * sizeof *l.grown);
    return status;
}
