"""What is done to a damaged workspace, and what may come of it: what is right, or a refusal that names what it met."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

import orjson

from springline.errors import InvariantViolated, Refused
from springline.ledger.request import AppendOutcome
from springline.paths import canonical_ulid_event, orchestration_pointer
from springline.projection.digest import Digest
from springline.projection.schema import TABLES
from springline.published.head import read_head
from springline.published.reader import PublishedReader
from springline.rebuild.messages import Compared, RebuildMode, StateSwitched
from springline.rebuild.restore import DONE, RestoreOutcome, restore_events
from springline.rebuild.sources import FoundEvents, from_index, from_listing, from_rounds
from springline.storage.memory import MemoryStore
from tests.damage.workspaces import Made, told_by
from tests.support.rebuild_driver import Incomplete, Rebuild
from tests.support.sequencer_run import Run, Stuck
from tests.support.sequencer_world import CONFIG, NOW_MS, SCOPE, ask, scoped, triggered
from tests.support.yardstick import folded_in_order

T = TypeVar("T")

NEXT = 800
NOW = NOW_MS + 3_600_000


class Wrong(AssertionError):
    """A state that differs from the never-damaged one, or a refusal that names nothing."""


class Named(Exception):
    """A refusal, with all that it says."""


_DIGESTS: dict[tuple[int, tuple[str, ...]], Digest] = {}


def digest_of(bodies: list[bytes]) -> Digest:
    """Return the digest of the in-order fold of some events, which is made once."""
    key = (len(bodies), tuple(sorted(hashlib.md5(body).hexdigest() for body in bodies)))
    if key not in _DIGESTS:
        _DIGESTS[key] = folded_in_order(bodies)
    return _DIGESTS[key]


async def append(made: Made, store: MemoryStore) -> str:
    """Append a new event: it becomes visible, on top of everything that was accepted."""
    run = Run(store, NEXT)
    (answer,) = await _named(run.append(ask(NEXT, triggered("next"))))
    new = _body_of(store, _one_id(answer))
    await _check_published(store, [*made.accepted, new])
    return "right"


async def replay(made: Made, store: MemoryStore) -> str:
    """Send a request again that was answered before: the same answer, and nothing is appended."""
    run = Run(store, NEXT)
    for request, told in list(made.requests.values())[-2:]:
        (answer,) = await _named(run.append(request))
        if answer.refusal is not None:
            raise Named(answer.refusal.message)
        found = told_by(answer)
        if found != told:
            raise Wrong(f"the request was answered with {told}, and now with {found}")
    return "right"


async def read(made: Made, store: MemoryStore) -> str:
    """Read all tables of the published state."""
    snapshot = await _named(PublishedReader(store).snapshot(SCOPE, list(TABLES)))
    found = Digest.of({name: snapshot[name] for name in TABLES})
    if found != digest_of(made.visible):
        raise Wrong("another state was read")
    return "right"


async def verify(made: Made, store: MemoryStore) -> str:
    """Verify what is published against its index."""
    found = await _named(from_index(scoped(store)))
    rebuild = _Looking(store)
    compared = await _named(rebuild.run(_document(found), RebuildMode.VERIFY))
    assert isinstance(compared, Compared)
    if not compared.equal:
        raise Named(" ".join([compared.problem or "it differs", *rebuild.found]))
    if compared.rebuilt_digest != digest_of(made.visible).state():
        raise Wrong("another state was verified")
    return "right"


class _Looking(Rebuild):
    """A rebuild that remembers what its report would name."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store, CONFIG, now_ms=NOW)
        self.found: list[str] = []

    def _check(self, bad: list[str], gaps: list[str]) -> None:
        self.found += [*bad, *map(_path_or_id, gaps)]
        super()._check(bad, gaps)


