"""Small workspaces with every kind of stored object, and all versions that these objects ever had."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from springline.ledger.request import AppendMode, AppendOutcome, AppendRequest, RefusalReason
from springline.paths import ObjectPath, Scope, orchestration_request, orchestration_round
from springline.rebuild.messages import RebuildMode
from springline.rebuild.sources import from_listing
from springline.sequencer.garbage import mark_garbage, sweep_garbage
from springline.sequencer.garbage.reach import Keep, find_reach
from springline.sequencer.garbage.sweep import NAMELESS_MS
from springline.sequencer.messages import GarbageOrder, RoundStep
from springline.sequencer.refused import RefusedObject, record_refused
from springline.sequencer.rounds import find_round
from springline.storage.memory import MemoryStore
from springline.storage.port import Precondition, PutResult
from tests.support.golden_ledgers import ledger
from tests.support.rebuild_driver import Rebuild
from tests.support.sequencer_run import REF, Run
from tests.support.sequencer_world import CONFIG, NOW_MS, SCOPE, ask, body_of, linear_run, scoped, seed_event, triggered

HOLD: dict[str, object] = {"type": "springline_hold_changed", "change_id": "h1", "held": True, "changed_by": "ada"}
MESSAGE: dict[str, object] = {"type": "springline_sensor_message", "sensor_id": "s", "message_id": "m"}
EVALUATED: dict[str, object] = {
    "type": "sensor_evaluated",
    "sensor_id": "s",
    "eval_id": "e",
    "trigger_source": {"source": "push", "message_id": "m"},
    "status": {"status": "no_new_data"},
}
"""Events of our own types, and one that answers a message: rows of our tables come and go."""


class Remembering(MemoryStore):
    """A store that keeps every version of its objects."""

    def __init__(self) -> None:
        super().__init__()
        self.versions: dict[ObjectPath, list[bytes]] = {}

    async def put(self, path: ObjectPath, data: bytes, precondition: Precondition) -> PutResult:
        result = await super().put(path, data, precondition)
        stored = self.objects.get(path)
        if stored is not None and stored.data not in (versions := self.versions.setdefault(path, [])):
            versions.append(stored.data)
        return result


@dataclass(eq=False)
class Made:
    """A workspace: its objects, older versions of them, and the bodies of the events that it has accepted.

    `visible`: those that are published. `needed`: objects that the published revision needs, and all that is no file of
    a revision; `vital` are those of them that the next step needs. `requests`: some that were answered, with what they
    were told.
    """

    name: str
    objects: dict[ObjectPath, bytes]
    older: dict[ObjectPath, list[bytes]]
    accepted: list[bytes]
    visible: list[bytes]
    needed: list[ObjectPath]
    vital: list[ObjectPath]
    requests: dict[int, tuple[AppendRequest, list[str]]] = field(default_factory=dict)

    def store(self) -> MemoryStore:
        """Return a store of its own with the workspace."""
        store = MemoryStore()
        for path, data in self.objects.items():
            store.seed(path, data)
        return store


def told_by(answer: AppendOutcome) -> list[str]:
    """Return the ids of an answer's events, and what it says of refused ones."""
    refused = [f"{one.index}: {one.code}, {one.message}" for one in answer.refused]
    return [*(event.event_id for event in answer.events), *refused]


class _Making:
    """A workspace in the making."""

    def __init__(self) -> None:
        self.store = Remembering()
        self.run = Run(self.store)
        self.requests: dict[int, tuple[AppendRequest, list[str]]] = {}
        self.number = 0

    async def append(self, *payloads: dict[str, object], mode: AppendMode = AppendMode.ALL) -> None:
        self.number += 1
        request = ask(self.number, *payloads, mode=mode)
        (answer,) = await self.run.append(request)
        assert answer.refusal is None
        self.requests[self.number] = (request, told_by(answer))

    async def appends(self, runs: int, first: int = 0) -> None:
        for number in range(first, first + runs):
            payloads = linear_run(f"r-{number}", ["a"])
            await self.append(*payloads[:2])
            await self.append(*payloads[2:])

    async def ingest_late(self) -> None:
        late = seed_event(self.store, body_of(1, triggered("early"), at_ms=NOW_MS - 5_000))
        outcome = await self.run.ingest(late)
        assert outcome.accepted == 1

    async def rebuild(self, mode: RebuildMode, *, segments: bool = False) -> None:
        found = await from_listing(scoped(self.store), segments=segments)
        manifest = {"event_paths": found.event_paths, "segment_paths": found.segment_paths}
        await Rebuild(self.store, CONFIG).run(manifest, mode)
        self.run = Run(self.store, self.number + 50)

    async def made(self, name: str, *, pending: int = 0) -> Made:
        await record_refused(scoped(self.store), [RefusedObject("nowhere", RefusalReason.MISSING, "nothing is there")])
        bodies: dict[str, bytes] = {}
        visible: list[bytes] = []
        last = max(int(path[-25:-5]) for path in self.store.objects if "/rounds/" in path)
        for number in range(1, last + 1):
            stored = await find_round(scoped(self.store), number)
            assert stored is not None
            for event in stored.record.events:
                body = event.data or await self._body_of(event.event_id)
                bodies.setdefault(event.event_id, body)
                if number <= last - pending:
                    visible.append(body)
        objects = {path: stored.data for path, stored in self.store.objects.items()}
        versions = self.store.versions
        older = {path: [one for one in versions.get(path, []) if one != data] for path, data in objects.items()}
        reach = await find_reach(scoped(self.store), Keep(1))
        assert reach is not None
        of_revisions = ("/base/", "/l0/", "/manifests/", "/segments/", "/index/", "/rebuild")
        others = {path for path in objects if not any(one in path for one in of_revisions)}
        needed = [path for path in objects if path in others or relative(path) in reach.kept]
        asked = {
            SCOPE.full(orchestration_request(request.request_id)) for request, _ in list(self.requests.values())[-2:]
        }
        newest = {SCOPE.full(orchestration_round(last)), SCOPE.full(reach.head.manifest_path), *asked}
        passed = ("/rounds/", "/requests/", "/manifests/")
        vital = [path for path in needed if path in newest or not any(one in path for one in passed)]
        return Made(name, objects, older, list(bodies.values()), visible, needed, vital, self.requests)

    async def _body_of(self, event_id: str) -> bytes:
        (path,) = [path for path in self.store.objects if path.endswith(f"/{event_id}.json") and "/ledger/" in path]
        return self.store.objects[path].data


