"""The API's Prometheus metrics, in a registry of their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from springline import names
from springline.api.edge import METHODS
from springline.batching import Counts

OTHER_METHOD = "other"
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class HttpMetrics:
    """Requests by route and status, and how long they took."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            names.METRIC_HTTP_REQUESTS, "HTTP requests answered.", ["method", "route", "status"], registry=registry
        )
        self._seconds = Histogram(
            names.METRIC_HTTP_SECONDS,
            "Time to answer an HTTP request, in seconds.",
            ["method", "route"],
            buckets=_BUCKETS,
            registry=registry,
        )

    def record(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request.

        `route` is the template, never the path, and an unknown method is `other`: callers must not be able to create
        labels.
        """
        method = method if method in METHODS else OTHER_METHOD
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)


class CoalescerCollector(Collector):
    """Shows the counts of this process's coalescers, added up; register it with a `CollectorRegistry`."""

    def __init__(self, *counts: Counts) -> None:
        self._counts = counts

    def collect(self) -> Iterable[Metric]:
        """Yield the counts as they are now."""
        total = {name: sum(getattr(one, name) for one in self._counts) for name in _COALESCED}
        for name, (metric, text) in _COALESCED.items():
            yield CounterMetricFamily(metric, text, value=total[name])


_COALESCED = {
    "requests": (names.METRIC_COALESCED_REQUESTS, "Requests to sequencers taken."),
    "batches": (names.METRIC_COALESCED_BATCHES, "Batches sent to sequencers."),
    "retries": (names.METRIC_COALESCED_RETRIES, "Batches without an answer, sent again."),
    "failed": (names.METRIC_COALESCED_FAILED, "Requests that failed alone, by an error nobody foresaw."),
    "expired": (names.METRIC_COALESCED_EXPIRED, "Requests without an answer in time."),
}


class ReadsCollector(Collector):
    """Shows how reads of published states went; `counts` are those of a `PublishedReader`."""

    def __init__(self, counts: Mapping[str, int]) -> None:
        self._counts = counts

    def collect(self) -> Iterable[Metric]:
        """Yield the counts as they are now."""
        family = CounterMetricFamily(
            names.METRIC_PUBLISHED_READS, "Reads of published states, by what they cost.", labels=["how"]
        )
        for how in ("held", "advanced", "loaded"):
            family.add_metric([how], self._counts.get(how, 0))
        yield family
