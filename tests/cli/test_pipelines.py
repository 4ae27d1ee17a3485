"""`springline validate | deploy | asset list | asset show`: documents for programs, pages for people."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from springline.api.tokens import make_token
from springline.cli import pipelines_page
from springline.cli.dev_pipelines import DevPipelines, read_pipelines
from springline.paths import Scope
from tests.cli.conftest import Cli, Served
from tests.support.local_api import ACME, SECRET

FLIGHTS = """
from springline.sdk import asset, daily
print("imported")

@asset(partitions=daily(start="2024-01-01", timezone="Europe/Oslo"), retries=3, timeout="10m", tags={"team": "sky"},
       retry_delay="5s", memory="1.5GiB")
def raw_flights(context):
    '''Flights of a day.'''

@asset
def delays(raw_flights): ...
"""
MART = """
from springline.sdk import asset, external
delays = external("delays")

@asset
def report(delays): ...
"""
BROKEN = """
from springline.sdk import asset

@asset(retires=3, timeout=600)
def raw_flights(): ...

@asset
def delays(raw_flihgts): ...
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, text in (("flights", FLIGHTS), ("mart", MART), ("broken", BROKEN)):
        Path(f"{name}.py").write_text(text)
    return tmp_path


def test_a_valid_file(cli: Cli) -> None:
    assert cli("validate", "flights.py").document == {
        "ok": True,
        "file": "flights.py",
        "location": "flights",
        "assets": ["raw_flights", "delays"],
        "tasks": [],
        "problems": [],
    }
    assert cli("validate", "flights.py", "--location", "sky").document["location"] == "sky"
    assert cli("validate", "flights").document["file"] == "flights.py"


def test_everything_that_is_wrong_is_told_at_once(cli: Cli) -> None:
    ended = cli("validate", "broken.py")
    assert ended.code == 2
    found = json.loads(ended.stdout)
    assert found["ok"] is False
    assert [(one["file"], one["line"], one["asset"]) for one in found["problems"]] == [
        ("broken.py", 4, "raw_flights"),
        ("broken.py", 4, "raw_flights"),
        ("broken.py", 7, "delays"),
    ]
    assert found["problems"][2]["remedy"] == "Did you mean raw_flights?"
    assert cli("validate", "broken.py", "--field", "problems.0.message").stdout == "has the unknown option retires\n"
    for command in ("validate", "materialize"):
        elsewhere = cli(command, "broken.py", "--field", "assets.9.output")
        assert (elsewhere.code, elsewhere.stdout) == (2, "")
        assert json.loads(elsewhere.stderr)["problems"] == found["problems"]
    csv = cli("validate", "broken.py", "-o", "csv").stdout.splitlines()
    assert csv[0] == "file,line,asset,message,remedy"
    assert len(csv) == 4


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import os; os._exit(7)", "ends the process while it is imported, with exit code 7"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "by the signal SIGSEGV"),
        ("import sys; sys.exit(1)", "calls sys.exit(1)"),
        ("1 / 0", "raises ZeroDivisionError"),
    ],
)
def test_whatever_user_code_does_it_is_told(text: str, said: str, cli: Cli) -> None:
    Path("odd.py").write_text(text)
    ended = cli("validate", "odd.py")
    assert ended.code == 2
    (problem,) = json.loads(ended.stdout)["problems"]
    assert said in problem["message"]
    assert problem["file"] == "odd.py"


def test_for_people_problems_are_lines_with_remedies(cli: Cli) -> None:
    said = cli("validate", "broken.py", "-o", "table").stdout
    assert said.splitlines()[0] == "broken.py:4  asset raw_flights has the unknown option retires"
    assert said.splitlines()[-1] == "3 problems"
    assert "  Did you mean raw_flights?" in said.splitlines()
    said = cli("validate", "flights.py", "-o", "table").stdout
    assert said == "flights.py is valid: 2 assets of code location flights\n"
    Path("odd.py").write_text("def f():\n    raise ValueError('\\x1b[31mred')\nf()\n")
    said = cli("validate", "odd.py", "-o", "table").stdout
    assert "odd.py:2  raises ValueError" in said
    assert 'odd.py", line 3, in <module>' in said
    assert "\x1b" not in said


