"""Where tables lie: readable by everybody, apart from other workspaces, and found again whatever was before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import duckdb_extensions
import orjson
import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from hypothesis import given
from hypothesis import strategies as st

from springline import paths
from springline.api.location import table_location
from springline.commit.registry import Registry
from springline.commit.same_table import already_adopted, already_created
from springline.delta.registry import Claim, TableEntry
from springline.delta.table_request import AdoptTable
from springline.errors import Code
from springline.paths import InvalidPath, ObjectPath, Scope
from springline.storage.faults import FaultyStore
from springline.storage.local import LocalStore
from springline.storage.memory import MemoryStore
from springline.storage.port import IfAbsent
from springline.storage.scoped import ScopedStore
from tests.support.tables import (
    ID_A,
    ID_B,
    ID_C,
    SCOPE,
    adopt,
    create,
    deltalake_table,
    flights,
    load,
    refusal_of,
    relative_objects,
    scoped,
)

NEW = f"/{SCOPE.tables}"
ROWS = pa.table({"id": pa.array([1, 2, 3], pa.int64()), "day": ["2026-01-01", "2026-01-02", "2026-01-02"]})


@pytest.fixture
def duck() -> Iterator[duckdb.DuckDBPyConnection]:
    duckdb_extensions.import_extension("delta")
    with duckdb.connect(config={"allow_unsigned_extensions": "true"}) as connection:
        connection.execute("LOAD delta")
        yield connection


@pytest.mark.parametrize("location", [None, "warehouse/flights"])
async def test_a_new_partitioned_table_is_read_alike_by_every_reader(
    location: str | None, tmp_path: Path, duck: duckdb.DuckDBPyConnection
) -> None:
    store = LocalStore(tmp_path / "lake", fsync=False)
    entry = await create(store, flights(location=location, partition_columns=["day"]))
    assert entry.root == f"{NEW}/{ID_A if location is None else location}"
    url = table_location(store.url, SCOPE, entry.root)
    write_deltalake(url, ROWS, mode="append")
    expected = sorted(ROWS.to_pylist(), key=lambda row: row["id"])
    assert pl.read_delta(url).sort("id").to_dicts() == expected
    assert pl.scan_delta(url).filter(pl.col("day") == "2026-01-02").select("id").collect().height == 2
    assert sorted(DeltaTable(url).to_pyarrow_table().to_pylist(), key=lambda row: row["id"]) == expected
    place = url.removeprefix("file://")
    found = duck.execute("SELECT id, day FROM delta_scan(?) ORDER BY id", [place]).fetchall()
    assert [dict(zip(("id", "day"), row, strict=True)) for row in found] == expected
    columns = duck.execute("DESCRIBE SELECT * FROM delta_scan(?)", [place]).fetchall()
    assert [name for name, *_ in columns] == ["id", "day"]
    await store.aclose()


async def registered_before(memory: MemoryStore, root: str, table_id: str = ID_A, name: str = "flights") -> TableEntry:
    """Bring about what an older version left: a table created at `root`, registered under the workspace's prefix."""
    await create(memory, flights(name, f"{SCOPE.prefix}/{root}"), table_id)
    entry = await Registry(scoped(memory)).entry(name)
    assert entry.root == root
    return entry


async def test_a_table_that_was_there_before_is_found_by_the_request_that_made_it() -> None:
    memory = MemoryStore()
    entry = await registered_before(memory, "warehouse/flights")
    before = dict(memory.objects)
    assert await create(memory, flights(location="warehouse/flights")) == entry
    registry = Registry(scoped(memory))
    assert await already_created(scoped(memory), SCOPE, registry, flights(location="warehouse/flights")) == entry
    spec = AdoptTable(name="flights", location="warehouse/flights")
    assert await already_adopted(scoped(memory), SCOPE, registry, spec) == entry
    assert await adopt(memory, "flights", "warehouse/flights", ID_A) == entry
    assert dict(memory.objects) == before


