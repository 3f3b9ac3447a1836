"""Plain CPUs through XNNPACK, LiteRT's default delegate."""

from pipeline.nouns.target import Target

CPU = Target(
    name="cpu",
    title="CPU, LiteRT with XNNPACK",
    weights="int8",
    io=("uint8", "int8", "float32"),  # uint8 first: camera frames and MediaPipe plug in as they are
    source="LiteRT runs what its own converter writes",
)
