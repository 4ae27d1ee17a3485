"""The search among tables: every kind of their objects x damage x operation, on tables in every state."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

import uuid_utils
from temporalio.exceptions import ApplicationError

from springline import names, paths
from springline.checked import has_checksum
from springline.cli.recover import recover_table, verify_table
from springline.client.payloads import Identity, append_payload
from springline.delta.markers import decode_marker, markers_from_log
from springline.delta.messages import CommitOutcome, CommitRequest
from springline.errors import Code, InvariantViolated, Refused
from springline.paths import ObjectPath
from springline.storage.memory import MemoryStore
from springline.storage.scoped import ScopedStore
from tests.damage import damages
from tests.damage.damages import DAMAGES, Damage
from tests.damage.operations import Named, Wrong
from tests.damage.tables import CHECKPOINT, OF_DELTA, Tables, kind_of, log_version, views_of
from tests.support.commit_rounds import Rounds
from tests.support.rows import SCOPE, adding


def damage(made: Tables, path: ObjectPath, how: str, rnd: Random) -> Damage | None:
    """Return a damage of a kind to an object, None if there is no such."""
    return damages.damage(made, path, how, rnd, kind_of=kind_of)


# Operations.


async def commit(made: Tables, store: MemoryStore) -> None:
    """Commit a new append in a process that has just started: the next version, and nothing else is changed by it."""
    process = Rounds(store, made.ref, made.root)
    key = str(uuid_utils.uuid7())
    data = append_payload([], key, [], Identity("append", hashlib.sha256(key.encode()).hexdigest()))
    data += adding(f"part-{key}.parquet")
    request = await process.stage(data, key=key, read_version=made.latest)
    before = made.logs(store)
    (outcome,) = await _answered(process, request)
    logs = made.logs(store)
    _check_logs(made, before, logs)
    assert outcome.result is not None
    if [version for version, log in logs.items() if log == data] != [outcome.result.version]:
        raise Wrong(f"it was answered with version {outcome.result.version}, and is in {sorted(logs)}")
    if outcome.result.version <= made.latest:
        raise Wrong(f"it was committed as version {outcome.result.version}, and {made.latest} are committed")


def log_of(made: Tables, version: int) -> ObjectPath:
    """Return the full path of a log file."""
    return SCOPE.full(paths.delta_log(made.root, version))


def _check_logs(made: Tables, before: dict[int, bytes], logs: dict[int, bytes]) -> None:
    """Check that no log file was touched, none came into a gap, and no payload is there twice."""
    for version, data in before.items():
        if logs.get(version) != data:
            raise Wrong(f"version {version} was changed")
    for version in logs.keys() - before.keys():
        if version <= made.latest:
            raise Wrong(f"version {version}, which was committed and is gone, was written again")
    for request in made.pending:
        key = request.idempotency_key.encode()
        holding = [version for version, log in logs.items() if key in log and b'"add"' in log]
        holding = [
            version for version in holding if logs[version] == made.objects.get(log_of(made, version), logs[version])
        ]
        if len(holding) > 1:
            raise Wrong(f"{request.idempotency_key} was committed as {holding}")


async def replay(made: Tables, store: MemoryStore) -> None:
    """Send requests again that were committed before: their first answers, and nothing is committed."""
    process = Rounds(store, made.ref, made.root)
    before = made.logs(store)
    refused: list[str] = []
    for request, result in made.answers.values():
        try:
            (outcome,) = await _answered(process, request)
        except Named as refusal:
            refused.append(str(refusal))
            continue
        if outcome.result != result:
            raise Wrong(f"{request.idempotency_key} was answered with {result}, and now with {outcome.result}")
    logs = made.logs(store)
    _check_logs(made, before, logs)
    if refused:
        raise Named(" ".join(refused))


async def retry(made: Tables, store: MemoryStore) -> None:
    """Send the requests again that are in flight: each is committed once, and its answer says where."""
    process = Rounds(store, made.ref, made.root)
    before = made.logs(store)
    outcomes = await _answered(process, *made.pending) if made.pending else []
    logs = made.logs(store)
    _check_logs(made, before, logs)
    for request, outcome in zip(made.pending, outcomes, strict=True):
        assert outcome.result is not None
        if request.idempotency_key.encode() not in logs.get(outcome.result.version, b""):
            raise Wrong(f"{request.idempotency_key} is not in version {outcome.result.version}")


async def read(made: Tables, store: MemoryStore) -> None:
    """Read the list of tables, status, history and what became of each key."""
    found = await _named(views_of(made, store))
    for name, view in made.views.items():
        if _comparable(found[name]) != _comparable(view):
            raise Wrong(f"another {name} was read: {str(found[name])[:600]}, and it is {str(view)[:600]}")


def _comparable(view: object) -> object:
    """Leave out what the coordinator object says of itself: it may be gone, and the log tells the rest."""
    if isinstance(view, dict):
        return {name: value for name, value in view.items() if name not in ("coordinator_version", "inflight")}
    return view


async def verify(made: Tables, store: MemoryStore) -> None:
    """Verify the table with all its markers: nothing is changed, and what is damaged is named."""
    before = dict(store.objects)
    report = await _named(verify_table(ScopedStore(store, SCOPE), made.ref.table_id, deep=True))
    if dict(store.objects) != before:
        raise Wrong("verifying changed something")
    if not report["ok"]:
        raise Named(" ".join(f"{one['object']} {one['problem']}" for one in report["findings"]))


async def recover(made: Tables, store: MemoryStore) -> None:
    """Recover the table as the runbook says, then commit, send everything again, and verify."""
    report = await _named(recover_table(ScopedStore(store, SCOPE), made.ref.table_id, markers=True, damaged=True))
    left = " ".join(f"{one['object']} {one['problem']}" for one in report["findings"])
    try:
        await verify(made, store)
        await retry(made, store)
        await replay(made, store)
        await commit(made, store)
    except Named as refusal:
        raise Named(f"{refusal} {left}") from None
    if left:
        raise Named(left)


OPERATIONS: dict[str, Callable[[Tables, MemoryStore], Awaitable[None]]] = {
    "commit": commit,
    "replay": replay,
    "retry": retry,
    "read": read,
    "verify": verify,
    "recover": recover,
}


async def _answered(process: Rounds, *requests: CommitRequest) -> list[CommitOutcome]:
    outcomes: list[CommitOutcome] = await _named(process.commit(*requests))
    for outcome in outcomes:
        if outcome.refusal is not None:
            raise Named(f"{outcome.refusal.code} {outcome.refusal.message} {outcome.refusal.remedy}")
    return outcomes


async def _named(work: Awaitable[Any]) -> Any:
    """Return what comes of some work, or raise `Named` with what its refusal says."""
    try:
        return await work
    except Refused as error:
        raise Named(f"{error.refusal.code} {error.refusal.message} {error.refusal.remedy}") from error
    except InvariantViolated as error:
        raise Named(str(error)) from error
    except ApplicationError as error:
        if error.type == names.INVARIANT_VIOLATED or error.type in Code.__members__:
            raise Named(f"{error.message} {error.details}") from error
        raise


@dataclass
class TableCases:
    """What came of all cases so far."""

    counts: Counter[str] = field(default_factory=Counter)

    async def run(self, made: Tables, damages: list[Damage], name: str) -> None:
        """Try one operation on a damaged copy. Raises `Wrong` with everything that is needed to look."""
        store = made.store()
        for one in damages:
            if one.data is None:
                store.remove(one.path)
            else:
                store.rot(one.path, one.data)
        said = f"{made.name}: " + ", ".join(f"{SCOPE.relative(one.path)} {one.how}" for one in damages) + f": {name}"
        try:
            await OPERATIONS[name](made, store)
        except Named as refusal:
            if any(_names(one, str(refusal)) for one in damages):
                self.counts["named"] += 1
            elif why := self._excused(made, damages, name):
                self.counts[why] += 1
            else:
                raise Wrong(f"{said}: the refusal names another: {refusal}") from refusal
        except Exception as error:
            if isinstance(error, Wrong) and (why := self._excused(made, damages, name)):
                self.counts[why] += 1
                return
            raise Wrong(f"{said}: {error!r}; {[one.data for one in damages]}") from error
        else:
            if name == "verify" and not all(self._is_harmless(made, one) for one in damages):
                why = _cannot_tell(made, damages)
                if why is None:
                    raise Wrong(f"{said}: nothing was found")
                self.counts[why] += 1
                return
            self.counts["right"] += 1

    def _excused(self, made: Tables, damages: list[Damage], name: str) -> str | None:
        if {one.kind for one in damages} == {"marker", "staged payload"} and name == "recover":
            return "judged as it is staged"
        if name == "recover" and _lost_log_and_marker(made, damages):
            return "made anew of a damaged log"
        return next((why for one in damages if (why := _excuse(made, one, name)) is not None), None)

    def _is_harmless(self, made: Tables, one: Damage) -> bool:
        """Say whether a damage changes nothing that anybody needs, or nothing tells it from what could rightly be."""
        if not made.is_mine(one.path) or one.kind == "staged payload":
            return True
        return _excuse(made, one, "verify") is not None


def _cannot_tell(made: Tables, damages: list[Damage]) -> str | None:
    """Return why damages that can be told one by one cannot be told together, None if they must be."""
    gone = {one.path for one in damages if one.data is None}
    logs = [one for one in damages if one.kind == "log"]
    if made.has_checkpoint and SCOPE.full(paths.delta_log(made.root, 0)) in gone:
        # Clean-up has begun, so that nobody reads what lies before the checkpoint.
        logs = [one for one in logs if log_version(one.path) >= CHECKPOINT]
    lost = all(_names_no_key_now(made, one, gone) for one in logs)
    return "as another writer's file" if logs and lost else None if logs else "as clean-up leaves it"


def _names_no_key_now(made: Tables, one: Damage, gone: set[ObjectPath]) -> bool:
    """Say whether a log file names a commit's key no longer, and the marker of it, which had its hash, is gone."""
    version = log_version(one.path)
    named = {
        SCOPE.full(paths.delta_marker(made.ref.table_id, marker.idempotency_key))
        for marker in markers_from_log(version, one.path, one.data or b"")
    }
    mine = {path for path in gone if kind_of(path) == "marker" and _version_of(made, path) == version}
    return one.data is not None and bool(mine - named)


