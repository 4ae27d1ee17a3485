"""Types in comparisons: one rule for every condition and every assigned expression.

Values are compared within their family: numbers with numbers, texts with texts, booleans, dates and times, bytes.
A quoted text compared with another family is parsed as a value of that family (`day = '2026-01-01'`, `id < '10'`), as
in the SQL standard, and refused if it is not one. Any other mix is refused, because engines differ about it, and
delta-rs with itself: it compares `s < 10` as numbers in a query and as texts in a delete. Numbers are not rounded:
fractions are compared with whole and decimal numbers in as many digits as there are, otherwise as DOUBLE. Times without
a zone, compared with times that have one, are in UTC. Sums and products of whole numbers are computed in more digits
than they may have, so that a result beyond 64 bits raises an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

import pyarrow as pa

from springline.client.plain import is_binary
from springline.client.sql import BadSql, SqlKind, SqlNode

TypesOf = Callable[[Sequence[str]], list[pa.DataType]]
"""Returns the types of expressions, as the engine plans them."""

_DIGITS = 38
_LONG = pa.int64()
_WHOLE = re.compile(r"[+-]?\d+")
_FRACTION = re.compile(r"[+-]?(\d*)\.(\d*)")
_FLOAT = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?(?:nan|inf|infinity)", re.IGNORECASE)
_SAFE = 19
"""The most characters, sign included, of a whole number that certainly fits into DECIMAL(20, 0)."""
_TRUTHS = {"true": "TRUE", "t": "TRUE", "false": "FALSE", "f": "FALSE"}
_LENGTHS = frozenset({"length", "char_length", "character_length", "len"})
_SHOWN = 60


class Unlike(BadSql):
    """A comparison mixes families, or a text is not a value of the other family; `remedy` says what to do."""

    def __init__(self, message: str, value: str, remedy: str) -> None:
        super().__init__(message)
        self.value = value
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns that an expression may name, by table."""

    tables: Mapping[str, pa.Schema]

    def find(self, node: SqlNode) -> tuple[str, pa.Field, pa.DataType] | None:
        """Return table, column and type of the column that a node names; None if it is not one of these columns."""
        names = node.name
        if names[0] in self.tables and len(names) > 1:
            table, names = names[0], names[1:]
        else:
            holders = [name for name, schema in self.tables.items() if names[0] in schema.names]
            if len(holders) != 1:
                return None
            (table,) = holders
        if names[0] not in self.tables[table].names:
            return None
        column = self.tables[table].field(names[0])
        kind = column.type
        for name in names[1:]:
            index = kind.get_field_index(name) if pa.types.is_struct(kind) else -1
            if index < 0:
                return None
            kind = kind.field(index).type
        return table, column, kind

    def sql(self, node: SqlNode) -> str | None:
        """Return the column that a node names in the form that all operations of the library take; None if none."""
        found = self.find(node)
        if found is None:
            return None
        table, column, _ = found
        names = node.name[1:] if node.name[0] in self.tables and len(node.name) > 1 else node.name
        first = quoted(column.name) if len(self.tables) == 1 else f"{quoted(table)}.{quoted(column.name)}"
        return first + "".join(f"[{quoted_text(name)}]" for name in names[1:])

    def named(self, tree: SqlNode) -> set[tuple[str, str]]:
        """Return table and name of every column that a tree names."""
        found = (self.find(node) for node in tree.walk() if node.kind is SqlKind.COLUMN)
        return {(one[0], one[1].name) for one in found if one is not None}


def quoted(name: str) -> str:
    """Return a column's name quoted for SQL, with any characters."""
    return '"' + name.replace('"', '""') + '"'


