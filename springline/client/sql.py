"""A SQL expression as a tree, parsed as exactly one expression before any engine sees it.

The engine gets the tree written out again, in brackets, without comments: so no text can escape its expression, and the
operands of every comparison are known. Precedences are those of SQL.
Subqueries and windows, which read or change more than the current row, are refused here; aggregates are left to the
engine, because only it knows what a function does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum

LONGEST_EXPRESSION = 100_000
DEEPEST = 30
"""How deep an expression may nest: the engine's limit is 50, including the brackets and casts that we add."""
MOST_TERMS = 1_000
"""How many operands a chain of the same + - * or || may have: engines nest them, and crash with too many."""


class BadSql(ValueError):
    """A text is not one SQL expression; the message continues a sentence that begins with "it "."""


class SqlKind(Enum):
    """Kinds of nodes."""

    NUMBER = "number"
    TEXT = "text"
    NULL = "null"
    TRUTH = "truth"
    COLUMN = "column"
    AND = "and"
    OR = "or"
    TESTED = "tested"
    """A boolean of operands that may differ in type: NOT, IS NULL, LIKE."""
    COMPARED = "compared"
    """A boolean of operands that are compared: its `alike`."""
    SUM = "sum"
    """Operands joined by + and -, or by * alone; or a minus and one operand."""
    JOINED = "joined"
    """Texts joined by ||."""
    FIRST = "first"
    """One of its `alike` (CASE, coalesce, greatest), in their common type."""
    MOMENT = "moment"
    """DATE or TIMESTAMP and a text."""
    OTHER = "other"


@dataclass(slots=True, eq=False)
class SqlNode:
    """A node of the tree: its words and child nodes in order.

    `alike`: groups of nodes that the engine casts to one type. `name`: of a column, part by part; or of a function.
    """

    kind: SqlKind
    parts: list[str | SqlNode]
    alike: list[list[SqlNode]] = field(default_factory=list)
    name: tuple[str, ...] = ()

    @property
    def by_bits(self) -> list[SqlNode] | None:
        """Return the group that the engine compares bit by bit: of IN, of a CASE with an operand, of nullif."""
        is_in = self.kind is SqlKind.COMPARED and "IN" in self.parts
        is_case = self.parts[0] == "CASE" and len(self.alike) == 2
        return self.alike[0] if is_in or is_case or self.name == ("nullif",) else None

    @property
    def is_call(self) -> bool:
        """Say whether it is a function call; its `name` is in lower case."""
        return bool(self.name) and self.kind is not SqlKind.COLUMN

    @property
    def children(self) -> list[SqlNode]:
        """Return the direct children."""
        return [part for part in self.parts if isinstance(part, SqlNode)]

    def walk(self) -> Iterator[SqlNode]:
        """Yield this node and all below it."""
        yield self
        for child in self.children:
            yield from child.walk()

    def sql(self, of: Callable[[SqlNode], str | None] = lambda _node: None) -> str:
        """Write the node out. `of` may replace a node's text; None keeps it."""
        other = of(self)
        if other is not None:
            return other
        if self.kind in (SqlKind.AND, SqlKind.OR):
            return _balanced([child.sql(of) for child in self.children], self.kind.name)
        words = " ".join(part if isinstance(part, str) else part.sql(of) for part in self.parts)
        return words if self.kind in _BARE else f"({words})"


_BARE = frozenset({SqlKind.NUMBER, SqlKind.TEXT, SqlKind.NULL, SqlKind.TRUTH, SqlKind.COLUMN})


def _balanced(words: Sequence[str], operator: str) -> str:
    """Join many terms with brackets of the least depth."""
    while len(words) > 1:
        pairs = [words[index : index + 2] for index in range(0, len(words), 2)]
        words = [f"({f' {operator} '.join(pair)})" if len(pair) > 1 else pair[0] for pair in pairs]
    return words[0]


_TOKEN = re.compile(
    r"""(?P<blank>\s+|--[^\n]*(?:\n|$))
    |(?P<hex>[xX]'(?:[0-9a-fA-F]{2})*')
    |(?P<text>'(?:[^']|'')*')
    |(?P<name>"(?:[^"]|"")+"|`[^`]+`)
    |(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
    |(?P<word>[^\W\d]\w*(?!['\w]))
    |(?P<sign><=>|<>|<=|>=|!=|==|<<|>>|\|\||::|!~\*|!~|~\*|->>|->|@>|<@|[-+*/%(),.\[\]{}:<>=|&^~])
    """,
    re.VERBOSE | re.DOTALL,
)

