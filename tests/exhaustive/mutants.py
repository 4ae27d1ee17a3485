"""The guards of the protocol, each left out of the real code in turn.

A mutant that no history notices would mean that the guard is not needed, or that the enumeration is blind to what
it is for; each names the histories that notice it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import pytest

from activities import commit as steps
from springline import paths
from springline.commit import complete, reserve, table
from springline.commit.table import CommitTable, Reserved
from springline.delta import markers, rounds
from springline.delta.coordinator import Coordinator, Inflight
from springline.delta.markers import Marker, MarkerVerdict
from springline.delta.messages import CommitStep, LogKind, LogOutcome
from springline.storage.port import IfAbsent, ObjectStore, Stored
from springline.storage.resolve import Created, Other, Same, put_once
from tests.exhaustive.histories import After, Histories, Plan
from tests.exhaustive.plans import every_fault, every_fault_at_every_instant, every_interleaving

Patch = Callable[[pytest.MonkeyPatch], None]
Hunt = Callable[[Histories], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class Mutant:
    """A guard, how to leave it out, and in which histories of which scenario that shows."""

    guard: str
    patch: Patch
    scenario: str
    hunt: Hunt


_owner: ContextVar[bool] = ContextVar("owner", default=False)


def _blind(monkeypatch: pytest.MonkeyPatch, *, owner: bool) -> None:
    """Make the owner's step, or whoever else brings a log into being, find no marker before it is written."""
    original = complete.write_log

    async def as_owner(table: CommitTable, step: CommitStep) -> LogOutcome:
        token = _owner.set(True)
        try:
            return await original(table, step)
        finally:
            _owner.reset(token)

    def judged(inflight: Inflight, log_path: str, found: Sequence[Marker | None]) -> MarkerVerdict:
        return MarkerVerdict.ABSENT if _owner.get() is owner else markers.judge_markers(inflight, log_path, found)

    monkeypatch.setattr(steps, "write_log", as_owner)
    monkeypatch.setattr(complete, "judge_markers", judged)


def owner_reads_no_markers(monkeypatch: pytest.MonkeyPatch) -> None:
    _blind(monkeypatch, owner=True)


def helper_reads_no_markers(monkeypatch: pytest.MonkeyPatch) -> None:
    _blind(monkeypatch, owner=False)


def own_marker_makes_void(monkeypatch: pytest.MonkeyPatch) -> None:
    def judged(inflight: Inflight, log_path: str, found: Sequence[Marker | None]) -> MarkerVerdict:
        return MarkerVerdict.VOID if any(found) else MarkerVerdict.ABSENT

    monkeypatch.setattr(complete, "judge_markers", judged)


def any_log_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(complete, "is_log_of", lambda inflight, there, staged: True)


def fill_does_not_yield(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(complete, "is_log_of", lambda inflight, there, staged: staged is not None and there == staged)


def no_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    async def put(store: ObjectStore, path: paths.ObjectPath, data: bytes) -> Created | Same | Other:
        if "/_delta_log/" not in path:
            return await put_once(store, path, data)
        result = await store.put(path, data, IfAbsent())
        return Created(result.version) if isinstance(result, Stored) else Other(b"somebody else's", "")

    monkeypatch.setattr(complete, "put_once", put)


def no_marker_before_conflict(monkeypatch: pytest.MonkeyPatch) -> None:
    async def none(table: CommitTable, keys: Sequence[str]) -> list[Marker | None]:
        return [None for _ in keys]

    monkeypatch.setattr(reserve, "read_markers", none)


def refuse_though_something_came_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reserve, "is_unchanged", lambda held, current: True)


def clear_instead_of_filling(monkeypatch: pytest.MonkeyPatch) -> None:
    find, end = complete._write_or_find, complete._ended

    async def found(table: CommitTable, inflight: Inflight, staged: bytes | None) -> bytes:
        if staged is not None:
            return await find(table, inflight, staged)
        existing = await table.store.get(table.log_path(inflight.version))
        return rounds.fill_payload(inflight) if existing is None else existing.data

    async def ended(table: CommitTable, reserved: Reserved, kind: LogKind, *, latest: int) -> tuple[LogKind, Reserved]:
        return await end(table, reserved, kind, latest=reserved.inflight.version - 1)

    monkeypatch.setattr(complete, "_write_or_find", found)
    monkeypatch.setattr(complete, "_ended", ended)


