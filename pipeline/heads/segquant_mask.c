/* See segquant_mask.h.
 *
 * The samples are the corners of cells, and inside a cell the interpolation is a convex combination of its corners. So
 * where all four corners have the same winner that class wins everywhere inside, ties included, and the cell is filled.
 * In the others only the classes that can win there are interpolated. Before the first and after the last sample the
 * value stays that of the border: those cells have the same sample on both sides.
 *
 * A pixel lies at (pixel * step + offset) / den samples; inside a cell the share of the next sample is a count of
 * 1 / den. All sums are integers over the product of both axes' den.
 */
#include "segquant_mask.h"

#include <string.h>

typedef struct {
    int64_t step, offset, den;
    int samples, pixels;
} axis;

static int64_t common_divisor(int64_t a, int64_t b) {
    while (b) {
        const int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a < 0 ? -a : a;
}

static axis axis_of(int samples, int pixels, int resize) {
    axis a = {0, 0, 1, samples, pixels};
    if (resize == SEGQUANT_HALF_PIXEL) {
        a.step = 2 * (int64_t)samples;
        a.offset = (int64_t)samples - pixels;
        a.den = 2 * (int64_t)pixels;
    } else if (pixels > 1) {
        a.step = samples - 1;
        a.den = pixels - 1;
    }
    const int64_t divisor = common_divisor(common_divisor(a.step, a.den), a.offset);
    a.step /= divisor;
    a.offset /= divisor;
    a.den /= divisor;
    return a;
}

/* The first pixel at or after a sample; cell -1 begins at pixel 0, and the cell of the last sample ends with the last. */
static int begin_of(const axis *a, int sample) {
    const int64_t distance = sample * a->den - a->offset;
    if (sample < 0 || distance <= 0) return 0;
    if (sample >= a->samples || a->step == 0) return a->pixels;
    const int64_t pixel = (distance + a->step - 1) / a->step;
    return pixel < a->pixels ? (int)pixel : a->pixels;
}

/* Cells around the samples in place of those between them: a sample's begins half way from the one before. */
static axis nearest(axis a) {
    a.step *= 2;
    a.offset = 2 * a.offset + a.den;
    a.den *= 2;
    return a;
}

/* The share of the next sample at a pixel of a cell, in 1 / den. */
static int64_t share_of(const axis *a, int pixel, int cell) { return pixel * a->step + a->offset - cell * a->den; }

static void winners_of(const int8_t *logits, int width, int classes, uint8_t *winners) {
    for (int x = 0; x < width; x++, logits += classes) {
        /* Value and class in one number: the larger value is larger, and of equal values the lower class. */
        int best = logits[0] * 256 + 255;
        for (int k = 1; k < classes; k++) {
            const int key = logits[k] * 256 + 255 - k;
            best = key > best ? key : best;
        }
        winners[x] = (uint8_t)(255 - (best & 255));
    }
}

static void fill(uint8_t *to, int class, int count) {
    if (count >= 8 && count <= 16) {
        const uint64_t eight = (uint64_t)class * UINT64_C(0x0101010101010101);
        memcpy(to, &eight, 8);
        memcpy(to + count - 8, &eight, 8);
    } else if (count < 8) {
        for (int x = 0; x < count; x++) to[x] = (uint8_t)class;
    } else {
        memset(to, class, (size_t)count);
    }
}

/* A function over the pixels of a cell: its value at the first pixel, and what it gains from column to column, from row
 * to row, and in both at once. */
typedef struct {
    int64_t value, right, down, both;
} plane;

typedef struct {
    int64_t y, y_step, y_den, x, x_step, x_den;
} place;

static plane plane_of(const place *at, int tl, int tr, int bl, int br) {
    const int64_t left = at->y_den * tl + at->y * (bl - tl), right = at->y_den * tr + at->y * (br - tr);
    const int64_t left_down = at->y_step * (bl - tl), right_down = at->y_step * (br - tr);
    plane p;
    p.value = left * at->x_den + at->x * (right - left);
    p.right = at->x_step * (right - left);
    p.down = left_down * at->x_den + at->x * (right_down - left_down);
    p.both = at->x_step * (right_down - left_down);
    return p;
}

typedef struct {
    uint8_t *mask;
    size_t row_bytes;
    int rows, columns;
} area;

/* A boundary cell is computed in tiles, so that the compiler can keep a row of one in a vector. */
#define TILE_ROWS 16
#define TILE_COLUMNS 8

/* Where the lead of the second class over the first is positive, it wins. */
#define TWO_CLASSES(NAME, SUM) \
    static void NAME(const area *to, plane lead, int first, int second) { \
        SUM value[TILE_COLUMNS], gain[TILE_COLUMNS]; \
        uint8_t *row = to->mask; \
        for (int x = 0; x < TILE_COLUMNS; x++) { \
            value[x] = (SUM)lead.value + (SUM)x * (SUM)lead.right; \
            gain[x] = (SUM)lead.down + (SUM)x * (SUM)lead.both; \
        } \
        for (int y = 0; y < to->rows; y++, row += to->row_bytes) { \
            uint8_t winners[TILE_COLUMNS]; \
            for (int x = 0; x < TILE_COLUMNS; x++) { \
                winners[x] = (uint8_t)(value[x] > 0 ? second : first); \
                value[x] += gain[x]; \
            } \
            copy(row, winners, to->columns); \
        } \
    }

/* leads: of the classes 1 .. count - 1 over the first. Choices are made with masks of bits: of conditionals GCC 12.2 made
 * vectors at -O3 that gave other classes, with both sanitizers silent. */
#define MANY_CLASSES(NAME, SUM) \
    static void NAME(const area *to, const plane *leads, const uint8_t *classes, int count) { \
        SUM best[TILE_ROWS][TILE_COLUMNS]; \
        SUM winner[TILE_ROWS][TILE_COLUMNS]; \
        uint8_t *row = to->mask; \
        for (int y = 0; y < to->rows; y++) { \
            for (int x = 0; x < TILE_COLUMNS; x++) { \
                best[y][x] = 0; \
                winner[y][x] = classes[0]; \
            } \
        } \
        for (int i = 1; i < count; i++) { \
            const plane lead = leads[i]; \
            const SUM class = classes[i]; \
            SUM value[TILE_COLUMNS], gain[TILE_COLUMNS]; \
            for (int x = 0; x < TILE_COLUMNS; x++) { \
                value[x] = (SUM)lead.value + (SUM)x * (SUM)lead.right; \
                gain[x] = (SUM)lead.down + (SUM)x * (SUM)lead.both; \
            } \
            for (int y = 0; y < to->rows; y++) { \
                for (int x = 0; x < TILE_COLUMNS; x++) { \
                    const SUM more = -(SUM)(value[x] > best[y][x]); /* all bits, or none */ \
                    best[y][x] ^= (best[y][x] ^ value[x]) & more; \
                    winner[y][x] ^= (winner[y][x] ^ class) & more; \
                    value[x] += gain[x]; \
                } \
            } \
        } \
        for (int y = 0; y < to->rows; y++, row += to->row_bytes) { \
            uint8_t winners[TILE_COLUMNS]; \
            for (int x = 0; x < TILE_COLUMNS; x++) winners[x] = (uint8_t)winner[y][x]; \
            copy(row, winners, to->columns); \
        } \
    }

static void copy(uint8_t *to, const uint8_t *winners, int count) {
    if (count == TILE_COLUMNS) memcpy(to, winners, TILE_COLUMNS);
    else memcpy(to, winners, (size_t)count);
}

TWO_CLASSES(two_classes_32, int32_t)
TWO_CLASSES(two_classes_64, int64_t)
MANY_CLASSES(many_classes_32, int32_t)
MANY_CLASSES(many_classes_64, int64_t)

/* Whether int32 holds all that is added up in a tile, the columns computed past its end included. */
static int is_small(const place *at) {
    return 255 * (at->y_den + at->y_step * 2) <= INT32_MAX / (at->x_den + at->x_step * TILE_COLUMNS);
}

static int least(int a, int b, int c, int d) {
    const int ab = a < b ? a : b, cd = c < d ? c : d;
    return ab < cd ? ab : cd;
}

static int most(int a, int b, int c, int d) {
    const int ab = a > b ? a : b, cd = c > d ? c : d;
    return ab > cd ? ab : cd;
}

/* Whether class j is above class k at all corners, or as high and before it: k then wins nowhere. */
static int beats(const int8_t *const corners[4], int j, int k) {
    const int enough = j < k ? 0 : 1;
    for (int i = 0; i < 4; i++)
        if (corners[i][j] - corners[i][k] < enough) return 0;
    return 1;
}

static void boundary(const area *whole, const place *at, const int8_t *const corners[4], const uint8_t winners[4], int classes) {
    plane leads[256];
    uint8_t candidates[256];
    int floor = -128, count = 0;
    candidates[0] = 0;
    const int8_t *tl = corners[0], *tr = corners[1], *bl = corners[2], *br = corners[3];
    for (int k = 0; k < classes; k++) {
        const int lowest = least(tl[k], tr[k], bl[k], br[k]);
        floor = lowest > floor ? lowest : floor;
    }
    /* A class that is nowhere as high as the floor, under which some other class never falls, wins nowhere. */
    for (int k = 0; k < classes; k++) {
        candidates[count] = (uint8_t)k;
        count += most(tl[k], tr[k], bl[k], br[k]) >= floor;
    }
    if (count > 2) {
        int kept = 0;
        for (int i = 0; i < count; i++) {
            const int k = candidates[i];
            candidates[kept] = (uint8_t)k;
            kept += !(beats(corners, winners[0], k) || beats(corners, winners[1], k) || beats(corners, winners[2], k) ||
                      beats(corners, winners[3], k));
        }
        count = kept;
    }
    const int a = candidates[0];
    for (int i = 1; i < count; i++) {
        const int k = candidates[i];
        leads[i] = plane_of(at, tl[k] - tl[a], tr[k] - tr[a], bl[k] - bl[a], br[k] - br[a]);
    }
    const int small = is_small(at);
    for (int y = 0; y < whole->rows; y += TILE_ROWS) {
        for (int x = 0; x < whole->columns; x += TILE_COLUMNS) {
            area tile = *whole;
            tile.mask += (size_t)y * whole->row_bytes + (size_t)x;
            tile.rows = whole->rows - y < TILE_ROWS ? whole->rows - y : TILE_ROWS;
            tile.columns = whole->columns - x < TILE_COLUMNS ? whole->columns - x : TILE_COLUMNS;
            plane moved[256];
            for (int i = 1; i < count; i++) {
                moved[i] = leads[i];
                moved[i].value += x * leads[i].right + y * (leads[i].down + x * leads[i].both);
                moved[i].right += y * leads[i].both;
                moved[i].down += x * leads[i].both;
            }
            if (count == 2) (small ? two_classes_32 : two_classes_64)(&tile, moved[1], a, candidates[1]);
            else (small ? many_classes_32 : many_classes_64)(&tile, moved, candidates, count);
        }
    }
}

static int check(int height, int width, int mask_height, int mask_width, size_t mask_row_bytes, int resize) {
    const int sizes[4] = {height, width, mask_height, mask_width};
    for (int i = 0; i < 4; i++)
        if (sizes[i] < 1 || sizes[i] > SEGQUANT_MAX_SIZE) return SEGQUANT_BAD_SIZE;
    if (mask_row_bytes < (size_t)mask_width) return SEGQUANT_BAD_STRIDE;
    if (resize != SEGQUANT_ALIGN_CORNERS && resize != SEGQUANT_HALF_PIXEL) return SEGQUANT_BAD_RESIZE;
    return SEGQUANT_OK;
}

static void repeat(uint8_t *mask, size_t row_bytes, int width, int from, int to) {
    for (int row = from + 1; row < to; row++)
        memcpy(mask + (size_t)row * row_bytes, mask + (size_t)from * row_bytes, (size_t)width);
}

int segquant_mask(const int8_t *logits, int height, int width, int classes, size_t logits_row_bytes,
                  uint8_t *mask, int mask_height, int mask_width, size_t mask_row_bytes,
                  int resize, int32_t *scratch) {
    if (!logits || !mask || !scratch) return SEGQUANT_BAD_POINTER;
    const int wrong = check(height, width, mask_height, mask_width, mask_row_bytes, resize);
    if (wrong) return wrong;
    if (classes < 1 || classes > 256) return SEGQUANT_BAD_CLASSES;
    if (logits_row_bytes < (size_t)width * (size_t)classes) return SEGQUANT_BAD_STRIDE;

    const axis down = axis_of(height, mask_height, resize), across = axis_of(width, mask_width, resize);
    int32_t *begin = scratch; /* of the cells -1 .. width - 1, and the end */
    uint8_t *winners[2] = {(uint8_t *)(begin + width + 2), (uint8_t *)(begin + width + 2) + width};
    for (int x = -1; x <= width; x++) begin[x + 1] = begin_of(&across, x);

    int known[2] = {-1, -1};
    for (int y = -1; y < height; y++) {
        const int from = begin_of(&down, y), to = begin_of(&down, y + 1);
        if (from == to) continue;
        const int rows[2] = {y < 0 ? 0 : y, y + 1 < height ? y + 1 : height - 1};
        for (int i = 0; i < 2; i++) {
            if (known[rows[i] & 1] != rows[i])
                winners_of(logits + (size_t)rows[i] * logits_row_bytes, width, classes, winners[rows[i] & 1]);
            known[rows[i] & 1] = rows[i];
        }
        const uint8_t *top = winners[rows[0] & 1], *bottom = winners[rows[1] & 1];
        uint8_t *first = mask + (size_t)from * mask_row_bytes;
        for (int x = -1; x < width; x++)
            fill(first + begin[x + 1], top[x < 0 ? 0 : x], begin[x + 2] - begin[x + 1]);
        repeat(mask, mask_row_bytes, mask_width, from, to);

        area cell = {first, mask_row_bytes, to - from, 0};
        place at = {share_of(&down, from, y), down.step, down.den, 0, across.step, across.den};
        const int8_t *above = logits + (size_t)rows[0] * logits_row_bytes;
        const int8_t *below = logits + (size_t)rows[1] * logits_row_bytes;
        for (int x = -1; x < width; x++) {
            const int left = x < 0 ? 0 : x, right = x + 1 < width ? x + 1 : width - 1;
            const uint8_t corner_winners[4] = {top[left], top[right], bottom[left], bottom[right]};
            const int winner = corner_winners[0];
            if (winner == corner_winners[1] && winner == corner_winners[2] && winner == corner_winners[3]) continue;
            cell.mask = first + begin[x + 1];
            cell.columns = begin[x + 2] - begin[x + 1];
            if (cell.columns == 0) continue;
            at.x = share_of(&across, begin[x + 1], x);
            const int8_t *const corners[4] = {above + (size_t)left * classes, above + (size_t)right * classes,
                                              below + (size_t)left * classes, below + (size_t)right * classes};
            boundary(&cell, &at, corners, corner_winners, classes);
        }
    }
    return SEGQUANT_OK;
}

int segquant_expand(const int32_t *classes, int height, int width,
                    uint8_t *mask, int mask_height, int mask_width, size_t mask_row_bytes,
                    int resize, int32_t *scratch) {
    if (!classes || !mask || !scratch) return SEGQUANT_BAD_POINTER;
    const int wrong = check(height, width, mask_height, mask_width, mask_row_bytes, resize);
    if (wrong) return wrong;

    const axis down = nearest(axis_of(height, mask_height, resize)), across = nearest(axis_of(width, mask_width, resize));
    for (int x = 0; x <= width; x++) scratch[x] = begin_of(&across, x);
    for (int y = 0; y < height; y++, classes += width) {
        const int from = begin_of(&down, y), to = begin_of(&down, y + 1);
        if (from == to) continue;
        uint8_t *first = mask + (size_t)from * mask_row_bytes;
        for (int x = 0; x < width; x++) fill(first + scratch[x], (int)classes[x], scratch[x + 1] - scratch[x]);
        repeat(mask, mask_row_bytes, mask_width, from, to);
    }
    return SEGQUANT_OK;
}
