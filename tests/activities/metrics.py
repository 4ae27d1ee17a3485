"""What activities record, kept for tests to look at."""

from __future__ import annotations

from typing import Any

from temporalio.runtime import (
    BufferedMetricUpdate,
    MetricBuffer,
    MetricBufferDurationFormat,
    Runtime,
    TelemetryConfig,
)

from tests.activities.environment import StepEnvironment


class Metrics:
    """What was recorded, by metric, with its labels."""

    def __init__(self) -> None:
        self._buffer = MetricBuffer(10_000, duration_format=MetricBufferDurationFormat.SECONDS)
        self._runtime = Runtime(telemetry=TelemetryConfig(metrics=self._buffer))
        self._seen: list[BufferedMetricUpdate] = []

    def environment(self) -> StepEnvironment:
        environment = StepEnvironment()
        environment.metric_meter = self._runtime.metric_meter
        return environment

    def of(self, name: str, **labels: Any) -> list[float]:
        """Return the values recorded under these labels, in order."""
        self._seen += self._buffer.retrieve_updates()
        return [
            update.value
            for update in self._seen
            if update.metric.name == name and labels.items() <= dict(update.attributes).items()
        ]

    def names(self) -> set[str]:
        self._seen += self._buffer.retrieve_updates()
        return {update.metric.name for update in self._seen}
