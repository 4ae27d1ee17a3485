"""What must hold after every history: the invariants I1-I8 and those of docs/protocol.md#commit-rules, on stored bytes
and answers.

I1 dense log; I2 a key owns at most one version; I3 a marker names the version that holds its request; I4 the
coordinator ends at the log's latest version; I5 an answer never changes; I6 a refused request is not in the log,
and was refused for a reason; I7 every write has its precondition, and nothing is listed; I8 everybody gets an
answer and nothing stays in flight. I5 and I6 over concurrent calls are what linearizability says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson

from springline import paths
from springline.delta.coordinator import decode_coordinator
from springline.delta.markers import decode_marker
from springline.delta.messages import CommitMode
from springline.delta.payload import fingerprint_of
from springline.storage.faults import FaultyStore
from springline.storage.memory import MemoryStore
from springline.storage.operations import OperationKind
from springline.storage.port import IfAbsent, IfVersion
from tests.exhaustive.process import Call
from tests.exhaustive.world import ROOT, SCOPE, TABLE_ID, Asked, lines, log_path
from tests.linearizability import checker as linearizability
from tests.linearizability import history

COORDINATOR = SCOPE.full(paths.delta_coordinator(TABLE_ID))
LOG_FOLDER = SCOPE.full(paths.delta_log(ROOT, 0)).rpartition("/")[0] + "/"


class Broken(AssertionError):
    """An invariant does not hold; the message begins with its name."""


def demand(holds: bool, invariant: str, what: str) -> None:
    """Raise `Broken` unless `holds`."""
    if not holds:
        raise Broken(f"{invariant}: {what}")


@dataclass(frozen=True)
class LogFile:
    """One committed version: its bytes, the data files it adds in order, and what kind of version it is."""

    version: int
    data: bytes
    added: tuple[str, ...]
    info: dict[str, object]
    apps: tuple[str, ...]
    changes_metadata: bool

    @property
    def abandoned(self) -> bool:
        """Return whether the version is a fill."""
        return self.info.get("operation") == "ABANDONED"

    @property
    def rival(self) -> bool:
        """Return whether a foreign writer made the version."""
        return self.info.get("engineInfo") == "a rival"

    @property
    def members(self) -> list[dict[str, str]] | None:
        """Return the members of a merged version."""
        springline = self.info.get("springline")
        return springline.get("members") if isinstance(springline, dict) else None

    def identities(self, asked: Asked) -> set[str | None]:
        """Return the fingerprints under which the version holds a request of this key."""
        key = asked.request.idempotency_key
        if self.members is not None:
            return {member.get("fingerprint") for member in self.members if member["key"] == key}
        return {fingerprint_of(self.info)} if self.info.get("txnId") == key else set()


def read_log(store: MemoryStore) -> list[LogFile]:
    """Return the table's versions in order; I1 if they are not dense."""
    names = sorted(path for path in store.objects if path.startswith(LOG_FOLDER) and path.endswith(".json"))
    demand(names == [log_path(v) for v in range(len(names))], "I1", f"the log has a hole: {names}")
    found: list[LogFile] = []
    for version, name in enumerate(names):
        data = store.objects[name].data
        actions = [orjson.loads(line) for line in data.splitlines()]
        found.append(
            LogFile(
                version,
                data,
                tuple(a["add"]["path"] for a in actions if "add" in a),
                next((a["commitInfo"] for a in actions if "commitInfo" in a), {}),
                tuple(a["txn"]["appId"] for a in actions if "txn" in a),
                any("metaData" in a for a in actions) and version > 0,
            )
        )
    return found


def holds(log: LogFile, asked: Asked) -> bool:
    """Say whether a version is, or contains, this request: in these bytes, or in others of the same fingerprint."""
    return holds_bytes(log, asked) or (asked.wish.fingerprint is not None and asked.identity in log.identities(asked))


def holds_bytes(log: LogFile, asked: Asked) -> bool:
    """Say whether a version is, or contains, the very bytes that this request staged."""
    members = log.members
    if members is not None:
        named = {"key": asked.request.idempotency_key, "sha256": asked.sha256}
        if asked.wish.fingerprint is not None:
            named["fingerprint"] = asked.identity
        return named in members
    return log.data == asked.wish.data


def check_writes(faulty: FaultyStore) -> None:
    """I7: create-only everywhere, compare-and-swap on the coordinator, no listing."""
    demand(faulty.count(OperationKind.LIST) == 0, "I7", "something was listed")
    for traced in faulty.trace:
        operation = traced.operation
        demand(operation.kind is not OperationKind.DELETE, "I7", f"{operation.path} was deleted")
        if operation.kind is OperationKind.PUT:
            allowed = (IfAbsent, IfVersion) if operation.path == COORDINATOR else (IfAbsent,)
            demand(
                isinstance(operation.precondition, allowed),
                "I7",
                f"{operation.path} was put with {operation.precondition}",
            )