def test_a_file_is_deployed_and_the_same_again_changes_nothing(api: Served, cli: Cli) -> None:
    done = cli("deploy", "flights.py").document
    assert (done["file"], done["location"], done["deployed"], done["dry_run"]) == ("flights.py", "flights", True, False)
    assert done["changes"] == {"added": ["delays", "raw_flights"], "changed": [], "removed": [], "pools": []}
    before = api.paths()
    again = cli("deploy", "flights.py").document
    assert (again["deployed"], again["dry_run"], again["manifest_id"]) == (False, False, done["manifest_id"])
    assert api.paths() == before


def test_a_dry_run_shows_the_difference_and_changes_nothing(api: Served, cli: Cli) -> None:
    assert cli("deploy", "flights.py", "--dry-run").document["changes"]["added"] == ["delays", "raw_flights"]
    assert api.paths() == set()
    cli("deploy", "flights.py")
    Path("flights.py").write_text(FLIGHTS.replace("retries=3", "retries=5").replace("def delays", "def lateness"))
    ended = cli("deploy", "flights.py", "--dry-run")
    assert ended.document["changes"] == {
        "added": ["lateness"],
        "changed": [{"key": "raw_flights", "fields": {"retries": {"from": 3, "to": 5}}}],
        "removed": ["delays"],
        "pools": [],
    }
    said = cli("deploy", "flights.py", "--dry-run", "-o", "table").stdout
    assert said.splitlines() == [
        "code location flights",
        "  + lateness",
        "  ~ raw_flights",
        "      retries: 3 -> 5",
        "  - delays",
        "Nothing was deployed, it was a dry run: 2 assets in the workspace",
    ]
    csv = cli("deploy", "flights.py", "--dry-run", "-o", "csv").stdout.splitlines()
    assert csv[1:] == ["added,lateness,,,", "changed,raw_flights,retries,3,5", "removed,delays,,,"]
    assert cli("asset", "list", "--field", "assets.0.asset.key").stdout == "delays\n"


def test_for_people_the_difference_comes_before_the_deploy(api: Served, cli: Cli) -> None:
    said = cli("deploy", "flights.py", "-o", "table").stdout.splitlines()
    assert said[:3] == ["code location flights", "  + delays", "  + raw_flights"]
    assert said[3].startswith("Deployed: manifest 01")
    assert said[3].endswith(", 2 assets in the workspace")
    again = cli("deploy", "flights.py", "-o", "table").stdout
    assert again == "Nothing changes: this is what is deployed already, 2 assets in the workspace\n"


def test_a_file_that_is_wrong_deploys_nothing(api: Served, cli: Cli) -> None:
    ended = cli("deploy", "broken.py")
    assert ended.code == 2
    assert len(json.loads(ended.stdout)["problems"]) == 3
    assert api.paths() == set()


def test_code_locations_lie_beside_each_other(api: Served, cli: Cli) -> None:
    ended = cli("deploy", "mart.py")
    assert (ended.code, ended.error["field"]) == (2, "assets[0].dependencies")
    assert ended.error["remedy"] == "First deploy the code location that has delays."
    cli("deploy", "flights.py")
    assert cli("deploy", "mart.py").document["assets"] == 3
    found = cli("asset", "list").document
    assert [(one["asset"]["key"], one["asset"]["location"]) for one in found["assets"]] == [
        ("delays", "flights"),
        ("raw_flights", "flights"),
        ("report", "mart"),
    ]
    of_one = cli("asset", "list", "--location", "mart", "--limit", "1").document
    assert ([one["asset"]["key"] for one in of_one["assets"]], of_one["more"]) == (["report"], False)
    ended = cli("deploy", "flights.py", "--location", "sky")
    assert ended.code == 3
    assert "code location flights" in ended.error["message"]
    ended = cli("deploy", "--remove", "flights")
    assert (ended.code, ended.error["code"]) == (3, "DEFINITION_CONFLICT")
    assert "report" in ended.error["message"]


def test_a_code_location_is_removed(api: Served, cli: Cli) -> None:
    cli("deploy", "flights.py")
    planned = cli("deploy", "--remove", "flights", "--dry-run").document
    assert planned["changes"]["removed"] == ["delays", "raw_flights"]
    done = cli("deploy", "--remove", "flights").document
    assert (done["deployed"], done["assets"]) == (True, 0)
    ended = cli("deploy", "--remove", "flights")
    assert (ended.code, ended.error["code"], ended.error["field"]) == (2, "NOT_FOUND", "--remove")


