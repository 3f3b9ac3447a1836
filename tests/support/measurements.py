"""A measurement as `bench` writes it, made by hand: timing one would take half a minute."""

from __future__ import annotations

from typing import Any

from pipeline.core.measurement import FileMeasurement, Latency, Measurement
from pipeline.core.score import Score

MACHINE = {"device": "host", "cpu": "a cpu", "cores": 2, "runtime": "LiteRT", "threads": 1}


def measured(
    percent: float | None = 66.0, median_ms: float | None = 3.0, sha256: str = "a" * 64, **more: Any
) -> Measurement:
    """Of five classes; ``more``: other fields of the measurement."""
    score = None if percent is None else Score(percent, 90.0, dict.fromkeys("abcde", percent), (), 5)
    latency = None
    if median_ms is not None:
        latency = Latency(median_ms, median_ms, 1.0, 9.0, 4.0, 5.0, 9, 3, 3, 1, True, 1, 1.0, 1.0, 0.0, ())
    file = FileMeasurement("artifacts/cpu/x.tflite", sha256, 1000, "XNNPACK", score, latency, None)
    fields = {
        "when": "2026-01-02T03:04:05+00:00", "target": "cpu", "protocol": {}, "machine": {**MACHINE, "load": 3},
        "machine_after": {}, "data": "camvid:a", "split": "val", "images": 5, "parent": file, "artifact": file,
        "speedup": None, "against": None, "against_ratio": None, "sweep": (), "drop_points": 0.5,
        "agreement_percent": 99.0, "on_host": None, "notes": (), "of_images": 5, "images_sha256": "d" * 64, **more,
    }  # fmt: skip
    return Measurement(**fields)
