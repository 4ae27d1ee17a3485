"""The linearizability checker accepts what a table can have done and nothing else; Porcupine agrees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from springline.errors import Code
from tests.linearizability.checker import check
from tests.linearizability.history import NEVER, Ground, Kind, Operation, ground, to_json
from tests.linearizability.oracle import Oracle, disturbed
from tests.linearizability.porcupine import porcupine, verdicts
from tests.linearizability.resolve import resolved

SEEDS = st.integers(0, 2**32)


def append(call: int, ret: int, key: str, version: int | None = None, **more: object) -> Operation:
    op = Operation("t", Kind.COMMIT, call, ret, key, "p", append=True, read_version=0, version=version)
    return replace(op, **more)  # type: ignore[arg-type]


def strict(call: int, ret: int, key: str, version: int | None = None, **more: object) -> Operation:
    return append(call, ret, key, version, **({"append": False} | more))


def status(call: int, ret: int, version: int) -> Operation:
    return Operation("t", Kind.STATUS, call, ret, version=version)


def explained(call: int, ret: int, key: str, version: int) -> Operation:
    return Operation("t", Kind.EXPLAIN, call, ret, key, version=version)


def unknown(call: int, ret: int, key: str) -> Operation:
    return Operation("t", Kind.EXPLAIN, call, ret, key, refused=Ground.NOT_COMMITTED)


def foreign(version: int) -> Operation:
    return Operation("t", Kind.FOREIGN, 0, NEVER, version=version)


GOOD: dict[str, list[Operation]] = {
    "nothing": [],
    "one append": [append(0, 1, "a", 1)],
    "appends share a version": [append(0, 5, "a", 1), append(1, 6, "b", 1), append(2, 7, "c", 1)],
    "two versions, either order of overlapping calls": [append(0, 9, "a", 2), append(1, 8, "b", 1)],
    "strict after the version it read": [append(0, 1, "a", 1), strict(2, 3, "b", 2, read_version=1)],
    "strict loses": [append(0, 5, "a", 1), strict(0, 5, "b", read_version=0, refused=Ground.STALE)],
    "replay": [append(0, 1, "a", 1), append(2, 3, "b", 2), append(4, 5, "a", 1)],
    "concurrent retry": [append(0, 9, "a", 1), append(1, 2, "a", 1)],
    "key used": [append(0, 3, "a", 1), append(1, 5, "a", payload="q", refused=Ground.USED)],
    "unanswered and visible": [append(0, NEVER, "a"), append(2, 3, "b", 2), append(4, 5, "a", 1)],
    "unanswered and shared": [append(0, NEVER, "a"), append(2, 3, "b", 1), append(4, 5, "a", 1)],
    "unanswered and without effect": [append(0, NEVER, "a"), append(2, 3, "b", 1), append(4, 5, "c", 2)],
    "unanswered, happening late": [strict(0, NEVER, "a"), status(1, 2, 0), status(5, 6, 1)],
    "read while it is committed": [append(0, 9, "a", 1), status(1, 2, 0), status(3, 4, 1)],
    "a rival's version": [append(0, 1, "a", 1), foreign(2), append(4, 5, "b", 3)],
    "refused, then staged anew": [append(0, 1, "a", refused=Ground.NOT_COMMITTED), append(2, 3, "a", 1)],
    "refused at the door": [append(0, 1, "a", 1), append(2, 3, "a", refused=Ground.NONE)],
    "unanswered, its key used beyond the last version": [
        foreign(1),
        append(0, NEVER, "a"),
        append(1, 5, "a", payload="q", refused=Ground.USED),
    ],
    "from the future": [strict(0, 1, "a", read_version=1, refused=Ground.FUTURE)],
    "unknown, then explained": [unknown(0, 1, "a"), append(2, 3, "a", 1), explained(4, 5, "a", 1)],
    "explained while it is committed": [append(0, 9, "a", 1), explained(3, 4, "a", 1), append(1, 9, "b", 1)],
    "unanswered and explained": [append(0, NEVER, "a"), explained(1, 2, "a", 1), append(3, 4, "b", 2)],
}

BAD: dict[str, list[Operation]] = {
    "hole": [append(0, 1, "a", 2)],
    "two strict commits in one version": [strict(0, 5, "a", 1), strict(0, 5, "b", 1)],
    "strict shares with an append": [strict(0, 5, "a", 1), append(0, 5, "b", 1)],
    "strict beyond its read version": [append(0, 1, "a", 1), strict(2, 3, "b", 2, read_version=0)],
    "shared by calls that never overlapped": [append(0, 1, "a", 1), append(2, 3, "b", 1)],
    "shared with no common instant": [append(0, 3, "a", 1), append(2, 5, "b", 1), append(4, 7, "c", 1)],
    "seen before the last joined": [append(0, 9, "a", 1), status(1, 2, 1), append(3, 9, "b", 1)],
    "versions against time": [append(0, 1, "a", 2), append(2, 3, "b", 1)],
    "committed twice": [append(0, 1, "a", 1), append(2, 3, "a", 2)],
    "another answer on replay": [append(0, 1, "a", 1), append(2, 3, "b", 2), append(4, 5, "a", 2)],
    "refused and committed before": [append(0, 1, "a", 1), append(2, 3, "a", refused=Ground.NOT_COMMITTED)],
    "stale though it is in the log": [strict(0, 1, "a", 1), strict(2, 3, "a", refused=Ground.STALE)],
    "stale though nothing was committed": [strict(0, 1, "a", refused=Ground.STALE)],
    "key used by nobody": [append(0, 1, "a", refused=Ground.USED)],
    "key used by the same request": [append(0, 1, "a", 1), append(2, 3, "a", refused=Ground.USED)],
    "two payloads under one key": [append(0, 5, "a", 1), append(0, 5, "a", 2, payload="q")],
    "from the past": [append(0, 1, "a", 1), strict(2, 3, "b", read_version=1, refused=Ground.FUTURE)],
    "a read that goes back": [append(0, 1, "a", 1), status(2, 3, 0)],
    "a read ahead": [status(0, 1, 1), append(2, 3, "a", 1)],
    "a rival in nobody's version": [append(0, 1, "a", 1), foreign(1)],
    "unanswered, taking two versions": [append(0, NEVER, "a"), append(2, 3, "b", 3)],
    "committed and unknown": [append(0, 1, "a", 1), unknown(2, 3, "a")],
    "explained and unknown": [append(0, NEVER, "a"), explained(1, 2, "a", 1), unknown(3, 4, "a")],
    "explained otherwise than answered": [append(0, 1, "a", 1), append(2, 3, "b", 2), explained(4, 5, "a", 2)],
    "explained though never sent": [append(0, 1, "a", 1), explained(2, 3, "b", 1)],
}


@pytest.mark.parametrize("name", GOOD)
def test_possible_histories_are_accepted(name: str) -> None:
    assert check(GOOD[name]) == []


@pytest.mark.parametrize("name", BAD)
def test_impossible_histories_are_rejected(name: str) -> None:
    (violation,) = check(BAD[name])
    assert violation.table == "t"
    assert violation.stuck


def test_tables_are_judged_apart() -> None:
    bad = [replace(op, table="u") for op in BAD["committed twice"]]
    assert [v.table for v in check(GOOD["replay"] + bad)] == ["u"]


def test_a_table_may_start_anywhere() -> None:
    assert check([append(0, 1, "a", 8)], {"t": 7}) == []
    assert check([append(0, 1, "a", 8)], {"t": 8})


def test_every_code_has_its_ground() -> None:
    assert ground(Code.STALE_READ_VERSION) is Ground.STALE
    assert ground(Code.KEY_REUSED) is Ground.USED
    assert ground(Code.MISSING_TOKEN) is Ground.NONE


@settings(deadline=None)
@given(SEEDS, st.integers(1, 40))
def test_what_a_table_did_is_accepted(seed: int, steps: int) -> None:
    history = Oracle(Random(seed)).run(steps)
    Random(seed).shuffle(history)
    assert check(history) == []


def answered(history: list[Operation]) -> list[Operation]:
    """Return the first answers of the history's commits."""
    first: dict[str, Operation] = {}
    for op in history:
        if op.kind is Kind.COMMIT and op.version is not None:
            first.setdefault(op.key, op)
    return list(first.values())


