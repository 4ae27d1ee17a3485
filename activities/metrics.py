"""Metrics of activities, beside the times of their steps; the worker's Prometheus endpoint serves them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta

import msgspec
from temporalio import activity

from activities.interceptor import each_heartbeat
from springline import names
from springline.control.backfills.messages import EvaluatedBackfill
from springline.control.repair import RepairLook, RepairLookOrder, RepairOrder, SeenAutomation
from springline.control.runs.messages import Launched, LaunchOrder, NotTaken, RecordOrder
from springline.control.schedules.messages import EvaluateOrder
from springline.control.sensors.messages import EvaluationOutcome
from springline.delta.messages import RoundResult
from springline.errors import Code, Refusal
from springline.ledger.events import ScheduleTicked
from springline.ledger.member import TickMember, member_of
from springline.ledger.nested import TickTriggered
from springline.ledger.request import AppendOutcome, RefusedAppend
from springline.ledger.timestamps import NS_PER_MS, parse_timestamp
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

RUNS_TEXT = "Runs, by the state that they have come to."
_ENDED = "task_completion_recorded"
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


def count_ticks(ticks: Iterable[ScheduleTicked], delays: Mapping[str, int | None], now_ms: int) -> None:
    """Count ticks of schedules that were recorded, and by how much those were late that asked for a run.

    `delays`: by how many seconds each schedule decides later by its definition; None for one that waits for runs.
    """
    meter = activity.metric_meter()
    counter = meter.create_counter(names.METRIC_SCHEDULE_TICKS, "Ticks of schedules recorded, by what became of them.")
    late = meter.create_histogram_timedelta(
        names.METRIC_SCHEDULE_LATE_SECONDS, "How long after its instant and jitter a run was asked for."
    )
    for tick in ticks:
        said = member_of(tick, TickMember)
        reason = (said.reason_code if said is not None else None) or ""
        status = str(msgspec.to_builtins(tick.status)["status"])
        counter.add(1, {"status": status, "reason": reason})
        delay_s = delays.get(tick.schedule_id, 0)
        if isinstance(tick.status, TickTriggered) and delay_s is not None:
            due_ms = parse_timestamp(tick.scheduled_for) // NS_PER_MS + delay_s * 1_000
            late.record(timedelta(milliseconds=max(0, now_ms - due_ms)))


def count_evaluation(outcome: EvaluationOutcome, late_ms: int | None) -> None:
    """Count an evaluation of a sensor, and by how much it was late, where that is known."""
    meter = activity.metric_meter()
    counter = meter.create_counter(names.METRIC_SENSOR_EVALUATIONS, "Evaluations of sensors, by what became of them.")
    counter.add(1, {"outcome": str(outcome)})
    if late_ms is not None:
        late = meter.create_histogram_timedelta(
            names.METRIC_SENSOR_LATE_SECONDS, "How long after it was due an evaluation of a sensor began."
        )
        late.record(timedelta(milliseconds=late_ms))


def note_pass(order: EvaluateOrder, worker: str) -> None:
    """Note that schedules were evaluated now; count it as a takeover if somebody else made the pass before."""
    meter, labels = activity.metric_meter(), {"tenant": order.tenant, "workspace": order.workspace}
    gauge = meter.create_gauge_float(names.METRIC_SCHEDULE_LAST_PASS, "When schedules were evaluated last.")
    gauge.set(time.time(), labels)
    cause = "start" if order.worker is None else "worker" if order.worker not in ("", worker) else None
    if cause is not None:
        counter = meter.create_counter(names.METRIC_TAKEOVERS, "Passes behind one of somebody else, or none, by cause.")
        counter.add(1, {"workflow": names.SCHEDULE_EVALUATOR, "cause": cause})


def count_chunks(done: EvaluatedBackfill) -> None:
    """Count the chunks of a backfill that a pass has planned, and those whose ends it has recorded."""
    counter = activity.metric_meter().create_counter(
        names.METRIC_BACKFILL_CHUNKS, "Chunks of backfills that were planned, and that ended, by outcome."
    )
    for what, count in {"planned": done.planned, **done.outcomes}.items():
        if count:
            counter.add(count, {"step": what})


def show_automation(order: RepairLookOrder, seen: SeenAutomation) -> None:
    """Show how the backfills and sensors of a workspace get on.

    Times are instants that only ever grow, so that of several workers the greatest is that of the last look.
    """
    meter = activity.metric_meter()
    labels: dict[str, str | int | float | bool] = {"tenant": order.tenant, "workspace": order.workspace}
    for name, text, count in (
        (
            names.METRIC_BACKFILL_OPEN_CHUNKS,
            "Chunks of backfills that are planned and have not ended.",
            seen.open_chunks,
        ),
        (names.METRIC_SENSOR_MESSAGES, "Messages that wait for their evaluation.", seen.messages),
    ):
        meter.create_gauge(name, text).set(count, labels)
    for name, text, at_ms in (
        (names.METRIC_BACKFILL_OLDEST_CHUNK, "When the oldest open chunk was planned.", seen.oldest_chunk_ms),
        (names.METRIC_BACKFILL_MOVED, "Up to when no backfill that should go on stood still.", seen.moved_ms),
        (names.METRIC_SENSOR_OLDEST_MESSAGE, "When the oldest message that waits came.", seen.oldest_message_ms),
        (names.METRIC_SENSOR_ON_TIME, "Up to when no sensor was late.", seen.on_time_ms),
    ):
        if at_ms is not None:
            meter.create_gauge_float(name, text).set(at_ms / 1_000, labels)


def count_findings(order: RepairLookOrder, look: RepairLook) -> None:
    """Note that a workspace was looked at now, and count what was found."""
    show_automation(order, look.automation)
    meter = activity.metric_meter()
    gauge = meter.create_gauge_float(names.METRIC_REPAIR_LAST_PASS, "When a workspace was looked at last.")
    gauge.set(time.time(), {"tenant": order.tenant, "workspace": order.workspace})
    counter = meter.create_counter(names.METRIC_REPAIR_FINDINGS, "What looks have found, by kind: once for each look.")
    for finding in look.findings:
        counter.add(1, {"kind": finding.kind.value})


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


def count_launched(order: LaunchOrder, launched: Launched) -> None:
    """Count the runs that a pass has started, and those that cannot be planned; show the requests that wait."""
    meter = activity.metric_meter()
    runs = meter.create_counter(names.METRIC_RUNS, RUNS_TEXT)
    for state, count in (("STARTED", launched.planned), ("REFUSED", launched.refused)):
        if count:
            runs.add(count, {"state": state})
    if order.run_keys is None:
        labels: dict[str, str | int | float | bool] = {"tenant": order.tenant, "workspace": order.workspace}
        meter.create_gauge(names.METRIC_REQUESTS_WAITING, "Requests without a run.").set(launched.waiting, labels)


def record_launch(requested_ms: int) -> None:
    """Record how long a run has waited that begins now. `requested_ms`: when it was requested, ms since 1970."""
    seconds = max(0.0, time.time() - requested_ms / 1e3)
    activity.metric_meter().create_histogram_timedelta(
        names.METRIC_LAUNCH_SECONDS, "Time from a request to its run."
    ).record(timedelta(seconds=seconds))


def count_attempts(order: RecordOrder, not_taken: Sequence[NotTaken]) -> None:
    """Count the ends of attempts that were recorded now, by outcome; those whose worker said nothing are lost."""
    ends: Counter[str] = Counter()
    missed = {one.index for one in not_taken}
    for index, event in enumerate(order.events):
        if event["type"] == _ENDED and index not in missed:
            is_lost = (event.get("springline") or {}).get("reason_code") == "attempt_lost"
            ends["lost" if is_lost else event["outcome"]] += 1
    counter = activity.metric_meter().create_counter(names.METRIC_ATTEMPTS, "Attempts that have ended, by outcome.")
    for outcome, count in ends.items():
        counter.add(count, {"outcome": outcome})


def count_repairs(order: RepairOrder, failed: Mapping[int, str]) -> None:
    """Count the repairs of an order by kind; `failed`: by their place, those that could not be made."""
    counter = activity.metric_meter().create_counter(names.METRIC_REPAIRS, "Repairs of workspaces, by kind.")
    for place, one in enumerate(order.repairs):
        counter.add(1, {"kind": one.finding.kind.value, "outcome": "failed" if place in failed else "made"})


def _labels(workspace: WorkspaceRef) -> dict[str, str | int | float | bool]:
    return {"tenant": workspace.tenant, "workspace": workspace.workspace}
