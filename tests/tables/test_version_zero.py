from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable, write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from springline import paths
from springline.delta.create import check_creation, is_version_zero_of, version_zero
from springline.delta.features import REFUSED, unsupported
from springline.delta.schema import PRIMITIVES, normalised_schema
from springline.delta.table_request import CreateTable
from springline.errors import Code, Refused
from tests.support.tables import COLUMNS, ID_A, ID_B, NOW_MS, flights


def lines_of(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in data.splitlines()]


def written(spec: CreateTable, folder: Path) -> Path:
    log = folder / paths.delta_log("t", 0)
    log.parent.mkdir(parents=True)
    log.write_bytes(version_zero(check_creation(spec), ID_A, NOW_MS))
    return folder / "t"


def test_the_exact_bytes_of_a_plain_table() -> None:
    spec = flights(partition_columns=["day"], properties={"owner": "me"}, description="all of them")
    assert version_zero(check_creation(spec), ID_A, NOW_MS).decode().splitlines() == [
        '{"commitInfo":{"timestamp":1736899200000,"operation":"CREATE TABLE","operationParameters":'
        '{"isManaged":"false","partitionBy":"[\\"day\\"]","properties":"{\\"owner\\":\\"me\\"}"},'
        '"isBlindAppend":true,"engineInfo":"springline/0.1.0","txnId":"01946b1c-0000-7000-8000-0000000000aa"}}',
        '{"protocol":{"minReaderVersion":1,"minWriterVersion":2}}',
        '{"metaData":{"id":"01946b1c-0000-7000-8000-0000000000aa","name":"flights","description":"all of them",'
        '"format":{"provider":"parquet","options":{}},"schemaString":"{\\"type\\":\\"struct\\",\\"fields\\":'
        '[{\\"name\\":\\"id\\",\\"type\\":\\"long\\",\\"nullable\\":true,\\"metadata\\":{}},'
        '{\\"name\\":\\"day\\",\\"type\\":\\"string\\",\\"nullable\\":false,\\"metadata\\":{}}]}",'
        '"partitionColumns":["day"],"configuration":{"owner":"me"},"createdTime":1736899200000}}',
    ]


def test_deltalake_reads_every_type_we_accept(tmp_path: Path) -> None:
    columns: list[dict[str, Any]] = [{"name": f"c_{name}", "type": name} for name in sorted(PRIMITIVES)]
    columns += [
        {"name": "money", "type": "decimal(12, 2)"},
        {"name": "tags", "type": {"type": "array", "elementType": "string", "containsNull": False}},
        {"name": "by_day", "type": {"type": "map", "keyType": "string", "valueType": "double"}},
        {"name": "inner", "type": {"type": "struct", "fields": [{"name": "x", "type": "integer", "nullable": False}]}},
    ]
    table = DeltaTable(written(CreateTable(name="all", columns=columns, partition_columns=["c_date"]), tmp_path))
    schema = json.loads(table.schema().to_json())
    assert [field["name"] for field in schema["fields"]] == [column["name"] for column in columns]
    assert schema == normalised_schema(columns)
    assert table.protocol().reader_features == ["timestampNtz"]
    assert table.metadata().partition_columns == ["c_date"]
    assert str(table.metadata().id) == ID_A


def test_deltalake_appends_to_a_table_we_made(tmp_path: Path) -> None:
    import pyarrow as pa

    root = written(flights(partition_columns=["day"]), tmp_path)
    rows = pa.table(
        {"id": [1, 2], "day": ["mon", "tue"]},
        schema=pa.schema([("id", "int64"), pa.field("day", "string", nullable=False)]),
    )
    write_deltalake(root, rows, mode="append")
    assert sorted(DeltaTable(root).to_pyarrow_table().column("id").to_pylist()) == [1, 2]


@pytest.mark.parametrize(
    ("properties", "protocol"),
    [
        ({}, {"minReaderVersion": 1, "minWriterVersion": 2}),
        ({"delta.appendOnly": "true", "delta.checkpointInterval": "5"}, {"minReaderVersion": 1, "minWriterVersion": 2}),
        ({"delta.feature.appendOnly": "supported"}, {"minReaderVersion": 1, "minWriterVersion": 2}),
        (
            {"delta.enableChangeDataFeed": "true"},
            {
                "minReaderVersion": 1,
                "minWriterVersion": 7,
                "writerFeatures": ["appendOnly", "changeDataFeed", "invariants"],
            },
        ),
        (
            {"delta.enableDeletionVectors": "true"},
            {
                "minReaderVersion": 3,
                "minWriterVersion": 7,
                "readerFeatures": ["deletionVectors"],
                "writerFeatures": ["appendOnly", "deletionVectors", "invariants"],
            },
        ),
        ({"delta.enableDeletionVectors": "false"}, {"minReaderVersion": 1, "minWriterVersion": 2}),
    ],
)
def test_the_protocol_is_the_smallest_that_holds_what_was_asked(
    properties: dict[str, str], protocol: dict[str, Any], tmp_path: Path
) -> None:
    spec = flights(properties=properties)
    new = check_creation(spec)
    assert new.protocol == protocol
    assert unsupported(new.protocol, new.metadata(ID_A, NOW_MS)) == []
    kept = {key: value for key, value in properties.items() if not key.startswith("delta.feature.")}
    assert DeltaTable(written(spec, tmp_path)).metadata().configuration == kept


