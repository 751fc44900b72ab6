/* How products are cut, and what their kernels need. */
#include "kernel/table.h"

/* Units of the kernel (simd/gemm.h). */
enum {
    ROWS = 16,
    COLUMNS = 48,
    SPLIT = 512,
    BLOCK = 8 * COLUMNS
};
/* A band of b, packed, stays in L2 (1 MB and more) while rows of a pass by; so does what a tile
 * packs of a.  Packing an element of b costs as much as some 10 rows do, so a tile has many; where
 * there are few, smaller bands follow one another in a tile, each fetched while the one before is
 * used. */
enum {
    TILE_M = 1024,
    TILE_M_MIN = 64,
    FEW_ROWS = 256,
    BAND_MAX = 32 * COLUMNS,
    TILES = 8, /* enough for a few workers to share evenly */
    A_BYTES = 1 << 20,
    B_BYTES = 384 << 10,
    FEW_BYTES = 768 << 10 /* all of a (simd/gemm_few.h) */
};

static int64_t ceiling(int64_t n, int64_t by) {
    return (n + by - 1) / by;
}

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* The size of `parts` about equal parts of n, a multiple of `unit`. */
static int64_t part(int64_t n, int64_t parts, int64_t unit) {
    return ceiling(ceiling(n, parts), unit) * unit;
}

/* Tiles of `down` x `across` parts; 0 if they are smaller than pays. */
static int64_t tiles_of(const mzk_matmul_params *p, int64_t down, int64_t across) {
    int64_t rows = part(p->M, down, ROWS), columns = part(p->N, across, COLUMNS);
    if ((down > 1 && rows < TILE_M_MIN) || (p->transpose_a && across > 1 && columns < 2 * COLUMNS))
        return 0;
    return ceiling(p->M, rows) * ceiling(p->N, columns);
}

/* From `down` x `across` parts on, the fewest tiles whose number two, four and eight workers share
 * evenly; failing that, four, two.  Columns first: they cost nothing where a need not be packed. */
static void even_out(const mzk_matmul_params *p, int64_t *down, int64_t *across) {
    for (int64_t share = TILES; share > 1; share /= 2) {
        int64_t best = 0, best_down = 0, best_across = 0;
        for (int64_t d = *down; d < *down + TILES; d++)
            for (int64_t a = *across; a < *across + TILES; a++) {
                int64_t tiles = tiles_of(p, d, a);
                if (tiles == 0 || tiles % share != 0 || (best > 0 && tiles >= best))
                    continue;
                best = tiles;
                best_down = d;
                best_across = a;
            }
        if (best == 0)
            continue;
        *down = best_down;
        *across = best_across;
        return;
    }
}

int64_t mzk_matmul_cut(mzk_matmul_params *p) {
    const int64_t pair = 2; /* bytes of an element at least */
    int64_t depth = pair * least(p->K, SPLIT * 2);
    bool few = p->M < FEW_ROWS;
    int64_t bytes = p->transpose_a ? 2 * B_BYTES : few ? B_BYTES / 2 : B_BYTES;
    int64_t band = least(bytes / depth / COLUMNS * COLUMNS, BAND_MAX);
    int64_t max_m = p->transpose_a ? least(A_BYTES / depth, TILE_M) : TILE_M;
    max_m = max_m > TILE_M_MIN ? max_m / ROWS * ROWS : TILE_M_MIN;
    int64_t bands = few              ? 8
                    : p->transpose_a ? 2
                                     : 1; /* of a tile: what it packs of a serves them */
    int64_t down = ceiling(p->M, max_m), across = ceiling(p->N, bands * band);
    even_out(p, &down, &across);
    p->tile_m = part(p->M, down, ROWS);
    p->tile_n = part(p->N, across, COLUMNS);
    p->band_n = least(band, p->tile_n);
    return ceiling(p->M, p->tile_m) * ceiling(p->N, p->tile_n);
}

uint64_t mzk_matmul_scratch_bytes(const mzk_matmul_params *p) {
    int64_t panels = ceiling(p->tile_m ? p->tile_n : p->N, COLUMNS);
    int64_t rows = ceiling(p->tile_m ? p->tile_m : p->M, ROWS) * ROWS;
    int64_t b = (p->tile_m ? p->band_n : COLUMNS) * SPLIT;
    int64_t sums = rows / 8 * panels * BLOCK, a = rows * (SPLIT + 1);
    uint64_t bytes = (uint64_t)(b + sums + a) * sizeof(float);
    return bytes > FEW_BYTES ? bytes : FEW_BYTES;
}