def any_reservation_is_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reserve, "is_own_reservation", lambda inflight, round_id, requests: True)


def take_whatever_is_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    async def reserved(table: CommitTable, step: CommitStep) -> Reserved | None:
        held = await table.read_coordinator()
        return held.reserved if held else None

    monkeypatch.setattr(complete, "reserved_of", reserved)


def staged_bytes_unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(complete, "is_staged_payload", lambda inflight, data, version: True)


def anybody_joins_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "may_join", lambda candidate, paths, apps, size: True)


def move_unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(complete, "append_conflict", lambda read_version, apps, later: None)


def replace_whatever_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def holds(state: Coordinator, inflight: Inflight) -> bool:
        return True

    monkeypatch.setattr(table, "holds", holds)


def overwrite_what_is_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(table: CommitTable, held: table.Held | None = None) -> list[complete.Settled]:
        if held is not None:
            await table.swap(Coordinator(held.state.latest_version), held.token)
        return []

    monkeypatch.setattr(reserve, "settle", nothing)


def _switches(number: int, **plan: Any) -> Hunt:
    return lambda histories: every_interleaving(histories, switches=number, plan=Plan(**plan))


def _with_faults(number: int, **plan: Any) -> Hunt:
    return lambda histories: every_interleaving(
        histories, switches=number, plan=Plan(**plan), faults=True, afters=(After.NOBODY,)
    )


def _faults(histories: Histories) -> Coroutine[Any, Any, None]:
    return every_fault(histories, Plan())


MUTANTS = [
    Mutant("byte comparison of an existing log file", any_log_is_ours, "one append, a rival commits", _switches(0)),
    Mutant("the owner reads markers", owner_reads_no_markers, "same key, append", _switches(2, newest_first=True)),
    Mutant("a helper reads markers", helper_reads_no_markers, "same key, append", _with_faults(2, newest_first=True)),
    Mutant("a marker of the reservation itself", own_marker_makes_void, "one append", _faults),
    Mutant("read-back of a create that failed", no_read_back, "one append", _faults),
    Mutant(
        "markers read again before a conflict",
        no_marker_before_conflict,
        "same key, strict",
        _switches(2, newest_first=True),
    ),
    Mutant(
        "nothing came between before a conflict",
        refuse_though_something_came_between,
        "same strict behind a rival",
        _switches(2),
    ),
    Mutant("what is in flight is completed first", overwrite_what_is_in_flight, "one append", _faults),
    Mutant(
        "filling instead of clearing",
        clear_instead_of_filling,
        "one append, its payload deleted",
        every_fault_at_every_instant,
    ),
    Mutant(
        "a fill yields to the owner's log",
        fill_does_not_yield,
        "one append, its payload deleted",
        every_fault_at_every_instant,
    ),
    Mutant(
        "the reservation found is one's own", any_reservation_is_own, "same key, other payload, append", _switches(2)
    ),
    Mutant("the step's reservation is in flight", take_whatever_is_in_flight, "other keys, append", _switches(3)),
    Mutant("hash of the staged payload", staged_bytes_unchecked, "the staged payload is rewritten, cold", _switches(1)),
    Mutant("who may share a round: path", anybody_joins_a_round, "two appends that may not share a version", _faults),
    Mutant("who may share a round: txn", anybody_joins_a_round, "two appends of one application", _faults),
    Mutant("re-check behind a rival: metadata", move_unchecked, "a rival changes the metadata", _switches(1)),
    Mutant("re-check behind a rival: txn", move_unchecked, "a rival uses the application's id", _switches(1)),
    Mutant("the reservation is still there", replace_whatever_is_there, "other keys, append", _switches(3)),
]
