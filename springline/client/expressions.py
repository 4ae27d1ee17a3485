"""SQL expressions of delete, update and merge, judged before anything is done with them.

delta-rs takes more than it should: a predicate that is no truth value (`'a'`, `1`) counts as true, what follows the
first expression is not read, an assignment to a column that the table has not is left out, and 1.5 assigned to a whole
number becomes 1. So every expression is planned here first, over the table as it is, and its type is looked at.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from springline.client.casts import Conversion
from springline.client.plain import plain, plain_type
from springline.client.python_values import array_of
from springline.errors import Code, Refused, refused

if TYPE_CHECKING:
    import deltalake

LONGEST_EXPRESSION = 100_000
_SHOWN = 200
_NO_VALUE = "springline: no row holds this 7c2f6a0e"
_TOKENS = re.compile(
    r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|/\*.*?\*/|[^\W\d]\w*|"""
    r"""(?<![\w.])(?P<fraction>(?:\d+\.\d*|\.\d+|\d+(?=[eE]))(?:[eE][+-]?\d+)?)|\d+""",
    re.DOTALL,
)
"""The parts of a SQL text in which a number may lie that is none, and numbers that are written as fractions."""
_NO_FIELD = re.compile(r"No field named (?P<name>.+?)\.(?:\s|$)", re.DOTALL)


class Planner:
    """Plans expressions over tables by name; nothing is read and nothing is written."""

    def __init__(self, tables: Mapping[str, deltalake.DeltaTable], columns: Mapping[str, pa.Schema]) -> None:
        from deltalake import QueryBuilder  # noqa: PLC0415

        self._builder = QueryBuilder()
        for name, table in tables.items():
            self._builder.register(name, table)
        self._from = ", ".join(f'"{name}"' for name in tables)
        self._columns = columns

    def predicate(self, text: str, *, field: str) -> None:
        """Raise `Refused` unless `text` is one expression of the type boolean."""
        found = self._type_of(text, field=field)
        if not pa.types.is_boolean(found):
            raise refused(
                Code.INVALID_REQUEST,
                f"{field} is of type {found}, not a condition that is true or false",
                field=field,
                value=text[:_SHOWN],
                remedy="Give a SQL condition over the table's columns, such as id > 3; true stands for all rows.",
            )

    def assignment(self, text: str, column: pa.Field, *, field: str) -> None:
        """Raise `Refused` unless the values of `text` can be stored in `column` without changing."""
        found = self._type_of(text, field=field)
        if keeps_values(found, column.type) or _constant_fits(text, column.type):
            return
        raise refused(
            Code.INVALID_REQUEST,
            f"{field} is of type {found}, whose values would change in column {column.name!r} of type {column.type}",
            field=field,
            value=text[:_SHOWN],
            remedy="Say what shall become of them, for example with CAST(... AS ...), ROUND or TRUNC.",
        )

    def _type_of(self, text: str, *, field: str) -> pa.DataType:
        if not isinstance(text, str) or not text.strip() or len(text) > LONGEST_EXPRESSION or "\0" in text:
            raise refused(
                Code.INVALID_REQUEST,
                f"{field} is not a SQL expression of 1 to {LONGEST_EXPRESSION} characters",
                field=field,
                value=text[:_SHOWN] if isinstance(text, str) else repr(text)[:_SHOWN],
                remedy="Give a SQL expression over the table's columns, such as id > 3.",
            )
        # Once in brackets and once without: only what is one whole expression is planned alike both ways.
        plans = [self._schema(f"SELECT ({text}\n) AS value FROM {self._from} LIMIT 0", text, field)]
        plans.append(self._schema(f"SELECT {text}\n AS value FROM {self._from} LIMIT 0", text, field))
        if any(len(plan) != 1 for plan in plans) or plans[0].types != plans[1].types:
            raise self._not_one(text, field)
        return plans[0].field(0).type

    def _schema(self, query: str, text: str, field: str) -> pa.Schema:
        try:
            return pa.schema(self._builder.execute(query).schema)
        except Exception as error:
            raise self._refusal(error, text, field) from error
        except BaseException as error:
            raise_unless_panic(error)
            raise self._not_one(text, field) from error

    def _refusal(self, error: Exception, text: str, field: str) -> Refused:
        return expression_refusal(error, text, field=field, columns=self._columns)

    @staticmethod
    def _not_one(text: str, field: str) -> Refused:
        return refused(
            Code.INVALID_REQUEST,
            f"{field} is not one SQL expression",
            field=field,
            value=text[:_SHOWN],
            remedy="Give one SQL expression over the table's columns, such as id > 3 AND day = '2026-01-01'.",
        )