def quoted_text(text: str) -> str:
    """Return a text as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


def family(kind: pa.DataType) -> str:
    """Return the family of a type, in words."""
    types = pa.types
    if types.is_dictionary(kind):
        return family(kind.value_type)
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return "a number"
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return "a text"
    if types.is_boolean(kind):
        return "true or false"
    if types.is_date(kind) or types.is_timestamp(kind):
        return "a date or time"
    if is_binary(kind):
        return "bytes"
    if types.is_struct(kind):
        return "a struct"
    if types.is_map(kind):
        return "a map"
    return "a list" if types.is_nested(kind) else str(kind)


class Typed:
    """Writes a tree out with every comparison changed to obey the rule. Raises `Unlike`."""

    def __init__(self, tree: SqlNode, columns: Columns, types_of: TypesOf) -> None:
        self._columns = columns
        self._types_of = types_of
        self._types: dict[int, pa.DataType] = {}
        self._words: dict[int, str] = {}
        self._levels: list[list[SqlNode]] = []
        for node in tree.walk():
            if node.kind is SqlKind.COLUMN and (named := columns.sql(node)) is not None:
                self._words[id(node)] = named
        self._sort(tree, within_sum=False)
        for level in self._levels:
            self._ask([one for node in level for one in self._judged(node)])
            for node in level:
                for group in node.alike:
                    self._make_alike(group, compared=node.kind is SqlKind.COMPARED, by_bits=group is node.by_bits)
                if node.kind is SqlKind.SUM:
                    self._make_wide(node)
        self._fractions(tree)
        self._lengths(tree)
        self.sql = self.of(tree)

    def of(self, node: SqlNode) -> str:
        """Return a piece of the tree, changed to obey the rule."""
        return node.sql(lambda one: self._words.get(id(one)))

    def _sort(self, node: SqlNode, *, within_sum: bool) -> int:
        """Sort nodes with operands to judge into levels, the innermost first; return how many levels `node` has."""
        height = max((self._sort(child, within_sum=node.kind is SqlKind.SUM) for child in node.children), default=0)
        if not node.alike and (node.kind is not SqlKind.SUM or within_sum):
            return height
        if len(self._levels) == height:
            self._levels.append([])
        self._levels[height].append(node)
        return height + 1

    def _judged(self, node: SqlNode) -> list[SqlNode]:
        return _operands(node) if node.kind is SqlKind.SUM else [one for group in node.alike for one in group]

    def _ask(self, nodes: Iterable[SqlNode]) -> None:
        """Find the types of pieces: columns and literals are known, the engine is asked for all others at once."""
        unknown = [node for node in nodes if id(node) not in self._types and not self._is_known(node)]
        if unknown:
            found = self._types_of([self.of(node) for node in unknown])
            self._types.update(zip(map(id, unknown), found, strict=True))

    def _is_known(self, node: SqlNode) -> bool:
        kind = self._plain_type(node)
        if kind is not None:
            self._types[id(node)] = kind
        return kind is not None

    def _plain_type(self, node: SqlNode) -> pa.DataType | None:
        match node.kind:
            case SqlKind.NUMBER:
                return _LONG if _WHOLE.fullmatch(_text(node)) else pa.float64()
            case SqlKind.TEXT | SqlKind.JOINED:
                return pa.string()
            case SqlKind.NULL:
                return pa.null()
            case SqlKind.TRUTH | SqlKind.AND | SqlKind.OR | SqlKind.TESTED | SqlKind.COMPARED:
                return pa.bool_()
            case SqlKind.COLUMN:
                found = self._columns.find(node)
                return None if found is None else found[2]
        if node.kind is SqlKind.MOMENT:
            return pa.date32() if node.parts[0] == "DATE" else pa.timestamp("us")
        return None

    # Comparisons.

    def _make_alike(self, group: Sequence[SqlNode], *, compared: bool, by_bits: bool) -> None:
        typed = [
            node for node in group if node.kind is not SqlKind.TEXT and not pa.types.is_null(self._types[id(node)])
        ]
        families = {family(self._types[id(node)]): node for node in typed}
        if len(families) > 1:
            (_, one), (_, other) = list(families.items())[:2]
            raise self._unlike(one, other)
        if not families:
            return
        (name,) = families
        texts = [node for node in group if node.kind is SqlKind.TEXT]
        if name == "a number":
            floating = self._make_numbers(group, texts, compared=compared)
            if by_bits and floating:
                self._make_one_zero(group)
        elif name == "a date or time":
            self._make_times([*texts, *(node for node in typed if node.kind is SqlKind.MOMENT)], typed)
        elif name == "true or false":
            for node in texts:
                truth = _TRUTHS.get(_content(node).strip().lower())
                if truth is None:
                    raise _no(node, name)
                self._words[id(node)] = truth
        elif name != "a text" and texts:
            raise self._unlike(typed[0], texts[0])

    def _make_numbers(self, group: Sequence[SqlNode], texts: Sequence[SqlNode], *, compared: bool) -> bool:
        """Write a group of numbers so that they have one type; say whether that may be a floating-point one."""
        written = {id(node): _content(node).strip() for node in texts}
        for node in texts:
            if not _FLOAT.fullmatch(written[id(node)]):
                raise _no(node, "a number")
        written |= {id(node): _text(node) for node in group if node.kind is SqlKind.NUMBER}
        others = [self._types[id(node)] for node in group if id(node) not in written]
        digits = [*map(_digits_of_type, others), *map(_digits, written.values())]
        known = [one for one in digits if one is not None]
        if len(known) < len(digits):
            # The engine would cast floating-point numbers to decimals, which fails for large ones and NaN.
            for node in group:
                if id(node) not in written and _is_decimal(self._types[id(node)]):
                    self._words[id(node)] = f"CAST({self.of(node)} AS DOUBLE)"
        numbers = [int(text) for text in written.values() if _WHOLE.fullmatch(text)]
        if len(numbers) == len(written) and all(_holds(kind, number) for number in numbers for kind in others):
            self._words.update({place: str(int(text)) for place, text in written.items()})
            return any(map(pa.types.is_floating, others))
        before = max((one[0] for one in known), default=_DIGITS)
        behind = max((one[1] for one in known), default=0)
        if len(known) < len(digits) or before + behind > _DIGITS or not (compared or any(map(_is_decimal, others))):
            self._words.update({place: f"CAST('{text}' AS DOUBLE)" for place, text in written.items()})
            return True
        # All in one type: delta-rs compares a file's statistics with what is written here as it stands.
        for node in group:
            if id(node) in written:
                self._words[id(node)] = f"CAST('{written[id(node)]}' AS DECIMAL({before + behind}, {behind}))"
            elif self._types[id(node)] not in (pa.null(), pa.decimal128(before + behind, behind)):
                self._words[id(node)] = f"CAST({self.of(node)} AS DECIMAL({before + behind}, {behind}))"
        return False

    def _make_one_zero(self, group: Sequence[SqlNode]) -> None:
        """Write floating-point numbers of a group so that none is -0.0, which the engine takes for another number."""
        for node in group:
            self._words[id(node)] = f"(CAST({self.of(node)} AS DOUBLE) + CAST('0' AS DOUBLE))"

    def _make_times(self, written: Sequence[SqlNode], typed: Sequence[SqlNode]) -> None:
        moments = {id(node): _moment(_content(node).strip()) for node in written}
        kinds = [self._types[id(node)] for node in typed if id(node) not in moments]
        zoned = any(pa.types.is_timestamp(kind) and kind.tz is not None for kind in kinds)
        typed_moments = [moments[id(node)] for node in written if node.kind is SqlKind.MOMENT]
        zoned |= any(one is not None and one.tzinfo is not None for one in typed_moments)
        days = all(map(pa.types.is_date, kinds)) and all(_is_day(_content(node).strip()) for node in written)
        for node in written:
            moment = moments[id(node)]
            if moment is None or (moment.tzinfo is not None and not zoned):
                raise _no(node, "a time with a zone" if zoned else "a date or time")
            self._words[id(node)] = _day(moment) if days else _timestamp(moment, zoned=zoned)
        # All in one type: delta-rs compares a file's statistics with what is written here as it stands.
        zone = "UTC" if zoned else None
        wanted = pa.date32() if all(map(pa.types.is_date, kinds)) and days else pa.timestamp("us", zone)
        for node in typed:
            if id(node) not in moments and self._types[id(node)] != wanted:
                self._words[id(node)] = f"arrow_cast({self.of(node)}, '{_ARROW[str(wanted)]}')"

    def _unlike(self, one: SqlNode, other: SqlNode) -> Unlike:
        texts = []
        for node in (one, other):
            kind = pa.string() if node.kind is SqlKind.TEXT else self._types[id(node)]
            texts.append(f"{_shown(node.sql())}, which is {family(kind)}")
        return Unlike(
            f"compares {texts[0]}, with {texts[1]}",
            _shown(other.sql()),
            "Compare like with like: put the value in the form of the column (a text in quotes, a number without, "
            "bytes as X'00ff'), or cast one side with CAST(... AS ...).",
        )

    # Arithmetic.

    def _make_wide(self, node: SqlNode) -> None:
        """Widen arithmetic with whole numbers, so that a result either fits into 64 bits or raises an error."""
        operands = _operands(node)
        kinds = [self._types[id(one)] for one in operands]
        if not kinds or not all(pa.types.is_integer(kind) or pa.types.is_null(kind) for kind in kinds):
            return
        fits = _bound(node, self._bounds(operands)) < 2**63
        for one in operands:
            if not fits:
                wide = "DECIMAL(38, 0)" if one.kind is SqlKind.NUMBER and len(_text(one)) > _SAFE else "DECIMAL(20, 0)"
                self._words[id(one)] = f"CAST({self.of(one)} AS {wide})"
            elif one.kind is not SqlKind.NUMBER:
                self._words[id(one)] = f"CAST({self.of(one)} AS BIGINT)"
        if not fits:
            self._words[id(node)] = f"CAST({self.of(node)} AS BIGINT)"

    def _bounds(self, operands: Sequence[SqlNode]) -> dict[int, int]:
        """Return the greatest absolute value that each operand may have."""
        found = {}
        for one in operands:
            kind = self._types[id(one)]
            if one.kind is SqlKind.NUMBER:
                found[id(one)] = abs(int(_text(one)))
            else:
                found[id(one)] = (
                    0 if pa.types.is_null(kind) else 2 ** (kind.bit_width - pa.types.is_signed_integer(kind))
                )
        return found

    def _fractions(self, tree: SqlNode) -> None:
        """Write fractions with an explicit type, so that the engine does not choose another; lone ones stay."""
        for node in tree.walk():
            if node is tree or node.kind is not SqlKind.NUMBER or id(node) in self._words:
                continue
            if not _WHOLE.fullmatch(_text(node)):
                self._words[id(node)] = f"CAST({_text(node)} AS DOUBLE)"

    def _lengths(self, tree: SqlNode) -> None:
        """Write the length of a text as its distance from an empty one: delta-rs can log no other form."""
        for node in tree.walk():
            if node.is_call and node.name[0] in _LENGTHS and len(node.children) == 1 and id(node) not in self._words:
                node.parts = ["levenshtein (", node.children[0], ", '')"]


def _operands(node: SqlNode) -> list[SqlNode]:
    """Return the operands of a sum or product, including those in nested brackets."""
    found: list[SqlNode] = []
    for child in node.children:
        found += _operands(child) if child.kind is SqlKind.SUM else [child]
    return found


def _bound(node: SqlNode, bounds: Mapping[int, int]) -> int:
    if node.kind is not SqlKind.SUM:
        return bounds[id(node)]
    parts = [_bound(child, bounds) for child in node.children]
    if "*" not in node.parts:
        return sum(parts)
    product = 1
    for part in parts:
        product *= part
    return product


def _text(node: SqlNode) -> str:
    return str(node.parts[0])


def _content(node: SqlNode) -> str:
    """Return the content of a quoted text."""
    return str(node.parts[-1])[1:-1].replace("''", "'")


def _shown(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _digits(text: str) -> tuple[int, int] | None:
    """Return how many digits a number needs before and behind its point; None for any other text."""
    if _WHOLE.fullmatch(text):
        return max(1, len(text.lstrip("+-").lstrip("0"))), 0
    match = _FRACTION.fullmatch(text)
    if match is None:
        return None
    before, behind = len(match[1].lstrip("0")), len(match[2].rstrip("0"))
    return (before, behind) if before + behind else (1, 0)


def _digits_of_type(kind: pa.DataType) -> tuple[int, int] | None:
    if pa.types.is_null(kind):
        return 1, 0
    if pa.types.is_decimal(kind):
        return kind.precision - kind.scale, kind.scale
    return (20, 0) if pa.types.is_integer(kind) else None


def _holds(kind: pa.DataType, number: int) -> bool:
    """Say whether a whole number may stand as it is beside a numeric type: delta-rs casts the literal to that type.

    A literal of more than 64 bits is a rounded DOUBLE to the engine, whatever the type beside it.
    """
    if pa.types.is_decimal(kind) and abs(number) >= 10 ** (kind.precision - kind.scale):
        return False
    bits = kind.bit_width if pa.types.is_integer(kind) else 64
    return bool(-(2 ** (bits - 1)) <= number < 2 ** (bits - 1))


def _is_decimal(kind: pa.DataType) -> bool:
    return bool(pa.types.is_decimal(kind))


def _no(node: SqlNode, name: str) -> Unlike:
    return Unlike(f"compares {name} with {_shown(node.sql())}, which is none", _content(node)[:_SHOWN], _WRITTEN[name])


def _is_day(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


_ISO = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,6}0*)?)?(?:Z|[+-]\d\d(?::?\d\d)?| ?UTC)?)?")


def _moment(text: str) -> datetime | None:
    """Parse a date or time in ISO 8601; None for any other text, or one finer than microseconds."""
    if _ISO.fullmatch(text) is None:
        return None
    try:
        return datetime.fromisoformat(text.removesuffix("UTC").rstrip() + ("Z" if text.endswith("UTC") else ""))
    except ValueError:
        return None


def _day(moment: datetime) -> str:
    return f"CAST('{moment.date().isoformat()}' AS DATE)"


def _timestamp(moment: datetime, *, zoned: bool) -> str:
    if zoned:
        moment = moment.astimezone(UTC) if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    kind = _ARROW[str(pa.timestamp("us", "UTC" if zoned else None))]
    return f"arrow_cast('{moment.isoformat()}', '{kind}')"


_ARROW = {
    "date32[day]": "Date32",
    "timestamp[us]": "Timestamp(Microsecond, None)",
    "timestamp[us, tz=UTC]": 'Timestamp(Microsecond, Some("UTC"))',
}
"""The engine's names of Arrow's types."""
_WRITTEN = {
    "a number": "Write the number without quotes, or cast the column to VARCHAR to compare texts.",
    "true or false": "Write true or false.",
    "a date or time": "Write dates as '2026-01-31' and times as '2026-01-31 12:30:00'.",
    "a time with a zone": "Write times as '2026-01-31 12:30:00' (in UTC) or '2026-01-31T12:30:00+02:00'.",
}
