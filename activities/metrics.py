"""What commit activities count and time; it comes out at the worker's Prometheus endpoint beside the SDK's metrics."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from temporalio import activity

from springline import names
from springline.delta.messages import RoundResult
from springline.errors import Code, Refusal


@contextmanager
def timed(
    step: str, metric: str = names.METRIC_STEP_SECONDS, text: str = "Time of one attempt of a commit step."
) -> Iterator[None]:
    """Time one attempt of a step, whatever its end."""
    began = time.perf_counter()
    try:
        yield
    finally:
        histogram = activity.metric_meter().create_histogram_timedelta(metric, text)
        histogram.record(timedelta(seconds=time.perf_counter() - began), {"step": step})


def count_round(result: RoundResult) -> None:
    """Count the answers a reservation gave at once, and what it recovered."""
    meter = activity.metric_meter()
    answers = meter.create_counter(names.METRIC_COMMITS, "Requests answered, by result.")
    for outcome in result.outcomes:
        answers.add(1, {"result": "refused" if outcome.refusal else "replayed"})
    count_failed("commit", (outcome.refusal for outcome in result.outcomes))
    recoveries = meter.create_counter(names.METRIC_RECOVERIES, "Reservations found in flight, by what became of them.")
    for settled in result.settled:
        recoveries.add(1, {"outcome": settled.kind})


def count_committed(members: int, mode: str) -> None:
    """Count a version whose markers are written, and its members."""
    meter = activity.metric_meter()
    meter.create_counter(names.METRIC_COMMITS, "Requests answered, by result.").add(members, {"result": "committed"})
    meter.create_counter(names.METRIC_ROUNDS, "Versions committed.").add(1, {"mode": mode})
    meter.create_histogram(names.METRIC_ROUND_MEMBERS, "Requests that shared a version.").record(members)


def count_failed(kind: str, refusals: Iterable[Refusal | None]) -> None:
    """Count the requests of a kind that met an error nobody foresaw and were refused alone."""
    failed = sum(refusal is not None and refusal.code is Code.REQUEST_FAILED for refusal in refusals)
    if failed:
        counter = activity.metric_meter().create_counter(
            names.METRIC_REQUESTS_FAILED, "Requests refused alone, for an error nobody foresaw."
        )
        counter.add(failed, {"kind": kind})
