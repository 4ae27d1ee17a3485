"""Events of all types over few ids, so that they meet: mostly wrong, often almost right, sometimes what comes next."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from springline.ledger.envelope import InvalidPayload, payload_from
from springline.ledger.events import derived_key
from springline.ledger.identifiers import run_id_of_key
from springline.ledger.request import NewEvent
from springline.projection.state import State
from tests.control import payloads as p

CHUNK_KEYS = ("backfill:b:chunk:0", "backfill:b:chunk:1")
RUN_KEYS = ("k1", "k2", "r1", *CHUNK_KEYS)
RUNS = ("r1", "r2", "r:1", *(run_id_of_key("acme", "prod", key, b"") for key in ("k1", *CHUNK_KEYS)))
TASKS = ("a", "b", "c", "a:1")

runs = st.sampled_from(RUNS)
run_keys = st.sampled_from(RUN_KEYS)
tasks = st.sampled_from(TASKS)
attempts = st.sampled_from((1, 1, 1, 2, 2, 3, 0))
outcomes = st.sampled_from(("succeeded", "failed", "failed", "skipped", "cancelled"))
errors = st.sampled_from((None, {"category": "TIMEOUT", "message": "m"}, {"category": "CONFIGURATION", "message": "m"}))
evals = st.sampled_from(("e1", "e2", "e3"))
maybe_id = st.sampled_from((None, None, None, "x"))


@st.composite
def _of_attempt(draw: st.DrawFn) -> dict[str, Any]:
    of: dict[str, Any] = {"task": draw(tasks), "attempt": draw(attempts), "run": draw(runs)}
    kind = draw(st.sampled_from(("started", "heartbeat", "finished", "completed", "output", "dispatched", "sent")))
    attempt_id = draw(maybe_id)
    more: dict[str, Any] = {} if attempt_id is None or kind == "sent" else {"attempt_id": attempt_id}
    if kind in ("finished", "completed"):
        error = draw(errors)
        ended: dict[str, Any] = getattr(p, kind)(
            draw(outcomes), **of, **more, **({} if error is None else {"error": error})
        )
        return ended
    if kind == "output":
        return p.output(draw(st.sampled_from(("pending", "visible", "failed"))), **of, **more)
    made: dict[str, Any] = getattr(p, kind)(**of, **more)
    return made


plans = st.builds(
    lambda run, listed, most: p.planned(run) | {"tasks": [task | {"max_attempts": most} for task in listed]},
    runs,
    st.lists(
        st.builds(lambda key, waits: {"key": key, "depends_on": waits}, tasks, st.lists(tasks, max_size=2)), max_size=3
    )
    | st.sampled_from(
        (
            [{"key": "a", "depends_on": []}],
            [{"key": "a", "depends_on": []}, {"key": "b", "depends_on": ["a"]}],
            [{"key": "a", "depends_on": []}, {"key": "b", "depends_on": []}, {"key": "c", "depends_on": ["a", "b"]}],
        )
    ),
    st.sampled_from((0, 1, 2, 3)),
)
sources = st.sampled_from(
    (None, p.of_sensor("e1"), p.of_sensor("e2"), p.of_sensor("e3"), p.of_chunk(0), p.of_chunk(1), p.of_tick())
)
evaluations = st.builds(
    lambda eval_id, cursor, version, asked, message, status: p.evaluated(
        eval_id,
        cursor,
        run_requests=[p.run_request(key, fingerprint) for key, fingerprint in asked],
        trigger_source={"source": "push", "message_id": message},
        status={"status": status},
        **({} if version is None else {"expected_state_version": version}),
    ),
    evals,
    st.sampled_from((None, "c1", "c2")),
    st.sampled_from((None, 0, 1)),
    st.lists(st.tuples(run_keys, st.sampled_from("fg")), max_size=2),
    st.sampled_from(("m1", "m2", "m3", "m4")),
    st.sampled_from(("triggered", "no_new_data", "skipped_stale_cursor")),
)
timer_ids = st.sampled_from(("t", "timer:retry:r1:a:1:100", "timer:cron:s:100", "timer:cron:s:99999999999999"))
backfill_states = st.sampled_from(("PENDING", "RUNNING", "PAUSED", "SUCCEEDED", "FAILED", "CANCELLED"))

payloads: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.builds(p.triggered, runs, st.none() | run_keys),
    plans,
    st.builds(p.cancelled, runs),
    _of_attempt(),
    _of_attempt(),
    st.builds(p.timer, st.sampled_from(("timer_requested", "timer_enqueued", "timer_fired")), timer_ids),
    st.builds(p.schedule, st.booleans()),
    st.builds(lambda key: p.tick(run_key=key), st.none() | run_keys),
    evaluations,
    st.builds(p.requested, run_keys, st.sampled_from("fg"), sources),
    st.builds(lambda size, request: p.backfill(chunk_size=size, client_request_id=request), st.integers(0, 2), evals),
    st.builds(p.chunk, st.integers(0, 1)) | st.builds(lambda key: p.chunk(run_key=key), run_keys),
    st.builds(p.backfill_state, backfill_states, backfill_states, st.integers(2, 4)),
    st.builds(p.hold, st.booleans(), evals),
    st.builds(p.sensor_change, st.sampled_from(("paused", "resumed", "reset", "cursor_set")), evals),
    st.builds(p.message, st.sampled_from(("m1", "m2", "m3"))),
    st.builds(p.chunk_ended, outcomes, st.integers(0, 1)),
    st.builds(p.noted, st.sampled_from(("late_end", "lost")), tasks, attempts, runs),
    st.just({"type": "something_new"}),
)


def next_moves(state: State) -> list[dict[str, Any]]:
    """Return events that would bring something in the state forward, and some that just miss it."""
    moves = [p.triggered(run) for run in ("r1", "r2") if state.run(run) is None]
    for family in state.families.of.values():
        run = family.run
        if run is None:
            continue
        if not family.tasks:
            moves.append(p.cancelled(run.run_id))
            moves += [p.planned(run.run_id, a="", b="a"), p.planned(run.run_id, a="", b="", c="a b")]
        elif run.state == "RUNNING":
            moves.append(p.cancelled(run.run_id))
        for task in family.tasks.values():
            of: dict[str, Any] = {"task": task.task_key, "run": run.run_id}
            now: dict[str, Any] = {"attempt": task.attempt, "attempt_id": task.attempt_id or "x"}
            due = task.attempt + 1
            moves += [p.dispatched(attempt=due, **of), p.started(attempt=due, **of)]
            moves += [p.sent(attempt=n, **of) for n in (task.attempt, due)]
            if task.attempt:
                moves += [p.started(**of, **now), p.finished("failed", **of, **now), p.completed("failed", **of, **now)]
                moves += [p.finished(**of, **now), p.completed(**of, **now)]
                moves += [p.output("visible", **of, **now)]
    for row in state.run_keys.rows.values():
        moves += [p.triggered(row.run_id, run_key=row.run_key), p.triggered("r9", run_key=row.run_key)]
    if not state.backfills.rows:
        moves.append(p.backfill())
    for backfill in state.backfills.rows.values():
        moves += [p.chunk(0), p.chunk(1), p.requested(CHUNK_KEYS[0], source=p.of_chunk(0))]
        moves.append(p.backfill_state(backfill.state, "PAUSED", backfill.state_version + 1))
        moves.append(p.backfill_state(backfill.state, "RUNNING", backfill.state_version + 1))
    moves += [p.tick(), p.tick(1_736_935_300, status={"status": "skipped", "reason": "paused"})]
    moves += [p.requested("k1"), p.triggered("r8", run_key="k1"), p.chunk(0, "b2"), p.evaluated("e1")]
    for sensor in state.sensors.rows.values():
        version = sensor.state_version
        moves.append(p.evaluated("e2", "c2", expected_state_version=version, run_requests=[p.run_request()]))
        moves.append(p.evaluated("e3", "c3", expected_state_version=version + 1))
        moves.append(p.requested("k3", source=p.of_sensor("e3")))
    return moves


@st.composite
def events(draw: st.DrawFn, state: State, keys: bool = True) -> NewEvent:
    """Draw an event; one in five comes with a key, mostly one that belongs to something else."""
    data = draw(st.one_of(payloads, st.sampled_from(next_moves(state) or [p.triggered("r1")])))
    key = None
    if keys and draw(st.integers(0, 4)) == 0:
        key = draw(st.sampled_from(("mine", "mine too")) | payloads.map(_key_of) | runs.map(_repair_of))
    return NewEvent(data=data, idempotency_key=key)


def _key_of(data: dict[str, Any]) -> str:
    try:
        return derived_key(payload_from(data))
    except InvalidPayload:
        return "unknown"


def _repair_of(run: str) -> str:
    return f"cancel_req:{run}:plan:01JHMPDTN0000AQKFF00000001"
