"""Which values a partition column may hold: those whose text every reader takes for that value.

An append is checked value by value. In an update or a merge delta-rs computes the values: there SQL raises an error for
the first row that would have another value.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import pyarrow as pa

from springline.client.comparing import quoted_text
from springline.errors import Code, Refused, refused

LONGEST_FOLDER = 255
"""The longest name that file systems take: a partition value is a folder's name, percent-encoded."""

_HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
_MARK = "no partition value of "
_TOLD = re.compile(rf"Cannot cast string '{_MARK}(?P<value>.*)' to value of Float32 type", re.DOTALL)
_SHOWN = 100
REMEDY = "Write another value, or partition by another column."


def problem_of(value: Any, kind: pa.DataType, name: str) -> str | None:
    """Return what is wrong with a value for a partition column, as the end of a sentence; None if it may be one."""
    if pa.types.is_decimal(kind):
        if value < 0 and value != value.to_integral_value():
            return "is negative and has a fraction, which delta-rs writes wrongly"
    elif pa.types.is_string(kind):
        if value == "":
            return "is empty, which the Delta protocol reads back as null"
        if value == _HIVE_NULL:
            return "is what a folder of nulls is called, and some readers take it for null"
        if len(name) + 1 + len(quote(value, safe="")) > LONGEST_FOLDER:
            return f"makes a folder's name longer than {LONGEST_FOLDER} characters"
    return None


def checked_sql(sql: str, column: pa.Field) -> str:
    """Return SQL for a partition column's value that raises an error, for `told_refusal`, where it may not have it."""
    kind = column.type
    if pa.types.is_decimal(kind) and kind.scale > 0:
        wanted = f"DECIMAL({kind.precision}, {kind.scale})"
        sql = f"CAST({sql} AS {wanted})"
        wrong = f"{sql} < 0 AND {sql} % 1 <> 0"
    elif pa.types.is_string(kind):
        wanted = "VARCHAR"
        # Each byte that is no plain letter or digit takes three characters.
        encoded = f"octet_length({sql}) + 2 * octet_length(regexp_replace({sql}, '[A-Za-z0-9_.~-]', '', 'g'))"
        most = LONGEST_FOLDER - 1 - len(column.name)
        wrong = f"{sql} IN ('', {quoted_text(_HIVE_NULL)}) OR {encoded} > {most}"
    else:
        return sql
    told = f"concat({quoted_text(_MARK + column.name + ': ')}, CAST({sql} AS VARCHAR))"
    return f"(CASE WHEN {wrong} THEN CAST(CAST({told} AS REAL) AS {wanted}) ELSE {sql} END)"


def told_refusal(error: BaseException, schema: pa.Schema, partition_by: list[str], *, field: str) -> Refused | None:
    """Return the refusal for an error of the engine in what `checked_sql` returns; None for another error."""
    match = _TOLD.search(str(error))
    if match is None:
        return None
    for name in partition_by:
        if match["value"].startswith(f"{name}: "):
            text = match["value"].removeprefix(f"{name}: ")
            kind = schema.field(name).type
            value = Decimal(text) if pa.types.is_decimal(kind) else text
            return partition_refusal(name, text, problem_of(value, kind, name) or "is none", field=field)
    return None


def partition_refusal(name: str, value: str, problem: str, *, field: str) -> Refused:
    """Return the refusal of a value for partition column `name`."""
    shown = value[:_SHOWN]
    message = f"column {name!r} partitions the table, and its value {shown!r} {problem}"
    return refused(Code.INVALID_REQUEST, message, field=field, value=shown, remedy=REMEDY)