@pytest.mark.parametrize(
    "arguments",
    [[], ["flights.py", "--remove", "flights"], ["--remove", "flights", "--location", "x"]],
)
def test_a_deploy_takes_a_file_or_a_location_to_remove(arguments: list[str], api: Served, cli: Cli) -> None:
    ended = cli("deploy", *arguments)
    assert (ended.code, ended.error["field"]) == (2, "FILE")


def test_an_asset_is_shown_with_what_it_needs_and_what_needs_it(api: Served, cli: Cli) -> None:
    cli("deploy", "flights.py")
    cli("deploy", "mart.py")
    found = cli("asset", "show", "delays").document
    assert found["asset"]["dependencies"] == [{"asset": "raw_flights", "mapping": None, "argument": "raw_flights"}]
    assert (found["mappings"]["raw_flights"]["kind"], found["dependents"]) == ("all", ["report"])
    said = cli("asset", "show", "raw_flights", "-o", "table").stdout
    told = dict(line.split(maxsplit=1) for line in said.splitlines() if len(line.split()) > 1)
    assert told["partitions"] == "daily from 2024-01-01 Europe/Oslo"
    assert (told["description"], told["timeout"], told["retries"]) == ("Flights of a day.", "10m", "3")
    assert (told["retry_delay"], told["memory"]) == ("5s", "1536MiB")
    assert told["dependents"] == "delays"
    said = cli("asset", "show", "delays", "-o", "table").stdout
    assert "raw_flights  all         raw_flights" in said


TYPED = """
from datetime import date
from pydantic import BaseModel, Field
from springline.sdk import Context, asset

class Load(BaseModel, extra="forbid"):
    since: date = Field(description="The first day.")
    rows: int = Field(default=10, ge=1)

@asset(config=Load)
def load(context: Context[Load]): ...
"""


def test_what_an_asset_takes_is_shown_and_judged_before_a_run(api: Served, cli: Cli) -> None:
    Path("typed.py").write_text(TYPED)
    assert cli("deploy", "typed.py").code == 0
    found = cli("asset", "show", "load").document["asset"]["config"]
    assert (found["model"], found["forbids_others"], len(found["fields"])) == ("Load", True, 2)
    lines = cli("asset", "show", "load", "-o", "table").stdout.splitlines()
    said = [" ".join(line.split()) for line in lines]
    assert "config_model Load, refuses other names" in said
    assert any("since date (required) The first day." in line for line in said), said
    assert any("rows int, ge=1 10 -" in line for line in said), said
    ended = cli("run", "start", "load", "--config", '{"sinse": "2024-01-31"}')
    assert (ended.code, ended.error["field"]) == (2, "config.since")
    assert ended.error["remedy"] == "Did you write sinse for since? Give it: date."
    assert cli("run", "start", "load", "--config", '{"since": "2024-01-31"}').code == 0


def test_assets_for_people(api: Served, cli: Cli) -> None:
    ended = cli("asset", "list", "-o", "table")
    assert ended.hints == ["nothing is deployed: `springline deploy FILE`"]
    cli("deploy", "flights.py")
    lines = cli("asset", "list", "-o", "table").stdout.splitlines()
    assert lines[0].split() == ["key", "location", "partitions", "stale", "depends_on", "dependents"]
    assert lines[2].split() == ["delays", "flights", "never", "made", "raw_flights"]
    assert " ".join(lines[3].split()) == (
        "raw_flights flights daily from 2024-01-01 Europe/Oslo 999 of the last 1000 delays"
    )


@pytest.mark.parametrize("key", ["a:b", "..", "", "a/b"])
def test_what_is_no_key_is_not_asked_for(key: str, api: Served, cli: Cli) -> None:
    ended = cli("asset", "show", key)
    assert (ended.code, ended.error["field"]) == (2, "KEY")


def test_an_asset_that_is_not_deployed(api: Served, cli: Cli) -> None:
    cli("deploy", "flights.py")
    ended = cli("asset", "show", "delys")
    assert (ended.code, ended.error["code"]) == (2, "NOT_FOUND")
    assert "Did you mean delays?" in ended.error["remedy"]


