"""Intel's Xeons from the fourth generation on, whose tiles (AMX) XNNPACK uses for int8 convolutions.

A first convolution of 3 channels fills only 3 of a tile's 64 columns, and takes 2.9 times its time on the vector unit
(VNNI) of the same machine. Over groups of 4 pixels its time on AMX falls to 0.56 of that, and that of Fast-SCNN at
360x480 to the logits of stride 8 to 0.84. Without AMX the same change makes the convolution 1.38 times slower, so
`cpu` does not make it. Measured on one machine: one thread, interleaved, CPU time of the thread; AMX switched off by
refusing its permission (arch_prctl).
"""

from __future__ import annotations

import dataclasses

from pipeline.rewrites.camera import PIXELS_AS_CHANNELS
from pipeline.targets.cpu import CPU

CPU_AMX = dataclasses.replace(
    CPU,
    name="cpu-amx",
    title="Xeon with AMX, LiteRT with XNNPACK",
    rewrites=(*CPU.rewrites, PIXELS_AS_CHANNELS),
    aliases=("amx", "xeon"),
)
