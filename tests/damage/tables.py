"""Small workspaces with every kind of object that a table has, and all versions that these objects ever had."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import cache
from random import Random

from springline import paths
from springline.checked import has_checksum
from springline.cli.recover import verify_table
from springline.client.payloads import Identity, append_payload
from springline.commit.checkpoint import write_checkpoint
from springline.commit.inspect import key_view, list_tables, table_history, table_view
from springline.commit.registry import Registry
from springline.commit.table import CommitTable
from springline.commit.tables import adopt_table
from springline.delta.messages import CommitMode, CommitRequest, CommitResult, TableRef
from springline.delta.table_request import AdoptTable
from springline.paths import ObjectPath
from springline.storage.memory import MemoryStore
from springline.storage.port import StoredObject
from springline.storage.scoped import ScopedStore
from tests.activities.environment import StepEnvironment
from tests.damage.workspaces import Remembering
from tests.support.checksums import without_checksum
from tests.support.commit_rounds import Rounds
from tests.support.rows import SCOPE, adding, create_rows_table
from tests.support.tables import hand_made

FIRST = "01946b1c-0000-7000-8000-0000000000aa"
SECOND = "01946b1c-0000-7000-8000-0000000000bb"
ADOPTED = "01946b1c-0000-7000-8000-0000000000cc"

KINDS: dict[str, str] = {
    "entry": r"delta/tables/.*",
    "root claim": r"delta/roots/.*",
    "name claim": r"delta/names/.*",
    "coordinator": r"delta/coordinator/.*",
    "marker": r"delta/idempotency/.*",
    "staged payload": r"delta/staging/.*",
    "log": r".*/_delta_log/\d{20}\.json",
    "checkpoint": r".*\.checkpoint\.parquet",
    "pointer to the checkpoint": r".*/_last_checkpoint",
}
CHECKPOINT = 3
"""The version that has a checkpoint, in tables that have one."""
_PATTERNS = {kind: re.compile(pattern) for kind, pattern in KINDS.items()}
OF_DELTA = frozenset({"log", "checkpoint", "pointer to the checkpoint"})
"""What the Delta protocol says, and readers of any make read: it has no checksum of its own."""


@cache
def kind_of(path: ObjectPath) -> str:
    """Return the kind of an object."""
    (kind,) = [kind for kind, pattern in _PATTERNS.items() if pattern.fullmatch(SCOPE.relative(path).lstrip("/"))]
    return kind


def log_version(path: ObjectPath) -> int:
    """Return the version of a log file, by its full path."""
    return int(path[-25:-5])


class Damageable(MemoryStore):
    """A store whose bytes change under the same token, as those of a bad disk do."""

    def rot(self, path: ObjectPath, data: bytes) -> None:
        """Change an object's bytes, and nothing else."""
        self._objects[path] = StoredObject(data, self._objects[path].version)


@dataclass(eq=False)
class Tables:
    """A workspace with tables: its objects, older versions of them, and what was answered about table `ref`.

    `answers`: by key, the request and its first answer. `pending`: requests in flight, which nobody was told of, at
    version `reserved`. `latest`: the last committed version. `sealed`: objects that carry a checksum.
    """

    name: str
    ref: TableRef
    root: str
    table_name: str
    whole: MemoryStore
    older: dict[ObjectPath, list[bytes]]
    answers: dict[str, tuple[CommitRequest, CommitResult]]
    pending: list[CommitRequest]
    latest: int
    reserved: int | None
    views: dict[str, object] = field(default_factory=dict)

    @property
    def objects(self) -> dict[ObjectPath, bytes]:
        """Return the bytes of all objects while they are whole."""
        return {
            path: stored.data
            for path, stored in self.whole.objects.items()
            if "/_delta_log/" in path or "/delta/" in path
        }

    def store(self) -> Damageable:
        """Return a store of its own with the workspace. Its objects have the tokens that requests name."""
        twin = Damageable()
        twin._objects = dict(self.whole._objects)
        twin._writes = self.whole._writes
        return twin

    def logs(self, store: MemoryStore) -> dict[int, bytes]:
        """Return the log files there are, by version."""
        prefix = SCOPE.full(paths.delta_log_dir(self.root))
        found = {path: stored.data for path, stored in store.objects.items() if path.startswith(f"{prefix}/0")}
        return {log_version(path): data for path, data in found.items() if path.endswith(".json")}

    @property
    def staged_in_flight(self) -> set[ObjectPath]:
        """Return the staged payloads of what is in flight."""
        return {SCOPE.full(ObjectPath(one.staged_path)) for one in self.pending}

    @property
    def has_checkpoint(self) -> bool:
        """Whether a checkpoint was written."""
        return SCOPE.full(paths.delta_last_checkpoint(self.root)) in self.objects

    def mine(self) -> list[ObjectPath]:
        """Return the objects of the table that is worked on."""
        return [path for path in sorted(self.objects) if self.is_mine(path)]

    def is_mine(self, path: ObjectPath) -> bool:
        """Say whether an object belongs to the table that is worked on."""
        mine = (
            paths.table_entry(self.ref.table_id), paths.root_claim(self.root), paths.name_claim(self.table_name),
            paths.delta_coordinator(self.ref.table_id), paths.delta_staging_prefix(self.ref.table_id),
            paths.delta_markers_prefix(self.ref.table_id), paths.delta_log_dir(self.root),
        )  # fmt: skip
        return SCOPE.relative(path).startswith(mine)