_TESTS = frozenset({"=", "==", "<>", "!=", "<", "<=", ">", ">=", "<=>"})
_MATCHES = frozenset({"~", "~*", "!~", "!~*"})
_INFIX = (
    {"->": 16, "->>": 16, "@>": 16, "<@": 16, "|": 21, "^": 22, "&": 23, "<<": 24, ">>": 24}
    | {"+": 30, "-": 30, "*": 40, "/": 40, "%": 40, "||": 40, "::": 50, "[": 50, ".": 50}
    | dict.fromkeys(_TESTS, 20)
    | dict.fromkeys(_MATCHES, 19)
)
_WORDS = {"OR": 5, "AND": 10, "IS": 17, "LIKE": 19, "ILIKE": 19, "SIMILAR": 19, "BETWEEN": 20, "IN": 20, "AT": 41}
_NOT, _COMPARING, _SIGN = 15, 20, 45
_RESERVED = frozenset(
    re.findall(
        r"\w+",
        """SELECT FROM WHERE GROUP HAVING ORDER LIMIT UNION EXCEPT INTERSECT WITH VALUES TABLE INSERT UPDATE DELETE
        MERGE CREATE DROP ALTER COPY AS ON USING JOIN WHEN THEN ELSE END AND OR IS IN LIKE ILIKE SIMILAR BETWEEN OVER
        FILTER WITHIN EXISTS ANY ALL SOME DISTINCT""",
    )
)
_QUERIES = frozenset({"SELECT", "WITH", "VALUES", "TABLE", "EXISTS", "FROM"})
_UNITS = frozenset(
    f"{unit}{end}"
    for unit in ("YEAR", "QUARTER", "MONTH", "WEEK", "DAY", "HOUR", "MINUTE", "SECOND", "MILLISECOND", "MICROSECOND")
    for end in ("", "S")
)
_FIRST_OF = frozenset({"coalesce", "ifnull", "nvl", "nullif", "greatest", "least"})
_TYPE_WORDS = frozenset({"PRECISION", "VARYING", "UNSIGNED", "WITH", "WITHOUT", "TIME", "ZONE", "LOCAL"})


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str

    @property
    def word(self) -> str:
        """Return a word in capitals; an empty text for any other token."""
        return self.text.upper() if self.kind == "word" else ""

    @property
    def sign(self) -> str:
        return self.text if self.kind == "sign" else ""


def parse(text: str) -> SqlNode:
    """Return the tree of an expression; raises `BadSql` unless the text is exactly one expression."""
    reader = _Reader(_tokens(text))
    tree = reader.expression(0)
    reader.end()
    return tree


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    place = 0
    while place < len(text):
        if text.startswith("/*", place):
            place = _behind_comment(text, place)
            continue
        match = _TOKEN.match(text, place)
        if match is None or match.lastgroup is None:
            raise BadSql(f"holds {_near(text, place)}, which is no part of a SQL expression")
        if match.lastgroup != "blank":
            found.append(_Token(match.lastgroup, match[0]))
        place = match.end()
    return found


def _behind_comment(text: str, start: int) -> int:
    depth = 0
    for mark in re.compile(r"/\*|\*/").finditer(text, start):
        depth += 1 if mark[0] == "/*" else -1
        if depth == 0:
            return mark.end()
    raise BadSql("opens a comment /* that does not end")


def _near(text: str, place: int) -> str:
    if text[place] in "'\"`":
        return f"a quote that does not end, {text[place : place + 20]!r}"
    return repr(text[place : place + 20])