async def published() -> Made:
    """Some rounds, one of them with a late event: deltas and bases, packs, segments and nodes."""
    making = _Making()
    await making.append(MESSAGE)
    await making.appends(6)
    await making.append(EVALUATED, HOLD)
    await making.append(HOLD | {"held": False, "change_id": "h2"})
    await making.ingest_late()
    await making.appends(2, 6)
    return await making.made("published")


async def by_themselves() -> Made:
    """Rounds of events that are taken each by itself; two rounds have none, the last one is one of them."""
    making = _Making()
    for number in range(2):
        run, plan, start, end = linear_run(f"r-{number}", ["a"])
        await making.append(end, run, start, plan, start, mode=AppendMode.EACH)
        await making.append(run | {"plan_id": 7}, plan | {"plan_id": "other"}, mode=AppendMode.EACH)
    return await making.made("by themselves")


async def young() -> Made:
    """One round."""
    making = _Making()
    await making.append(triggered("only"))
    return await making.made("young")


async def _pending(name: str, steps: int) -> Made:
    making = _Making()
    await making.appends(2)
    head = await making.run._ready()
    order = making.run.admit_order(head, [ask(90, triggered("pending"))])
    admitted = await making.run.step("admit", order)
    assert admitted.kind == "admitted"
    if steps > 0:
        await making.run.step("append", RoundStep(workspace=REF, round=admitted.round))
    if steps > 1:
        await making.run.step("fold", making.run.fold_order(head, admitted.round))
    return await making.made(name, pending=1)


async def pending_recorded() -> Made:
    """A round of which there is the record only."""
    return await _pending("pending, recorded", 0)


async def pending_folded() -> Made:
    """A round of which everything is there but the pointer."""
    return await _pending("pending, folded", 2)


async def swept() -> Made:
    """Rounds whose records have lost their texts, after garbage was collected."""
    making = _Making()
    await making.appends(3)
    order = GarbageOrder(workspace=REF, now_ms=NOW_MS, report_id="r1", keep_revisions=1)
    await mark_garbage(scoped(making.store), order)
    await making.appends(1, 3)
    await mark_garbage(scoped(making.store), order.model_copy(update={"report_id": "r2", "now_ms": NOW_MS + 1}))
    await making.appends(1, 4)
    due = order.model_copy(update={"report_id": "r2", "now_ms": NOW_MS + 3 * NAMELESS_MS})
    report = await sweep_garbage(scoped(making.store), due)
    assert report.emptied
    return await making.made("swept")


async def rebuilt() -> Made:
    """Rebuilt in full from objects and segments, with events that nobody had accepted before, and appended to."""
    making = _Making()
    await making.appends(3)
    for number in range(3):
        seed_event(making.store, body_of(40 + number, triggered(f"foreign-{number}")))
    await making.rebuild(RebuildMode.FULL, segments=True)
    await making.appends(1, 3)
    return await making.made("rebuilt")


async def just_rebuilt() -> Made:
    """The same, and nothing came after it."""
    making = _Making()
    await making.appends(3)
    seed_event(making.store, body_of(40, triggered("foreign")))
    await making.rebuild(RebuildMode.FULL)
    return await making.made("just rebuilt")


async def caught_up() -> Made:
    """Caught up with events that another system had put into the ledger."""
    making = _Making()
    await making.appends(3)
    for number in range(2):
        seed_event(making.store, body_of(number, triggered(f"foreign-{number}"), at_ms=NOW_MS + 600_000))
    await making.rebuild(RebuildMode.CATCH_UP)
    return await making.made("caught up")


def _of_the_reference(name: str) -> Callable[[], Awaitable[Made]]:
    """Return how to make a workspace of events that the reference wrote, with some of ours after them."""

    async def make() -> Made:
        making = _Making()
        bodies = ledger(name).bodies
        for path in ledger(name).paths[:REFERENCE_EVENTS]:
            making.store.seed(SCOPE.full(ObjectPath(path)), bodies[path])
        await making.rebuild(RebuildMode.FULL)
        await making.appends(2, 2)
        return await making.made(f"of the reference, {name}")

    return make


REFERENCE_EVENTS = 12

WORKSPACES: list[Callable[[], Awaitable[Made]]] = [
    published,
    by_themselves,
    young,
    pending_recorded,
    pending_folded,
    swept,
    rebuilt,
    just_rebuilt,
    caught_up,
    _of_the_reference("disordered"),
    _of_the_reference("late"),
]


def relative(path: ObjectPath) -> str:
    """Return a path within the workspace."""
    prefix = f"{Scope(SCOPE.tenant, SCOPE.workspace).prefix}/"
    assert path.startswith(prefix)
    return path.removeprefix(prefix)