class _Making:
    """A table in the making."""

    def __init__(self, store: Remembering, ref: TableRef, root: str) -> None:
        self.store, self.ref, self.root = store, ref, root
        self.process = Rounds(store, ref, root)
        self.answers: dict[str, tuple[CommitRequest, CommitResult]] = {}
        self._rnd = Random(ref.table_id)

    async def staged(
        self, *, keyed: bool = True, mode: CommitMode = CommitMode.APPEND, read_version: int = 0
    ) -> CommitRequest:
        # Drawn from the table's own seed: a search with a seed damages the same letters in every run.
        key = f"{FIRST[:14]}7{self._rnd.randrange(4096):03x}-8000-{self._rnd.randrange(16**12):012x}"
        info = append_payload([], key, [], Identity("append", hashlib.sha256(key.encode()).hexdigest()))
        data = (info if keyed else b"") + adding(f"part-{key}.parquet")
        return await self.process.stage(data, key=key, mode=mode, read_version=read_version)

    async def commit(self, *requests: CommitRequest) -> None:
        for request, outcome in zip(requests, await self.process.commit(*requests), strict=True):
            assert outcome.result is not None, outcome
            self.answers[request.idempotency_key] = (request, outcome.result)

    async def commits(self, versions: int = 6) -> None:
        """Commit in every way: by key and without, one and several, appending and strictly."""
        for number in range(versions):
            kind = number % 4
            if kind == 0:
                await self.commit(await self.staged())
            elif kind == 1:
                await self.commit(*[await self.staged(keyed=bool(one)) for one in range(3)])
            elif kind == 2:
                await self.commit(await self.staged(keyed=False, mode=CommitMode.STRICT, read_version=number))
            else:
                await self.commit(await self.staged(keyed=False))
            if number == CHECKPOINT - 1:
                await write_checkpoint(ScopedStore(self.store, SCOPE), self.root)

    async def pending(self, steps: int, members: int) -> list[CommitRequest]:
        """Reserve a version, and go on with so many steps; nobody was told of it then."""
        requests = [await self.staged() for _ in range(members)]
        result = await self.process.reserve(requests, None)
        reservation = result.reservation
        assert reservation is not None
        step = reservation.step_of(self.ref)
        for activity in (self.process.activities.write_log, self.process.activities.write_marker)[:steps]:
            await StepEnvironment().run(activity, step)
        return requests

    async def made(self, name: str, pending: list[CommitRequest]) -> Tables:
        entry = await Registry(ScopedStore(self.store, SCOPE)).entry(self.ref.table_id)
        latest = max(result.version for _, result in self.answers.values())
        made = Tables(
            name=name,
            ref=self.ref,
            root=self.root,
            table_name=entry.name,
            whole=self.store,
            older={path: versions[:-1] for path, versions in self.store.versions.items()},
            answers=self.answers,
            pending=pending,
            latest=latest,
            reserved=latest + 1 if pending else None,
        )
        made.views = await views_of(made, made.store())
        report = await verify_table(ScopedStore(made.store(), SCOPE), self.ref.table_id, deep=True)
        assert report["ok"], report
        return made


async def views_of(made: Tables, store: MemoryStore) -> dict[str, object]:
    """Return what reading says of a table, by what was asked."""
    scoped = ScopedStore(store, SCOPE)
    entry = await Registry(scoped).entry(made.table_name)
    table = CommitTable(scoped, entry.table_id, await Registry(scoped).root_of(entry.table_id))
    return {
        "list": [one.entry for one in (await list_tables(scoped, limit=10)).tables],
        "status": (await table_view(table)).model_dump(),
        "history": await table_history(table, limit=100),
        "keys": [await key_view(table, key) for key in (*made.answers, *(one.idempotency_key for one in made.pending))],
    }


async def _workspace() -> Remembering:
    """Return a store with another table, so that there is another object of every kind."""
    store = Remembering()
    entry = await create_rows_table(store, "other", SECOND)
    other = _Making(store, ref_of(SECOND), entry.root)
    await other.commits(4)
    return store


def ref_of(table_id: str) -> TableRef:
    return TableRef(tenant=SCOPE.tenant, workspace=SCOPE.workspace, table_id=table_id)


async def _created(store: Remembering) -> _Making:
    entry = await create_rows_table(store, "rows", FIRST)
    return _Making(store, ref_of(FIRST), entry.root)


async def committed() -> Tables:
    """Commits of every kind, and a checkpoint among them."""
    making = await _created(await _workspace())
    await making.commits(8)
    return await making.made("committed", [])


def in_flight(name: str, steps: int, members: int) -> Callable[[], Awaitable[Tables]]:
    async def make() -> Tables:
        making = await _created(await _workspace())
        await making.commits(4)
        return await making.made(name, await making.pending(steps, members))

    return make


async def adopted() -> Tables:
    """A table that lies where its caller wanted, and was adopted."""
    store = await _workspace()
    hand_made(store, "lake/rides", {"minReaderVersion": 1, "minWriterVersion": 2})
    scoped = ScopedStore(store, SCOPE)
    entry = await adopt_table(scoped, SCOPE, AdoptTable(name="rides", location="lake/rides"), ADOPTED, 1)
    making = _Making(store, ref_of(ADOPTED), entry.root)
    await making.commits(5)
    return await making.made("adopted", [])


async def older() -> Tables:
    """A table of a version that wrote no checksums."""
    making = await _created(await _workspace())
    await making.commits(5)
    for path, stored in list(making.store.objects.items()):
        if has_checksum(stored.data):
            making.store.seed(path, without_checksum(stored.data, SCOPE.relative(path)))
    return await making.made("older", [])


TABLES: list[Callable[[], Awaitable[Tables]]] = [
    committed,
    in_flight("reserved, one", 0, 1),
    in_flight("reserved, several", 0, 3),
    in_flight("logged, one", 1, 1),
    in_flight("logged, several", 1, 3),
    in_flight("marked, several", 2, 3),
    adopted,
    older,
]
