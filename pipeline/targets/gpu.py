"""Phone GPUs. They compute in 16-bit floats, so the weights are float16 and the graph comes from the float network."""

from pipeline.nouns.target import Target

GPU = Target(
    name="gpu",
    title="GPU delegate, float16 weights",
    weights="float16",
    io=("float32",),
    source="LiteRT runs what its own converter writes",
)
