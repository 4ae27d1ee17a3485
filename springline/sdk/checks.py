"""Checks of what an asset makes: `@asset(checks=[row_count(), not_null("flight")])`.

    from springline.sdk import asset, checks

    @asset(checks=[checks.row_count(least=1), checks.unique("flight"), checks.freshness("landed_at", within="2d")])
    def arrivals() -> list[dict]: ...

They are made of the rows that a function has returned, or else of those that it writes to a table, once it has returned
and before anything that it writes can be seen. A check of severity `error` that does not hold fails the attempt, which
has then written nothing and is not made again; one of severity `warn` is told with the run.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final, Literal, get_args

from springline.definitions.durations import duration_ms
from springline.definitions.limits import MAX_CHECK_NAME

Severity = Literal["warn", "error"]
SEVERITIES: Final[tuple[str, ...]] = get_args(Severity)


class CheckKind(StrEnum):
    """What a check looks at."""

    ROW_COUNT = "row_count"
    NOT_NULL = "not_null"
    UNIQUE = "unique"
    FRESHNESS = "freshness"
    SQL = "sql"
    CUSTOM = "custom"


@dataclass(frozen=True, slots=True)
class Check:
    """A check of an asset's rows. The functions of this module make them, and never raise.

    Attributes:
        table: whose rows are looked at, of those that the function writes; None: what it returns, or else the rows of
            the one table that it writes.
        columns: of `not_null`, `unique` and `freshness`.
        least, most: of `row_count`; `most` None for no limit.
        within_ms: of `freshness`.
        query: of `sql`.
        function: of `custom`.
        problems: what is wrong with the declaration: a message and a remedy each.
    """

    kind: CheckKind
    name: str
    severity: Severity
    table: str | None
    columns: tuple[str, ...] = ()
    least: int = 0
    most: int | None = None
    within_ms: int = 0
    query: str = ""
    function: Callable[..., Any] | None = None
    problems: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class CheckOutcome:
    """What a check has found: whether it holds, and in words what was seen."""

    name: str
    severity: Severity
    passed: bool
    message: str


def row_count(
    least: int = 1,
    most: int | None = None,
    *,
    table: str | None = None,
    severity: Severity = "error",
    name: str | None = None,
) -> Check:
    """Check that there are at least `least` rows, and at most `most`."""
    problems = [
        (f"{field} {value!r}, which is no whole number from 0 on", "Give a number of rows: row_count(least=1).")
        for field, value in (("least", least), ("most", most))
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0)
    ]
    if not problems and most is not None and most < least:
        problems.append((f"least {least} above most {most}, which nothing fulfils", "Exchange the two numbers."))
    return _check(CheckKind.ROW_COUNT, name, severity, table, problems, least=least, most=most)


def not_null(*columns: str, table: str | None = None, severity: Severity = "error", name: str | None = None) -> Check:
    """Check that no row lacks a value in any of the columns."""
    return _of_columns(CheckKind.NOT_NULL, columns, table, severity, name)


def unique(*columns: str, table: str | None = None, severity: Severity = "error", name: str | None = None) -> Check:
    """Check that no two rows agree in all of the columns; a missing value equals another one."""
    return _of_columns(CheckKind.UNIQUE, columns, table, severity, name)


def freshness(
    column: str, *, within: str, table: str | None = None, severity: Severity = "error", name: str | None = None
) -> Check:
    """Check that the latest day or instant in a column is at most `within` ago, such as "2d"; without zone it is UTC.

    A day is its first instant.
    """
    problems: list[tuple[str, str]] = []
    within_ms = 0
    try:
        within_ms = duration_ms(within)
    except ValueError as error:
        problems.append((f"within {within!r}, which {error}", "Give a duration: freshness('day', within='2d')."))
    made = _of_columns(CheckKind.FRESHNESS, (column,), table, severity, name, problems)
    return replace(made, within_ms=within_ms)


def sql(name: str, query: str, *, table: str | None = None, severity: Severity = "error") -> Check:
    """Check by a query of DuckDB over the relation `rows`: each row that it returns breaks the check.

    Such as `sql("no early landing", "SELECT * FROM rows WHERE landed_at < left_at")`.
    """
    problems = []
    if not isinstance(query, str) or not query.strip():
        problems.append(("no query", "Give a text: sql('positive', 'SELECT * FROM rows WHERE minutes < 0')."))
    return _check(CheckKind.SQL, name, severity, table, problems, query=query)


def custom(
    function: Callable[..., Any], *, table: str | None = None, severity: Severity = "error", name: str | None = None
) -> Check:
    """Check by a function of the value that the asset returned, or of the rows that it writes as a pyarrow Table.

    The function takes it as its first parameter, and the `Context` as a second if it has one called `context`. The
    check holds if it returns nothing or True; it does not if it returns False or a text that says why, or raises
    `AssertionError`. Whatever else it raises fails the attempt as an error of the function's own.
    """
    problems = []
    if not callable(function):
        problems.append((f"{function!r}, which is no function", "Give a function: custom(no_gaps)."))
    elif inspect.iscoroutinefunction(function):
        problems.append(("an async function, which nobody would wait for", "Write it with def, without async."))
    elif isinstance(function, type) or not _takes_one(function):
        problems.append(
            ("a function that does not take the value alone", "Write def no_gaps(rows): ..., with one parameter.")
        )
    found = name if name is not None else getattr(function, "__name__", "custom")
    return _check(CheckKind.CUSTOM, found, severity, table, problems, function=function)


def _takes_one(function: Callable[..., Any]) -> bool:
    try:
        given = [one for one in inspect.signature(function).parameters.values() if one.name != "context"]
    except (TypeError, ValueError):
        return True
    if any(one.kind is one.VAR_POSITIONAL for one in given):
        return True
    by_place = [one for one in given if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    needed = [one for one in given if one.default is one.empty and one.kind is not one.VAR_KEYWORD]
    return bool(by_place) and len(needed) <= 1


def _of_columns(
    kind: CheckKind,
    columns: Sequence[Any],
    table: str | None,
    severity: Severity,
    name: str | None,
    problems: Sequence[tuple[str, str]] = (),
) -> Check:
    found = list(problems)
    if not columns:
        found.append(("no column", f"Name one or more: {kind}('flight')."))
    found += [
        (f"the column {one!r}, which is no text", f"Name columns one by one: {kind}('day', 'flight').")
        for one in columns
        if not isinstance(one, str) or not one
    ]
    named = f"{kind}({', '.join(map(str, columns))})"
    return _check(kind, name or named[:MAX_CHECK_NAME], severity, table, found, columns=tuple(columns))


def _check(
    kind: CheckKind,
    name: str | None,
    severity: Any,
    table: Any,
    problems: Sequence[tuple[str, str]],
    **fields: Any,
) -> Check:
    found = list(problems)
    chosen = kind.value if name is None else name
    if not isinstance(chosen, str) or not chosen or len(chosen) > MAX_CHECK_NAME or not chosen.isprintable():
        found.append(
            (f"the name {chosen!r}, which is no short text", f"Give at most {MAX_CHECK_NAME} characters: name='...'.")
        )
        chosen = kind.value
    if severity not in SEVERITIES:
        found.append(
            (f"severity {severity!r}, which there is not", "Give 'error', which fails the attempt, or 'warn'.")
        )
        severity = "error"
    if table is not None and (not isinstance(table, str) or not table):
        found.append((f"table {table!r}, which is no text", "Give the name of a table that the function writes."))
        table = None
    return Check(kind, chosen, severity, table, problems=tuple(found), **fields)
