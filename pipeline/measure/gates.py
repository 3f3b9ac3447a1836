"""Limits that a measurement must keep."""

from __future__ import annotations

from pipeline.core.errors import DeviceError, GateFailed
from pipeline.core.measurement import Measurement


def check_gates(measurement: Measurement, max_drop: float | None, max_latency_ms: float | None) -> None:
    """Raises GateFailed with a sentence for each limit that the artifact is beyond; DeviceError where it is unknown.

    What is no number keeps no limit.
    """
    if measurement.unfinished:
        raise DeviceError(f"{measurement.unfinished} What was measured until then is kept.")
    assert measurement.artifact.latency
    failed = []
    if max_drop is not None and not measurement.drop_points <= max_drop:
        failed.append(f"the drop is {measurement.drop_points:.2f} points, and the limit is {max_drop:g}")
    median = measurement.artifact.latency.median_ms
    if max_latency_ms is not None and not median <= max_latency_ms:
        failed.append(f"the median latency is {median:.2f} ms, and the limit is {max_latency_ms:g} ms")
    if failed:
        raise GateFailed(f"gate failed: {'; '.join(failed)} ({measurement.artifact.file}).")