def test_the_same_request_gives_the_same_bytes_whatever_the_order_of_properties() -> None:
    one = check_creation(flights(properties={"a": "1", "b": "2"}))
    two = check_creation(flights(properties={"b": "2", "a": "1"}))
    assert version_zero(one, ID_A, NOW_MS) == version_zero(two, ID_A, NOW_MS)


def test_a_creation_is_recognised_at_another_time_and_nothing_else_is() -> None:
    new = check_creation(flights())
    data = version_zero(new, ID_A, NOW_MS)
    assert is_version_zero_of(new, ID_A, data)
    assert is_version_zero_of(new, ID_A, version_zero(new, ID_A, NOW_MS + 1))
    assert not is_version_zero_of(new, ID_B, data)
    assert not is_version_zero_of(check_creation(flights("other")), ID_A, data)
    assert not is_version_zero_of(check_creation(flights(partition_columns=["day"])), ID_A, data)
    for damaged in (b"", b"{", b"[1]\n", data + b" ", data.replace(b"createdTime", b"createdTIME")):
        assert not is_version_zero_of(new, ID_A, damaged)


LONG = "x" * 300


@pytest.mark.parametrize(
    ("fields", "field", "remedy"),
    [
        ({"name": ""}, "name", "letters"),
        ({"name": "a/b"}, "name", "letters"),
        ({"name": "-a"}, "name", "begin with"),
        ({"name": "a" * 201}, "name", "shorten"),
        ({"name": ID_A}, "name", "UUID"),
        ({"name": ID_A.upper()}, "name", "UUID"),
        ({"columns": []}, "columns", "at least one"),
        ({"columns": {"type": "array"}}, "columns", "struct"),
        ({"columns": [{"name": "a"}]}, "columns[0]", "add one of"),
        ({"columns": [{"name": "", "type": "long"}]}, "columns[0].name", "not empty"),
        ({"columns": [{"name": LONG, "type": "long"}]}, "columns[0].name", "shorten"),
        ({"columns": [{"name": "a b", "type": "long"}]}, "columns[0].name", "column mapping"),
        ({"columns": [{"name": "a\u0007", "type": "long"}]}, "columns[0].name", "column mapping"),
        ({"columns": [{"name": "a", "type": "bigint"}]}, "columns[0].type", "'long'"),
        ({"columns": [{"name": "a", "type": "LONG"}]}, "columns[0].type", "'long'"),
        ({"columns": [{"name": "a", "type": "strin"}]}, "columns[0].type", "'string'"),
        ({"columns": [{"name": "a", "type": "xyz"}]}, "columns[0].type", "use one of"),
        ({"columns": [{"name": "a", "type": "decimal(39,0)"}]}, "columns[0].type", "1 to 38"),
        ({"columns": [{"name": "a", "type": "decimal(3,4)"}]}, "columns[0].type", "0 to p"),
        ({"columns": [{"name": "a", "type": "variant"}]}, "columns[0].type", "adopt"),
        ({"columns": [{"name": "a", "type": 7}]}, "columns[0].type", "use one of"),
        ({"columns": [{"name": "a", "type": {"type": "array"}}]}, "columns[0].type.elementType", "use one of"),
        (
            {"columns": [{"name": "a", "type": {"type": "map", "keyType": "string", "valueType": "int"}}]},
            "columns[0].type.valueType",
            "'integer'",
        ),
        ({"columns": [{"name": "a", "type": {"type": "struct", "fields": []}}]}, "columns[0].type", "one field"),
        ({"columns": [{"name": "a", "type": "long", "nullable": "yes"}]}, "columns[0].nullable", "true or false"),
        ({"columns": [{"name": "a", "type": "long", "default": 1}]}, "columns[0]", "leave"),
        ({"columns": [{"name": "a", "type": "long"}, {"name": "A", "type": "long"}]}, "columns[1].name", "own"),
        (
            {"columns": [{"name": "a", "type": "long", "metadata": {"delta.identity.start": 1}}]},
            "columns[0].metadata",
            "adopt",
        ),
        ({"columns": [{"name": "a", "type": "long", "metadata": {"n": 2**70}}]}, "columns[0].metadata", "leave"),
        ({"partition_columns": ["dya"]}, "partition_columns", "'day'"),
        ({"partition_columns": ["day", "day"]}, "partition_columns", "once"),
        ({"partition_columns": ["id", "day"]}, "partition_columns", "leave one out"),
        (
            {"columns": [*COLUMNS, {"name": "b", "type": "binary"}], "partition_columns": ["b"]},
            "partition_columns",
            "plain",
        ),
        *(
            (
                {"columns": [*COLUMNS, {"name": name, "type": "string"}], "partition_columns": [name]},
                "partition_columns",
                "rename",
            )
            for name in ("a/b", "a:b")
        ),
        ({"properties": {"delta.apendOnly": "true"}}, "properties", "spelling"),
        ({"properties": {"delta.appendOnly": "yes"}}, "properties", "true or false"),
        ({"properties": {"delta.checkpointInterval": "0"}}, "properties", "write one"),
        ({"properties": {"delta.constraints.c": "id > 0"}}, "properties", "adopt"),
        ({"properties": {"delta.columnMapping.mode": "name"}}, "properties", "adopt"),
        ({"properties": {"delta.feature.columnMapping": "supported"}}, "properties", "adopt"),
        ({"properties": {"delta.feature.deletionVectors": "no"}}, "properties", "supported"),
        ({"properties": {"": "x"}}, "properties", "name"),
    ],
)
def test_bad_creations_name_field_value_and_remedy(fields: dict[str, Any], field: str, remedy: str) -> None:
    spec = CreateTable.model_validate({"name": "flights", "columns": COLUMNS, **fields})
    with pytest.raises(Refused) as caught:
        check_creation(spec)
    refusal = caught.value.refusal
    assert refusal.code is Code.INVALID_REQUEST
    assert refusal.field == field
    assert refusal.value is not None or field.endswith("elementType")
    assert remedy in (refusal.remedy or "")
    assert len(refusal.message) < 500
    assert json.loads(refusal.model_dump_json())["field"] == field


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"properties": {f"k{n}": "v" for n in range(201)}}, "properties"),
        ({"properties": {"k": "v" * 100_000}}, "properties"),
        ({"description": "d" * 4_001}, "description"),
    ],
)
def test_creations_are_bounded_wherever_they_come_from(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        CreateTable.model_validate({"name": "flights", "columns": COLUMNS, **fields})
    assert caught.value.errors()[0]["loc"][0] == field


def test_a_schema_may_not_be_nested_without_end() -> None:
    kind: Any = "long"
    for _ in range(40):
        kind = {"type": "array", "elementType": kind}
    with pytest.raises(Refused) as caught:
        check_creation(CreateTable(name="deep", columns=[{"name": "a", "type": kind}]))
    assert "nested deeper" in caught.value.refusal.message


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_refused_feature_cannot_be_asked_for(name: str) -> None:
    with pytest.raises(Refused) as caught:
        check_creation(flights(properties={f"delta.feature.{name}": "supported"}))
    assert caught.value.refusal.code is Code.UNSUPPORTED_FEATURE
    assert caught.value.refusal.value == [name]


@pytest.mark.parametrize(
    ("key", "value", "name"),
    [
        ("delta.enableInCommitTimestamps", "true", "inCommitTimestamp"),
        ("delta.enableRowTracking", "true", "rowTracking"),
        ("delta.enableIcebergCompatV2", "true", "icebergCompatV2"),
        ("delta.universalFormat.enabledFormats", "iceberg", "universalFormat"),
        ("delta.coordinatedCommits.commitCoordinator-preview", "x", "coordinatedCommits-preview"),
        ("delta.feature.someDay", "supported", "someDay"),
    ],
)
def test_a_property_that_asks_for_a_refused_feature_is_refused_by_name(key: str, value: str, name: str) -> None:
    with pytest.raises(Refused) as caught:
        check_creation(flights(properties={key: value}))
    assert caught.value.refusal.code is Code.UNSUPPORTED_FEATURE
    assert caught.value.refusal.value == [name]


names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
primitives = st.sampled_from(sorted(PRIMITIVES)) | st.just("decimal(10,3)")


def columns_of(kinds: st.SearchStrategy[Any], least: int = 1) -> st.SearchStrategy[list[dict[str, Any]]]:
    column = st.fixed_dictionaries({"name": names, "type": kinds}, optional={"nullable": st.booleans()})
    return st.lists(column, min_size=least, max_size=4, unique_by=lambda one: one["name"].lower())


types = st.recursive(
    primitives,
    lambda inner: (
        st.builds(lambda kind: {"type": "array", "elementType": kind}, inner)
        | st.builds(lambda kind: {"type": "map", "keyType": "string", "valueType": kind}, inner)
        | st.builds(lambda fields: {"type": "struct", "fields": fields}, columns_of(inner))
    ),
    max_leaves=6,
)


@settings(deadline=None, max_examples=60)
@given(columns=columns_of(types, least=2), now_ms=st.integers(0, 2**42))
def test_any_valid_schema_round_trips_and_is_read_by_deltalake(
    tmp_path_factory: pytest.TempPathFactory, columns: list[dict[str, Any]], now_ms: int
) -> None:
    new = check_creation(CreateTable(name="t", columns=columns))
    assert normalised_schema(new.schema) == new.schema
    data = version_zero(new, ID_A, now_ms)
    assert data == version_zero(check_creation(CreateTable(name="t", columns=new.schema)), ID_A, now_ms)
    assert [next(iter(line)) for line in lines_of(data)] == ["commitInfo", "protocol", "metaData"]
    folder = tmp_path_factory.mktemp("table")
    log = folder / paths.delta_log("t", 0)
    log.parent.mkdir(parents=True)
    log.write_bytes(data)
    assert json.loads(DeltaTable(folder / "t").schema().to_json()) == new.schema
