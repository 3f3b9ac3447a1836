"""Arm's Ethos-U NPUs, compiled by Vela: one target per generation, each at 256 multiply-accumulates a cycle."""

from __future__ import annotations

from pipeline.compilers.vela import COMPILED_OP, ask_with, compile_with, missing
from pipeline.compilers.vela_rules import SOURCE, U55, U85
from pipeline.core.rewrite import Rewrite
from pipeline.core.rules import Rules
from pipeline.core.target import Target
from pipeline.rewrites.padding import PADDING_FOLDED
from pipeline.rewrites.pools import POOL_AS_DEPTHWISE, POOL_AS_MEAN
from pipeline.rewrites.resizes import INNER_RESIZE_AS_PRODUCTS, RESIZE_AS_PRODUCTS, RESIZE_CHAIN


def npu(generation: int, rules: Rules, system: str, memory: str, resize: Rewrite = RESIZE_AS_PRODUCTS) -> Target:
    """``system`` and ``memory`` name sections of Vela's own configuration (Arm/vela.ini)."""
    accelerator = f"ethos-u{generation}-256"
    configuration = ("--accelerator-config", accelerator, "--system-config", system, "--memory-mode", memory)
    return Target(
        name=f"ethos-u{generation}",
        title=f"Arm Ethos-U{generation}, 256 MACs a cycle",
        weights="int8",
        io=("int8", "uint8"),
        source=SOURCE,
        rules=rules,
        rewrites=(PADDING_FOLDED, POOL_AS_MEAN, POOL_AS_DEPTHWISE, resize),
        # By Vela's estimate Fast-SCNN at 360x480 takes 1.6 (U55) and 2.1 times (U65) as many cycles with the chain as
        # with the products, and less SRAM, 2330 in place of 3712 KiB and 1690 in place of 2094.
        approximations=(RESIZE_CHAIN,) if resize is RESIZE_AS_PRODUCTS else (),
        ask=ask_with(*configuration),
        missing=missing,
        compile=compile_with(*configuration),
        compiled_suffix="_vela.tflite",
        compiled_ops=(COMPILED_OP,),
    )


ETHOS_U55 = npu(55, U55, "Ethos_U55_High_End_Embedded", "Shared_Sram")
ETHOS_U65 = npu(65, U55, "Ethos_U65_High_End", "Dedicated_Sram")
# By Vela's estimate the last resize as products takes seven times as long as all the rest of Fast-SCNN at 360x480 where
# memory is so small; the inner ones save a tenth.
ETHOS_U85 = npu(85, U85, "Ethos_U85_SYS_DRAM_Mid", "Dedicated_Sram_384KB", INNER_RESIZE_AS_PRODUCTS)
