"""Loading pipeline files: what is part of one, and the mistakes of people, each told with its line."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from springline.sdk import InvalidDefinitions
from springline.sdk.errors import SourceProblem
from springline.sdk.loading import LoadedPipeline, examine, load

HEAD = "from springline.sdk import *\n"


@pytest.fixture(autouse=True)
def clean_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(name: str, text: str) -> Path:
    file = Path(name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(HEAD + dedent(text).lstrip("\n"))
    return file


def only(loaded: LoadedPipeline) -> SourceProblem:
    (problem,) = loaded.problems
    assert problem.remedy.endswith((".", "?"))
    return problem


def test_a_file_is_loaded() -> None:
    loaded = load(
        write(
            "flights.py",
            """
            orders = external("shop.orders")

            @asset
            def raw(): ...

            @asset
            def delays(raw, orders): ...
            """,
        )
    )
    assert (loaded.location, list(loaded.pipeline.assets)) == ("flights", ["raw", "delays"])
    assert loaded.file == str(Path("flights.py").resolve())
    assert loaded.pipeline.assets["delays"].declared.line == 7


def test_a_file_that_is_saved_twice_within_a_second_is_what_it_is_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    for retries in (1, 2):
        file = write("flights.py", f"@asset(retries={retries})\ndef raw(): ...")
        os.utime(file, (1_700_000_000, 1_700_000_000))
        assert load(file).pipeline.assets["raw"].declared.retries == retries
        sys.modules.pop("flights")


def test_modules_beside_the_file_and_in_the_current_folder_are_found_and_the_path_is_left_as_it_was() -> None:
    write("pipelines/shared.py", "LIMIT = 3\n")
    write("helpers/__init__.py", "NAME = 'raw'\n")
    file = write(
        "pipelines/flights.py",
        """
        from helpers import NAME
        from shared import LIMIT
        @asset(key=NAME, retries=LIMIT)
        def x(): ...
        """,
    )
    before = list(sys.path)
    loaded = load(file)
    assert loaded.pipeline.assets["raw"].declared.retries == 3
    assert sys.path == before


def test_imported_assets_and_those_in_lists_are_part_of_it() -> None:
    write(
        "raw.py",
        """
        @asset
        def airports(): ...
        @asset
        def weather(): ...
        @asset
        def not_imported(): ...
        """,
    )
    file = write(
        "flights.py",
        """
        from raw import airports, weather as conditions

        def of(country):
            @asset(key=f"flights_{country}")
            def flights(airports): ...
            return flights

        countries = [of(one) for one in ("no", "se")]
        of("dk")
        """,
    )
    assert list(load(file).pipeline.assets) == ["flights_no", "flights_se", "flights_dk", "airports", "weather"]


@pytest.mark.parametrize("name", ["json.py", "types.py", "springline.py", "asyncio.py", "worker.py", "my-flights.py"])
def test_a_file_may_be_called_like_any_module(name: str) -> None:
    there = sys.modules.get(Path(name).stem)
    loaded = load(write(name, "@asset\ndef x(): ...\n"))
    assert list(loaded.pipeline.assets) == ["x"]
    assert there is None or sys.modules[Path(name).stem] is there
    assert loaded.location == Path(name).stem


def test_classes_of_a_file_find_their_module() -> None:
    file = write(
        "flights.py",
        """
        from __future__ import annotations
        """,
    )
    file.write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\nimport pickle\n"
        f"{HEAD}"
        "@dataclass\nclass Row:\n    x: int\n"
        "assert pickle.loads(pickle.dumps(Row(3))) == Row(3)\n"
        "@asset\ndef x(): ...\n"
    )
    assert load(file).problems == []


def test_a_module_is_loaded_by_its_name() -> None:
    write("project/__init__.py", "")
    write("project/flights.py", "@asset\ndef x(): ...\n")
    loaded = load("project.flights")
    assert (loaded.location, list(loaded.pipeline.assets)) == ("flights", ["x"])
    write("alone.py", "@asset\ndef y(): ...\n")
    assert list(load("alone").pipeline.assets) == ["y"]


@pytest.mark.parametrize(
    ("name", "said", "remedy"),
    [
        ("flihgts.py", "there is no such file", "Did you mean flights.py?"),
        ("nowhere/flights.py", "there is no such file", "path of a pipeline file"),
        ("folder", "is a folder", "folder/inside.py"),
        ("notes.txt", "is no Python file", ".py"),
        ("no.such.module", "there is no file and no module no", "path of a pipeline file"),
        ("folder.nothing", "there is no file and no module folder.nothing", "path of a pipeline file"),
    ],
)
def test_what_is_no_file_is_told(name: str, said: str, remedy: str) -> None:
    write("flights.py", "")
    write("folder/inside.py", "")
    Path("notes.txt").write_text("x")
    problem = only(examine(name))
    assert problem.message == said
    assert remedy in problem.remedy
    assert problem.file == name
    assert problem.traceback is None


@pytest.mark.parametrize(
    ("text", "line", "said", "trace"),
    [
        ("x = 1\n1 / 0\n", 3, "raises ZeroDivisionError: division by zero", "1 / 0"),
        ("def f():\n    raise ValueError\nf()\n", 3, "raises ValueError", "in f"),
        ("import sys\nsys.exit(3)\n", 3, "calls sys.exit(3) while it is imported", "sys.exit(3)"),
        ("raise SystemExit('done')\n", 2, "calls sys.exit('done') while it is imported", "SystemExit"),
        ("@asset\ndef x(:\n", 3, "is no Python: invalid syntax", "def x(:"),
        ("if True:\nx = 1\n", 3, "is no Python: expected an indented block", "x = 1"),
        ("import no_such_thing\n", 2, "raises ModuleNotFoundError: No module named 'no_such_thing'", "import no_such"),
        ("from springline.sdk import asset, assett\n", 2, "raises ImportError: cannot import name 'assett'", "assett"),
        ("daily()\n", 2, "raises TypeError: daily() missing 1 required positional argument: 'start'", "daily()"),
        ("@assset\ndef x(): ...\n", 2, "raises NameError: name 'assset' is not defined", "@assset"),
        ("raise BaseException('odd')\n", 2, "raises BaseException: odd", "odd"),
        ("def f(): f()\nf()\n", 3, "raises RecursionError", "f()"),
        (
            "@asset\ndef x(): ...\nmaterialize(x)\n",
            4,
            "raises InvalidRequest: materialize is called while the file is imported",
            "materialize(x)",
        ),
    ],
)  # fmt: skip
def test_what_an_import_raises_is_told_with_the_users_traceback_alone(
    text: str, line: int, said: str, trace: str
) -> None:
    file = write("flights.py", text)
    problem = only(examine(file))
    assert problem.line == line or problem.message.startswith("raises RecursionError")
    assert problem.message.startswith(said)
    assert problem.file == str(file.resolve())
    assert problem.traceback is not None
    assert trace in problem.traceback
    frames = [line for line in problem.traceback.splitlines() if line.lstrip().startswith("File ")]
    assert frames
    for frame in frames:
        assert "importlib" not in frame
        assert f"{os.sep}springline{os.sep}sdk{os.sep}" not in frame


def test_an_error_in_an_imported_module_is_told_with_both_lines() -> None:
    write("helper.py", "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    raise ValueError('bad') from error\n")
    problem = only(examine(write("flights.py", "\nimport helper\n")))
    assert problem.line == 2
    assert problem.traceback is not None
    for said in ("flights.py", "helper.py", "ZeroDivisionError", "ValueError: bad"):
        assert said in problem.traceback
    assert "importlib" not in problem.traceback


def test_ctrl_c_is_no_problem_of_the_file() -> None:
    with pytest.raises(KeyboardInterrupt):
        examine(write("flights.py", "raise KeyboardInterrupt\n"))


def test_a_file_that_cannot_be_read_as_text() -> None:
    Path("flights.py").write_bytes(b"x = '\xff'\n")
    problem = only(examine("flights.py"))
    assert "is no Python" in problem.message or "raises" in problem.message
    Path("flights.py").write_bytes(b"x = 1\0\n")
    assert "null bytes" in only(examine("flights.py")).message


def test_a_file_without_assets_is_told() -> None:
    problem = only(examine(write("flights.py", "import math\n")))
    assert problem.message == "declares no asset and no task"


def test_a_broken_file_leaves_no_module_behind() -> None:
    file = write("flights.py", "1 / 0\n").resolve()
    examine(file)
    assert [name for name, one in sys.modules.items() if getattr(one, "__file__", None) == str(file)] == []


def test_a_later_name_hides_no_asset() -> None:
    problem = only(
        examine(
            write(
                "flights.py",
                """
                @asset
                def raw(): ...

                @asset
                def raw(): ...
                """,
            )
        )
    )
    assert (problem.line, problem.message) == (5, "has the key of the asset at flights.py:2")


def test_all_problems_come_at_once_with_their_lines() -> None:
    file = write(
        "flights.py",
        """
        @asset(partitions=daily(start="2024-13-01"), timeout=600)
        def raw(): ...

        @asset(retires=3)
        def delays(rwa): ...

        @asset(deps=["c"])
        def a(): ...

        @asset(deps=["a"])
        def b(): ...

        @asset(deps=["b"])
        def c(): ...
        """,
    )
    with pytest.raises(InvalidDefinitions) as raised:
        load(file)
    assert [(one.line, one.asset) for one in raised.value.problems] == [
        (2, "raw"),
        (2, "raw"),
        (5, "delays"),
        (5, "delays"),
        (8, "a"),
    ]
    told = str(raised.value).splitlines()
    assert told[0] == "5 problems with the pipeline:"
    assert told[5].endswith("No asset can be made before itself.") or "a -> c -> b -> a" in told[5]
