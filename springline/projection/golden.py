"""The golden form of a row, in which rows are compared, hashed and shown (docs/formats.md#golden-form).

A JSON object without nulls: instants are RFC 3339 texts cut to milliseconds, JSON columns are nested values, two
enums are spelled as events spell them, columns of our own are left out. Its canonical text (keys sorted, no spaces)
is made straight from the stored values, because every row that changes is digested.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final

import msgspec
import orjson

from springline.ledger.json_text import canonical_json
from springline.ledger.timestamps import NS_PER_MS, format_ms, parse_timestamp
from springline.projection.schema import TABLES, Column, Kind, Row, Table, Value

Form = Callable[[Row], msgspec.Struct]
"""Makes from a row a struct whose JSON is the golden form."""

_MAX_INSTANTS: Final = 65_536
_ENCODE: Final = msgspec.json.Encoder().encode


class InvalidGoldenRow(ValueError):
    """A golden form that no row of its table can have."""


class _Instants(dict[Value, str]):
    """Texts of instants by millisecond: those of one batch are few."""

    def __missing__(self, ms: Value) -> str:
        if len(self) >= _MAX_INSTANTS:
            self.clear()
        text = self[ms] = format_ms(int(ms or 0))
        return text


_INSTANTS: Final = _Instants()


def golden_row(table: Table, row: Row) -> dict[str, Any]:
    """Return a row in golden form, its fields sorted by name."""
    form: dict[str, Any] = orjson.loads(golden_json(table, row))
    return form


def golden_json(table: Table, row: Row) -> bytes:
    """Return the canonical JSON text of a row's golden form."""
    return _ENCODE(golden_form(table.name)(row))


@cache
def golden_form(table: str) -> Form:
    """Return the function that gives rows of a table the form whose JSON is the golden one; for use in long loops.

    Fields are declared in the order of their names, so that the encoder need not sort them; None is left out. The
    function is made from source text, as those of dataclasses are: asking for each column of each row what kind it is
    takes three times as long.
    """
    columns = [(f"v{place}", column) for place, column in enumerate(TABLES[table].columns)]
    shown = sorted((column.name, variable, column) for variable, column in columns if not column.internal)
    golden = msgspec.defstruct(
        f"golden_{table}", [(name, object, None) for name, _, _ in shown], omit_defaults=True, gc=False
    )
    variables = ", ".join(variable for variable, _ in columns)
    arguments = ", ".join(_expression(variable, column) for _, variable, column in shown)
    names: dict[str, Any] = {"golden": golden, "instants": _INSTANTS, "raw": msgspec.Raw}
    exec(f"def form(row):\n    {variables} = row\n    return golden({arguments})", names)
    form: Form = names["form"]
    return form


def _expression(variable: str, column: Column) -> str:
    """Return the source of the expression that is encoded for a stored value."""
    if column.kind is Kind.MS:
        expression = f"instants[{variable}]"
    elif column.kind is Kind.JSON:
        expression = f"raw({variable})"
    elif column.lower_in_golden:
        expression = f"{variable}.lower()"
    else:
        return variable
    return f"None if {variable} is None else {expression}"


def row_of_golden(table: Table, form: Mapping[str, Any]) -> Row:
    """Return the stored row of a golden form; columns that golden forms leave out are None.

    Raises `InvalidGoldenRow` for a field that is no column, a missing value, or one of the wrong kind.
    """
    strange = form.keys() - {column.name for column in table.columns if not column.internal}
    if strange:
        raise InvalidGoldenRow(f"{table.name}: no column is called {', '.join(sorted(strange))}")
    return tuple(_stored(table, column, form.get(column.name)) for column in table.columns)


_TYPES: Final[dict[Kind, type[Any]]] = {Kind.STR: str, Kind.U32: int, Kind.I64: int, Kind.BOOL: bool, Kind.MS: str}


def _stored(table: Table, column: Column, value: Any) -> Value:
    where = f"{table.name}.{column.name}"
    if value is None:
        if not column.nullable:
            raise InvalidGoldenRow(f"{where}: a value is missing")
        return None
    if column.kind is Kind.JSON:
        return canonical_json(value).decode()
    wanted: Any = _TYPES[column.kind]
    if type(value) is not wanted:
        raise InvalidGoldenRow(f"{where}: {value!r} is no {column.kind.value}")
    if column.kind is Kind.MS:
        try:
            return parse_timestamp(value) // NS_PER_MS
        except ValueError as error:
            raise InvalidGoldenRow(f"{where}: {error}") from error
    stored: Value = value.upper() if column.lower_in_golden else value
    return stored