def rebuild(find: Callable[[MemoryStore], Awaitable[FoundEvents]]) -> Callable[[Made, MemoryStore], Awaitable[str]]:
    """Return the operation of a rebuild in mode full from such a list."""

    async def operation(made: Made, store: MemoryStore) -> str:
        before = store.objects.get(SCOPE.full(_POINTER))
        try:
            found = await _named(find(store))
            state = await _named(Rebuild(store, CONFIG, now_ms=NOW).run(_document(found), RebuildMode.FULL))
        except Named:
            if store.objects.get(SCOPE.full(_POINTER)) != before:
                raise Wrong("something was published all the same") from None
            raise
        assert isinstance(state, StateSwitched)
        await _check_published(store, made.accepted)
        return "right"

    return operation


async def restore(made: Made, store: MemoryStore) -> str:
    """Write all accepted events' objects anew."""
    paths = {canonical_ulid_event(_id_of(body)): body for body in made.accepted}
    found = await _named(restore_events(scoped(store), list(paths), replace=True))
    open_ = [one for one in found if one.outcome not in DONE]
    for one in found:
        path = canonical_ulid_event(_id(one.path))
        stored = store.objects.get(SCOPE.full(path))
        if one.outcome in DONE and (stored is None or stored.data != paths[path]):
            raise Wrong(f"{one.path} was restored with other bytes")
    if any(one.outcome is RestoreOutcome.UNKNOWN for one in open_):
        raise Wrong(f"{open_[0].path} is said to be unknown")
    if open_:
        raise Named(" ".join(f"{one.path} {one.unread} {one.outcome}" for one in open_))
    return "right"


_POINTER = orchestration_pointer()

OPERATIONS: dict[str, Callable[[Made, MemoryStore], Awaitable[str]]] = {
    "append": append,
    "replay": replay,
    "read": read,
    "restore": restore,
    "verify": verify,
    "rebuild from index": rebuild(lambda store: from_index(scoped(store))),
    "rebuild from rounds": rebuild(lambda store: from_rounds(scoped(store))),
    "rebuild from listing": rebuild(lambda store: from_listing(scoped(store))),
    "rebuild from segments": rebuild(lambda store: from_listing(scoped(store), segments=True)),
}


async def without_what_is_lost(store: MemoryStore) -> None:
    """Rebuild in full from what lies in the store, as a runbook's last step does: without what is lost."""
    found = await from_listing(scoped(store))
    again = Rebuild(store, CONFIG, now_ms=NOW, allow_missing=True)
    await _named(again.run(_document(found), RebuildMode.FULL))


async def _named(work: Awaitable[T]) -> T:
    """Return what comes of some work, or raise `Named` with everything that its refusal says."""
    try:
        return await work
    except (Refused, InvariantViolated) as error:
        raise Named(str(error.refusal) if isinstance(error, Refused) else str(error)) from error
    except Incomplete as error:
        raise Named(" ".join([*error.bad, *(_path_or_id(gap) for gap in error.gaps)])) from error
    except Stuck as error:
        raise Wrong(f"it never ends: {error}") from error


def _path_or_id(gap: str) -> str:
    return gap if "/" in gap else canonical_ulid_event(gap)


def _document(found: FoundEvents) -> dict[str, object]:
    document: dict[str, object] = {"event_paths": found.event_paths, "segment_paths": found.segment_paths}
    if found.as_of_round is not None:
        document["as_of_round"] = found.as_of_round
    return document


def _one_id(answer: AppendOutcome) -> str:
    if answer.refusal is not None:
        raise Named(answer.refusal.message)
    (event,) = answer.events
    return event.event_id


def _id(path: str) -> str:
    return path.rpartition("/")[2].removesuffix(".json")


def _id_of(body: bytes) -> str:
    event_id = orjson.loads(body)["event_id"]
    assert isinstance(event_id, str)
    return event_id


def _body_of(store: MemoryStore, event_id: str) -> bytes:
    return store.objects[SCOPE.full(canonical_ulid_event(event_id))].data


async def _check_published(store: MemoryStore, bodies: list[bytes]) -> None:
    head = await read_head(scoped(store))
    assert head is not None
    ours = head.manifest.springline
    assert ours is not None
    if ours.events.count != len(bodies) or ours.digest.whole != digest_of(bodies).whole():
        raise Wrong(f"{ours.events.count} events were published, and {len(bodies)} are accepted; or another state")
