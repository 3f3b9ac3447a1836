"""Android's Neural Networks API, feature level 29 (Android 10) and newer for int8."""

from pipeline.nouns.target import Target

NNAPI = Target(
    name="nnapi",
    title="NNAPI, Android 10 to 14",
    weights="int8",
    io=("int8", "uint8", "float32"),
    source="tflite/delegates/nnapi/nnapi_delegate.cc, Validate",
    advice=(
        "NNAPI is deprecated since Android 15: for new devices use --target gpu, or the chip vendor's own compiler."
    ),
)
