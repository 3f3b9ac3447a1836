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

typedef struct {
    uint8_t *mask; /* the first pixel */
    size_t row_bytes;
    int rows, columns;
    place at; /* of the first pixel */
    const int8_t *corners[4]; /* their logits: top left, top right, bottom left, bottom right */
    uint8_t winners[4];
} cell;

/* The lead of class k over class a, from that column of the cell on. */
static plane lead_of(const cell *c, int column, int k, int a) {
    const int tl = c->corners[0][k] - c->corners[0][a], tr = c->corners[1][k] - c->corners[1][a];
    const int bl = c->corners[2][k] - c->corners[2][a], br = c->corners[3][k] - c->corners[3][a];
    const place *at = &c->at;
    const int64_t x = at->x + column * at->x_step;
    const int64_t left = at->y_den * tl + at->y * (bl - tl), right = at->y_den * tr + at->y * (br - tr);
    const int64_t left_down = at->y_step * (bl - tl), right_down = at->y_step * (br - tr);
    plane p;
    p.value = left * at->x_den + x * (right - left);
    p.right = at->x_step * (right - left);
    p.down = left_down * at->x_den + x * (right_down - left_down);
    p.both = at->x_step * (right_down - left_down);
    return p;
}

/* A boundary cell is computed so many columns at once, so that the compiler can keep a row of them in a vector. */
#define COLUMNS 8

static void copy(uint8_t *to, const uint8_t *winners, int count) {
    if (count >= COLUMNS) memcpy(to, winners, COLUMNS);
    else memcpy(to, winners, (size_t)count);
}

/* Sums are unsigned: what the columns past a cell's end would overflow is not looked at.
 * Choices are made with masks of bits, and what is added up from row to row lies in memory by class: of conditionals, and of
 * sums in the innermost loop, GCC 11 and 12 made vectors at -O3 that gave other classes, with both sanitizers silent. */
#define ALL_BITS_IF_NEGATIVE(BITS, sum) (0 - (uint##BITS##_t)((sum) >> (BITS - 1)))

/* Where the lead of the second class over the first is positive, it wins. */
#define TWO_CLASSES(BITS) \
    static void two_classes_##BITS(const cell *c, int first, int second) { \
        const uint##BITS##_t change = (uint##BITS##_t)(first ^ second); \
        for (int left = 0; left < c->columns; left += COLUMNS) { \
            const plane lead = lead_of(c, left, first, second); /* negative where the second wins */ \
            uint##BITS##_t value[COLUMNS], gain[COLUMNS]; \
            uint8_t *row = c->mask + left; \
            for (int x = 0; x < COLUMNS; x++) { \
                value[x] = (uint##BITS##_t)(lead.value + x * lead.right); \
                gain[x] = (uint##BITS##_t)(lead.down + x * lead.both); \
            } \
            for (int y = 0; y < c->rows; y++, row += c->row_bytes) { \
                uint8_t winners[COLUMNS]; \
                for (int x = 0; x < COLUMNS; x++) { \
                    winners[x] = (uint8_t)((unsigned)first ^ (change & ALL_BITS_IF_NEGATIVE(BITS, value[x]))); \
                    value[x] += gain[x]; \
                } \
                copy(row, winners, c->columns - left); \
            } \
        } \
    }

#define MANY_CLASSES(BITS) \
    static void many_classes_##BITS(const cell *c, const uint8_t *classes, int count) { \
        uint##BITS##_t value[255][COLUMNS], gain[255][COLUMNS]; /* of the leads of the later classes over the first */ \
        for (int left = 0; left < c->columns; left += COLUMNS) { \
            uint8_t *row = c->mask + left; \
            for (int i = 0; i < count - 1; i++) { \
                const plane lead = lead_of(c, left, classes[i + 1], classes[0]); \
                for (int x = 0; x < COLUMNS; x++) { \
                    value[i][x] = (uint##BITS##_t)(lead.value + x * lead.right); \
                    gain[i][x] = (uint##BITS##_t)(lead.down + x * lead.both); \
                } \
            } \
            for (int y = 0; y < c->rows; y++, row += c->row_bytes) { \
                uint##BITS##_t best[COLUMNS], winner[COLUMNS]; \
                uint8_t winners[COLUMNS]; \
                for (int x = 0; x < COLUMNS; x++) { \
                    best[x] = 0; \
                    winner[x] = classes[0]; \
                } \
                for (int i = 0; i < count - 1; i++) { \
                    for (int x = 0; x < COLUMNS; x++) { \
                        const uint##BITS##_t more = ALL_BITS_IF_NEGATIVE(BITS, best[x] - value[i][x]); \
                        best[x] ^= (best[x] ^ value[i][x]) & more; \
                        winner[x] ^= (winner[x] ^ classes[i + 1]) & more; \
                        value[i][x] += gain[i][x]; \
                    } \
                } \
                for (int x = 0; x < COLUMNS; x++) winners[x] = (uint8_t)winner[x]; \
                copy(row, winners, c->columns - left); \
            } \
        } \
    }

TWO_CLASSES(32)
TWO_CLASSES(64)
MANY_CLASSES(32)
MANY_CLASSES(64)

/* Whether 32 bits and a sign hold the lead of any class over any other, at every pixel of a cell. */
static int is_small(const axis *down, const axis *across) { return 255 * down->den <= INT32_MAX / across->den; }

static int least(int a, int b, int c, int d) {
    const int ab = a < b ? a : b, cd = c < d ? c : d;
    return ab < cd ? ab : cd;
}

static int most(int a, int b, int c, int d) {
    const int ab = a > b ? a : b, cd = c > d ? c : d;
    return ab > cd ? ab : cd;
}

static void boundary(const cell *c, int classes, int small) {
    const int8_t *tl = c->corners[0], *tr = c->corners[1], *bl = c->corners[2], *br = c->corners[3];
    uint8_t candidates[256];
    int floor = -128, count = 0;
    for (int i = 0; i < 4; i++) {
        const int k = c->winners[i], lowest = least(tl[k], tr[k], bl[k], br[k]);
        floor = lowest > floor ? lowest : floor;
    }
    /* A class that is nowhere as high as the floor, under which some other class never falls, wins nowhere. */
    for (int k = 0; k < classes; k++) {
        candidates[count] = (uint8_t)k;
        count += most(tl[k], tr[k], bl[k], br[k]) >= floor;
    }
    if (count == 2) (small ? two_classes_32 : two_classes_64)(c, candidates[0], candidates[1]);
    else (small ? many_classes_32 : many_classes_64)(c, candidates, count);
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
    const int small = is_small(&down, &across);
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

        const int8_t *above = logits + (size_t)rows[0] * logits_row_bytes;
        const int8_t *below = logits + (size_t)rows[1] * logits_row_bytes;
        for (int x = -1; x < width; x++) {
            const int left = x < 0 ? 0 : x, right = x + 1 < width ? x + 1 : width - 1;
            const int winner = top[left], columns = begin[x + 2] - begin[x + 1];
            if ((winner == top[right] && winner == bottom[left] && winner == bottom[right]) || columns == 0) continue;
            const cell c = {
                first + begin[x + 1], mask_row_bytes, to - from, columns,
                {share_of(&down, from, y), down.step, down.den, share_of(&across, begin[x + 1], x), across.step, across.den},
                {above + (size_t)left * classes, above + (size_t)right * classes,
                 below + (size_t)left * classes, below + (size_t)right * classes},
                {top[left], top[right], bottom[left], bottom[right]},
            };
            boundary(&c, classes, small);
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
