"""The workspace that the sequencer's tests play in: its scope, its events, and how they come into a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from springline.ledger.envelope import compose_event, payload_from
from springline.ledger.request import AppendMode, AppendRequest, NewEvent
from springline.paths import Scope, canonical_ulid_event
from springline.projection.config import FoldConfig
from springline.storage.memory import MemoryStore
from springline.storage.port import ObjectStore
from springline.storage.scoped import ScopedStore
from springline.ulids import RANDOM_BITS, new_ulid, nth_ulid

SCOPE = Scope("acme", "prod")
CONFIG = FoldConfig("acme", "prod")
NOW_MS = 1_736_900_000_000


def scoped(store: ObjectStore) -> ScopedStore:
    """Return the workspace's part of a store."""
    return ScopedStore(store, SCOPE)


def event_id(number: int, *, at_ms: int = NOW_MS) -> str:
    """Return the event id with this number: ids ascend with it, and are the same in every run."""
    return nth_ulid(new_ulid(None, at_ms, 1 << RANDOM_BITS - 1), number)


def request_id(number: int) -> str:
    """Return the request id with this number, a UUIDv7."""
    return f"01946b1c-0000-7000-8000-{number:012x}"


def triggered(run: str, **more: Any) -> dict[str, Any]:
    """Return the payload by which a run begins."""
    trigger = {"type": "manual", "user_id": "ada"}
    return {
        "type": "run_triggered",
        "run_id": run,
        "plan_id": f"plan-{run}",
        "trigger": trigger,
        "root_assets": [],
    } | more


def planned(run: str, *tasks: str) -> dict[str, Any]:
    """Return the payload that plans tasks, each depending on the one before it."""
    listed = [{"key": task, "depends_on": list(tasks[n - 1 : n])} for n, task in enumerate(tasks)]
    return {"type": "plan_created", "run_id": run, "plan_id": f"plan-{run}", "tasks": listed}


def started(run: str, task: str, attempt: int = 1) -> dict[str, Any]:
    """Return the payload by which an attempt begins."""
    return {"type": "task_started"} | _attempt(run, task, attempt)


def finished(run: str, task: str, outcome: str = "succeeded", attempt: int = 1) -> dict[str, Any]:
    """Return the payload by which an attempt ends."""
    return {"type": "task_finished", "outcome": outcome} | _attempt(run, task, attempt)


def _attempt(run: str, task: str, attempt: int) -> dict[str, Any]:
    return {
        "run_id": run,
        "task_key": task,
        "attempt": attempt,
        "attempt_id": f"{run}-{task}-{attempt}",
        "worker_id": "worker-1",
    }


def body_of(number: int, data: Mapping[str, Any], *, at_ms: int = NOW_MS, **more: Any) -> bytes:
    """Return the bytes of event `number` with this payload."""
    ident = event_id(number, at_ms=at_ms)
    return compose_event(
        payload_from(dict(data)), event_id=ident, timestamp_ms=at_ms, tenant="acme", workspace="prod", **more
    )


def seed_event(store: MemoryStore, body: bytes, ident: str | None = None) -> str:
    """Put an event into the ledger as another implementation would; return its path."""
    path = canonical_ulid_event(ident or orjson.loads(body)["event_id"])
    store.seed(SCOPE.full(path), body)
    return path


def ask(number: int, *payloads: Mapping[str, Any], mode: AppendMode = AppendMode.ALL) -> AppendRequest:
    """Return the append request with this number."""
    events = [NewEvent(data=dict(p)) for p in payloads]
    return AppendRequest(request_id=request_id(number), events=events, mode=mode)


def ask_each(number: int, *payloads: Mapping[str, Any]) -> AppendRequest:
    """Return the append request with this number whose events are taken each by itself."""
    return ask(number, *payloads, mode=AppendMode.EACH)


def linear_run(run: str, tasks: Sequence[str]) -> list[dict[str, Any]]:
    """Return the payloads of a whole run whose tasks all succeed one after the other."""
    payloads = [triggered(run), planned(run, *tasks)]
    for task in tasks:
        payloads += [started(run, task), finished(run, task)]
    return payloads