class _Reader:
    """Reads tokens from left to right; the stronger an operator binds, the higher its number."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._at = 0
        self._depth = 0

    def end(self) -> None:
        """Raise `BadSql` if tokens are left."""
        if self._at < len(self._tokens):
            raise BadSql(f"goes on behind its end, from {self._now.text[:50]!r}")

    def expression(self, weakest: int) -> SqlNode:
        """Parse one expression, as far as its operators bind stronger than `weakest`."""
        self._depth += 1
        if self._depth > DEEPEST:
            raise BadSql(f"nests deeper than {DEEPEST}")
        left = self._prefix()
        nested = 0
        while (strength := self._strength()) > weakest:
            before, left = left, self._infix(left, strength)
            nested += left.parts[0] is before
            if self._depth + nested > DEEPEST:
                raise BadSql(f"nests deeper than {DEEPEST}")
        self._depth -= 1
        return left

    # The next tokens.

    @property
    def _now(self) -> _Token:
        return self._tokens[self._at] if self._at < len(self._tokens) else _Token("end", "")

    def _next(self, ahead: int = 1) -> _Token:
        at = self._at + ahead
        return self._tokens[at] if at < len(self._tokens) else _Token("end", "")

    def _take(self) -> _Token:
        token = self._now
        if token.kind == "end":
            raise BadSql("ends too early")
        self._at += 1
        return token

    def _takes(self, *wanted: str) -> bool:
        """Consume words or signs if all of them are next."""
        for ahead, one in enumerate(wanted):
            token = self._next(ahead)
            if one not in (token.word, token.sign):
                return False
        self._at += len(wanted)
        return True

    def _need(self, wanted: str) -> str:
        if not self._takes(wanted):
            raise BadSql(
                f"has {self._now.text[:50]!r} where {wanted} is expected" if self._now.text else "ends too early"
            )
        return wanted

    # Prefixes.

    def _prefix(self) -> SqlNode:
        token = self._take()
        match token.kind:
            case "number":
                return SqlNode(SqlKind.NUMBER, [token.text])
            case "text":
                return SqlNode(SqlKind.TEXT, [token.text])
            case "hex":
                return SqlNode(SqlKind.OTHER, [token.text])
            case "name":
                return self._named(token)
            case "sign":
                return self._signed(token.text)
        return self._worded(token)

    def _signed(self, sign: str) -> SqlNode:
        if sign == "(":
            return self._bracketed()
        if sign in ("-", "+") and self._now.kind == "number" and self._next().sign not in ("::", "[", "."):
            number = self._take().text
            return SqlNode(SqlKind.NUMBER, [f"-{number}" if sign == "-" else number])
        if sign == "+":
            return self.expression(_SIGN)
        if sign == "-":
            return SqlNode(SqlKind.SUM, ["-", self.expression(_SIGN)])
        if sign == "[":
            items = self._list("]")
            return SqlNode(SqlKind.OTHER, ["[", *_commas(items), "]"], [items])
        if sign == "{":
            return self._struct()
        raise BadSql(f"has {sign!r} where a value is expected")

    def _bracketed(self) -> SqlNode:
        items = self._list(")")
        if not items:
            raise BadSql("has brackets with nothing in them")
        return items[0] if len(items) == 1 else SqlNode(SqlKind.OTHER, ["(", *_commas(items), ")"])

    def _list(self, end: str) -> list[SqlNode]:
        items: list[SqlNode] = []
        if self._takes(end):
            return items
        while True:
            items.append(self.expression(0))
            if not self._takes(","):
                self._need(end)
                return items

    def _struct(self) -> SqlNode:
        parts: list[str | SqlNode] = ["{"]
        while not self._takes("}"):
            if len(parts) > 1:
                parts.append(self._need(","))
            parts += [self.expression(0), self._need(":"), self.expression(0)]
        return SqlNode(SqlKind.OTHER, [*parts, "}"])

    def _worded(self, token: _Token) -> SqlNode:
        word = token.word
        if word in ("TRUE", "FALSE"):
            return SqlNode(SqlKind.TRUTH, [word])
        if word == "NULL":
            return SqlNode(SqlKind.NULL, [word])
        if word == "NOT":
            if self._now.word == "EXISTS":
                raise _subquery()
            return SqlNode(SqlKind.TESTED, ["NOT", self.expression(_NOT)])
        if word == "CASE":
            return self._case()
        if word == "INTERVAL" and self._now.kind in ("text", "number"):
            parts: list[str | SqlNode] = [word, self._take().text]
            return SqlNode(SqlKind.OTHER, parts + ([self._take().text] if self._now.word in _UNITS else []))
        if word in ("DATE", "TIMESTAMP", "TIMESTAMPTZ", "TIME") and self._now.kind == "text":
            return SqlNode(SqlKind.MOMENT if word != "TIME" else SqlKind.OTHER, [word, self._take().text])
        if word in ("ARRAY", "MAP") and self._now.sign in ("[", "{"):
            inner = self._signed(self._take().text)
            return SqlNode(SqlKind.OTHER, [word, *inner.parts], inner.alike)
        if word in _QUERIES:
            raise _subquery()
        if word in _RESERVED:
            raise BadSql(f"has the word {token.text!r} where a value is expected (a column of that name needs quotes)")
        if self._now.sign == "(":
            return self._call(token)
        return self._named(token)

    def _named(self, token: _Token) -> SqlNode:
        """Parse a column's name, part by part, or a call of a function with a quoted name."""
        if self._now.sign == "(":
            return self._call(token)
        names = [token]
        while self._now.sign == "." and self._next().kind in ("word", "name"):
            self._at += 1
            names.append(self._take())
        plain = tuple(_unquoted(one.text) for one in names)
        return SqlNode(SqlKind.COLUMN, [".".join(one.text for one in names)], name=plain)

    def _case(self) -> SqlNode:
        parts: list[str | SqlNode] = ["CASE"]
        tested: list[SqlNode] = []
        results: list[SqlNode] = []
        if self._now.word != "WHEN":
            tested.append(self.expression(0))
            parts.append(tested[0])
        while self._takes("WHEN"):
            when = self.expression(0)
            if tested:
                tested.append(when)
            self._need("THEN")
            results.append(self.expression(0))
            parts += ["WHEN", when, "THEN", results[-1]]
        if not results:
            raise BadSql("has a CASE without WHEN")
        if self._takes("ELSE"):
            results.append(self.expression(0))
            parts += ["ELSE", results[-1]]
        parts.append(self._need("END"))
        return SqlNode(SqlKind.FIRST, parts, [tested, results] if tested else [results])

    def _call(self, token: _Token) -> SqlNode:
        self._need("(")
        name = _unquoted(token.text).lower()
        match name:
            case "cast" | "try_cast" | "safe_cast":
                node = SqlNode(
                    SqlKind.OTHER,
                    [token.text, "(", self.expression(0), self._need("AS"), self._type(), self._need(")")],
                )
            case "extract":
                node = SqlNode(
                    SqlKind.OTHER, [token.text, "(", self._take().text, self._need("FROM"), self.expression(0), ")"]
                )
                self._need(")")
            case "position":
                node = SqlNode(SqlKind.OTHER, [token.text, "(", self.expression(_COMPARING)])
                node.parts += ["IN" if self._takes("IN") else self._need(","), self.expression(0), self._need(")")]
            case "substring" | "substr" | "overlay" | "trim":
                node = self._call_in_words(token.text)
            case _:
                if self._now.word in ("DISTINCT", "ALL") or self._now.sign == "*":
                    raise BadSql(f"calls {token.text!r} over many rows, where each row is judged by itself")
                items = self._list(")")
                node = SqlNode(SqlKind.OTHER, [token.text, "(", *_commas(items), ")"])
                if name in _FIRST_OF:
                    node = SqlNode(SqlKind.FIRST, node.parts, [items])
                elif name == "nvl2" and len(items) == 3:
                    node.alike = [items[1:]]
        if self._now.word in ("OVER", "FILTER", "WITHIN"):
            raise BadSql(f"calls {token.text!r} over many rows, where each row is judged by itself")
        node.name = (name,)
        return node

    def _call_in_words(self, name: str) -> SqlNode:
        """Parse the arguments of a function that words may separate: SUBSTRING(s FROM 1 FOR 2)."""
        parts: list[str | SqlNode] = [name, "("]
        if self._now.word in ("BOTH", "LEADING", "TRAILING"):
            parts.append(self._take().word)
        while not self._takes(")"):
            if self._now.sign == "," or self._now.word in ("FROM", "FOR", "PLACING"):
                parts.append(self._take().text)
            else:
                parts.append(self.expression(0))
        return SqlNode(SqlKind.OTHER, [*parts, ")"])

    def _type(self) -> str:
        token = self._take()
        if token.kind != "word":
            raise BadSql(f"has {token.text[:50]!r} where a type is expected")
        words = [token.text]
        while self._now.word in _TYPE_WORDS or self._now.sign in ("(", "<"):
            if self._now.kind == "word":
                words.append(self._take().text)
                continue
            depth = 0
            while True:
                one = self._take()
                if one.kind not in ("word", "number") and one.sign not in ("(", ")", "<", ">", ",", ">>"):
                    raise BadSql(f"has {one.text[:50]!r} in a type")
                words.append(one.text)
                depth += {"(": 1, "<": 1, ")": -1, ">": -1, ">>": -2}.get(one.text, 0)
                if depth <= 0:
                    break
        while self._takes("[", "]"):
            words.append("[]")
        return " ".join(words)

    # Infixes.

    def _strength(self) -> int:
        """Return how strongly the next operator binds; 0 if there is none."""
        token = self._now
        if token.kind == "sign":
            return _INFIX.get(token.text, 0)
        word = token.word
        if word == "NOT":
            return (
                _WORDS.get(self._next().word, 0)
                if self._next().word in ("LIKE", "ILIKE", "SIMILAR", "BETWEEN", "IN")
                else 0
            )
        if word in ("RLIKE", "REGEXP", "COLLATE", "ESCAPE", "XOR", "DIV"):
            raise BadSql(f"has {token.text!r}, which the engine does not do")
        return _WORDS.get(word, 0)

    def _infix(self, left: SqlNode, strength: int) -> SqlNode:
        token = self._take()
        if token.kind == "sign":
            return self._infix_sign(left, token.text, strength)
        words: list[str | SqlNode] = [token.word]
        word = token.word
        if word == "NOT":
            word = self._take().word
            words.append(word)
        match word:
            case "AND" | "OR":
                kind = SqlKind[word]
                right = self.expression(strength)
                if left.kind is kind:
                    left.parts.append(right)
                    return left
                return SqlNode(kind, [left, right])
            case "IS":
                return self._is(left)
            case "BETWEEN":
                low = self.expression(strength)
                self._need("AND")
                high = self.expression(strength)
                return SqlNode(SqlKind.COMPARED, [left, *words, low, "AND", high], [[left, low, high]])
            case "IN":
                self._need("(")
                if self._now.word in _QUERIES:
                    raise _subquery()
                items = self._list(")")
                if not items:
                    raise BadSql("has an IN () with nothing in it")
                return SqlNode(SqlKind.COMPARED, [left, *words, "(", *_commas(items), ")"], [[left, *items]])
            case "AT":
                return SqlNode(SqlKind.OTHER, [left, self._at_zone(), self.expression(strength)])
            case "SIMILAR":
                words.append(self._need("TO"))
        self._no_quantifier()
        return SqlNode(SqlKind.TESTED, [left, *words, self.expression(strength)])

    def _at_zone(self) -> str:
        self._need("TIME")
        self._need("ZONE")
        return "AT TIME ZONE"

    def _infix_sign(self, left: SqlNode, sign: str, strength: int) -> SqlNode:
        if sign == "::":
            return SqlNode(SqlKind.OTHER, ["CAST (", left, "AS", self._type(), ")"])
        if sign == "[":
            items = [self.expression(0)]
            while self._takes(":"):
                items.append(self.expression(0))
            self._need("]")
            return SqlNode(SqlKind.OTHER, [left, "[", *_commas(items, ":"), "]"])
        if sign == ".":
            if self._now.kind not in ("word", "name"):
                raise BadSql("has a dot with no name behind it")
            name = _unquoted(self._take().text).replace("'", "''")
            return SqlNode(SqlKind.OTHER, ["get_field (", left, ",", f"'{name}'", ")"])
        self._no_quantifier()
        right = self.expression(strength)
        if sign in _TESTS:
            return SqlNode(SqlKind.COMPARED, [left, "=" if sign == "==" else sign, right], [[left, right]])
        if sign in _MATCHES:
            return SqlNode(SqlKind.TESTED, [left, sign, right])
        kind = SqlKind.SUM if sign in ("+", "-", "*") else SqlKind.JOINED if sign == "||" else SqlKind.OTHER
        if kind is SqlKind.OTHER or left.kind is not kind or not _may_follow(left, sign):
            return SqlNode(kind, [left, sign, right])
        left.parts += [sign, right]
        if len(left.parts) > 2 * MOST_TERMS:
            raise BadSql(f"holds more than {MOST_TERMS} operands with {sign} between them")
        return left

    def _no_quantifier(self) -> None:
        if self._now.word in ("ANY", "ALL", "SOME"):
            raise BadSql(
                f"has {self._now.text!r}, which is not taken here (array_has tells whether a list holds a value)"
            )

    def _is(self, left: SqlNode) -> SqlNode:
        words = ["IS", *(["NOT"] if self._takes("NOT") else [])]
        if self._takes("DISTINCT"):
            self._need("FROM")
            right = self.expression(_COMPARING)
            return SqlNode(SqlKind.COMPARED, [left, *words, "DISTINCT FROM", right], [[left, right]])
        token = self._take()
        if token.word not in ("NULL", "TRUE", "FALSE", "UNKNOWN"):
            raise BadSql(f"has {token.text[:50]!r} behind IS")
        return SqlNode(SqlKind.TESTED, [left, *words, token.word])


def _may_follow(left: SqlNode, sign: str) -> bool:
    """Say whether one more operand after `left` has the same meaning with `left` in brackets."""
    last = left.parts[-2]
    return last == sign or (sign in ("+", "-") and last in ("+", "-") and len(left.parts) > 2)


def _commas(items: Sequence[SqlNode], comma: str = ",") -> list[str | SqlNode]:
    parts: list[str | SqlNode] = []
    for item in items:
        parts += [comma, item] if parts else [item]
    return parts


def _unquoted(name: str) -> str:
    if name[0] == '"':
        return name[1:-1].replace('""', '"')
    return name[1:-1] if name[0] == "`" else name


def _subquery() -> BadSql:
    return BadSql("holds a query, where each row is judged by itself")