def check_store(store: MemoryStore, everybody: Sequence[Asked], *, quiet: bool) -> list[LogFile]:
    """Check what is stored against all that was ever asked. `quiet`: nothing is in flight any more."""
    log = read_log(store)
    requests = {(a.request.idempotency_key, a.sha256): a for a in everybody}
    owners: Counter[str] = Counter()
    for entry in log[1:]:
        check_version(entry, log, list(requests.values()))
        for key in {a.request.idempotency_key for a in requests.values() if holds(entry, a)}:
            owners[key] += 1
    for key, versions in owners.items():
        demand(versions == 1, "I2", f"key {key} owns {versions} versions")
    check_markers(store, log, list(requests.values()), quiet=quiet)
    stored = store.objects.get(COORDINATOR)
    assert stored is not None
    coordinator = decode_coordinator(stored.data, SCOPE.relative(COORDINATOR))
    demand(coordinator.latest_version <= log[-1].version, "I4", "the coordinator is ahead of the log")
    if quiet:
        demand(coordinator.inflight is None, "I8", "a reservation stays in flight")
        unknown = log[coordinator.latest_version + 1 :]
        demand(all(e.rival for e in unknown), "I4", f"the coordinator stops at {coordinator.latest_version}")
    return log


def check_version(entry: LogFile, log: Sequence[LogFile], requests: Sequence[Asked]) -> None:
    """Check that a version is a rival's, a fill, one request's bytes, or a merge of requests in order."""
    if entry.rival:
        return
    if entry.abandoned:
        demand(not entry.added, "I2", f"fill {entry.version} adds data")
        return
    inside = [a for a in requests if holds_bytes(entry, a)]
    demand(bool(inside), "bytes", f"version {entry.version} holds bytes that nobody staged: {entry.data!r}")
    if entry.members is not None:
        by_key = {a.request.idempotency_key: a for a in inside}
        demand(
            [m["key"] for m in entry.members] == [*dict.fromkeys(m["key"] for m in entry.members)], "I2", "a key twice"
        )
        expected = b"".join(lines(*by_key[m["key"]].wish.actions) for m in entry.members)
        demand(
            entry.data.partition(b"\n")[2] == expected, "bytes", f"version {entry.version} is no merge of its members"
        )
    demand(len(set(entry.added)) == len(entry.added), "round", f"version {entry.version} adds a path twice")
    demand(len(set(entry.apps)) == len(entry.apps), "round", f"version {entry.version} has a txn twice")
    for asked in inside:
        since = log[asked.wish.read_version + 1 : entry.version]
        if asked.wish.mode is CommitMode.STRICT:
            demand(not since, "strict", f"version {entry.version} was computed from {asked.wish.read_version}")
        demand(
            not any(e.changes_metadata or asked.wish.app in e.apps for e in since),
            "rule 3",
            f"version {entry.version} follows a change that stands in its way",
        )


def check_markers(store: MemoryStore, log: Sequence[LogFile], requests: Sequence[Asked], *, quiet: bool) -> None:
    """I3, both ways: every marker points to its request, and in quiescence every committed request has one."""
    for key in {a.request.idempotency_key for a in requests}:
        path = SCOPE.full(paths.delta_marker(TABLE_ID, key))
        stored = store.objects.get(path)
        mine = [(a, e) for a in requests if a.request.idempotency_key == key for e in log[1:] if holds_bytes(e, a)]
        if stored is None:
            demand(not quiet or not mine, "I3", f"key {key} is in the log and has no marker")
            continue
        marker = decode_marker(stored.data, SCOPE.relative(path), key, root=ROOT)
        demand(
            any((e.version, a.sha256) == (marker.version, marker.staged_payload_sha256) for a, e in mine),
            "I3",
            f"the marker of {key} names version {marker.version}, which is not its own",
        )
        demand(marker.delta_log_path == paths.delta_log(ROOT, marker.version), "I3", "the marker names another path")


def check_answers(calls: Sequence[Call], log: Sequence[LogFile]) -> None:
    """I5 and I6: answers agree with the log, are the same for ever, and some order of the calls explains them."""
    first: dict[tuple[str, str], tuple[int, str]] = {}
    for call in calls:
        if call.result is None:
            continue
        asked = call.asked
        answer = (call.result.version, call.result.delta_log_path)
        key = (asked.request.idempotency_key, asked.identity)
        demand(first.setdefault(key, answer) == answer, "I5", f"{key[0]} was answered {first[key]} and {answer}")
        demand(
            call.result.version < len(log) and holds(log[call.result.version], asked),
            "I5",
            f"{key[0]} was answered version {call.result.version}, which is not its own",
        )
    owned = {e.version for e in log if any(holds(e, c.asked) for c in calls)}
    copies: dict[tuple[str, str], set[str]] = {}
    for call in calls:
        request = call.asked.request
        copies.setdefault((request.idempotency_key, call.asked.identity), set()).add(request.staged_path)
    operations = [operation_of(call, copies) for call in calls]
    operations += [
        history.Operation(TABLE_ID, history.Kind.FOREIGN, 0, history.NEVER, version=e.version)
        for e in log[1:]
        if e.version not in owned
    ]
    violations = linearizability.check(operations)
    if violations:
        stuck = violations[0].stuck
        raise Broken(f"I6: no order of the calls explains the answers, stuck at {stuck}")


def operation_of(call: Call, copies: Mapping[tuple[str, str], set[str]]) -> history.Operation:
    """Return the call as linearizability sees it.

    That a staged copy is missing says that its request is not committed, unless there is another copy of it.
    """
    wish = call.asked.wish
    refused = history.ground(call.refusal.code) if call.refusal else None
    if refused is history.Ground.NOT_COMMITTED and len(copies[wish.key_text, call.asked.identity]) > 1:
        refused = history.Ground.NONE
    return history.Operation(
        TABLE_ID,
        history.Kind.COMMIT,
        call.call,
        history.NEVER if call.ret is None else call.ret,
        wish.key_text,
        call.asked.identity,
        wish.mode is CommitMode.APPEND,
        wish.read_version,
        version=call.result.version if call.result else None,
        refused=refused,
    )
