/* The full-size mask of a segmentation network from its small int8 logits, exactly, and mostly without computing it.
 *
 * The mask is, for each pixel, the argmax over the classes, lowest index on ties, of the bilinear interpolation of the
 * logits, in integers: nothing is rounded anywhere. The order of int8 logits is that of the reals they stand for, so
 * scale and zero point are not needed.
 *
 * C99, no dependency, no heap, no global state, at most 17 KiB of stack, 33 KiB for masks of more than eight
 * megapixels: compile segquant_mask.c into the app, with -O2.
 */
#ifndef SEGQUANT_MASK_H
#define SEGQUANT_MASK_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* How samples lie on pixels, as the network was built: TensorFlow's align_corners or half_pixel_centers. */
#define SEGQUANT_ALIGN_CORNERS 0
#define SEGQUANT_HALF_PIXEL 1

#define SEGQUANT_OK 0
#define SEGQUANT_BAD_SIZE -1    /* a height or width outside 1 .. SEGQUANT_MAX_SIZE */
#define SEGQUANT_BAD_CLASSES -2 /* classes outside 1 .. 256 */
#define SEGQUANT_BAD_STRIDE -3  /* a row longer than the bytes from one row to the next */
#define SEGQUANT_BAD_RESIZE -4  /* neither of the two conventions */
#define SEGQUANT_BAD_POINTER -5 /* a null pointer */

#define SEGQUANT_MAX_SIZE 32768

/* Elements of the scratch array for logits of so many columns; a constant for a constant. */
#define SEGQUANT_MASK_SCRATCH(width) ((size_t)(width) + ((size_t)(width) + 1) / 2 + 2)

/* logits: [height][width][classes], logits_row_bytes from one row to the next; the network's own has width * classes.
 * mask: [mask_height][mask_width], mask_row_bytes from one row to the next; bytes between rows are left alone.
 *   It may be larger or smaller than the logits, by any factor; it may not overlap them.
 * scratch: SEGQUANT_MASK_SCRATCH(width) elements, in any state; not to be shared by calls that run at the same time.
 * Returns SEGQUANT_OK, or one of the errors above with nothing written.
 */
int segquant_mask(const int8_t *logits, int height, int width, int classes, size_t logits_row_bytes,
                  uint8_t *mask, int mask_height, int mask_width, size_t mask_row_bytes,
                  int resize, int32_t *scratch);

/* What the network's own argmax of fewer pixels needs: each pixel of the mask takes the class of the nearest sample, the
 * later one of two that are as near. classes: [height][width] without gaps, each in 0 .. 255. The rest as above.
 */
int segquant_expand(const int32_t *classes, int height, int width,
                    uint8_t *mask, int mask_height, int mask_width, size_t mask_row_bytes,
                    int resize, int32_t *scratch);

#ifdef __cplusplus
}
#endif

#endif
