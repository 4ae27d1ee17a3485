"""Mistakes that people make in pipeline files: each is told with its line, its asset and what to do, all at once."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

from springline.sdk.errors import SourceProblem
from springline.sdk.loading import examine

_HEAD = "from springline.sdk import *\nfrom springline.sdk import checks, dep\n"


@dataclass(frozen=True)
class Mistake:
    """A mistake in a file: `source` marks its line by `# here`, and `said` and `remedy` are parts of what is told."""

    name: str
    source: str
    said: str
    remedy: str
    asset: str | None = "a"


MISTAKES = [
    Mistake(
        "option of another tool",
        "@asset(max_retries=3)  # here\ndef a(): ...",
        "unknown option max_retries",
        "Did you mean retries",
    ),
    Mistake(
        "misspelt option", "@asset(retires=3)  # here\ndef a(): ...", "unknown option retires", "Did you mean retries"
    ),
    Mistake(
        "timeout without unit",
        "@asset(timeout=600)  # here\ndef a(): ...",
        "timeout 600, which does not say its unit",
        "'10m'",
    ),
    Mistake(
        "retries as text",
        "@asset(retries='3')  # here\ndef a(): ...",
        "retries '3', which is no whole number",
        "0 to 100",
    ),
    Mistake("negative retries", "@asset(retries=-1)  # here\ndef a(): ...", "out of range", "0 to 100"),
    Mistake(
        "name as an argument", "@asset('a')  # here\ndef b(): ...", "an option without a name", "key='raw_flights'"
    ),
    Mistake("slash in the key", "@asset(key='raw/a')  # here\ndef a(): ...", "holds '/'", "letters", None),
    Mistake("declared twice", "@asset  # here\n@asset\ndef a(): ...", "declared twice", "once for each"),
    Mistake(
        "two assets of one key",
        "@asset\ndef a(): ...\n\n@asset(key='a')  # here\ndef other(): ...",
        "has the key of the asset at flow.py:3",
        "key of its own",
    ),
    Mistake(
        "misspelt parameter",
        "@asset\ndef flights(): ...\n\n@asset  # here\ndef a(flihgts): ...",
        "parameter flihgts, and no asset is called that",
        "Did you mean flights?",
    ),
    Mistake(
        "parameter of no asset", "@asset  # here\ndef a(limit): ...", "parameter limit, and no asset", "has a default"
    ),
    Mistake(
        "misspelt dependency",
        "@asset\ndef flights(): ...\n\n@asset(deps=['fligths'])  # here\ndef a(): ...",
        "depends on 'fligths'",
        "Did you mean flights?",
    ),
    Mistake("dependency as a text", "@asset(deps='flights')  # here\ndef a(): ...", "is no list", "deps=[raw_flights"),
    Mistake(
        "dependency on a plain function",
        "def flights(): ...\n\n@asset(deps=[flights])  # here\ndef a(): ...",
        "the function flights, which is no asset",
        "@asset above flights",
    ),
    Mistake("itself", "@asset(deps=['a'])  # here\ndef a(): ...", "depends on itself", "Remove it"),
    Mistake(
        "a circle",
        "@asset(deps=['b'])  # here\ndef a(): ...\n\n@asset(deps=['a'])\ndef b(): ...",
        "depends on itself, by a -> b -> a",
        "Take one of these",
    ),
    Mistake(
        "star arguments",
        "@asset  # here\ndef a(*rows): ...",
        "parameter *rows, which takes any number",
        "Name each asset",
    ),
    Mistake("a generator", "@asset  # here\ndef a():\n    yield 1", "yields", "Return a list"),
    Mistake(
        "partitions without parentheses",
        "@asset(partitions=daily)  # here\ndef a(): ...",
        "are no partitions",
        "without its parentheses",
    ),
    Mistake(
        "partitions as a text", "@asset(partitions='daily')  # here\ndef a(): ...", "are no partitions", "daily(start="
    ),
    Mistake(
        "a day that there is not",
        "@asset(partitions=daily('2026-02-30'))  # here\ndef a(): ...",
        "2026-02-30",
        "2024-01-31",
    ),
    Mistake(
        "a zone that there is not",
        "@asset(partitions=daily('2026-01-01', timezone='Oslo'))  # here\ndef a(): ...",
        "Oslo",
        "Europe/Oslo",
    ),
    Mistake(
        "an end before the start",
        "@asset(partitions=daily('2026-02-01', end='2026-01-01'))  # here\ndef a(): ...",
        "end",
        "start",
    ),
    Mistake(
        "static partitions twice", "@asset(partitions=static(['no', 'no']))  # here\ndef a(): ...", "no", "distinct"
    ),
    Mistake(
        "partitions that do not fit",
        "@asset(partitions=static('x'))\ndef up(): ...\n\n"
        "@asset(partitions=daily('2026-01-01'))  # here\ndef a(up): ...",
        "up",
        "dep(",
    ),
    Mistake(
        "a mapping by name",
        "@asset\ndef up(): ...\n\n@asset(deps=[dep('up', 'latest')])  # here\ndef a(): ...",
        "which is no mapping",
        "latest()",
    ),
    Mistake("pool that nobody declares", "@asset(pool='warehouse')  # here\ndef a(): ...", "warehouse", "pool("),
    Mistake(
        "a check without parentheses",
        "@asset(checks=[checks.unique])  # here\ndef a(): ...",
        "holds the function unique, which is no check",
        "Call it: checks.unique(",
    ),
    Mistake(
        "a classmethod",
        "@asset\ndef b(): ...\n\nclass A:\n    @asset  # here\n    @classmethod\n    def a(cls): ...",
        "no function whose parameters can be read",
        "with def",
    ),
    Mistake(
        "dimensions without names",
        "@asset(partitions=multi_partitions(daily('2026-01-01'), static('eu')))  # here\ndef a(): ...",
        "a dimension has no name",
        "region=static(",
    ),
    Mistake(
        "times of two names",
        "@asset(partitions=multi_partitions(day=daily('2026-01-01'), region=static('eu')))\ndef up(): ...\n\n"
        "@asset(partitions=multi_partitions(date=daily('2026-01-01'), region=static('eu')))  # here\ndef a(up): ...",
        "nothing says how the time of partitions by day and region belongs to that of partitions by date and region",
        "by one name, such as day",
    ),
    Mistake(
        "a window over times of two names",
        "@asset(partitions=multi_partitions(hour=hourly('2026-01-01'), region=static('eu')))\ndef up(): ...\n\n"
        "@asset(partitions=multi_partitions(day=daily('2026-01-01'), region=static('eu')), deps=[dep(up, window())])"
        "  # here\ndef a(up): ...",
        "a window maps time to time, and not partitions by hour and region",
        "by one name",
    ),
    Mistake(
        "dimensions as a dict",
        "@asset(partitions=multi_partitions({'day': daily('2026-01-01'), 'r': static('eu')}))  # here\ndef a(): ...",
        "the dimension",
        "daily(start=",
    ),
    Mistake(
        "depends on a sensor",
        "@sensor(select='a')\ndef s(context): ...\n\n@asset(deps=[s])  # here\ndef a(): ...",
        "holds <sensor s>, which is no asset",
        "deps=[raw_flights",
    ),
    Mistake(
        "an asset that is a sensor",
        "@asset(key='a')  # here\n@sensor(select='b')\ndef s(context): ...\n\n@asset\ndef b(): ...",
        "declared above the sensor s",
        "a function for each",
    ),
    Mistake(
        "a sensor that is an asset",
        "@sensor(select='a')  # here\n@asset\ndef a(): ...",
        "sensor a is declared above the asset a",
        "of its own",
        None,
    ),
    Mistake(
        "name of a sensor as an argument",
        "@asset\ndef a(): ...\n\n@sensor('new_files')  # here\ndef s(context): ...",
        "sensor new_files has an option without a name",
        "sensor_id='new_files'",
        None,
    ),
    Mistake(
        "a sensor of no table",
        "@asset\ndef a(): ...\n\ns = table_sensor('s', table='', select=a)  # here",
        "has table '', which names none",
        "table='flights'",
        None,
    ),
    Mistake(
        "a sensor of a path",
        "import pathlib\n@asset\ndef a(): ...\n\ns = objects_sensor('s', prefix=pathlib.Path('x'), select=a)  # here",
        "has prefix PosixPath('x')",
        "Give a text",
        None,
    ),
    Mistake(
        "a sensor of ends that are none",
        "@asset\ndef a(): ...\n\ns = run_sensor('s', on=3, select=a)  # here",
        "waits for runs that are 3",
        "succeeded, failed, cancelled",
        None,
    ),
    Mistake(
        "a sensor of what it asks for",
        "@asset\ndef a(): ...\n\n@asset(deps=[a])\ndef b(): ...\n\ns = asset_sensor('s', asset=a, select='*b')  # here",
        "watches a, and the runs that it asks for make it",
        "without it",
        None,
    ),
    Mistake(
        "a sensor of partitions of another kind",
        "@asset(partitions=multi_partitions(day=daily('2026-01-01'), region=static('eu')))\ndef a(): ...\n\n"
        "@asset(partitions=daily('2026-01-01'), deps=[a])\ndef b(): ...\n\n"
        "s = asset_sensor('s', asset=a, select='b')  # here",
        "asks for the partition of a that was made, and b has none of its keys",
        "RunRequest",
        None,
    ),
    Mistake(
        "a sensor of a table whose runs name no partition",
        "@asset(partitions=static('eu', 'us'))\ndef a(): ...\n\ns = table_sensor('s', table='t', select=a)  # here",
        "a has partitions, and the runs that a sensor of a table asks for name none",
        "RunRequest",
        None,
    ),
    Mistake(
        "a sensor of runs that selects partitions behind what has none",
        "@asset\ndef a(): ...\n\n@asset(partitions=daily('2026-01-01'), deps=[a])\ndef b(): ...\n\n"
        "s = run_sensor('s', select='*b')  # here",
        "b has partitions, and the runs that a sensor of runs asks for name none",
        "RunRequest",
        None,
    ),
    Mistake(
        "schedule of no asset",
        "@asset\ndef a(): ...\n\nnightly = schedule('nightly', '0 4 * * *', select='delays')  # here",
        "delays",
        "a",
        None,
    ),
    Mistake(
        "a minute that there is not",
        "@asset\ndef a(): ...\n\nnightly = schedule('nightly', '60 4 * * *', select='a')  # here",
        "60 4 * * *",
        "0",
        None,
    ),
    Mistake(
        "check without custom",
        "def holds(rows): ...\n\n@asset(checks=[holds])  # here\ndef a(): ...",
        "the function holds, which is no check",
        "checks.custom(holds)",
    ),
    Mistake(
        "check without columns",
        "@asset(checks=[checks.not_null()])  # here\ndef a(): ...",
        "no column",
        "not_null('flight')",
    ),
    Mistake(
        "heartbeat beyond the timeout",
        "@asset(timeout='1m', heartbeat='2m')  # here\ndef a(): ...",
        "heartbeat",
        "duration",
    ),
    Mistake(
        "work at import",
        "import json\njson.loads('{')  # here\n\n@asset\ndef a(): ...",
        "raises JSONDecodeError",
        "Correct it",
        None,
    ),
    Mistake(
        "a library that is not installed",
        "import snowflake_connector_x  # here\n",
        "No module named 'snowflake_connector_x'",
        "Install",
        None,
    ),
    Mistake("exit at import", "import sys\nsys.exit(1)  # here\n", "calls sys.exit(1)", "__main__", None),
    Mistake(
        "relative import", "from . import beside  # here\n", "attempted relative import", "give its dotted name", None
    ),
    Mistake(
        "method", "class All:\n    @asset  # here\n    def a(self): ...\n", "as a method has", "outside of the class"
    ),
    Mistake("no Python", "def a(:  # here\n", "is no Python", "Correct the line", None),
    Mistake("no asset", "def a(): ...\n", "declares no asset", "@asset above", None),
    Mistake(
        "materialize at import",
        "@asset\ndef a(): ...\n\nmaterialize(a)  # here\n",
        "called while the file is imported",
        "__main__",
        None,
    ),
]


def problems_of(folder: Path, source: str) -> list[SourceProblem]:
    file = folder / "flow.py"
    file.write_text(_HEAD + textwrap.dedent(source))
    return examine(file).problems


def line_of(source: str) -> int | None:
    lines = (_HEAD + source).splitlines()
    return next((number for number, line in enumerate(lines, 1) if line.endswith("# here")), None)


@pytest.mark.parametrize("mistake", MISTAKES, ids=[one.name for one in MISTAKES])
def test_a_mistake_is_told_with_line_asset_and_remedy(mistake: Mistake, tmp_path: Path) -> None:
    found = problems_of(tmp_path, mistake.source)
    told = [one for one in found if mistake.said in one.message]
    assert told, [str(one) for one in found]
    first = told[0]
    assert first.line == line_of(mistake.source)
    assert mistake.asset is None or first.asset == mistake.asset
    assert mistake.remedy in f"{first.message} {first.remedy}"
    assert len(found) <= 2, [str(one) for one in found]


def test_there_are_at_least_thirty() -> None:
    assert len({one.name for one in MISTAKES}) >= 30


def test_mistakes_of_one_file_are_told_at_once(tmp_path: Path) -> None:
    """Whatever does not end the import is told with all else."""
    declared = [
        one
        for one in MISTAKES
        if one.name != "itself" and one.source.startswith("@asset(") and one.source.endswith("def a(): ...")
    ]
    declared = [one for one in declared if "\n\n" not in one.source]
    assert len(declared) >= 10
    sources = [one.source.replace("def a(", f"def a{number}(") for number, one in enumerate(declared)]
    found = problems_of(tmp_path, "\n\n".join(sources))
    lacking = [one.name for one in declared if not any(one.said in problem.message for problem in found)]
    assert lacking == []
    assert [one.line for one in found] == sorted(one.line or 0 for one in found)
