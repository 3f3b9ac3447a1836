"""Arm Ethos-U65, compiled by Vela."""

from pipeline.nouns.target import Target
from pipeline.targets.ethos_rules import SOURCE, U55
from pipeline.targets.vela import ask_with, compile_with, missing

CONFIGURATION = (
    "--accelerator-config", "ethos-u65-256", "--system-config", "Ethos_U65_High_End",
    "--memory-mode", "Dedicated_Sram",
)  # fmt: skip

ETHOS_U65 = Target(
    name="ethos-u65",
    title="Arm Ethos-U65, 256 MACs a cycle",
    weights="int8",
    io=("int8", "uint8"),
    source=SOURCE,
    rules=U55,
    ask=ask_with(*CONFIGURATION),
    missing=missing,
    compile=compile_with(*CONFIGURATION),
    compiled_suffix="_vela.tflite",
)
