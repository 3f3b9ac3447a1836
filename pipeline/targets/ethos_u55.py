"""Arm Ethos-U55, compiled by Vela."""

from pipeline.nouns.target import Target
from pipeline.targets.ethos_rules import SOURCE, U55
from pipeline.targets.vela import ask_with, compile_with, missing

CONFIGURATION = (
    "--accelerator-config", "ethos-u55-256", "--system-config", "Ethos_U55_High_End_Embedded",
    "--memory-mode", "Shared_Sram",
)  # fmt: skip

ETHOS_U55 = Target(
    name="ethos-u55",
    title="Arm Ethos-U55, 256 MACs a cycle",
    weights="int8",
    io=("int8", "uint8"),
    source=SOURCE,
    rules=U55,
    ask=ask_with(*CONFIGURATION),
    missing=missing,
    compile=compile_with(*CONFIGURATION),
    compiled_suffix="_vela.tflite",
)