def expression_refusal(
    error: BaseException,
    text: str,
    *,
    field: str,
    columns: Mapping[str, pa.Schema],
    fallback: str = "cannot be planned",
) -> Refused:
    """Return what an error of the SQL engine says about an expression, as a refusal."""
    known = "; ".join(
        (f"{name}: " if len(columns) > 1 else "") + ", ".join(schema.names) for name, schema in columns.items()
    )
    missing = _NO_FIELD.search(str(error))
    if missing is not None:
        name = missing["name"].strip('"')
        return refused(
            Code.INVALID_REQUEST,
            f"{field} names a column {name!r} that is not there",
            field=field,
            value=text[:_SHOWN],
            remedy=f"The columns are {known}. Names are case-sensitive; put odd ones in double quotes.",
        )
    said = " ".join(str(error).split())
    if type(error).__name__ == "PanicException":
        said = f"the engine cannot do this, as it cannot subqueries ({said})"
    for prefix in ("Generic DeltaTable error: ", "External error: ", "Generic error: ", "Error during planning: "):
        said = said.replace(prefix, "")
    return refused(
        Code.INVALID_REQUEST,
        f"{field} {fallback}: {said[:_SHOWN]}",
        field=field,
        value=text[:_SHOWN],
        remedy=f"Give a SQL expression over the columns {known}.",
    )


def is_about(text: str, schema: pa.Schema, names: Sequence[str]) -> bool:
    """Say whether an expression can be planned with the columns `names` alone."""
    from deltalake import DeltaTable, Schema  # noqa: PLC0415

    if not names:
        return False
    known = pa.schema([schema.field(name) for name in names])
    with tempfile.TemporaryDirectory(prefix="springline-plan-") as folder:
        table = DeltaTable.create(folder, Schema.from_arrow(known))
        try:
            Planner({"target": table}, {"target": known}).predicate(text, field="where")
        except Refused:
            return False
    return True


def every_row(schema: pa.Schema, partition_by: Sequence[str]) -> str:
    """Return a condition that is true for every row, and that nobody can tell without reading rows.

    Raises `Refused` (UNSUPPORTED_FEATURE) for a table that has no column for it.
    """
    return f"{_row_value(schema, partition_by)} <> '{_NO_VALUE}'"


def _row_value(schema: pa.Schema, partition_by: Sequence[str]) -> str:
    for field in schema:
        kind = field.type
        plain_ = not pa.types.is_nested(kind) and not pa.types.is_binary(kind) and not pa.types.is_large_binary(kind)
        if plain_ and field.name not in partition_by:
            return f"coalesce(CAST({quoted(field.name)} AS VARCHAR), '')"
    raise refused(
        Code.UNSUPPORTED_FEATURE,
        "the table has only nested and binary columns, by which rows are not deleted",
        field="where",
        value=schema.names,
        remedy="Overwrite the table with the rows that shall stay.",
    )


def engine_condition(text: str, schema: pa.Schema, partition_by: Sequence[str]) -> str:
    """Return a condition by which the library takes the rows that `text` is true for, and no others.

    The library casts a number in a condition to the type of what it is compared with, so that `id = 1.5` finds a whole
    number 1; and it judges files and groups of rows by their least and greatest values, among which NaN is not. Where
    either may count, the condition is one that it can only judge row by row.
    """
    safe = [field.name for field in schema if not _has_fractions(field.type)]
    whole = kept_fractions(text)
    if whole == text and (len(safe) == len(schema) or is_about(text, schema, safe)):
        return text
    value = _row_value(schema, partition_by)
    return f"CASE WHEN ({whole}\n) THEN {value} ELSE '{_NO_VALUE}' END <> '{_NO_VALUE}'"


def kept_fractions(text: str) -> str:
    """Return an expression whose fractions, such as 1.5, stay so beside the whole numbers they are compared with."""
    return _TOKENS.sub(lambda found: f"CAST({found[0]} AS DOUBLE)" if found["fraction"] else found[0], text)


def _has_fractions(kind: pa.DataType) -> bool:
    if pa.types.is_nested(kind):
        return any(_has_fractions(kind.field(index).type) for index in range(kind.num_fields))
    return bool(pa.types.is_floating(kind))


@contextmanager
def planner_of_merge(
    table: deltalake.DeltaTable, schema: pa.Schema, target: str, source: pa.Schema, source_name: str
) -> Iterator[Planner]:
    """Give a planner over a table and the rows to be merged into it."""
    from deltalake import DeltaTable, Schema  # noqa: PLC0415

    with tempfile.TemporaryDirectory(prefix="springline-merge-") as folder:
        rows = DeltaTable.create(folder, Schema.from_arrow(source.remove_metadata()))
        yield Planner({target: table, source_name: rows}, {target: schema, source_name: source})


