"""A set of events that grows in any order: always the in-order state, and every object that is no event is named."""

from __future__ import annotations

import random
from datetime import date

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from springline.ledger.request import RefusalReason
from springline.paths import ObjectPath, ledger_event
from springline.projection.config import FoldConfig
from springline.projection.digest import Digest
from springline.projection.schema import TABLES
from springline.rebuild.growing import GrowingState
from springline.rebuild.offline import fold_offline
from springline.storage.memory import MemoryStore
from tests.support.golden_ledgers import SCOPE, ledger

CONFIG = FoldConfig(SCOPE.tenant, SCOPE.workspace)
PRUNING = FoldConfig(SCOPE.tenant, SCOPE.workspace, retention_days=0)


def digest(growing: GrowingState) -> str:
    return Digest.of({name: growing.state.rows(name) for name in TABLES}).whole()


def in_order(config: FoldConfig, bodies: dict[str, bytes]) -> str:
    growing = GrowingState(config)
    growing.add(sorted(bodies.items()))
    return digest(growing)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_delivery_is_the_in_order_state_after_every_batch(data: st.DataObject) -> None:
    bodies = ledger("late").bodies
    config = data.draw(st.sampled_from([CONFIG, PRUNING]))
    seed, window = data.draw(st.integers(0, 10**6)), data.draw(st.sampled_from([1, 5, 40, 200, 10_000]))
    chance = random.Random(seed)
    # Each event moves back by up to `window` places, and some come twice.
    places = {path: place + chance.randrange(window) for place, path in enumerate(sorted(bodies))}
    order = sorted(bodies, key=places.__getitem__)
    order += chance.sample(order, 20)
    growing = GrowingState(config)
    delivered: dict[str, bytes] = {}
    while order:
        size = chance.choice([1, 3, 20, 90])
        part, order = order[:size], order[size:]
        growing.add([(path, bodies[path]) for path in part])
        delivered |= {path: bodies[path] for path in part}
        if chance.random() < 0.05 or not order:
            assert digest(growing) == in_order(config, delivered)
    assert growing.tally.repeated == 20
    assert sum(growing.outcomes().values()) == len(bodies)


DAY = date(2025, 1, 15)
ULID = "01JHKM547R18Y1X4F2Y7EZCSS5"


def event(event_id: str = ULID, **changes: object) -> bytes:
    whole = {
        "event_id": event_id,
        "event_type": "RunTriggered",
        "event_version": 1,
        "timestamp": "2025-01-15T00:00:03Z",
        "source": "arco-flow/acme/prod",
        "tenant_id": "acme",
        "workspace_id": "prod",
        "idempotency_key": f"key-{event_id}",
        "data": {"type": "run_triggered", "run_id": f"r-{event_id}", "plan_id": "p", "root_assets": []}
        | {"trigger": {"type": "manual", "user_id": "ada"}},
    }
    return orjson.dumps(whole | changes, option=orjson.OPT_SORT_KEYS)


BAD: list[tuple[str, bytes | None, RefusalReason]] = [
    ("not json", b"nonsense", RefusalReason.UNREADABLE),
    ("truncated", event()[:-1], RefusalReason.UNREADABLE),
    ("no data", event(data=None), RefusalReason.UNREADABLE),
    ("a float", event(event_version=1.5), RefusalReason.UNREADABLE),
    ("another tenant", event(tenant_id="rival"), RefusalReason.OTHER_SCOPE),
    ("another workspace", event(workspace_id="dev"), RefusalReason.OTHER_SCOPE),
    ("another id", event(ULID[:-1] + "6"), RefusalReason.WRONG_PATH),
    ("gone", None, RefusalReason.MISSING),
]