async def test_a_table_at_its_old_default_is_found_by_the_request_that_made_it() -> None:
    memory = MemoryStore()
    entry = await registered_before(memory, paths.default_table_root(ID_A))
    assert entry.table_id == ID_A
    registry = Registry(scoped(memory))
    assert await already_created(scoped(memory), SCOPE, registry, flights()) == entry
    assert await registry.root_of(ID_A) == f"tables/{ID_A}"


@pytest.mark.parametrize("location", ["x=1/y", "lake/x=1", f"tables/{SCOPE.tenant}/{SCOPE.workspace}/day=1"])
async def test_a_new_table_gets_no_folder_that_looks_like_a_partition(location: str, tmp_path: Path) -> None:
    """polars takes them for columns; a table that is there already is adopted as it is, and found again."""
    memory = MemoryStore()
    refusal = await refusal_of(create(memory, flights(location=location)))
    assert (refusal.code, refusal.field, refusal.value) == (Code.INVALID_PATH, "location", location)
    assert not memory.objects
    load(memory, f"{NEW}/x=1/y", deltalake_table(tmp_path / "one", 1))
    assert (await adopt(memory, "flights", "x=1/y")).root == f"{NEW}/x=1/y"


async def test_a_folder_to_be_adopted_is_the_one_that_holds_a_log(tmp_path: Path) -> None:
    for root in ("lake/rides", f"{NEW}/lake/rides"):
        memory = MemoryStore()
        load(memory, root, deltalake_table(tmp_path / root.replace("/", "_"), 1))
        assert (await adopt(memory, "rides", "lake/rides")).root == root


async def test_a_folder_that_holds_two_tables_is_adopted_by_its_full_path_only(tmp_path: Path) -> None:
    memory = MemoryStore()
    made = deltalake_table(tmp_path, 1)
    load(memory, "lake/rides", made)
    load(memory, f"{NEW}/lake/rides", made)
    before = dict(memory.objects)
    refusal = await refusal_of(adopt(memory, "rides", "lake/rides"))
    assert (refusal.code, refusal.field) == (Code.INVALID_PATH, "location")
    assert f"{SCOPE.tables}/lake/rides and {SCOPE.prefix}/lake/rides" in refusal.message
    assert dict(memory.objects) == before
    assert (await adopt(memory, "rides", f"{SCOPE.tables}/lake/rides")).root == f"{NEW}/lake/rides"
    assert (await adopt(memory, "rides", "lake/rides")).root == f"{NEW}/lake/rides"
    assert (await adopt(memory, "old_rides", f"{SCOPE.prefix}/lake/rides", ID_C)).root == "lake/rides"


OUTSIDE = [
    "gs://other/lake/rides",
    "memory://lake/lake/rides",
    "memory://lake2/tables/acme/prod/lake/rides",
    "memory://lake/tables/acme/production/lake/rides",
    "memory://lake/tenant=rival/workspace=prod/lake/rides",
    "file:///lake/rides",
    "/lake/rides",
    "../lake/rides",
    "lake/../../rival/rides",
    "tables/rival/prod/lake/rides",
    "/tables/rival/prod/lake/rides",
    "tables/acme/prod/../production/lake/rides",
    "tenant=rival/workspace=prod/lake/rides",
    "tenant=acme/workspace=production/lake/rides",
    f"{SCOPE.prefix}/../../x",
]


@pytest.mark.parametrize("location", OUTSIDE)
async def test_a_location_outside_the_workspace_is_refused_and_nothing_is_written(
    location: str, tmp_path: Path
) -> None:
    """There is a table at every place that the location might be taken for."""
    memory = MemoryStore(name="lake")
    made = deltalake_table(tmp_path, 1)
    load(memory, "lake/rides", made)
    load(memory, f"{NEW}/lake/rides", made)
    load(memory, "tenant=rival/workspace=prod/lake/rides", made)
    store = FaultyStore(memory)
    for request in (adopt(store, "rides", location), create(store, flights("rides", location))):
        refusal = await refusal_of(request)
        assert (refusal.code, refusal.field, refusal.value) == (Code.INVALID_PATH, "location", location)
    assert store.trace == []


