"""Arm Ethos-U85, compiled by Vela."""

from pipeline.nouns.target import Target
from pipeline.targets.ethos_rules import SOURCE, U85
from pipeline.targets.vela import ask_with, compile_with, missing

CONFIGURATION = (
    "--accelerator-config", "ethos-u85-256", "--system-config", "Ethos_U85_SYS_DRAM_Mid",
    "--memory-mode", "Dedicated_Sram_384KB",
)  # fmt: skip

ETHOS_U85 = Target(
    name="ethos-u85",
    title="Arm Ethos-U85, 256 MACs a cycle",
    weights="int8",
    io=("int8", "uint8"),
    source=SOURCE,
    rules=U85,
    ask=ask_with(*CONFIGURATION),
    missing=missing,
    compile=compile_with(*CONFIGURATION),
    compiled_suffix="_vela.tflite",
)