@pytest.mark.parametrize(
    ("body", "reason"), [(body, reason) for _, body, reason in BAD], ids=[name for name, *_ in BAD]
)
@pytest.mark.parametrize("before", [False, True])
def test_what_is_no_event_is_named_and_holds_up_no_other(
    body: bytes | None, reason: RefusalReason, before: bool
) -> None:
    good = "01JHKM547S00000000000000G0"
    path = ledger_event(DAY, ULID)
    growing = GrowingState(CONFIG)
    if before:
        growing.add([(ledger_event(DAY, good), event(good))])
        growing.add([(path, body)])
    else:
        growing.add([(path, body), (ledger_event(DAY, good), event(good))])
    assert [(one.path, one.reason) for one in growing.tally.rejected] == [(path, reason)]
    assert growing.tally.rejected[0].message
    assert set(growing.bodies) == {good}
    assert growing.tally.refolds == 0
    assert growing.state.row("runs", f"r-{good}") is not None


@pytest.mark.parametrize(
    "path",
    [
        "",
        ULID,
        f"ledger/{ULID}.json",
        f"/{ledger_event(DAY, ULID)}",
        ledger_event(DAY, ULID).replace(".json", ".JSON"),
        ledger_event(DAY, ULID).replace("2025", "../2025"),
    ],
)
def test_a_path_that_no_event_has_is_refused(path: str) -> None:
    growing = GrowingState(CONFIG)
    growing.add([(path, event())])
    assert [one.reason for one in growing.tally.rejected] == [RefusalReason.NOT_A_LEDGER_PATH]


def test_the_wrong_day_is_refused_even_for_a_known_event() -> None:
    wrong = ledger_event(date(2025, 1, 16), ULID)
    growing = GrowingState(CONFIG)
    growing.add([(ledger_event(DAY, ULID), event()), (wrong, event())])
    growing.add([(wrong, event())])
    assert [one.reason for one in growing.tally.rejected] == [RefusalReason.WRONG_PATH] * 2
    assert growing.tally.repeated == 0


def test_ids_that_are_no_ulids_are_folded_as_text_and_lie_where_their_time_says() -> None:
    growing = GrowingState(CONFIG)
    growing.add([(ledger_event(DAY, "evt-2"), event("evt-2")), (ledger_event(DAY, "evt-1"), event("evt-1"))])
    growing.add([(ledger_event(DAY, ULID), event())])
    growing.add([(ledger_event(date(2025, 1, 16), "evt-3"), event("evt-3"))])
    assert list(growing.outcomes().values()) == [3]
    assert growing.last == ("evt-2", ledger_event(DAY, "evt-2"))
    assert [one.reason for one in growing.tally.rejected] == [RefusalReason.WRONG_PATH]


@pytest.mark.parametrize("together", [True, False])
def test_another_body_under_a_known_id_is_damage(together: bool) -> None:
    path, other = ledger_event(DAY, ULID), event(idempotency_key="other")
    growing = GrowingState(CONFIG)
    batches = [[(path, event()), (path, other)]] if together else [[(path, event())], [(path, other)]]
    for batch in batches:
        growing.add(batch)
    assert [one.reason for one in growing.tally.rejected] == [RefusalReason.OTHER_BODY]
    assert set(growing.bodies) == {ULID}


def test_an_event_above_a_repeated_one_is_not_late() -> None:
    later = "01JHKM547S00000000000000G0"
    growing = GrowingState(CONFIG)
    growing.add([(ledger_event(DAY, ULID), event())])
    growing.add([(ledger_event(DAY, ULID), event()), (ledger_event(DAY, later), event(later))])
    assert (growing.tally.late, growing.tally.refolds, growing.tally.repeated) == (0, 0, 1)
    assert growing.state.count("runs") == 2


async def test_names_that_no_store_can_hold_are_reported_and_do_not_end_the_fold() -> None:
    store = MemoryStore()
    path = ledger_event(DAY, ULID)
    store.seed(path, event())
    odd = ["/etc/passwd", "a/../b", "a%2e", f"{ObjectPath(path)}\n"]
    folded = await fold_offline(store, CONFIG, [*odd, path, path])
    assert len(folded.growing.bodies) == 1
    assert folded.growing.tally.repeated == 1
    assert [one.path for one in folded.refused] == odd
    assert folded.missing == folded.damaged == []
