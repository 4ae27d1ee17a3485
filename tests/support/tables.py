"""What the tests of tables share: a workspace, ids, and moving tables between a store and a folder."""

from __future__ import annotations

from pathlib import Path

import orjson
import pyarrow as pa
from deltalake import write_deltalake

from springline import paths
from springline.commit.tables import adopt_table, create_table
from springline.delta.registry import TableEntry
from springline.delta.table_request import AdoptTable, CreateTable
from springline.errors import Refusal, Refused
from springline.storage.memory import MemoryStore
from springline.storage.port import ObjectStore
from springline.storage.scoped import ScopedStore

SCOPE = paths.Scope("acme", "prod")
ID_A = "01946b1c-0000-7000-8000-0000000000aa"
ID_B = "01946b1c-0000-7000-8000-0000000000bb"
ID_C = "01946b1c-0000-7000-8000-0000000000cc"
NOW_MS = 1_736_899_200_000
LATER_MS = NOW_MS + 60_000
COLUMNS = [{"name": "id", "type": "long"}, {"name": "day", "type": "string", "nullable": False}]


def scoped(store: ObjectStore) -> ScopedStore:
    return ScopedStore(store, SCOPE)


def flights(name: str = "flights", location: str | None = None, **fields: object) -> CreateTable:
    return CreateTable.model_validate({"name": name, "columns": COLUMNS, "location": location, **fields})


async def create(store: ObjectStore, spec: CreateTable, table_id: str = ID_A, now_ms: int = NOW_MS) -> TableEntry:
    return await create_table(scoped(store), SCOPE, spec, table_id, now_ms)


async def adopt(
    store: ObjectStore, name: str, location: str, table_id: str = ID_B, now_ms: int = LATER_MS
) -> TableEntry:
    return await adopt_table(scoped(store), SCOPE, AdoptTable(name=name, location=location), table_id, now_ms)


async def refusal_of(awaitable: object) -> Refusal:
    """Await something that must be refused, and check that the refusal names field and remedy."""
    try:
        result = await awaitable  # type: ignore[misc]
    except Refused as error:
        assert error.refusal.field, error.refusal
        assert error.refusal.remedy, error.refusal
        return error.refusal
    raise AssertionError(f"was not refused but gave {result!r}")


def relative_objects(store: MemoryStore) -> dict[str, bytes]:
    return {SCOPE.relative(path): stored.data for path, stored in store.objects.items()}


def save(store: MemoryStore, root: str, folder: Path) -> Path:
    """Write the objects of the table at `root` into `folder`, so that another engine can open it."""
    for path, data in relative_objects(store).items():
        if path.startswith(root + "/"):
            target = folder / path.removeprefix(root + "/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
    return folder


def load(store: MemoryStore, root: str, folder: Path) -> None:
    """Put the files of a table in `folder` into the workspace, below `root`."""
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            store.seed(SCOPE.full(paths.workspace_path(f"{root}/{file.relative_to(folder)}")), file.read_bytes())


def deltalake_table(folder: Path, versions: int, configuration: dict[str, str] | None = None) -> Path:
    """Let deltalake write a table of `versions` versions, one row each."""
    for number in range(versions):
        write_deltalake(
            folder,
            pa.table({"id": pa.array([number], pa.int64()), "day": [f"d{number}"]}),
            mode="append",
            configuration=configuration if number == 0 else None,
        )
    return folder


def hand_made(
    store: MemoryStore,
    root: str,
    protocol: dict[str, object],
    *,
    configuration: dict[str, str] | None = None,
    fields: list[dict[str, object]] | None = None,
) -> None:
    """Put version 0 of a table with any protocol into the workspace."""
    schema = {
        "type": "struct",
        "fields": fields or [{"name": "id", "type": "long", "nullable": True, "metadata": {}}],
    }
    actions = [
        {"commitInfo": {"timestamp": NOW_MS, "operation": "CREATE TABLE"}},
        {"protocol": protocol},
        {
            "metaData": {
                "id": ID_C,
                "format": {"provider": "parquet", "options": {}},
                "schemaString": orjson.dumps(schema).decode(),
                "partitionColumns": [],
                "configuration": configuration or {},
                "createdTime": NOW_MS,
            }
        },
    ]
    data = b"\n".join(orjson.dumps(action) for action in actions)
    store.seed(SCOPE.full(paths.delta_log(root, 0)), data)
