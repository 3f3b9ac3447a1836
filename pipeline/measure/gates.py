"""Gates: limits that a measurement must keep."""

from __future__ import annotations

import dataclasses

from pipeline.core.errors import DeviceError, GateFailed
from pipeline.core.measurement import Gate, Measurement

DROP, LATENCY = "drop of mIoU in points", "median latency in ms"


def with_gates(measurement: Measurement, max_drop: float | None, max_latency_ms: float | None) -> Measurement:
    """The measurement with the limits that were asked for, and whether each is kept. What is no number keeps none."""
    asked = [(DROP, measurement.drop_points, max_drop)]
    if measurement.artifact.latency is not None:
        asked.append((LATENCY, measurement.artifact.latency.median_ms, max_latency_ms))
    gates = tuple(Gate(name, value, limit, value <= limit) for name, value, limit in asked if limit is not None)
    return dataclasses.replace(measurement, gates=gates)


def check_gates(measurement: Measurement, max_drop: float | None, max_latency_ms: float | None) -> None:
    """Raises GateFailed, which names each limit that the artifact exceeds, and DeviceError where timing is unfinished.

    NaN exceeds every limit.
    """
    if measurement.unfinished:
        raise DeviceError(f"{measurement.unfinished} What was measured until then is saved.")
    assert measurement.artifact.latency
    exceeded = []
    if max_drop is not None and not measurement.drop_points <= max_drop:
        exceeded.append(f"the drop is {measurement.drop_points:.2f} points, and the limit is {max_drop:g}")
    median = measurement.artifact.latency.median_ms
    if max_latency_ms is not None and not median <= max_latency_ms:
        exceeded.append(f"the median latency is {median:.2f} ms, and the limit is {max_latency_ms:g} ms")
    if exceeded:
        raise GateFailed(f"gate failed: {'; '.join(exceeded)} ({measurement.artifact.file}).")