def test_a_deploy_needs_the_right_to_operate(api: Served, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPRINGLINE_TOKEN", make_token(SECRET, ACME, subject="reader", scopes=["read"]))
    assert cli("deploy", "flights.py").error["code"] == "FORBIDDEN"
    assert cli("asset", "list").code == 0
    assert api.paths() == set()


def test_what_is_printed_at_import_is_no_part_of_the_document(capfd: pytest.CaptureFixture[str], cli: Cli) -> None:
    assert cli("validate", "flights.py").document["ok"]
    assert "imported" in capfd.readouterr().err


def test_many_changes_are_counted() -> None:
    answer: dict[str, Any] = {
        "location": "a",
        "changes": {"added": [str(n) for n in range(60)], "changed": [], "removed": []},
    }
    assert pipelines_page.changes_text(answer).splitlines()[-1] == "  ... and 10 more; -o json shows all"


def test_a_pipeline_file_that_is_called_like_a_module_of_ours(api: Served, cli: Cli) -> None:
    for name in ("workflows", "activities", "worker", "entrypoints", "springline", "json"):
        Path(f"{name}.py").write_text("from springline.sdk import asset\n\n@asset\ndef only(): ...\n")
        assert cli("validate", f"{name}.py").document["assets"] == ["only"]


class Children:
    """A stack that notes what its processes are to do."""

    def __init__(self) -> None:
        self.scope = Scope("acme", "dev")
        self.requests: list[dict[str, Any]] = []

    def ready_file(self, name: str) -> Path:
        return Path(name)

    def add_child(self, _name: str, command: Sequence[str], **_: Any) -> None:
        self.requests.append(json.loads(command[-1]))


def test_a_file_counts_as_changed_when_a_module_of_the_users_own_that_it_imports_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "activities.py").write_text("import json\nDAYS = 1\n")
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake/__init__.py").touch()
    (tmp_path / "workflows.py").write_text(
        "import activities, lake, polars\nfrom springline.sdk import asset\n\n@asset\ndef a(): ...\n"
    )
    read = read_pipelines(["workflows.py"])
    assert isinstance(read, list)
    (one,) = read
    assert sorted(Path(file).name for file in one.imports) == ["__init__.py", "activities.py"]
    pipelines = DevPipelines([one], memory_bytes=2 << 30)
    children = Children()
    pipelines._add_worker(children, one)  # type: ignore[arg-type]
    assert children.requests[0]["memory_bytes"] == 2 << 30
    assert not pipelines._has_changed(one)
    (tmp_path / "activities.py").write_text("import json\nDAYS = 12\n")
    assert pipelines._has_changed(one)
    assert not pipelines._has_changed(one), "it is told once"
    (tmp_path / "activities.py").unlink()
    assert not pipelines._has_changed(one), "an editor may put another file into its place in a moment"


TASKS = """
from springline.sdk import asset, task

@task
def prepare(): ...

@asset(deps=[prepare])
def raw(): ...

@task(retries=2, deps=[raw])
def tell(): ...
"""


def test_tasks_are_validated_deployed_and_told_apart_from_assets(api: Served, cli: Cli) -> None:
    Path("steps.py").write_text(TASKS)
    valid = cli("validate", "steps.py").document
    assert (valid["ok"], valid["assets"], valid["tasks"]) == (True, ["raw"], ["prepare", "tell"])
    assert "1 asset and 2 tasks of code location steps" in cli("validate", "steps.py", "-o", "table").stdout
    said = cli("deploy", "steps.py", "-o", "table").stdout
    assert "+ raw" in said
    assert "+ task prepare" in said
    Path("steps.py").write_text(TASKS.replace("retries=2", "retries=3"))
    changed = cli("deploy", "steps.py").document
    assert changed["deployed"]
    assert changed["tasks"]["changed"] == [{"key": "tell", "fields": {"retries": {"from": 2, "to": 3}}}]
    assert [one["asset"]["key"] for one in cli("asset", "list").document["assets"]] == ["raw"]
    ended = cli("asset", "show", "tell")
    assert (ended.code, ended.error["message"]) == (2, "'tell' is a task and makes no asset")
    Path("steps.py").write_text(TASKS.replace("retries=2", "checks=[]"))
    assert "task tell has the option checks" in cli("validate", "steps.py", "-o", "table").stdout
    Path("steps.py").write_text("from springline.sdk import task\n\n@task\ndef sweep(): ...\n")
    assert cli("deploy", "steps.py").document["tasks"]["added"] == ["sweep"]
    assert cli("deploy", "--remove", "steps").document["tasks"]["removed"] == ["sweep"]
