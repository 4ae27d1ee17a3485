"""Staging clean-up: what a coordinator names and what is younger than a week stays (docs/protocol.md#rule-8)."""

from __future__ import annotations

import uuid

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ulid import ULID

from springline import paths
from springline.commit.staging import clean_staging
from springline.delta.coordinator import Coordinator, Inflight, Member
from springline.delta.keys import idempotency_key
from springline.delta.request import Mode
from springline.delta.staging_cleanup import MIN_AGE_MS, Verdict, judge_staged, staged_at_ms
from springline.errors import InvariantViolated
from springline.storage.faults import FaultyStore
from springline.storage.memory import MemoryStore
from springline.storage.operations import Decision, Kind, Operation
from tests.support.tables import ID_A, ID_B, NOW_MS, SCOPE, relative_objects, scoped

OLD_MS = NOW_MS - MIN_AGE_MS


def ulid_at(ms: int) -> str:
    return str(ULID.from_bytes(ms.to_bytes(6, "big") + b"0123456789"))


def uuid7_at(ms: int) -> str:
    return str(uuid.UUID(int=(ms << 80) | (7 << 76) | (2 << 62) | 1))


def path_of(name: str, table_id: str = ID_A) -> str:
    return paths.delta_staged(table_id, name)


def inflight(*staged: str) -> Inflight:
    members = tuple(
        Member(
            key=uuid7_at(number), mode=Mode.APPEND, read_version=0, staged_path=path, staged_version="1",
            staged_payload_sha256="0", request_hash="0",
        )
        for number, path in enumerate(staged[1:])
    )  # fmt: skip
    return Inflight(
        commit_id="x", read_version=0, version=1, staged_path=staged[0], staged_version="1", started_at_ms=1,
        expires_at_ms=2, members=members,
    )  # fmt: skip


@given(st.integers(0, 2**47 - 1))
def test_the_age_is_in_the_name(ms: int) -> None:
    assert staged_at_ms(ulid_at(ms)) == ms
    assert staged_at_ms(uuid7_at(ms)) == ms


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=40))
def test_a_key_that_stands_for_a_text_tells_no_age_and_is_kept(text: str) -> None:
    name = idempotency_key(text)
    assert staged_at_ms(name) is None
    assert judge_staged([(path_of(name), name)], None, 2**60) == {path_of(name): Verdict.AGELESS}


def test_a_name_of_the_year_6429_tells_no_age() -> None:
    assert staged_at_ms(uuid7_at(2**47)) is None


@pytest.mark.parametrize(
    "name", ["", "x", ulid_at(1).lower(), "6f1c9b8e-3b1a-4c6e-9d7a-1f2e3d4c5b6a", "8" + ulid_at(1)[1:], "I" * 26]
)
def test_other_names_tell_no_age(name: str) -> None:
    assert staged_at_ms(name) is None


@given(
    ages=st.lists(st.integers(-1000, 3 * MIN_AGE_MS), max_size=20, unique=True),
    named=st.sets(st.integers(0, 19)),
    both=st.booleans(),
)
def test_what_is_removed_is_old_and_nobody_names_it(ages: list[int], named: set[int], both: bool) -> None:
    names = [(ulid_at if both and number % 2 else uuid7_at)(NOW_MS - age) for number, age in enumerate(ages)]
    staged = [path_of(name) for name in names]
    needed = [path for number, path in enumerate(staged) if number in named]
    coordinator = Coordinator(0, inflight(*needed)) if needed else Coordinator(0)
    verdicts = judge_staged(zip(staged, names, strict=True), coordinator, NOW_MS)
    removed = {path for path, verdict in verdicts.items() if verdict is Verdict.REMOVE}
    old = {path for path, age in zip(staged, ages, strict=True) if age >= MIN_AGE_MS}
    assert removed == old - set(needed)


def test_the_age_cannot_be_shortened() -> None:
    with pytest.raises(ValueError, match="younger"):
        judge_staged([], None, NOW_MS, min_age_ms=MIN_AGE_MS - 1)
    assert judge_staged([("p", ulid_at(OLD_MS))], None, NOW_MS, min_age_ms=2 * MIN_AGE_MS) == {"p": Verdict.YOUNG}


