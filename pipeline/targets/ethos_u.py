"""Arm's Ethos-U NPUs, compiled by Vela: one target per generation, of any size that it is built in.

The size is the number of multiply-accumulates (MACs) a cycle: `ethos-u55` has 256, `ethos-u55:128` has 128. What an NPU
takes of an op depends on its generation alone. Vela's estimates assume the same clock and memory at every size.
"""

from __future__ import annotations

import dataclasses

from pipeline.compilers.vela import COMPILED_OP, Configuration, ask_with, compile_with, missing
from pipeline.compilers.vela_rules import SOURCE, U55, U85
from pipeline.core.rewrite import Rewrite
from pipeline.core.rules import Rules
from pipeline.core.target import Target
from pipeline.rewrites.padding import PADDING_FOLDED
from pipeline.rewrites.pools import POOL_AS_DEPTHWISE, POOL_AS_MEAN
from pipeline.rewrites.resizes import INNER_RESIZE_AS_PRODUCTS, RESIZE_AS_PRODUCTS, RESIZE_CHAIN

DEFAULT_MACS = 256
SUFFIX = "_vela.tflite"
U55_MACS, U65_MACS, U85_MACS = (32, 64, 128, 256), (256, 512), (128, 256, 512, 1024, 2048)
"""As `vela --help` lists them, version 5.2.0."""


def family(
    generation: int,
    sizes: tuple[int, ...],
    rules: Rules,
    system: str,
    memory: str,
    resize: Rewrite = RESIZE_AS_PRODUCTS,
) -> Target:
    """The target of a generation at 256 MACs a cycle, which knows those of the other sizes."""
    configurations = {
        str(macs): npu(macs, Configuration(f"ethos-u{generation}-{macs}", system, memory), rules, resize)
        for macs in sizes
    }
    return dataclasses.replace(configurations[str(DEFAULT_MACS)], configurations=configurations)


def npu(macs: int, configuration: Configuration, rules: Rules, resize: Rewrite) -> Target:
    accelerator = configuration.accelerator
    name = accelerator.removesuffix(f"-{macs}")
    suffix = SUFFIX if macs == DEFAULT_MACS else f"_{accelerator}{SUFFIX}"
    return Target(
        name=name,
        title=f"Arm {name.title()}, {macs} MACs a cycle",
        weights="int8",
        io=("int8", "uint8"),
        source=SOURCE,
        rules=rules,
        rewrites=(PADDING_FOLDED, POOL_AS_MEAN, POOL_AS_DEPTHWISE, resize),
        # By Vela's estimate Fast-SCNN at 360x480 takes 1.6 (U55) and 2.1 times (U65) as many cycles with the chain as
        # with the products, and less SRAM, 2330 in place of 3712 KiB and 1690 in place of 2094.
        approximations=(RESIZE_CHAIN,) if resize is RESIZE_AS_PRODUCTS else (),
        ask=ask_with(configuration),
        missing=missing,
        compile=compile_with(configuration, suffix),
        compiled_suffix=SUFFIX,
        variant_suffix=suffix,
        compiled_ops=(COMPILED_OP,),
        aliases=("ethos", "ethos-u", "microcontroller", "mcu", "vela"),
    )


ETHOS_U55 = family(55, U55_MACS, U55, "Ethos_U55_High_End_Embedded", "Shared_Sram")
ETHOS_U65 = family(65, U65_MACS, U55, "Ethos_U65_High_End", "Dedicated_Sram")
# By Vela's estimate the last resize as products takes seven times as long as all the rest of Fast-SCNN at 360x480 where
# memory is so small; the inner ones save a tenth.
ETHOS_U85 = family(85, U85_MACS, U85, "Ethos_U85_SYS_DRAM_Mid", "Dedicated_Sram_384KB", INNER_RESIZE_AS_PRODUCTS)
