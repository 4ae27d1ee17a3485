"""Metrics of activities, beside the times of their steps; the worker's Prometheus endpoint serves them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from temporalio import activity

from activities.interceptor import each_heartbeat
from springline import names
from springline.delta.messages import RoundResult
from springline.errors import Code, Refusal
from springline.ledger.request import AppendOutcome, RefusedAppend
from springline.sequencer.messages import (
    AdmitOrder,
    Admitted,
    Folded,
    FoldOrder,
    GarbageReport,
    Published,
    PublishOrder,
    WorkspaceRef,
)
from springline.storage.port import StoreError, StoreUnknown
from springline.ulids import ulid_time_ms

_REFUSED_TEXT = "Events refused, by reason."


def count_round(result: RoundResult) -> None:
    """Count the answers that a reservation gave at once, and the reservations that it recovered."""
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
    """Count the requests of a kind that met an unforeseen error and were refused alone."""
    failed = sum(refusal is not None and refusal.code is Code.REQUEST_FAILED for refusal in refusals)
    if failed:
        counter = activity.metric_meter().create_counter(
            names.METRIC_REQUESTS_FAILED, "Requests refused alone, for an error nobody foresaw."
        )
        counter.add(failed, {"kind": kind})


@contextmanager
def shown_lag(order: FoldOrder | PublishOrder) -> Iterator[None]:
    """Show a workspace's lag while a step that ends it is under way in this process, anew with every heartbeat.

    Before and after, this process knows of no lag: a step that is retried elsewhere shows there.
    """
    pending = order.round
    first = None if pending.foreign or pending.first_event_id is None else ulid_time_ms(pending.first_event_id)
    since_ms = order.now_ms if first is None else first

    def show() -> None:
        _set_lag(order.workspace, pending.events, max(0.0, time.time() - since_ms / 1000))

    show()
    each_heartbeat(show)
    try:
        yield
    finally:
        _set_lag(order.workspace, 0, 0.0)


def _set_lag(workspace: WorkspaceRef, events: int, seconds: float) -> None:
    meter, labels = activity.metric_meter(), _labels(workspace)
    meter.create_gauge(names.METRIC_LEDGER_LAG_EVENTS, "Events kept and not visible.").set(events, labels)
    meter.create_gauge_float(names.METRIC_LEDGER_LAG_SECONDS, "Age of the oldest event that is not visible.").set(
        seconds, labels
    )


def count_admitted(order: AdmitOrder, admitted: Admitted) -> None:
    """Count the answers to append requests, and the events that are refused: with their requests, or each by itself."""
    meter = activity.metric_meter()
    requests = meter.create_counter(names.METRIC_LEDGER_REQUESTS, "Append requests answered, by result.")
    refused = meter.create_counter(names.METRIC_LEDGER_REFUSED_EVENTS, _REFUSED_TEXT)
    count_failed("append", (one for answer in admitted.answers for one in (answer.refusal, *_newly_refused(answer))))
    for asked, answer in zip(order.requests, admitted.answers, strict=True):
        for one in _newly_refused(answer):
            refused.add(1, {"reason": one.code.value})
        if answer.refusal is not None:
            requests.add(1, {"result": "refused"})
            refused.add(len(asked.events), {"reason": answer.refusal.code.value})
        else:
            requests.add(1, {"result": "replayed" if answer.replayed else "accepted"})


def _newly_refused(answer: AppendOutcome) -> list[RefusedAppend]:
    """Return the events that were refused by themselves, once: not those of an answer that is given again."""
    return [] if answer.replayed else answer.refused


def count_foreign(admitted: Admitted) -> None:
    """Count the foreign events that are refused."""
    refused = activity.metric_meter().create_counter(names.METRIC_LEDGER_REFUSED_EVENTS, _REFUSED_TEXT)
    for answer in admitted.foreign_answers:
        for one in answer.refused:
            refused.add(1, {"reason": one.reason.value})


def count_folded(folded: Folded) -> None:
    """Record how long folding a round took: processor and store."""
    meter = activity.metric_meter()
    meter.create_histogram(names.METRIC_LEDGER_ROUND_STORE_REQUESTS, "Requests to the store to fold one round.").record(
        folded.store_requests
    )
    # The SDK's durations are whole milliseconds, in which most rounds are folded twice over.
    meter.create_histogram_float(
        names.METRIC_LEDGER_FOLD_SECONDS, "Time of folding one round's events, without the store.", "seconds"
    ).record(folded.fold_seconds, {"kind": folded.kind})


def count_published(order: PublishOrder, published: Published) -> None:
    """Count a round that is visible, or a publish that lost to another writer."""
    meter = activity.metric_meter()
    if published.kind == "lost":
        count_publish_retry("lost")
        return
    folded = order.folded
    meter.create_counter(names.METRIC_LEDGER_ROUNDS, "Rounds published, by form.").add(1, {"kind": folded.kind})
    meter.create_histogram(names.METRIC_LEDGER_ROUND_EVENTS, "Events that shared a round.").record(order.round.events)
    events = meter.create_counter(names.METRIC_LEDGER_EVENTS, "Events folded and published, by origin and outcome.")
    for outcome, count in folded.outcomes.items():
        events.add(count, {"origin": "foreign" if order.round.foreign else "own", "outcome": outcome.value})
    if folded.refolded_events:
        meter.create_counter(names.METRIC_LEDGER_REFOLDED_EVENTS, "Events folded again for late ones.").add(
            folded.refolded_events
        )


@contextmanager
def publishing(order: PublishOrder) -> Iterator[None]:
    """Show the lag while a round is published, and count a publish that the store makes try again."""
    with shown_lag(order):
        try:
            yield
        except StoreError as error:
            count_publish_retry("unknown" if isinstance(error, StoreUnknown) else "store")
            raise


def count_publish_retry(cause: str) -> None:
    """Count a publish that did not move the pointer."""
    activity.metric_meter().create_counter(
        names.METRIC_LEDGER_PUBLISH_RETRIES, "Publishes that have to be done again, by cause."
    ).add(1, {"cause": cause})


def count_marked(report: GarbageReport) -> None:
    """Count the objects that were marked as garbage."""
    _count_garbage({"marked": report.marked})


def count_swept(report: GarbageReport) -> None:
    """Count the objects that a sweep deleted or emptied, and those it kept after all."""
    _count_garbage({"deleted": report.deleted, "emptied": report.emptied, "kept": report.kept})


def _count_garbage(counts: dict[str, int]) -> None:
    counter = activity.metric_meter().create_counter(
        names.METRIC_LEDGER_GARBAGE_OBJECTS, "Objects marked as garbage, deleted, emptied, or kept after all."
    )
    for step, count in counts.items():
        counter.add(count, {"step": step})


def _labels(workspace: WorkspaceRef) -> dict[str, str | int | float | bool]:
    return {"tenant": workspace.tenant, "workspace": workspace.workspace}
