/* Calls segquant_mask on cases read from standard input, each array in memory of exactly its size, for the sanitizers.
 *
 * A case: int32 function (0: mask, 1: expand), height, width, classes, logits_row_bytes, mask_height, mask_width,
 * mask_row_bytes, resize; then the samples. The answer: int32 return code, then the mask, 0xAA where nothing was
 * written. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "segquant_mask.h"

int main(void) {
    int32_t n[9];
    while (fread(n, sizeof n, 1, stdin) == 1) {
        const size_t given = n[0] ? (size_t)n[1] * n[2] * 4 : (size_t)(n[1] - 1) * n[4] + (size_t)n[2] * n[3];
        const size_t made = (size_t)(n[5] - 1) * n[7] + (size_t)n[6];
        void *samples = malloc(given);
        uint8_t *mask = malloc(made);
        int32_t *scratch = malloc(SEGQUANT_MASK_SCRATCH(n[2]) * sizeof *scratch);
        if (!samples || !mask || !scratch || fread(samples, 1, given, stdin) != given) return 1;
        memset(mask, 0xAA, made);
        const int32_t code =
            n[0] ? segquant_expand(samples, n[1], n[2], mask, n[5], n[6], (size_t)n[7], n[8], scratch)
                 : segquant_mask(samples, n[1], n[2], n[3], (size_t)n[4], mask, n[5], n[6], (size_t)n[7], n[8], scratch);
        fwrite(&code, sizeof code, 1, stdout);
        fwrite(mask, 1, made, stdout);
        free(samples);
        free(mask);
        free(scratch);
    }
    return 0;
}
