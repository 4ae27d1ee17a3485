"""SQL expressions of delete, update and merge, judged before they are used.

delta-rs accepts more than it should: a predicate that is not a boolean (`'a'`, `1`) counts as true, text after the
first expression is ignored, an assignment to an unknown column is left out, and 1.5 assigned to a whole
number becomes 1. So this module first parses every expression (`springline.client.sql`), makes its comparisons
unambiguous (`springline.client.comparing`), plans it over the table, and checks its type.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from springline.client.casts import Conversion
from springline.client.comparing import Columns, Typed, Unlike, quoted, quoted_text
from springline.client.partition_rules import checked_sql, partition_refusal, problem_of
from springline.client.plain import plain, plain_type
from springline.client.python_values import array_of
from springline.client.scratch import create_folder_table, has_loose_bounds
from springline.client.sql import LONGEST_EXPRESSION, BadSql, SqlKind, SqlNode, parse
from springline.errors import Code, Refused, refused

if TYPE_CHECKING:
    import deltalake

_SHOWN = 200
_NO_VALUE = "springline: no row holds this 7c2f6a0e"
_CHANGING = frozenset({"random", "rand", "uuid"})
BEYOND = "out of range: "
"""The prefix of a value that a column cannot hold, in the engine's error message."""
_MOMENTS = ("0001-01-01T00:00:00", "9999-12-31T23:59:59.999999")
_MOST_REAL, _MOST_DOUBLE = "3.4028235677973362e38", "1.7976931348623157e308"
"""The largest number that REAL rounds to a finite one, and the largest finite DOUBLE."""
_NO_FIELD = re.compile(r"No field named (?P<name>.+?)\.(?:\s|$)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Expression:
    """A judged expression: `sql` for the engine, and the `columns` that it names, by table."""

    sql: str
    tree: SqlNode
    kind: pa.DataType
    columns: frozenset[tuple[str, str]]
    terms: tuple[Expression, ...] = ()
    """The conditions of a conjunction."""
    joins: bool = False
    """Whether it is an equality of a term of one table and a term of another, on which the engine can join."""

    def is_about(self, names: Sequence[str]) -> bool:
        """Say whether it names at least one of these columns, and no others."""
        return bool(names) and all(name in names for _, name in self.columns)


class Planner:
    """Plans expressions over tables by name; reads and writes no rows."""

    def __init__(self, tables: Mapping[str, deltalake.DeltaTable], columns: Mapping[str, pa.Schema]) -> None:
        from deltalake import QueryBuilder  # noqa: PLC0415

        self._builder = QueryBuilder()
        for name, table in tables.items():
            self._builder.register(name, table)
        self._from = ", ".join(quoted(name) for name in tables)
        self._columns = columns

    def predicate(self, text: str, *, field: str) -> Expression:
        """Return what `text` means; raises `Refused` unless it is one expression of the type boolean."""
        judged = self._judged(text, field=field)
        if not pa.types.is_boolean(judged.kind):
            raise refused(
                Code.INVALID_REQUEST,
                f"{field} is of type {judged.kind}, not a condition that is true or false",
                field=field,
                value=text[:_SHOWN],
                remedy="Give a SQL condition over the table's columns, such as id > 3; true stands for all rows.",
            )
        changing = next((node.name[0] for node in judged.tree.walk() if node.is_call and node.name[0] in _CHANGING), "")
        if changing:
            raise refused(
                Code.INVALID_REQUEST,
                f"{field} calls {changing!r}, which is something else each time it is asked",
                field=field,
                value=text[:_SHOWN],
                remedy="Give a condition that each row answers by itself.",
            )
        return judged

    def assignment(self, text: str, column: pa.Field, *, field: str, partitions: bool = False) -> str:
        """Return the SQL of `text` cast to `column`; raises `Refused` if the cast could change its values.

        `partitions`: whether the column partitions the table; then the SQL raises an error for a value that it may not
        have, or the value is refused at once if it is the same for all rows.
        """
        sql, same = self._assigned(text, column, field)
        if not partitions:
            return sql
        if not same:
            return checked_sql(sql, column)
        # The engine would compute the error of a constant although no row needs it.
        held = _constant(sql)[0].cast(column.type).as_py()
        problem = None if held is None else problem_of(held, column.type, column.name)
        if problem is not None:
            raise partition_refusal(column.name, str(held), problem, field=field)
        return sql

    def _assigned(self, text: str, column: pa.Field, field: str) -> tuple[str, bool]:
        """Return the SQL of an assigned value, and whether it is the same for all rows."""
        judged = self._judged(text, field=field)
        kept = keeps_values(judged.kind, column.type)
        if judged.columns and kept:
            return _bounded(judged, column.type), False
        sql = judged.sql
        if judged.tree.kind is SqlKind.TEXT:
            # A text for a column of another family is parsed as in a comparison with the column.
            beside = Columns({"": pa.schema([column])})
            tree, typed = self._typed(f"{quoted(column.name)} = {sql}", beside, field)
            sql = typed.of(tree.children[1])
        if not judged.columns and _constant_fits(sql, column.type):
            return sql, True
        raise refused(
            Code.INVALID_REQUEST,
            f"{field} is of type {judged.kind}, whose values would change in column {column.name!r} of type "
            f"{column.type}",
            field=field,
            value=text[:_SHOWN],
            remedy="Say what shall become of them, for example with CAST(... AS ...), ROUND or TRUNC.",
        )

    def _judged(self, text: str, *, field: str) -> Expression:
        if not isinstance(text, str) or not text.strip() or len(text) > LONGEST_EXPRESSION or "\0" in text:
            raise refused(
                Code.INVALID_REQUEST,
                f"{field} is not a SQL expression of 1 to {LONGEST_EXPRESSION} characters",
                field=field,
                value=text[:_SHOWN] if isinstance(text, str) else repr(text)[:_SHOWN],
                remedy="Give a SQL expression over the table's columns, such as id > 3.",
            )
        columns = Columns(self._columns)
        tree, typed = self._typed(text, columns, field)
        (kind,) = self._types([typed.sql], text, field)
        terms = tuple(
            Expression(typed.of(node), node, pa.bool_(), frozenset(columns.named(node)), joins=_joins(node, columns))
            for node in (tree.children if tree.kind is SqlKind.AND else ())
        )
        return Expression(typed.sql, tree, kind, frozenset(columns.named(tree)), terms, _joins(tree, columns))

    def _typed(self, text: str, columns: Columns, field: str) -> tuple[SqlNode, Typed]:
        try:
            tree = parse(text)
            return tree, Typed(tree, columns, lambda pieces: self._types(pieces, text, field))
        except Unlike as error:
            raise refused(
                Code.INVALID_REQUEST, f"{field} {error}", field=field, value=error.value, remedy=error.remedy
            ) from error
        except BadSql as error:
            raise refused(
                Code.INVALID_REQUEST,
                f"{field} is not one SQL expression: it {error}",
                field=field,
                value=text[:_SHOWN],
                remedy="Give one SQL expression over the table's columns, such as id > 3 AND day = '2026-01-01'.",
            ) from error

    def _types(self, pieces: Sequence[str], text: str, field: str) -> list[pa.DataType]:
        selected = ", ".join(f"{piece} AS c{number}" for number, piece in enumerate(pieces))
        # The engine refuses aggregates in a condition.
        every = " AND ".join(f"{piece} IS NULL" for piece in pieces)
        query = f"SELECT {selected} FROM {self._from} WHERE {every} LIMIT 0"
        try:
            return list(pa.schema(self._builder.execute(query).schema).types)
        except BaseException as error:
            if not isinstance(error, Exception):
                raise_unless_panic(error)
            raise expression_refusal(error, text, field=field, columns=self._columns) from error


def _joins(tree: SqlNode, columns: Columns) -> bool:
    sides = [{table for table, _ in columns.named(side)} for side in tree.children]
    return (
        tree.kind is SqlKind.COMPARED
        and "=" in tree.parts
        and sorted(map(len, sides)) == [1, 1]
        and sides[0] != sides[1]
    )


_SQL_TYPES = {"int8": "TINYINT", "int16": "SMALLINT", "int32": "INT", "int64": "BIGINT"}


def _bounded(judged: Expression, wanted: pa.DataType) -> str:
    """Return SQL that raises an error for a value that the column's type, or Delta's, cannot hold."""
    types = pa.types
    sql = judged.sql
    failing = "DATE"
    if judged.tree.kind is SqlKind.COLUMN and judged.kind.equals(wanted):
        return sql
    if types.is_integer(wanted) or types.is_decimal(wanted):
        name = _SQL_TYPES[str(wanted)] if types.is_integer(wanted) else f"DECIMAL({wanted.precision}, {wanted.scale})"
        return sql if judged.kind.equals(wanted) else f"CAST({sql} AS {name})"
    if types.is_date(wanted):
        outside = f"{sql} < CAST('0001-01-01' AS DATE) OR {sql} > CAST('9999-12-31' AS DATE)"
    elif types.is_timestamp(wanted):
        zone = "None" if wanted.tz is None else 'Some("UTC")'
        kind = f"'Timestamp(Microsecond, {zone})'"
        sql = f"arrow_cast({sql}, {kind})"
        first, last = (f"arrow_cast('{text}', {kind})" for text in _MOMENTS)
        outside = f"{sql} < {first} OR {sql} > {last}"
    elif types.is_float32(wanted) and types.is_float64(judged.kind):
        # Infinities and NaN are kept.
        outside = f"abs({sql}) > CAST('{_MOST_REAL}' AS DOUBLE) AND abs({sql}) <= CAST('{_MOST_DOUBLE}' AS DOUBLE)"
        failing = "REAL"
    else:
        return _with_one_nan(sql, wanted)
    told = f"concat('{BEYOND}', CAST({sql} AS VARCHAR))"
    return _with_one_nan(f"(CASE WHEN {outside} THEN CAST({told} AS {failing}) ELSE {sql} END)", wanted)


def _with_one_nan(sql: str, wanted: pa.DataType) -> str:
    """Return SQL whose NaN, if it may be one, is the form that this library writes (`springline.client.casts`)."""
    if not pa.types.is_floating(wanted):
        return sql
    name = "REAL" if pa.types.is_float32(wanted) else "DOUBLE"
    return f"(CASE WHEN isnan({sql}) THEN CAST('NaN' AS {name}) ELSE {sql} END)"


def expression_refusal(
    error: BaseException,
    text: str,
    *,
    field: str,
    columns: Mapping[str, pa.Schema],
    fallback: str = "cannot be planned",
) -> Refused:
    """Return the refusal for an error of the SQL engine about an expression."""
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
        said = f"the engine cannot do this ({said})"
    if "Unable to convert expression to string" in said:
        said = "it holds something that the engine cannot write into the table's log, such as an INTERVAL or a tuple"
    for prefix in ("Generic DeltaTable error: ", "External error: ", "Generic error: ", "Error during planning: "):
        said = said.replace(prefix, "")
    return refused(
        Code.INVALID_REQUEST,
        f"{field} {fallback}: {said[:_SHOWN]}",
        field=field,
        value=text[:_SHOWN],
        remedy=f"Give a SQL expression over the columns {known}.",
    )


_VALUES = (
    re.compile(rf"Cannot cast string '{BEYOND}(?P<value>[^']*)'"),
    re.compile(r"Cannot cast string '(?P<value>[^']*)'"),
    re.compile(r"value of (?P<value>\S+) is out of range"),
    re.compile(r"Can't cast value (?P<value>\S+) to type"),
    re.compile(r"[Oo]verflow (?:happened )?on:? ?(?P<value>[^\n]{1,100})"),
    re.compile(r"(?P<value>\S+) is too large to store in a"),
)


def value_refusal(error: BaseException, text: str, *, field: str, column: pa.Field) -> Refused | None:
    """Return the refusal for the engine's error about a value that a column cannot hold; None for another error."""
    if "Divide by zero" in str(error):
        told = f"{field} divides by zero in a row"
        return refused(Code.INVALID_REQUEST, told, field=field, value=text[:_SHOWN], remedy="Use NULLIF(..., 0).")
    found = next(filter(None, (one.search(str(error)) for one in _VALUES)), None)
    if found is None:
        return None
    value = found["value"]
    return refused(
        Code.INVALID_REQUEST,
        f"{field} comes to {value} in a row, which column {column.name!r} of type {column.type} cannot hold",
        field=field,
        value=value,
        remedy=f"Leave such rows out by a condition, or say what shall become of them; given was {text[:_SHOWN]}.",
    )


def failing(
    table: deltalake.DeltaTable, assigned: Mapping[str, tuple[str, str]], where: str | None, schema: pa.Schema
) -> Refused | None:
    """Find the assignment that fails over the rows of `table`, by computing one after the other; None if none fails.

    `assigned`: the caller's text and its SQL, by column.
    """
    from deltalake import QueryBuilder  # noqa: PLC0415

    for name, (text, sql) in assigned.items():
        query = f"SELECT {sql} FROM target" + ("" if where is None else f" WHERE {where}")
        try:
            for _ in pa.RecordBatchReader.from_stream(QueryBuilder().register("target", table).execute(query)):
                pass
        except BaseException as error:
            if not isinstance(error, Exception):
                raise_unless_panic(error)
            told = value_refusal(error, text, field=f"set.{name}", column=schema.field(name))
            if told is not None:
                return told
    return None


def every_row(schema: pa.Schema, partition_by: Sequence[str]) -> str:
    """Return a condition that is true for every row, and that the engine cannot decide without reading rows.

    Raises `Refused` (UNSUPPORTED_FEATURE) for a table that has no suitable column.
    """
    return f"{_row_value(schema, partition_by)} <> '{_NO_VALUE}'"


def _row_value(schema: pa.Schema, partition_by: Sequence[str], table: str | None = None) -> str:
    for field in schema:
        kind = field.type
        plain_ = not pa.types.is_nested(kind) and not pa.types.is_binary(kind) and not pa.types.is_large_binary(kind)
        if plain_ and field.name not in partition_by:
            name = quoted(field.name) if table is None else f"{quoted(table)}.{quoted(field.name)}"
            return f"coalesce(CAST({name} AS VARCHAR), '')"
    raise refused(
        Code.UNSUPPORTED_FEATURE,
        "the table has only nested and binary columns, by which rows are not deleted",
        field="where",
        value=schema.names,
        remedy="Overwrite the table with the rows that shall stay.",
    )


def engine_condition(
    judged: Expression, schema: pa.Schema, partition_by: Sequence[str], table: str | None = None
) -> str:
    """Return a condition with which the library selects exactly the rows for which `judged` is true.

    The library skips files and row groups by their least and greatest values, which leave out NaN and round decimals of
    many digits. If that may matter, the condition is written so that the library can only decide it row by row.
    `table`: the table's alias in a merge; there the join conditions are not changed.
    """
    if table is not None and judged.terms:
        return "(" + " AND ".join(engine_condition(one, schema, partition_by, table) for one in judged.terms) + ")"
    named = {name for of, name in judged.columns if table in (None, of)}
    if not any(has_loose_bounds(schema.field(name).type) for name in named) or (table is not None and judged.joins):
        return judged.sql
    value = _row_value(schema, partition_by, table)
    return f"CASE WHEN {judged.sql} THEN {value} ELSE '{_NO_VALUE}' END <> '{_NO_VALUE}'"


@contextmanager
def planner_of_merge(
    table: deltalake.DeltaTable, schema: pa.Schema, target: str, source: pa.Schema, source_name: str
) -> Iterator[Planner]:
    """Yield a planner over a table and the rows to merge into it."""
    from deltalake import DeltaTable  # noqa: PLC0415

    with tempfile.TemporaryDirectory(prefix="springline-merge-") as folder:
        create_folder_table(Path(folder), source.remove_metadata())
        yield Planner({target: table, source_name: DeltaTable(folder)}, {target: schema, source_name: source})


def keeps_values(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Say whether delta-rs's cast from one type to the other keeps every value or raises an error.

    Whole numbers that do not fit raise an error; a number cast to a floating-point type, or to a narrower one, is
    rounded, which counts as keeping it.
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
        # Functions such as now() return nanoseconds; no column stores anything finer than microseconds.
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
    """Say whether an expression without columns has the same value in the other type."""
    try:
        given = _constant(text)
        if pa.types.is_string(given.type):
            # The library parses texts as other types, as SQL does; a text that it cannot parse raises an error.
            return not pa.types.is_nested(wanted) and not given.cast(wanted).null_count
        Conversion(pa.schema([("value", given.type)]), pa.schema([("value", wanted)])).apply([given], 1)
    except Exception:
        return False
    except BaseException as error:
        raise_unless_panic(error)
        return False
    return True


def _constant(text: str) -> pa.Array:
    """Return the one value of an expression without columns."""
    from deltalake import QueryBuilder  # noqa: PLC0415

    rows = pa.RecordBatchReader.from_stream(QueryBuilder().execute(f"SELECT {text} AS value")).read_all()
    (given,) = (plain(column.combine_chunks(), "value") for column in rows.columns)
    return given


def literal(value: Any, column: pa.Field, *, field: str, partitions: bool = False) -> str:
    """Return the SQL expression of a Python value for a column; raises `Refused` if the column would change it.

    `partitions`: whether the column partitions the table.
    """
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
    held = stored[0].as_py()
    problem = problem_of(held, kind, column.name) if partitions else None
    if problem is not None:
        raise partition_refusal(column.name, str(held), problem, field=field)
    return _sql(held, kind)


def _sql(value: Any, kind: pa.DataType) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return f"CAST('{value!r}' AS {'REAL' if pa.types.is_float32(kind) else 'DOUBLE'})"
        case Decimal():
            return f"CAST('{value:f}' AS DECIMAL({kind.precision}, {kind.scale}))"
        case datetime():
            zone = "None" if kind.tz is None else 'Some("UTC")'
            return f"arrow_cast('{value.isoformat()}', 'Timestamp(Microsecond, {zone})')"
        case date():
            return f"CAST('{value.isoformat()}' AS DATE)"
        case bytes():
            return f"X'{value.hex()}'"
        case _:
            return quoted_text(str(value))


def raise_unless_panic(error: BaseException) -> None:
    """Raise `error` unless it is a panic of the library, which derives from BaseException but counts as an error."""
    if type(error).__name__ != "PanicException":
        raise error


def column_of(schema: pa.Schema, name: str, *, field: str) -> pa.Field:
    """Return the column `name`; raises `Refused` with the existing columns."""
    if not isinstance(name, str) or name not in schema.names:
        raise refused(
            Code.INVALID_REQUEST,
            f"the table has no column {name!r}",
            field=field,
            value=str(name)[:200],
            remedy=f"Its columns are {', '.join(schema.names)}. Names are case-sensitive.",
        )
    return schema.field(name)
