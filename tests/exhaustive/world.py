"""The table every history starts from, and the requests that contend for it."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from springline import paths
from springline.commit.tables import create_table
from springline.delta.identity import sha256_hex
from springline.delta.messages import CommitMode, CommitRequest, TableRef
from springline.delta.table_request import CreateTable
from springline.storage.memory import MemoryStore
from springline.storage.scoped import ScopedStore

SCOPE = paths.Scope("acme", "prod")
TABLE_ID = "01946b1c-0000-7000-8000-0000000000aa"
REF = TableRef(tenant=SCOPE.tenant, workspace=SCOPE.workspace, table_id=TABLE_ID)
ROOT = paths.new_table_root(TABLE_ID, SCOPE)
NOW_MS = 1_736_900_000_000
OPERATION = "append"
"""What the fingerprinted requests say they do."""


def uuid7(number: int) -> str:
    """Return the UUIDv7 with this number: histories must be the same in every run."""
    return f"01946b1c-0000-7000-8000-{number:012x}"


def add_of(name: str) -> dict[str, object]:
    return {"add": {"path": name, "partitionValues": {}, "size": 1, "modificationTime": NOW_MS, "dataChange": True}}


def lines(*actions: dict[str, object]) -> bytes:
    return b"".join(orjson.dumps(action) + b"\n" for action in actions)


@dataclass(frozen=True)
class Wish:
    """A request by what matters about it: which key, which payload, how, and which copy of the staged payload.

    `app` adds a `txn` action of that application; `payload` names the data file that is added. `rows` names the
    caller's rows: the payload carries their fingerprint, by which the request is known whatever its bytes.
    """

    key: int
    payload: str
    mode: CommitMode = CommitMode.APPEND
    read_version: int = 0
    copy: int = 0
    app: str | None = None
    rows: str | None = None

    @property
    def data(self) -> bytes:
        """Return the payload's bytes."""
        return lines(*self.info, *self.actions)

    @property
    def info(self) -> list[dict[str, object]]:
        """Return the payload's commitInfo, if it has one: with the key and the fingerprint, as our client writes it."""
        if self.fingerprint is None:
            return []
        request = {"operation": OPERATION, "fingerprint": self.fingerprint}
        return [{"commitInfo": {"timestamp": NOW_MS, "txnId": self.key_text, "springline": {"request": request}}}]

    @property
    def actions(self) -> list[dict[str, object]]:
        """Return what the payload does to the table."""
        txn: list[dict[str, object]] = [{"txn": {"appId": self.app, "version": 1}}] if self.app else []
        return [*txn, add_of(self.payload)]

    @property
    def fingerprint(self) -> str | None:
        """Return the fingerprint of the rows, None where the payload carries none."""
        return None if self.rows is None else sha256_hex(self.rows.encode())

    @property
    def name(self) -> str:
        """Return a name that no other wish has."""
        return f"{self.key}-{self.mode}-{self.read_version}-{self.payload}-{self.copy}-{self.app}-{self.rows}"

    @property
    def staged_path(self) -> paths.ObjectPath:
        """Return where this copy of the payload is staged."""
        return paths.delta_staged(TABLE_ID, self.name)

    @property
    def key_text(self) -> str:
        """Return the idempotency key."""
        return uuid7(self.key)


@dataclass(frozen=True)
class Asked:
    """A wish with its staged payload: the request as a client sends it."""

    wish: Wish
    request: CommitRequest
    sha256: str

    @property
    def identity(self) -> str:
        """Return what tells the request from others under its key: its fingerprint, else the hash of its bytes."""
        return self.sha256 if self.wish.fingerprint is None else f"{OPERATION}:{self.wish.fingerprint}"


class World:
    """A store with the table and staged payloads, copied for each history."""

    def __init__(self, base: MemoryStore) -> None:
        self.base = base
        self._asked: dict[Wish, Asked] = {}

    @staticmethod
    async def create(*, content_tokens: bool = False) -> World:
        """Create the table at version 0. `content_tokens`: version tokens like those of local files."""
        base = MemoryStore(content_tokens=content_tokens)
        spec = CreateTable.model_validate({"name": "rows", "columns": [{"name": "id", "type": "long"}]})
        await create_table(ScopedStore(base, SCOPE), SCOPE, spec, TABLE_ID, NOW_MS)
        return World(base)

    def ask(self, wish: Wish) -> Asked:
        """Return the request for `wish`, staging its payload on first use. Stage before the first history runs."""
        asked = self._asked.get(wish)
        if asked is None:
            token = self.base.seed(SCOPE.full(wish.staged_path), wish.data)
            request = CommitRequest(
                idempotency_key=wish.key_text,
                mode=wish.mode,
                read_version=wish.read_version,
                staged_path=wish.staged_path,
                staged_version=token,
            )
            asked = self._asked[wish] = Asked(wish, request, sha256_hex(wish.data))
        return asked


# What else may happen to the store, each at one instant.


def delete_staged(wish: Wish, store: MemoryStore) -> None:
    """Somebody removes a staged payload."""
    path = SCOPE.full(wish.staged_path)
    if path in store.objects:
        store.remove(path)


def rewrite_staged(wish: Wish, store: MemoryStore) -> None:
    """Somebody overwrites a staged payload."""
    store.seed(SCOPE.full(wish.staged_path), lines(add_of("not-what-was-staged")))


def foreign_commit(store: MemoryStore, *actions: dict[str, object]) -> None:
    """A rival writer commits the next version, unless he lost the race for it."""
    version = next(v for v in range(1, 1_000) if log_path(v) not in store.objects)
    info: dict[str, object] = {"commitInfo": {"timestamp": NOW_MS, "operation": "WRITE", "engineInfo": "a rival"}}
    store.seed(log_path(version), lines(info, *(actions or (add_of("rival"),))))


def foreign_metadata(store: MemoryStore) -> None:
    """A rival changes the table's metadata."""
    zero = store.objects[log_path(0)].data
    metadata = next(action for line in zero.splitlines() if "metaData" in (action := orjson.loads(line)))
    foreign_commit(store, metadata)


def foreign_txn(store: MemoryStore) -> None:
    """A rival commits with the transaction id of an application of ours."""
    foreign_commit(store, {"txn": {"appId": "app", "version": 1}}, add_of("rival"))


def log_path(version: int) -> paths.ObjectPath:
    return SCOPE.full(paths.delta_log(ROOT, version))