def keeps_values(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Say whether no value of one type changes when delta-rs casts it to the other, or the cast fails aloud.

    Whole numbers that do not fit fail; a number that becomes a floating-point one, or a narrower one of these, is
    rounded, which is what floating point is.
    """
    found, wanted = plain_type(found, "value"), plain_type(wanted, "column")
    if found.equals(wanted) or pa.types.is_null(found):
        return True
    if pa.types.is_integer(found):
        return bool(pa.types.is_integer(wanted) or pa.types.is_floating(wanted) or pa.types.is_decimal(wanted))
    if pa.types.is_floating(found):
        return bool(pa.types.is_floating(wanted))
    if pa.types.is_decimal(found):
        return bool(pa.types.is_decimal(wanted) and wanted.scale >= found.scale)
    if pa.types.is_date(found):
        return bool(pa.types.is_date(wanted) or pa.types.is_timestamp(wanted))
    if pa.types.is_timestamp(found):
        # Nanoseconds are what functions such as now() give; nothing finer than microseconds is stored anywhere.
        return bool(pa.types.is_timestamp(wanted) and (found.tz is None) == (wanted.tz is None))
    if pa.types.is_struct(found) and pa.types.is_struct(wanted):
        fields = {field.name: field.type for field in wanted}
        return set(fields) == {field.name for field in found} and all(
            keeps_values(field.type, fields[field.name]) for field in found
        )
    if pa.types.is_list(found) and pa.types.is_list(wanted):
        return keeps_values(found.value_type, wanted.value_type)
    return False


def _constant_fits(text: str, wanted: pa.DataType) -> bool:
    """Say whether an expression without columns has a value that is the same in the other type."""
    from deltalake import QueryBuilder  # noqa: PLC0415

    try:
        rows = pa.RecordBatchReader.from_stream(QueryBuilder().execute(f"SELECT ({text}\n) AS value")).read_all()
        (given,) = (plain(column.combine_chunks(), "value") for column in rows.columns)
        if pa.types.is_string(given.type):
            # The library reads texts as other types, as all of SQL does; what it cannot read fails.
            return not pa.types.is_nested(wanted) and not given.cast(wanted).null_count
        Conversion(pa.schema([("value", given.type)]), pa.schema([("value", wanted)])).apply([given], 1)
    except Exception:
        return False
    except BaseException as error:
        raise_unless_panic(error)
        return False
    return True


def literal(value: Any, column: pa.Field, *, field: str) -> str:
    """Return the SQL expression of a Python value for a column; raises `Refused` if it would change in it."""
    kind = column.type
    if value is None:
        return "NULL"
    if pa.types.is_nested(kind):
        raise refused(
            Code.INVALID_REQUEST,
            f"{field} is a value for column {column.name!r} of type {kind}, which has no literal here",
            field=field,
            value=repr(value)[:_SHOWN],
            remedy="Give it as a SQL expression in set=, or merge rows that hold it.",
        )
    try:
        given = plain(array_of(column.name, [value]), column.name)
        wanted = pa.schema([column.with_nullable(True)])
        (stored,) = Conversion(pa.schema([(column.name, given.type)]), wanted).apply([given], 1)
    except Refused as error:
        raise Refused(error.refusal.model_copy(update={"field": field})) from error
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise refused(
            Code.INVALID_REQUEST,
            f"{field} is no value for column {column.name!r} of type {kind}",
            field=field,
            value=repr(value)[:_SHOWN],
            remedy="Convert the value first.",
        ) from error
    return _sql(stored[0].as_py(), kind)


def _sql(value: Any, kind: pa.DataType) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return f"CAST('{value!r}' AS {'REAL' if pa.types.is_float32(kind) else 'DOUBLE'})"
        case Decimal():
            return f"CAST('{value}' AS DECIMAL({kind.precision}, {kind.scale}))"
        case datetime():
            zone = "None" if kind.tz is None else 'Some("UTC")'
            return f"arrow_cast('{value.isoformat()}', 'Timestamp(Microsecond, {zone})')"
        case date():
            return f"CAST('{value.isoformat()}' AS DATE)"
        case bytes():
            return f"X'{value.hex()}'"
        case _:
            return "'" + str(value).replace("'", "''") + "'"


def raise_unless_panic(error: BaseException) -> None:
    """Raise `error` unless it is a panic inside the library, which derives from BaseException and is only an error."""
    if type(error).__name__ != "PanicException":
        raise error


def column_of(schema: pa.Schema, name: str, *, field: str) -> pa.Field:
    """Return the column `name`; raises `Refused` with the columns there are."""
    if not isinstance(name, str) or name not in schema.names:
        raise refused(
            Code.INVALID_REQUEST,
            f"the table has no column {name!r}",
            field=field,
            value=str(name)[:200],
            remedy=f"Its columns are {', '.join(schema.names)}. Names are case-sensitive.",
        )
    return schema.field(name)


def quoted(name: str) -> str:
    """Return a column's name as SQL takes it, whatever characters it holds."""
    return '"' + name.replace('"', '""') + '"'