def gap(op: Operation) -> list[Operation]:
    return [append(op.call, op.ret, "new", 10_000)]


def moved(op: Operation) -> list[Operation]:
    return [replace(op, call=op.ret + 1, ret=op.ret + 2, version=(op.version or 0) + 1)]


def denied(op: Operation) -> list[Operation]:
    return [replace(op, call=op.ret + 1, ret=op.ret + 2, version=None, refused=Ground.NOT_COMMITTED)]


def joined_late(op: Operation) -> list[Operation]:
    return [replace(op, call=op.ret + 1, ret=op.ret + 2, key="new", append=True)]


def gone_back(op: Operation) -> list[Operation]:
    return [status(op.ret + 1, op.ret + 2, (op.version or 0) - 1)]


def doubled(op: Operation) -> list[Operation]:
    return [replace(op, key="new", append=False, read_version=(op.version or 0) - 1)]


@settings(deadline=None)
@given(SEEDS, st.integers(5, 40), st.sampled_from([gap, moved, denied, joined_late, gone_back, doubled]))
def test_what_no_table_can_have_done_is_rejected(
    seed: int, steps: int, lie: Callable[[Operation], list[Operation]]
) -> None:
    history = Oracle(Random(seed)).run(steps)
    candidates = answered(history)
    assume(candidates)
    assert check(history + lie(Random(seed).choice(candidates)))


@settings(deadline=None, max_examples=300)
@given(SEEDS, st.integers(2, 25), st.integers(0, 3))
def test_resolving_unknown_outcomes_changes_no_verdict(seed: int, steps: int, disturbances: int) -> None:
    random = Random(seed)
    history = Oracle(random).run(steps)
    for _ in range(disturbances if history else 0):
        history = disturbed(history, random)
    assert bool(check(history)) == bool(check(resolved(history)))


@pytest.mark.timeout(600)
def test_porcupine_agrees(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    histories = [*GOOD.values(), *BAD.values()]
    for seed in range(300):
        random = Random(seed)
        history = Oracle(random).run(random.randrange(2, 14)) + Oracle(random, "u").run(4)
        histories.append(history)
        while random.random() < 0.7:
            history = disturbed(history, random)
            histories.append(history)
    program = porcupine(tmp_path)
    theirs = verdicts(program, histories)
    ours = [not check(history) for history in histories]
    differing = [i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b]
    assert not differing, [to_json(histories[i]) for i in differing[:2]]
    assert ours.count(True) > 100
    assert ours.count(False) > 100
    record_property("explored", f"linearizability: {len(histories)} histories judged as Porcupine judges them")
