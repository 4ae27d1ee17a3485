"""A text is one SQL expression or is refused; what is handed on is that expression alone, in brackets."""

from __future__ import annotations

import pytest

from springline.client.sql import LONGEST_EXPRESSION, BadSql, parse

WRITTEN = {
    "id = 1 and b or not c = 2": "(((id = 1) AND b) OR (NOT (c = 2)))",
    "s = '1' -- and nothing else": "(s = '1')",
    "id /* or /* nested */ true */ = 1": "(id = 1)",
    "s = '--' or s = '/*' or \"a;b\" = ''": "(((s = '--') OR (s = '/*')) OR (\"a;b\" = ''))",
    "x + 1 * -2 - -x": "(x + (1 * -2) - (- x))",
    "a - b + c - (d - e)": "(a - b + c - (d - e))",
    "a not in (1,2) and b between 1 and 2": "((a NOT IN ( 1 , 2 )) AND (b BETWEEN 1 AND 2))",
    "a is not distinct from b": "(a IS NOT DISTINCT FROM b)",
    "b is not true or c is null": "((b IS NOT TRUE) OR (c IS NULL))",
    "case x when 1 then 'a' else 'b' end": "(CASE x WHEN 1 THEN 'a' ELSE 'b' END)",
    "d::date = date '2026-01-01'": "((CAST ( d AS date )) = (DATE '2026-01-01'))",
    "extract(year from d) == 2026": "((extract ( year FROM d )) = 2026)",
    "cast(m as decimal(10, 2)) > .5": "((cast ( m AS decimal ( 10 , 2 ) )) > .5)",
    "l[1] = 1 and q.k = 2": "(((l [ 1 ]) = 1) AND (q.k = 2))",
    "trim(both 'a' from s) like '%'": "((trim ( BOTH 'a' from s )) LIKE '%')",
    "-9223372036854775808": "-9223372036854775808",
}


@pytest.mark.parametrize("text", WRITTEN)
def test_an_expression_is_written_out_in_brackets(text: str) -> None:
    assert parse(text).sql() == WRITTEN[text]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("true) AS a, (false", "goes on behind its end"),
        ("1=1) or (1=1", "goes on behind its end"),
        ("id = 1; drop table t", "no part of a SQL expression"),
        ("id = 1 from t", "goes on behind its end"),
        ("id = 1 /* or true", "does not end"),
        ("s = 'a", "a quote that does not end"),
        ("(id = 1", "ends too early"),
        ("id in ()", "nothing in it"),
        ("()", "nothing in them"),
        ("id in (select 1)", "query"),
        ("(select max(id) from t) = 1", "query"),
        ("not exists (select 1)", "query"),
        ("id = any(l)", "'any'"),
        ("count(*) > 1", "many rows"),
        ("count(distinct id) > 1", "many rows"),
        ("row_number() over () = 1", "many rows"),
        ("sum(id) filter (where true) = 1", "many rows"),
        ("$1 = id", "no part"),
        ("id = ?", "no part"),
        ("s = e'\\n'", "no part"),
        ("select", "query"),
        ("group = 1", "needs quotes"),
        ("1_000 = id", "no part"),
        ("(" * 40 + "true" + ")" * 40, "nests deeper"),
        ("not " * 40 + "true", "nests deeper"),
        ("id" + " = id" * 40, "nests deeper"),
        ("id" + " + id" * 2_000, "more than 1000"),
        ("case" + " when true then case" * 40, "nests deeper"),
    ],
)
def test_what_is_not_one_expression_is_refused(text: str, said: str) -> None:
    with pytest.raises(BadSql, match=said):
        parse(text)


def test_long_chains_do_not_nest() -> None:
    text = " or ".join(f"id = {number}" for number in range(8_000))[:LONGEST_EXPRESSION].rpartition(" or ")[0]
    written = parse(text).sql()
    depth = deepest = 0
    for one in written:
        depth += {"(": 1, ")": -1}.get(one, 0)
        deepest = max(deepest, depth)
    assert deepest < 20
