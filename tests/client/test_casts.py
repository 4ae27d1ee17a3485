"""A value is never changed silently: what fits the table's type is cast, other values are refused by column."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from springline.client import Springline
from springline.client.casts import Conversion
from springline.client.plain import plain_batch
from springline.client.schemas import arrow_schema, delta_columns
from springline.client.sources import batches
from springline.errors import Code, Refused

UTC = dt.UTC


def table_schema(**types: Any) -> pa.Schema:
    """The Arrow schema of a Delta table with these columns, given by Delta's or Arrow's type."""
    fields = [
        {"name": name, "type": kind, "nullable": True, "metadata": {}}
        if isinstance(kind, (str, dict))
        else delta_columns(pa.schema([(name, kind)]))[0]
        for name, kind in types.items()
    ]
    return arrow_schema({"type": "struct", "fields": fields})


def converted(data: Any, schema: pa.Schema) -> pa.Table:
    done = []
    for batch in batches(data):
        columns = Conversion(batch.schema, schema).apply(plain_batch(batch), batch.num_rows)
        done.append(pa.RecordBatch.from_arrays(columns, schema=schema))
    made = pa.Table.from_batches(done, schema=schema)
    made.validate(full=True)
    return made


def refusal(data: Any, schema: pa.Schema) -> Any:
    with pytest.raises(Refused) as caught:
        converted(data, schema)
    refused = caught.value.refusal
    assert refused.code is Code.INVALID_REQUEST
    assert refused.remedy
    return refused


def arr(values: list[Any], kind: pa.DataType) -> pa.Array:
    return pa.array(values, kind)


NS = pa.timestamp("ns", "UTC")
CHANGED = [
    ("float", arr([0.5, 1e300], pa.float64()), "1e+300"),
    ("float", arr([1e-300], pa.float64()), "1e-300"),
    ("float", arr([2**24 + 1], pa.int32()), "16777217"),
    ("double", arr([1, 2**53 + 1], pa.int64()), "9007199254740993"),
    ("double", arr([2**60], pa.uint64()), "1152921504606846976"),
    ("double", arr([Decimal("12345678901234567890.12")], pa.decimal128(38, 2)), "12345678901234567890.12"),
    ("decimal(10,2)", arr([0.5, 0.125], pa.float64()), "0.125"),
    ("decimal(10,2)", arr([Decimal("0.125")], pa.decimal128(5, 3)), "0.125"),
    ("decimal(3,2)", arr([1, 10], pa.int64()), "10"),
    ("decimal(10,2)", arr([float("nan")], pa.float64()), "nan"),
    ("integer", arr([1, 2**40], pa.int64()), str(2**40)),
    ("byte", arr([-129], pa.int16()), "-129"),
    ("long", arr([2**63], pa.uint64()), str(2**63)),
    ("long", arr([1.0, 1.5], pa.float64()), "1.5"),
    ("long", arr([float("nan")], pa.float64()), "nan"),
    ("long", arr([float("inf")], pa.float64()), "inf"),
    ("long", arr([1e19], pa.float64()), "1e+19"),
    ("long", arr([Decimal("1.5")], pa.decimal128(3, 1)), "1.5"),
    ("date", arr([dt.datetime(2024, 1, 1, 12)], pa.timestamp("us")), "2024-01-01 12:00:00"),
    ("date", arr([1], pa.date64()), "1970-01-01"),
    ("timestamp", arr([1_500], NS), "1970-01-01 00:00:00.000001500+00:00"),
    ("timestamp", arr([2**62], pa.timestamp("s", "UTC")), "4611686018427387904 (timestamp[s, tz=UTC])"),
    ("timestamp", arr([-62_135_596_801], pa.timestamp("s", "UTC")), "-62135596801 (timestamp[s, tz=UTC])"),
    ("timestamp_ntz", arr([253_402_300_800], pa.timestamp("s")), "253402300800 (timestamp[s])"),
    ("date", arr([-719_163], pa.date32()), "-719163 (date32[day])"),
]


@pytest.mark.parametrize(("target", "values", "shown"), CHANGED, ids=lambda one: str(one)[:30])
def test_a_value_that_would_change_is_refused_by_column_and_value(target: str, values: pa.Array, shown: str) -> None:
    good = pa.table({"c": pa.nulls(5, values.type)})
    found = refusal([good, pa.table({"c": values})], table_schema(c=target))
    assert (found.field, found.value) == ("data.c", shown)
    assert shown in found.message or "outside the years" in found.message


KINDS = {
    "boolean": arr([5, 0], pa.int64()),
    "long": arr(["1"], pa.string()),
    "integer": arr([True], pa.bool_()),
    "string": arr([1], pa.int64()),
    "binary": arr(["a"], pa.string()),
    "date": arr(["2024-01-01"], pa.string()),
    "timestamp": arr([dt.datetime(2024, 1, 1)], pa.timestamp("us")),
    "timestamp_ntz": arr([dt.datetime(2024, 1, 1, tzinfo=UTC)], pa.timestamp("us", "UTC")),
    "double": arr(["x"], pa.string()),
    "decimal(5,2)": arr([b"1"], pa.binary()),
}


@pytest.mark.parametrize("target", KINDS)
def test_another_kind_of_value_is_refused_by_both_types(target: str) -> None:
    found = refusal(pa.table({"c": KINDS[target]}), table_schema(c=target))
    assert found.field == "data.c"
    assert str(KINDS[target].type) in found.message or "time zone" in found.message


FITS = [
    ("float", arr([0.1, None, float("nan"), float("inf"), -0.0, 1e-45], pa.float64()), None),
    ("double", arr([2**53, None], pa.int64()), [float(2**53), None]),
    ("double", arr([Decimal("0.10")], pa.decimal128(5, 2)), [0.1]),
    ("decimal(10,2)", arr([0.1, 2.5, None], pa.float64()), [Decimal("0.10"), Decimal("2.50"), None]),
    ("decimal(5,2)", arr([300], pa.int64()), [Decimal("300.00")]),
    ("decimal(20,0)", arr([2**64 - 1], pa.uint64()), [Decimal(2**64 - 1)]),
    ("decimal(38,38)", arr([Decimal("0.5")], pa.decimal128(2, 1)), [Decimal("0.5")]),
    ("long", arr([1.0, None, -3.0], pa.float64()), [1, None, -3]),
    ("byte", arr([127], pa.uint64()), [127]),
    ("date", arr([dt.datetime(2024, 1, 1)], pa.timestamp("ns")), [dt.date(2024, 1, 1)]),
    ("date", arr([dt.date(1, 1, 1), dt.date(9999, 12, 31)], pa.date64()), [dt.date(1, 1, 1), dt.date(9999, 12, 31)]),
    ("timestamp", arr([1_000], NS), [dt.datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=UTC)]),
    ("string", arr(["a", None, ""], pa.large_string()), ["a", None, ""]),
    ("string", arr(["a", None], pa.string_view()), ["a", None]),
    ("string", arr(["a", None, "a"], pa.string()).dictionary_encode(), ["a", None, "a"]),
    ("binary", arr([b"ab", None], pa.binary(2)), [b"ab", None]),
    ("binary", arr([b"ab", None], pa.large_binary()), [b"ab", None]),
    ("long", pa.RunEndEncodedArray.from_arrays([2, 3], [7, None]), [7, 7, None]),
    ("boolean", pa.nulls(2), [None, None]),
    ("long", arr([1, 2], pa.int64()).dictionary_encode(), [1, 2]),
]


@pytest.mark.parametrize(("target", "values", "wanted"), FITS, ids=lambda one: str(one)[:30])
def test_what_fits_is_cast(target: str, values: Any, wanted: list[Any] | None) -> None:
    got = converted(pa.table({"c": values}), table_schema(c=target))["c"].to_pylist()
    if wanted is not None:
        assert got == wanted
    else:
        assert [str(one) for one in got] == [str(one) for one in values.cast(pa.float32(), safe=False).to_pylist()]


UNSUPPORTED = [
    pa.time32("s"),
    pa.time64("us"),
    pa.duration("us"),
    pa.month_day_nano_interval(),
    pa.decimal256(40, 2),
    pa.float16(),
    pa.dense_union([pa.field("a", pa.int64())]),
]


@pytest.mark.parametrize("kind", UNSUPPORTED, ids=str)
def test_types_that_delta_does_not_have_are_refused_by_column_and_type(kind: pa.DataType) -> None:
    if pa.types.is_union(kind):
        values: Any = pa.UnionArray.from_dense(pa.array([0], pa.int8()), pa.array([0], pa.int32()), [pa.array([1])])
        kind = values.type
    else:
        values = pa.nulls(1, kind)
    for path, data in {
        "c": pa.table({"c": values}),
        "c[]": pa.table({"c": pa.ListArray.from_arrays([0, 1], values)}),
        "c.x": pa.table({"c": pa.StructArray.from_arrays([values], ["x"])}),
    }.items():
        found = refusal(data, table_schema(c="long"))
        assert (found.field, found.value) == (f"data.{path}", str(kind))
        with pytest.raises(Refused) as caught:
            delta_columns(data.schema)
        assert (caught.value.refusal.field, caught.value.refusal.value) == (f"data.{path}", str(kind))


X = {"type": "struct", "fields": [{"name": "x", "type": "long", "nullable": True, "metadata": {}}]}
X_MUST = {"type": "struct", "fields": [{"name": "x", "type": "long", "nullable": False, "metadata": {}}]}
XY = {"type": "struct", "fields": [*X["fields"], {"name": "y", "type": "string", "nullable": True, "metadata": {}}]}


def array_of(kind: Any, *, nulls: bool = True) -> dict[str, Any]:
    return {"type": "array", "elementType": kind, "containsNull": nulls}


def map_of(key: Any, value: Any, *, nulls: bool = True) -> dict[str, Any]:
    return {"type": "map", "keyType": key, "valueType": value, "valueContainsNull": nulls}


NESTED = [
    ("a.z", X, [{"x": 1, "z": 2}]),
    ("a.q", X, [{"q": 1}]),
    ("a[].z", array_of(X), [[{"x": 1, "z": 2}]]),
    ("a[].q", array_of(X), [[{"q": 1}], []]),
    ("a{value}.z", map_of("string", X), [[{"key": "k", "value": {"x": 1, "z": 2}}]]),
    ("a[]", array_of("long", nulls=False), [[1, None]]),
    ("a{value}", map_of("string", "long", nulls=False), [[{"key": "k", "value": None}]]),
    ("a{key}", map_of("string", "long"), [[{"key": None, "value": 1}]]),
    ("a.x", X_MUST, [{"x": 1}, {"x": None}]),
    ("a[].x", array_of(X), [[{"x": 1.5}]]),
    ("a", "long", [{"x": 1}]),
    ("a", X, [1]),
    ("a", array_of("long"), [1]),
]


@pytest.mark.parametrize(("path", "kind", "rows"), NESTED, ids=[f"{one[0]}-{i}" for i, one in enumerate(NESTED)])
def test_what_does_not_fit_deep_inside_is_refused_by_its_path(path: str, kind: Any, rows: list[Any]) -> None:
    assert refusal({"a": rows}, table_schema(a=kind)).field == f"data.{path}"


def test_nested_values_that_fit_are_cast_all_the_way_down() -> None:
    schema = table_schema(a=XY, l=array_of(XY), m=map_of("string", array_of("integer")), must=X_MUST)
    rows = {
        "a": [{"x": 1}, None, {"x": None}],
        "l": [[{"x": 1}, None], [], None],
        "m": pa.array([[("k", [1, 2])], None, []], pa.map_(pa.string(), pa.list_(pa.int64()))),
        "must": [{"x": 1}, None, {"x": 3}],
    }
    got = converted(rows, schema).to_pylist()
    assert [row["a"] for row in got] == [{"x": 1, "y": None}, None, {"x": None, "y": None}]
    assert [row["l"] for row in got] == [[{"x": 1, "y": None}, None], [], None]
    assert [row["m"] for row in got] == [[("k", [1, 2])], None, []]
    assert [row["must"] for row in got] == [{"x": 1}, None, {"x": 3}]


def test_lists_of_every_form_and_slices_with_garbage_around_them() -> None:
    schema = table_schema(a=array_of("long"))
    wanted = [[1, 2], None, [], [3]]
    forms = [
        pa.array(wanted, pa.list_(pa.int32())),
        pa.array(wanted, pa.large_list(pa.int32())),
        pa.array(wanted, pa.list_view(pa.int32())),
        pa.array(wanted, pa.large_list_view(pa.int32())),
        pa.array([[9], *wanted, [8]], pa.list_(pa.int32())).slice(1, 4),
        pa.ListArray.from_arrays(
            [0, 2, 4, 4, 5], pa.array([1, 2, 77, 78, 3]), mask=pa.array([False, True, False, False])
        ),
    ]
    for form in forms:
        assert converted(pa.table({"a": form}), schema)["a"].to_pylist() == wanted, form.type
    fixed = pa.array([[1, 2], None], pa.list_(pa.int64(), 2))
    assert converted(pa.table({"a": fixed}), schema)["a"].to_pylist() == [[1, 2], None]


@pytest.mark.parametrize("names", [["a", "a"], ["a", "A"]])
def test_two_columns_of_one_name_are_refused(names: list[str]) -> None:
    data = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names)
    assert refusal(data, table_schema(a="long")).field == f"data.{names[1]}"
    assert refusal({"s": [{"x": 1, "X": 2}]}, table_schema(s=X)).field == "data.s.X"
    with pytest.raises(Refused):
        delta_columns(data.schema)


def test_columns_that_are_unknown_missing_or_null() -> None:
    schema = pa.schema([pa.field("a", pa.int64(), nullable=False), pa.field("b", pa.string())])
    assert converted({"a": [1]}, schema).to_pylist() == [{"a": 1, "b": None}]
    assert refusal({"a": [1], "c": [2]}, schema).field == "data.c"
    assert refusal({"b": ["x"]}, schema).field == "data.a"
    assert refusal({"a": [1, None]}, schema).field == "data.a"
    assert refusal({"A": [1]}, schema).field == "data.A"


NOT_NULL: dict[str, tuple[pa.DataType, list[Any], Any]] = {
    "l[]": (pa.list_(pa.field("element", pa.int64(), False)), [[1], [2, None]], [[1], None]),
    "m{value}": (pa.map_(pa.string(), pa.field("value", pa.int64(), False)), [[("a", 1)], [("a", None)]], [[("a", 1)]]),
    "s.x": (pa.struct([pa.field("x", pa.int64(), False)]), [{"x": 1}, {"x": None}], [{"x": 1}, None]),
    "n[][]": (pa.list_(pa.list_(pa.field("element", pa.int64(), False))), [[[1]], [[1, None]]], [[[1], None]]),
}


@pytest.mark.parametrize("path", NOT_NULL)
def test_what_a_schema_says_of_nulls_inside_of_columns_holds(path: str, lake: Springline) -> None:
    kind, bad, good = NOT_NULL[path]
    name = path[0]
    table = lake.create_table(f"not-null-{name}", pa.schema([("id", pa.int64()), (name, kind)]))
    table.append(pa.table({"id": range(len(good)), name: pa.array(good, kind)}))
    rows: Any = {"id": list(range(len(bad))), name: bad}
    if path == "m{value}":
        rows = pa.table({"id": rows["id"], name: pa.array(bad, pa.map_(pa.string(), pa.int64()))})
    calls: list[Callable[[Any], Any]] = [table.append, table.overwrite, lambda rows: table.upsert(rows, "id")]
    for call in calls:
        with pytest.raises(Refused, match="may hold none") as caught:
            call(rows)
        assert caught.value.refusal.field == f"data.{path}"
    assert table.at().version == 1


@pytest.mark.parametrize(
    ("kind", "bad", "value"),
    [
        (pa.map_(pa.string(), pa.int64()), [[("a", 1)], None, [("b", 1), ("a", 2), ("b", 3)]], "b"),
        (pa.map_(pa.float64(), pa.int64()), [[(float("nan"), 1), (float("nan"), 2)]], "nan"),
        (pa.map_(pa.struct([("x", pa.int64())]), pa.int64()), [[({"x": 1}, 1), ({"x": 1}, 2)]], "{'x': 1}"),
        (pa.list_(pa.map_(pa.int32(), pa.int64())), [[[(1, 1)], [(1, 1), (1, 2)]]], "1"),
    ],
)
def test_a_map_with_a_key_twice_is_refused(kind: pa.DataType, bad: list[Any], value: str, lake: Springline) -> None:
    """One reader takes the first, another the last, a third fails."""
    table = lake.create_table(f"twice-{value.encode().hex()}", pa.schema([("id", pa.int64()), ("m", kind)]))
    with pytest.raises(Refused, match="twice in one map") as caught:
        table.append(pa.table({"id": range(len(bad)), "m": pa.array(bad, kind)}))
    assert str(caught.value.refusal.field).startswith("data.m")
    assert caught.value.refusal.value == value
    table.append(pa.table({"id": [1, 2], "m": pa.array([bad[0][:1], bad[0][:1]], kind)}))