async def test_a_folder_behind_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    made = deltalake_table(tmp_path / "outside" / "rides", 1)
    lake = tmp_path / "lake"
    area = lake / SCOPE.tables
    area.mkdir(parents=True)
    rival = lake / Scope("rival", "prod").tables / "rides"
    deltalake_table(rival, 1)
    (area / "direct").symlink_to(made)
    (area / "parent").symlink_to(made.parent)
    (area / "rival").symlink_to(rival)
    (area / "loop").symlink_to("loop")
    (area / "log").mkdir()
    (area / "log" / "_delta_log").symlink_to(made / "_delta_log")
    (tmp_path / "link_to_lake").symlink_to(lake)
    deltalake_table(area / "mine", 1)
    for folder in (lake, tmp_path / "link_to_lake"):
        store = LocalStore(folder, fsync=False)
        for location in ("direct", "parent/rides", "parent/new", "rival", "loop/x", "log"):
            for request in (
                adopt(store, "rides", f"{SCOPE.tables}/{location}"),
                create(store, flights("rides", f"{SCOPE.tables}/{location}")),
            ):
                refusal = await refusal_of(request)
                assert (refusal.code, refusal.field) == (Code.INVALID_PATH, "location")
                assert "symbolic link" in refusal.message
                assert str(tmp_path) not in refusal.model_dump_json()
        await store.aclose()
    store = LocalStore(tmp_path / "link_to_lake", fsync=False)
    assert (await adopt(store, "mine", "mine")).root == f"{NEW}/mine"
    await store.aclose()


async def test_a_default_location_belongs_to_the_table_of_its_id_wherever_that_lies() -> None:
    memory = MemoryStore()
    await create(memory, flights())
    await registered_before(memory, paths.default_table_root(ID_B), ID_B, "old")
    memory.seed(SCOPE.full(paths.delta_coordinator(ID_C)), b'{"latest_version":0,"inflight":null}')
    memory.seed(SCOPE.full(paths.delta_log(paths.default_table_root(ID_C), 0)), b'{"commitInfo":{}}')
    before = dict(memory.objects)
    for location in (f"tables/{ID_A}", ID_B, ID_C, f"{SCOPE.tables}/{ID_C}", f"{ID_A}/inner", f"tables/{ID_B}/inner"):
        refusal = await refusal_of(create(memory, flights("other", location), "01946b1c-0000-7000-8000-0000000000dd"))
        assert (refusal.code, refusal.field) in ((Code.ROOT_TAKEN, "location"), (Code.INVALID_PATH, "location"))
    assert dict(memory.objects) == before


async def test_a_table_that_lost_its_entry_is_looked_for_where_it_claimed_to_be(tmp_path: Path) -> None:
    memory = MemoryStore()
    entry = await create(memory, flights())
    memory.remove(SCOPE.full(paths.table_entry(ID_A)))
    assert await Registry(scoped(memory)).root_of(ID_A) == entry.root
    memory.remove(SCOPE.full(paths.root_claim(entry.root)))
    memory.remove(SCOPE.full(paths.name_claim("flights")))
    # All of the registry is gone: adopting the folder brings the id back, and with it the keys that it has answered.
    again = await adopt(memory, "flights", ID_A, ID_B)
    assert (again.table_id, again.root) == (ID_A, entry.root)


