"""`springline materialize`: assets of a file made once, without a server."""

from __future__ import annotations

import json
from pathlib import Path

import deltalake
import pytest

from tests.cli.conftest import Cli

FLOW = """
from pydantic import BaseModel
from springline.sdk import Context, asset, checks, daily
print("imported")
days = daily("2026-01-01")

@asset(partitions=days, checks=[checks.unique("flight"), checks.row_count(3, severity="warn")])
def raw(context: Context) -> None:
    rows = {"flight": ["a", context.config.get("second", "b")]}
    context.table("raw").append(rows)

@asset(deps=[raw], partitions=days)
def count(context: Context) -> int:
    context.add_metadata(day=context.partition_key)
    return context.table("raw").to_arrow().num_rows

class Load(BaseModel):
    rows: int = 3

@asset(config=Load)
def typed(context: Context[Load]) -> int:
    return context.config.rows

@asset
def leaves() -> None:
    raise SystemExit(3)
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flow.py").write_text(FLOW)
    return tmp_path


def test_assets_are_made_once_and_what_became_of_them_is_told(cli: Cli, here: Path) -> None:
    document = cli("materialize", "flow.py", "*count", "--partition", "2026-01-31").document
    assert document["ok"]
    raw, count = document["assets"]
    assert raw["writes"] == [{"table": "raw", "operation": "append", "version": 1, "rows": 2}]
    assert [(one["name"], one["passed"]) for one in raw["checks"]] == [("unique(flight)", True), ("row_count", False)]
    assert (count["output"], count["metadata"]) == (2, {"day": "2026-01-31"})
    assert deltalake.DeltaTable(str(here / ".springline/tables/raw")).version() == 1


def test_a_failure_is_an_exit_code_and_leaves_no_rows(cli: Cli, here: Path) -> None:
    config = '{"second": "a"}'
    said = cli("materialize", "flow.py", "raw", "--partition", "2026-01-31", "--config", config, "--tables", "t")
    assert said.code == 3
    (raw,) = json.loads(said.stdout)["assets"]
    assert raw["error"].startswith(
        "CheckFailed: a check does not hold of raw, and nothing of it was written: unique(flight)"
    )
    assert not list((here / "t").rglob("*.parquet"))
    said = cli("materialize", "flow.py", "leaves")
    assert json.loads(said.stdout)["assets"][0]["error"] == "SystemExit: 3"


@pytest.mark.parametrize(
    ("arguments", "field", "said"),
    [
        (["raw"], "--partition", "raw has daily partitions: say which one to make"),
        (["raw", "--partition", "31-01-2026"], "--partition", "partition_key '31-01-2026'"),
        (["leaves", "--partition", "2026-01-31"], "--partition", "have no partitions"),
        (["rwa"], "SELECTION", "rwa"),
        (["leaves", "--config", "{"], "--config", "is not JSON"),
        (["leaves", "--config", '{"share": 0.5}'], "--config", "config.share is written with a fraction"),
        (["typed", "--config", '{"rows": "soon"}'], "--config", "config.rows is 'soon', which does not fit"),
    ],
)
def test_what_cannot_be_meant_makes_nothing(cli: Cli, here: Path, arguments: list[str], field: str, said: str) -> None:
    refusal = cli("materialize", "flow.py", *arguments).error
    assert refusal["field"] == field
    assert said in refusal["message"]
    assert refusal["remedy"]


def test_a_wrong_file_is_told_as_validate_tells_it(cli: Cli, here: Path) -> None:
    (here / "flow.py").write_text("from springline.sdk import asset\n\n@asset(retires=3)\ndef raw(): ...\n")
    said = cli("materialize", "flow.py")
    assert said.code == 2
    document = json.loads(said.stdout)
    assert [(one["line"], one["asset"]) for one in document["problems"]] == [(3, "raw")]
    assert document == json.loads(cli("validate", "flow.py").stdout)


def test_a_person_is_told_the_whole_error(cli: Cli, here: Path) -> None:
    said = "no rows of the source have come since the night of the great storm over the North Sea, and none will"
    source = f"from springline.sdk import asset\n\n@asset\ndef raw():\n    raise ValueError({said!r})\n"
    (here / "flow.py").write_text(source)
    shown = cli("materialize", "flow.py", "-o", "table")
    assert shown.code == 3
    assert f"raw\n  ValueError: {said}\n" in shown.stdout


def test_an_error_with_notes_is_told_before_them_and_odd_texts_are_no_trouble(cli: Cli, here: Path) -> None:
    (here / "odd.py").write_text(
        "from springline.sdk import asset\n\n@asset\ndef reads() -> str:\n    return 'a\\udcff.csv'\n\n"
        "@asset\ndef fails() -> None:\n    error = ValueError('no rows in a\\udcff.csv')\n"
        "    error.add_note('The file is that of the day before.')\n    raise error\n"
    )
    said = cli("materialize", "odd.py", "*")
    assert said.code == 3
    reads, fails = json.loads(said.stdout)["assets"]
    assert reads["output"] == "a str of 6"
    assert fails["error"] == "ValueError: no rows in a?.csv\nThe file is that of the day before."


def test_functions_import_what_lies_beside_their_file_as_workers_let_them(cli: Cli, here: Path) -> None:
    (here / "inner").mkdir()
    (here / "inner" / "beside_it.py").write_text("ANSWER = 2**64")
    (here / "inner" / "lazy.py").write_text(
        "from springline.sdk import asset\n\n@asset\ndef answer() -> int:\n    import beside_it\n"
        "    return beside_it.ANSWER\n"
    )
    (made,) = cli("materialize", "inner/lazy.py").document["assets"]
    assert (made["error"], made["output"]) == (None, "18446744073709551616")
