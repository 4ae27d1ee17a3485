"""Rules of the judgement one by one: JSON, paths, partition values, protocols, changes of a table with rows, bounds."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import orjson
import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st

from springline import paths
from springline.commit.complete import settle
from springline.commit.staging import stage
from springline.delta.conflicts import committed_version, version_refusal
from springline.delta.coordinator import Coordinator, Member
from springline.delta.create import check_creation
from springline.delta.datapath import BadPath, decoded_path
from springline.delta.features import judge_protocol
from springline.delta.identity import sha256_hex, strict_request_hash
from springline.delta.messages import CommitMode, CommitRequest
from springline.delta.partition_values import partition_type
from springline.delta.payload import parse_payload
from springline.delta.rounds import reservation
from springline.delta.strictjson import BadJson, strict_json
from springline.delta.table_request import CreateTable
from springline.errors import Code, Refused
from springline.storage.memory import MemoryStore
from tests.judges import counts
from tests.judging.beds import BEDS
from tests.judging.committing import NOW_MS, TABLE_ID, Lines, commit_request, payload
from tests.judging.generator import added
from tests.tables.support import SCOPE, hand_made, refusal_of
from tests.tables.support import adopt as adopt_hand_made

KEY = "01946b1c-0000-7000-8000-000000000001"


# JSON.

TREES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(max_size=5)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.lists(st.tuples(st.text("ab\\\": ", max_size=2), inner), max_size=4)
    .map(tuple),
    max_leaves=12,
)  # fmt: skip
"""Values in which an object is a tuple of pairs, so that it may hold a key twice."""


def written(value: Any, colon: str) -> str:
    if isinstance(value, tuple):
        return "{" + ",".join(f"{json.dumps(key)}{colon}{written(one, colon)}" for key, one in value) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(written(one, colon) for one in value) + "]"
    return json.dumps(value)


def has_twice(value: Any) -> bool:
    if isinstance(value, tuple):
        keys = [key for key, _ in value]
        return len(set(keys)) < len(keys) or any(has_twice(one) for _, one in value)
    return isinstance(value, list) and any(has_twice(one) for one in value)


@settings(deadline=None)
@given(TREES, st.sampled_from([":", " :", ": ", "\t: ", "  :"]))
def test_a_key_twice_is_found_wherever_it_is_and_nothing_else(value: Any, colon: str) -> None:
    text = written(value, colon).encode()
    if has_twice(value):
        with pytest.raises(BadJson, match="twice"):
            strict_json(text)
    else:
        assert strict_json(text) == orjson.loads(text)


@pytest.mark.parametrize("depth", [101, 5_000, 1_000_000])
@pytest.mark.parametrize("pair", ["[]", '{"a":}'])
def test_what_nests_too_deep_is_refused_at_once(depth: int, pair: str) -> None:
    opening, closing = (pair[0], pair[1]) if pair == "[]" else (pair[:-1], pair[-1])
    text = (opening * depth + "1" + closing * depth).encode()
    started = time.process_time()
    with pytest.raises(BadJson, match="nested deeper than 100"):
        strict_json(text)
    assert time.process_time() - started < 0.5


@pytest.mark.parametrize("text", [b'"\\ud800"', b"NaN", b"[1,]", b"{'a':1}", b"", b'{"a":1}x', b"\xff", b"Infinity"])
def test_what_is_no_json(text: bytes) -> None:
    with pytest.raises(BadJson):
        strict_json(text)


# Paths, as delta-rs, DuckDB and Spark read them (tried with each).

GOOD_PATHS = {
    "part-0.parquet": None, "x/y.parquet": None, "a%20b.parquet": "a b.parquet", "é.parquet": None,
    "%C3%A9.parquet": "é.parquet", "a%23b.parquet": "a#b.parquet", "a%3Fb.parquet": "a?b.parquet",
    "a%5Bb%5D.parquet": "a[b].parquet", "a%25b.parquet": "a%b.parquet", "a+b.parquet": None, ".h.parquet": None,
    "p=1/a.parquet": None, "_x/y.parquet": None, "a%5Cb.parquet": "a\\b.parquet", "a~b!$&(),;@.parquet": None,
    "_change_data/c.parquet": None, "ts=2020-01-01%2000%253A00/a.parquet": "ts=2020-01-01 00%3A00/a.parquet",
}  # fmt: skip
BAD_PATHS = (
    "", "/a.parquet", "//a.parquet", "a b.parquet", "./a.parquet", "x/../a.parquet", "../a.parquet", "..", ".",
    "x//y.parquet", "x/", "a%zz.parquet", "a%.parquet", "a%2", "%61.parquet", "x%2Fy.parquet", "%2e%2e/a.parquet",
    "a:b.parquet", "x/a:b.parquet", "a%3Ab.parquet", "s3://b/a.parquet", "file:/a.parquet", "FILE:a", "%E9.parquet",
    "a#b", "a?b", "a[b]", "a|b", "a{b}", 'a"b', "a\\b", "a^b", "a`b", "a<b>", "a\tb", "a\u0001", "a\u2028b",
    "a\u00a0b", "a%00b", "a%0Ab", "a\u0000b", "_delta_log/a.parquet", "_delta_log", "_DELTA_LOG/x/a.parquet",
    "x" * 1_025, "%C3%A9" * 600,
)  # fmt: skip


@pytest.mark.parametrize("path", GOOD_PATHS)
def test_a_path_that_every_reader_takes(path: str) -> None:
    assert decoded_path(path) == (GOOD_PATHS[path] or path)


@pytest.mark.parametrize("path", BAD_PATHS)
def test_a_path_that_some_reader_does_not_take(path: str) -> None:
    with pytest.raises(BadPath):
        decoded_path(path)
    line = {"path": path, "partitionValues": {}, "size": 1, "modificationTime": 1, "dataChange": True}
    for kind in ("add", "remove", "cdc"):
        with pytest.raises(Refused) as error:
            parse_payload(payload([{kind: line | ({"dataChange": False} if kind == "cdc" else {})}]))
        assert error.value.refusal.field == f"payload line 1: {kind}.path"


# Partition values.

VALUES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "long": (("0", "-1", "9223372036854775807"), ("9223372036854775808", "1.0", " 1", "1e2", "abc", "1_0", "٣", "")),
    "integer": (("2147483647",), ("2147483648",)),
    "short": (("-32768",), ("40000",)),
    "byte": (("127",), ("128",)),
    "boolean": (("true", "false"), ("1", "t", "yes")),
    "double": (("1", "-1.5", "1e308", "NaN", "Infinity", "-Infinity", "inf"), ("1e400", "0x1p3", "1d", " 1", "abc")),
    "float": (("1.5", "NaN"), ("1e39",)),
    "decimal(10,2)": (
        ("1.50", "-12345678.90", "0.00"),
        ("1.5", "1", "1.555", "123456789.00", "1e2", "abc", "1.50 "),
    ),
    "decimal(5,0)": (("12345", "-1"), ("123456", "1.")),
    "date": (("2020-01-01", "0001-01-01", "9999-12-31"), ("20200101", "2020-02-30", "10000-01-01", "2020", "x")),
    "timestamp": (
        ("2020-01-01 00:00:00", "2020-01-01 00:00:00.5", "2020-01-01T00:00:00.123456Z", "9999-12-31 23:59:59.999999"),
        ("2020-01-01", "2020-01-01 00:00", "2020-01-01 24:00:00", "2020-13-01 00:00:00", "2020-01-01 00:00:00.1234567"),
    ),
    "timestamp_ntz": (("2020-01-01 00:00:00.123456",), ("2020-01-01T00:00:00", "2020-01-01T00:00:00Z")),
    "string": (("a", "null", " ", "é", "x\ny"), ("",)),
}


@pytest.mark.parametrize("kind", VALUES)
def test_texts_that_stand_for_a_value_of_a_type(kind: str) -> None:
    fits, wanted = partition_type(kind)
    good, bad = VALUES[kind]
    assert [text for text in good if not fits(text)] == []
    assert [text for text in bad if fits(text)] == []
    assert wanted


# Protocols.

PROTOCOLS: list[tuple[dict[str, Any], str | None]] = [
    ({"minReaderVersion": 1, "minWriterVersion": 2}, None),
    ({"minReaderVersion": 2, "minWriterVersion": 5}, None),
    ({"minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": ["appendOnly"]}, None),
    ({"minReaderVersion": 2, "minWriterVersion": 7, "writerFeatures": ["columnMapping"]}, None),
    ({"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": [], "writerFeatures": []}, None),
    ({"minReaderVersion": 3, "minWriterVersion": 7}, "readerFeatures"),
    ({"minReaderVersion": 1, "minWriterVersion": 7}, "writerFeatures"),
    ({"minReaderVersion": 1, "minWriterVersion": 2, "writerFeatures": []}, "writerFeatures"),
    ({"minReaderVersion": 3, "minWriterVersion": 6, "readerFeatures": []}, "minWriterVersion"),
    ({"minReaderVersion": 2, "minWriterVersion": 4}, "minWriterVersion"),
    ({"minReaderVersion": 2, "minWriterVersion": 7, "writerFeatures": []}, "writerFeatures"),
    ({"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["deletionVectors"], "writerFeatures": []},
     "writerFeatures"),
    ({"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": [], "writerFeatures": ["deletionVectors"]},
     "readerFeatures"),
    ({"minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": ["timestampNtz"]}, "readerFeatures"),
    ({"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["appendOnly"],
      "writerFeatures": ["appendOnly"]}, "readerFeatures"),
    ({"minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": ["clustering"]}, "writerFeatures"),
]  # fmt: skip


@pytest.mark.parametrize(("protocol", "field"), PROTOCOLS)
def test_protocols_and_their_lists(protocol: dict[str, Any], field: str | None) -> None:
    if field is None:
        judge_protocol(protocol, field="p")
        return
    with pytest.raises(Refused) as error:
        judge_protocol(protocol, field="p")
    assert error.value.refusal.field == f"p.{field}"
    assert error.value.refusal.remedy


# One payload as a whole.

ADD = {"path": "a.parquet", "partitionValues": {}, "size": 1, "modificationTime": 1, "dataChange": True}
REMOVE = {"path": "a.parquet", "dataChange": True, "deletionTimestamp": 1}
TOGETHER: list[tuple[Lines, str]] = [
    ([{"add": ADD}, {"add": ADD | {"path": "a.parquet", "size": 2}}], "payload line 2: add.path"),
    ([{"add": ADD | {"path": "a%23.parquet"}}, {"remove": REMOVE | {"path": "a%23.parquet"}}],
     "payload line 2: remove.path"),
    ([{"remove": REMOVE}, {"add": ADD}], "payload line 2: add.path"),
    ([{"remove": REMOVE}, {"remove": REMOVE}], "payload line 2: remove.path"),
    ([{"add": ADD | {"path": "é.parquet"}}, {"add": ADD | {"path": "%C3%A9.parquet"}}], "payload line 2: add.path"),
    ([{"txn": {"appId": "a", "version": 1}}, {"txn": {"appId": "a", "version": 2}}], "payload line 2: txn.appId"),
    ([{"domainMetadata": {"domain": "a", "configuration": "", "removed": False}}] * 2,
     "payload line 2: domainMetadata.domain"),
    ([{"commitInfo": {}}, {"commitInfo": {}}], "payload line 2"),
    ([{"commitInfo": {"timestamp": "x"}}], "payload line 1: commitInfo.timestamp"),
    ([{"commitInfo": {"a": "x" * 1_100_000}}], "payload line 1"),
    ([{"add": ADD | {"tags": {"a": "\0"}}}], "payload line 1: add.tags"),
    ([{"add": ADD | {"size": -1}}], "payload line 1: add.size"),
    ([{"add": ADD | {"size": 1.0}}], "payload line 1: add.size"),
    ([{"add": ADD | {"size": True}}], "payload line 1: add.size"),
    ([{"add": ADD | {"modificationTime": 2**63}}], "payload line 1: add.modificationTime"),
    ([{"add": ADD | {"stats": "[]"}}], "payload line 1: add.stats"),
    ([{"add": ADD | {"stats": '{"numRecords":-1}'}}], "payload line 1: add.stats.numRecords"),
    ([{"add": ADD | {"stats": '{"numRecords":1,"numRecords":2}'}}], "payload line 1: add.stats"),
    ([{"add": ADD | {"stats": '{"tightBounds":1}'}}], "payload line 1: add.stats.tightBounds"),
    ([{"add": ADD | {"stats": "[" * 100_000}}], "payload line 1: add.stats"),
    ([{"add": ADD | {"partitionValues": {"a": 1}}}], "payload line 1: add.partitionValues.a"),
    ([{"add": ADD | {"partitionValues": {str(n): "" for n in range(1_001)}}}], "payload line 1: add.partitionValues"),
    ([{"remove": REMOVE | {"extendedFileMetadata": True}}], "payload line 1: remove.partitionValues"),
    ([{"cdc": ADD}], "payload line 1: cdc.dataChange"),
    ([{"txn": {"appId": "x" * 1_025, "version": 1}}], "payload line 1: txn.appId"),
    ([{"add": ADD, "remove": None}], "payload line 1"),
    (["\f", {"add": ADD}], "payload line 1"),
    ([{"add": ADD}, "\v"], "payload line 2"),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "field"), TOGETHER)
def test_what_a_payload_may_not_say(lines: Lines, field: str) -> None:
    with pytest.raises(Refused) as error:
        parse_payload(payload(lines))
    assert error.value.refusal.code is Code.INVALID_PAYLOAD
    assert error.value.refusal.field == field, error.value.refusal
    assert error.value.refusal.remedy


def test_a_new_deletion_vector_for_a_file_is_an_add_and_a_remove() -> None:
    vector = {"storageType": "u", "pathOrInlineDv": "ab^-aqEH.-t@S}K{vb[*k^", "offset": 4, "sizeInBytes": 40}
    new = ADD | {"deletionVector": vector | {"cardinality": 2}, "stats": '{"numRecords":9}'}
    assert parse_payload(payload([{"remove": REMOVE}, {"add": new}])).removed == {("a.parquet", None)}


# Metadata by itself. Each bad one was accepted once, and delta-rs, DuckDB or Spark could not open the table.

METADATA: dict[str, Any] = {
    "id": TABLE_ID,
    "format": {"provider": "parquet", "options": {}},
    "schemaString": "",
    "partitionColumns": [],
    "configuration": {},
}
INVARIANT = '{"expression":{"expression":"n > 0"}}'
FIELD_METADATA: list[tuple[str, Any]] = [
    *(("delta.columnMapping.id", 1), ("delta.columnMapping.physicalName", "n"), ("delta.metadataSpec", "row_index")),
    *product(["parquet.field.id"], ["1", None, True, [], 2**31, 1.5]),
    *product(["delta.invariants"], [None, 1, "n > 0", "{", '{"expression":"n > 0"}', {}]),
    *product(["delta.typeChanges"], ["x", [1], [{"fromType": "byte"}]]),
    *product(["CURRENT_DEFAULT", "delta.generationExpression"], [None, 1]),
    *product(["EXISTS_DEFAULT", "comment", "__CHAR_VARCHAR_TYPE_STRING"], [1]),
    *product(["mine"], [[1, "x"], [[1]], [None], {"deep": [1, True]}]),
]


def with_field(key: str, value: Any, *, nested: bool = False) -> dict[str, Any]:
    field: dict[str, Any] = {"name": "n", "type": "long", "nullable": True, "metadata": {key: value}}
    if nested:
        inner = {"type": "array", "elementType": {"type": "struct", "fields": [field]}, "containsNull": True}
        field = {"name": "a", "type": inner, "nullable": True, "metadata": {}}
    return METADATA | {"schemaString": json.dumps({"type": "struct", "fields": [field]})}


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(("key", "value"), FIELD_METADATA)
def test_field_metadata_that_some_reader_stops_at(key: str, value: Any, nested: bool) -> None:
    with pytest.raises(Refused) as error:
        parse_payload(payload([{"metaData": with_field(key, value, nested=nested)}]))
    place = "a.element.n" if nested else "n"
    assert error.value.refusal.field == f"payload line 1: metaData.schemaString: {place}.metadata.{key}"
    assert error.value.refusal.remedy


@pytest.mark.parametrize("options", [{}, {"options": None}])
def test_a_format_without_options_is_refused(options: dict[str, Any]) -> None:
    metadata = with_field("mine", 1) | {"format": {"provider": "parquet"} | options}
    with pytest.raises(Refused) as error:
        parse_payload(payload([{"metaData": metadata}]))
    assert error.value.refusal.field == "payload line 1: metaData.format.options"


async def test_field_metadata_that_every_reader_takes(tmp_path: Path) -> None:
    bed, subject = await BEDS["plain"](tmp_path)
    taken = {"parquet.field.id": 7, "delta.invariants": INVARIANT, "comment": "é", "EXISTS_DEFAULT": "1"}
    taken |= {"mine": {"a": [1, 2], "b": ["x"], "c": None, "d": [{"e": 1.5}]}, "__CHAR_VARCHAR_TYPE_STRING": "char(3)"}
    schema = json.loads(subject.metadata["schemaString"])
    schema["fields"].append({"name": "new", "type": "long", "nullable": True, "metadata": taken})
    trial = await bed.commit(payload([{"metaData": subject.metadata | {"schemaString": json.dumps(schema)}}]))
    assert trial.accepted, trial.refusal
    assert counts(bed.location) == {"delta-rs": subject.live[0].rows, "duckdb": subject.live[0].rows}


def test_a_new_table_is_judged_alike() -> None:
    column = {"name": "n", "type": "long", "metadata": {"parquet.field.id": "x"}}
    with pytest.raises(Refused) as error:
        check_creation(CreateTable.model_validate({"name": "t", "columns": [column]}))
    assert error.value.refusal.code is Code.INVALID_REQUEST


# A table with rows.

Change = Callable[[dict[str, Any]], None]


def _type(metadata: dict[str, Any], kind: str) -> None:
    metadata["schemaString"] = metadata["schemaString"].replace('"long"', f'"{kind}"')


CHANGES: list[tuple[str, Change]] = [
    ("schemaString: id.type", lambda metadata: _type(metadata, "string")),
    ("schemaString: id.type", lambda metadata: _type(metadata, "decimal(20,0)")),
    ("schemaString: id", lambda metadata: metadata.update(
        schemaString=metadata["schemaString"].replace('"id"', '"i"'))),
    ("schemaString: id.nullable", lambda metadata: metadata.update(
        schemaString=metadata["schemaString"].replace("true", "false", 1))),
    ("partitionColumns", lambda metadata: metadata.update(partitionColumns=["s"])),
]  # fmt: skip


@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize(("place", "change"), CHANGES)
async def test_rows_forbid_what_a_commit_that_removes_them_may_do(
    place: str, change: Change, checkpoint: bool, tmp_path: Path
) -> None:
    bed, subject = await BEDS["plain"](tmp_path / "bed")
    if checkpoint:
        DeltaTable(bed.location).create_checkpoint()
    metadata = dict(subject.metadata)
    change(metadata)
    trial = await bed.commit(payload([{"metaData": metadata}]))
    assert trial.refused_at == "commit"
    assert trial.refusal.field == f"payload line 1: metaData.{place}", trial.refusal
    remove = {"path": "first.parquet", "dataChange": True, "deletionTimestamp": NOW_MS}
    lines: Lines = [{"metaData": metadata}, {"remove": remove}]
    assert (await bed.commit(payload(lines))).accepted


async def test_append_only_and_lost_features(tmp_path: Path) -> None:
    bed, subject = await BEDS["featured"](tmp_path / "bed")
    lower = {"minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": ["appendOnly", "invariants"]}
    trial = await bed.commit(payload([{"protocol": lower}]))
    assert trial.refusal.field == "payload line 1: protocol.writerFeatures"
    for lost in ("deletionVectors", "domainMetadata", "timestampNtz", "changeDataFeed"):
        assert lost in trial.refusal.message
    metadata = dict(subject.metadata)
    metadata["configuration"] = dict(metadata["configuration"]) | {"delta.appendOnly": "true"}
    assert (await bed.commit(payload([{"metaData": metadata}]))).accepted
    remove = {"path": "first.parquet", "dataChange": True, "deletionTimestamp": NOW_MS}
    trial = await bed.commit(payload([{"remove": remove}]))
    assert trial.refusal.field == "payload line 1: remove.dataChange"
    # Compaction removes files and no data.
    rewritten = added(subject.spare[0]) | {"dataChange": False}
    assert (await bed.commit(payload([{"remove": remove | {"dataChange": False}}, {"add": rewritten}]))).accepted


# What was there before.


async def test_neither_replay_nor_completion_judges_content(tmp_path: Path) -> None:
    """A reservation of an older version, whose payload would be refused today, is completed and answered for ever."""
    bed, _ = await BEDS["plain"](tmp_path / "bed")
    table = bed.table()
    data = b'{"add":{"path":"../x.parquet","path":"y"}}\n'
    staged = await stage(table.store, TABLE_ID, "01JHKM51000000000000000000", data)
    request = CommitRequest(
        idempotency_key=KEY,
        mode=CommitMode.STRICT,
        read_version=1,
        staged_path=staged.path,
        staged_version=staged.version,
    )
    member = Member(
        key=KEY, mode=CommitMode.STRICT, read_version=1, staged_path=staged.path, staged_version=staged.version,
        staged_payload_sha256=sha256_hex(data),
        request_hash=strict_request_hash(KEY, 1, staged.path, sha256_hex(data)),
    )  # fmt: skip
    inflight = reservation(
        commit_id=KEY, version=2, staged_path=staged.path, staged_version=staged.version,
        payload_sha256=sha256_hex(data), now_ms=NOW_MS, members=[member],
    )  # fmt: skip
    held = await table.read_coordinator()
    assert held is not None
    assert await table.swap(Coordinator(1, inflight), held.token) is not None
    assert [done.inflight.version for done in await settle(bed.table())] == [2]
    again = await stage(table.store, TABLE_ID, "01JHKM51000000000000000001", data)
    for one in (request, request.model_copy(update={"staged_path": again.path, "staged_version": again.version})):
        outcome = await commit_request(bed.table(), one)
        assert outcome.result is not None, outcome
        assert (outcome.result.version, outcome.replayed) == (2, True)


async def test_what_was_staged_without_judgement_is_judged_at_commit(tmp_path: Path) -> None:
    bed, _ = await BEDS["plain"](tmp_path / "bed")
    table = bed.table()
    staged = await stage(table.store, TABLE_ID, "01JHKM51000000000000000000", b'{"add":{"path":"x.parquet"}}\n')
    outcome = await commit_request(
        table,
        CommitRequest(
            idempotency_key=KEY, mode=CommitMode.APPEND, read_version=1, staged_path=staged.path,
            staged_version=staged.version,
        ),
    )  # fmt: skip
    assert outcome.refusal is not None
    assert outcome.refusal.field == "payload line 1: add.partitionValues"


FOREIGN: list[bytes] = [
    b"[" * 1_000_000,
    b'{"commitInfo":"x"}',
    b'{"commitInfo":{"operation":7,"txnId":["a"]}}',
    b'{"protocol":[]}',
    b'{"metaData":"x"}',
    b'{"txn":{"appId":{}}}',
    b'{"txn":[]}',
    b'["commitInfo"]',
    b'"commitInfo"',
    b'{"commitInfo":{"operation":"' + b"x" * 1_000_000 + b'"}}',
    b'{"a":1,"a":2}',
    b"\xff\xfe",
]


@pytest.mark.parametrize("log", FOREIGN, ids=range(len(FOREIGN)))
def test_facts_of_any_bytes(log: bytes) -> None:
    started = time.process_time()
    facts = committed_version(7, log)
    refusal = version_refusal(CommitMode.STRICT, 6, frozenset(), 7, [facts], "tables/t")
    assert refusal is not None
    assert len(refusal.model_dump_json()) < 2_000
    assert time.process_time() - started < 1


async def test_a_foreign_line_of_two_actions_hides_nothing() -> None:
    facts = committed_version(7, b'{"commitInfo":{"operation":"WRITE"},"metaData":{"id":"x"}}')
    assert facts.metadata == {"id": "x"}


ODD_TABLES: list[tuple[str, bytes]] = [
    ("deep", b'"schemaString":"' + b"[" * 100_000 + b'"'),
    ("no struct", b'"schemaString":"{}"'),
    ("twice", b'"id":"a","id":"b","schemaString":"{}"'),
    ("partition", b'"partitionColumns":"id"'),
    ("no column", b'"partitionColumns":["nope"]'),
    ("configuration", b'"configuration":[]'),
]


@pytest.mark.parametrize(("name", "odd"), ODD_TABLES, ids=[name for name, _ in ODD_TABLES])
async def test_a_foreign_table_beyond_bounds_is_refused_by_name(name: str, odd: bytes) -> None:
    store = MemoryStore()
    hand_made(store, "lake/odd", {"minReaderVersion": 1, "minWriterVersion": 2})
    path = SCOPE.full(paths.delta_log("lake/odd", 0))
    lines = store.objects[path].data.split(b"\n")
    body = orjson.loads(lines[-1])["metaData"]
    for key in ("schemaString", "partitionColumns", "configuration"):
        if b'"%s"' % key.encode() in odd:
            del body[key]
    kept = orjson.dumps(body)[:-1].replace(b'"id":', b'"was":') if name == "twice" else orjson.dumps(body)[:-1]
    lines[-1] = b'{"metaData":' + kept + b"," + odd + b"}}"
    store.seed(path, b"\n".join(lines))
    refusal = await refusal_of(adopt_hand_made(store, "odd", "lake/odd"))
    assert refusal.code is Code.NOT_A_DELTA_TABLE
    assert len(refusal.model_dump_json()) < 2_000