async def test_what_older_versions_wrote_is_read_as_before() -> None:
    memory = MemoryStore()
    entry = TableEntry(table_id=ID_A, name="flights", root="tables/acme/prod/x", created_at_ms=1)
    memory.seed(SCOPE.full(paths.table_entry(ID_A)), orjson.dumps(entry.model_dump()))
    claim = Claim(table_id=ID_A, value="flights")
    memory.seed(SCOPE.full(paths.name_claim("flights")), orjson.dumps(claim.model_dump()))
    found = await Registry(scoped(memory)).entry("flights")
    assert SCOPE.full(paths.delta_log(found.root, 0)).startswith(f"{SCOPE.prefix}/tables/acme/prod/x/")
    assert table_location("gs://lake", SCOPE, found.root) == f"gs://lake/{SCOPE.prefix}/tables/acme/prod/x"


names = st.text("ab0-_", min_size=1, max_size=3) | st.sampled_from(["tables", ID_A, ID_A[:-1], "tenant", "workspace"])
segments = names | st.sampled_from(["_delta_log", "x=y", "tenant=a", "..", ".", "", "%2e%2e", " ", "ü"])
asked_paths = st.builds(
    lambda start, parts: start + "/".join(parts),
    st.sampled_from(["", "/", "/tables/", "tables/", "/tables/a/b/", "/tables/a/b"]),
    st.lists(segments, min_size=1, max_size=5),
)


@given(tenant=names, workspace=names, asked=asked_paths)
async def test_a_scoped_store_touches_nothing_of_another_workspace(tenant: str, workspace: str, asked: str) -> None:
    """Whatever path is asked for: it is refused, or lies in one of the two areas of the workspace."""
    scope = Scope(tenant, workspace)
    store = FaultyStore(MemoryStore())
    mine = ScopedStore(store, scope)
    path = ObjectPath(asked)
    try:
        await mine.put(path, b"x", IfAbsent())
    except InvalidPath:
        for refused in (mine.get(path), mine.head(path), mine.delete(path, if_version="1"), mine.read_many([path])):
            with pytest.raises(InvalidPath):
                await refused
        assert store.trace == []
        return
    assert await mine.get(path) is not None
    assert await mine.read_many([path]) == [b"x"]
    info = await mine.head(path)
    assert info is not None
    assert info.path == path
    names = [one.operation.path for one in store.trace]
    assert names
    assert all(name.startswith((f"{scope.prefix}/", f"{scope.tables}/")) for name in names)
    area, _ = paths.area_and_folder(path)
    prefix = ObjectPath(f"{area}/" if area else "")
    assert [one.path async for one in mine.list(prefix)] == [path]
    other = ScopedStore(store, Scope(tenant + "x", workspace))
    neighbour = ScopedStore(store, Scope(tenant, workspace + "0"))
    for stranger in (other, neighbour):
        assert [one async for one in stranger.list(ObjectPath(""))] == []
        assert [one async for one in stranger.list(ObjectPath(f"/{stranger.scope.tables}/"))] == []
        if area:
            with pytest.raises(InvalidPath):
                await stranger.get(path)


async def test_a_list_of_an_area_stays_in_it_and_begins_where_it_is_told() -> None:
    memory = MemoryStore()
    for tenant, workspace in (("acme", "prod"), ("acme", "production"), ("acm", "prod"), ("rival", "prod")):
        for name in ("a", "b"):
            memory.seed(ObjectPath(f"{Scope(tenant, workspace).tables}/{name}"), b"x")
            memory.seed(ObjectPath(f"{Scope(tenant, workspace).prefix}/{name}"), b"x")
    mine = scoped(memory)
    prefix = ObjectPath(f"{NEW}/")
    assert [one.path async for one in mine.list(prefix)] == [f"{NEW}/a", f"{NEW}/b"]
    assert [one.path async for one in mine.list(prefix, start_after=ObjectPath(f"{NEW}/a"))] == [f"{NEW}/b"]
    assert [one.path async for one in mine.list(ObjectPath(""))] == ["a", "b"]


async def test_only_the_files_of_a_new_table_lie_in_the_tables_area() -> None:
    memory = MemoryStore()
    await create(memory, flights(partition_columns=["day"]))
    assert {name for name in relative_objects(memory) if name.startswith("/")} == {paths.delta_log(f"{NEW}/{ID_A}", 0)}