def _lost_log_and_marker(made: Tables, damages: list[Damage]) -> bool:
    """Say whether a log file was damaged together with a marker of it, which had its hash and its request's."""
    logs = {log_version(one.path) for one in damages if one.kind == "log" and one.data is not None}
    return any(_version_of(made, one.path) in logs for one in damages if one.kind == "marker")


def _version_of(made: Tables, marker: ObjectPath) -> int:
    return decode_marker(made.objects[marker], SCOPE.relative(marker), None, root=made.root).version


def _excuse(made: Tables, one: Damage, name: str) -> str | None:
    """Return why a damage cannot be told, or need not be; None if it must be."""
    kind = one.kind
    if one.is_change and not has_checksum(made.objects[one.path]) and kind not in {*OF_DELTA, "staged payload"}:
        return "written without a checksum"
    if kind in OF_DELTA:
        return _excuse_of_delta(made, one, name)
    if kind == "marker" and one.how == "removed":
        return "as if it was never asked"
    if kind == "name claim" and one.how == "removed" and name == "read":
        return "as if there was no such table"
    # Without a checksum, one of another table that has fewer versions is like an older copy.
    is_old = one.how == "older" or (one.how == "another" and not has_checksum(made.objects[one.path]))
    if kind == "coordinator" and is_old and name == "verify":
        return "no finding by itself"
    if kind == "coordinator" and one.how in ("removed", "older") and name == "read":
        return "as before the reservation"
    if kind == "staged payload" and name in ("retry", "recover") and one.path in made.staged_in_flight:
        return "judged as it is staged"
    return None


def _excuse_of_delta(made: Tables, one: Damage, name: str) -> str | None:
    if one.kind != "log":
        return "as Delta readers see it" if name in ("read", "verify") else None
    version = log_version(one.path)
    if version == made.reserved:
        return "as another writer's file"
    if one.how == "removed" and version == 0 and made.has_checkpoint:
        return "as clean-up leaves it"
    if name == "read":
        return "as Delta readers see it"
    if name == "verify" and version == 0:
        return "no hash names it"
    return None


def _names(one: Damage, refusal: str) -> bool:
    """Say whether a refusal names an object, by the last two parts of its path; a log file also by its version."""
    if one.kind == "log" and f"version {log_version(one.path)} " in refusal:
        return True
    return "/".join(one.path.split("/")[-2:]) in refusal


def cells() -> Iterator[tuple[str, str]]:
    """Yield every damage with every operation."""
    for how in DAMAGES:
        for name in OPERATIONS:
            yield how, name
