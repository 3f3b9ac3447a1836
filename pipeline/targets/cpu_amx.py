"""Intel's Xeons from the fourth generation on, whose tiles (AMX) XNNPACK uses for int8 convolutions.

A first convolution of 3 channels fills 3 of a tile's 64 columns, and takes 2.9 times as long as with the vector unit
(VNNI) of the same machine. In groups of 4 pixels it takes 0.56 of that, and Fast-SCNN at 360x480 to the logits of
stride 8 takes 0.84. Without AMX the convolution takes 1.38 times as long with the same change, which is why `cpu`
leaves it. Measured on one machine, one thread, interleaved, CPU time of the thread; AMX switched off by refusing its
permission (arch_prctl).
"""

from __future__ import annotations

import dataclasses

from pipeline.rewrites.camera import PIXELS_AS_CHANNELS
from pipeline.targets.cpu import CPU

CPU_AMX = dataclasses.replace(
    CPU, name="cpu-amx", title="Xeon with AMX, LiteRT with XNNPACK", rewrites=(*CPU.rewrites, PIXELS_AS_CHANNELS)
)