def a_store() -> MemoryStore:
    store = MemoryStore()
    for name in (ulid_at(OLD_MS), ulid_at(OLD_MS + 1), uuid7_at(OLD_MS - 5), "by-hand"):
        store.seed(SCOPE.full(paths.relative_path(path_of(name))), b"12345")
    store.seed(SCOPE.full(paths.relative_path(path_of(ulid_at(OLD_MS), ID_B))), b"another table's")
    return store


async def test_a_clean_up_removes_what_it_may_and_reports() -> None:
    store = a_store()
    report = await clean_staging(scoped(store), ID_A, NOW_MS, dry_run=True)
    assert (report.examined, report.removed, report.removed_bytes) == (4, 2, 10)
    assert len(store.objects) == 5
    report = await clean_staging(scoped(store), ID_A, NOW_MS)
    assert (report.removed, report.kept_young, report.kept_ageless, report.kept_named) == (2, 1, 1, 0)
    assert set(relative_objects(store)) == {
        path_of(ulid_at(OLD_MS + 1)),
        path_of("by-hand"),
        path_of(ulid_at(OLD_MS), ID_B),
    }
    again = await clean_staging(scoped(store), ID_A, NOW_MS)
    assert (again.examined, again.removed) == (2, 0)


async def test_what_the_coordinator_names_stays_members_too() -> None:
    store = a_store()
    state = Coordinator(0, inflight(path_of(ulid_at(OLD_MS)), path_of(uuid7_at(OLD_MS - 5))))
    store.seed(SCOPE.full(paths.delta_coordinator(ID_A)), state.encode(paths.delta_coordinator(ID_A)))
    before = dict(store.objects)
    report = await clean_staging(scoped(store), ID_A, NOW_MS)
    assert (report.removed, report.kept_named) == (0, 2)
    assert dict(store.objects) == before


async def test_a_reservation_made_after_the_listing_is_respected() -> None:
    store = a_store()

    async def hook(operation: Operation) -> Decision:
        if operation.kind is Kind.GET:
            state = Coordinator(0, inflight(path_of(ulid_at(OLD_MS))))
            store.seed(SCOPE.full(paths.delta_coordinator(ID_A)), state.encode(paths.delta_coordinator(ID_A)))
        return Decision.PROCEED

    report = await clean_staging(scoped(FaultyStore(store, hook=hook)), ID_A, NOW_MS)
    assert (report.removed, report.kept_named) == (1, 1)
    assert path_of(ulid_at(OLD_MS)) in relative_objects(store)


async def test_a_damaged_coordinator_stops_the_clean_up() -> None:
    store = a_store()
    store.seed(SCOPE.full(paths.delta_coordinator(ID_A)), b"{}")
    before = dict(store.objects)
    with pytest.raises(InvariantViolated):
        await clean_staging(scoped(store), ID_A, NOW_MS)
    assert dict(store.objects) == before


async def test_a_reservation_of_the_reference_is_respected() -> None:
    store = a_store()
    fields = {
        "commit_id": "k", "read_version": 0, "version": 1, "staged_path": path_of(uuid7_at(OLD_MS - 5)),
        "staged_version": "1", "started_at_ms": 1, "expires_at_ms": 2,
    }  # fmt: skip
    store.seed(SCOPE.full(paths.delta_coordinator(ID_A)), orjson.dumps({"latest_version": 0, "inflight": fields}))
    assert (await clean_staging(scoped(store), ID_A, NOW_MS)).kept_named == 1


async def test_many_payloads_are_removed_in_batches() -> None:
    store = MemoryStore()
    for number in range(450):
        store.seed(SCOPE.full(paths.relative_path(path_of(ulid_at(OLD_MS - number)))), b"x")
    assert (await clean_staging(scoped(store), ID_A, NOW_MS)).removed == 450
    assert not store.objects
