"""Springline as a wheel, used where somebody keeps modules of the names that our server side has.

All of these raise when they are imported. They lie in the current folder and on the path of modules besides.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import SCHEMA, Served
from tests.cli.test_dev import Dev
from tests.support.ledger_events import run_request

ROOT = Path(__file__).parents[2]
PARTS = ("springline", "activities", "workflows", "entrypoints", "worker.py", "pyproject.toml", "README.md")
NAMES = ("workflows", "activities", "worker", "entrypoints")
NOWHERE = "http://127.0.0.1:1"

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of programs of an environment in which the wheel is installed, over our dependencies."""
    folder = tmp_path_factory.mktemp("installed")
    sources = folder / "sources"
    sources.mkdir()
    for name in PARTS:
        found = ROOT / name
        ignored = shutil.ignore_patterns("__pycache__")
        _ = shutil.copytree(found, sources / name, ignore=ignored) if found.is_dir() else shutil.copy(found, sources)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    offline = ("--no-deps", "--no-index")
    made = [*pip, "wheel", *offline, "--no-build-isolation", "--wheel-dir", str(folder), str(sources)]
    subprocess.run(made, check=True, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    environment = folder / "venv"
    venv.create(environment, symlinks=True)
    python = environment / "bin" / "python"
    subprocess.run([*pip, "--python", str(python), "install", *offline, str(wheel)], check=True, cwd=folder)
    paths = {"base": str(environment), "platbase": str(environment)}
    (Path(sysconfig.get_path("purelib", "venv", paths)) / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    shutil.rmtree(sources)
    return python.parent


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder in which every name of ours is somebody else's."""
    folder = tmp_path / "pipelines"
    folder.mkdir()
    for name in NAMES:
        (folder / f"{name}.py").write_text(f"raise SystemExit('{name} is not yours')\n")
    package = folder / "entrypoints"
    package.mkdir()
    (folder / "entrypoints.py").rename(package / "__init__.py")
    return folder


@pytest.fixture
def run(programs: Path, folder: Path) -> Run:
    """Return what runs an installed program there."""

    def call(program: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [programs / program, *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=folder,
            env=os.environ | {"PYTHONPATH": f"{folder}:."} | environment,
            timeout=120,
        )

    return call


def document(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done
    return json.loads(done.stdout)


def test_the_folder_is_hostile(run: Run) -> None:
    for name in NAMES:
        assert f"{name} is not yours" in run("python", "-c", f"import {name}").stderr


def test_the_command_line_says_what_it_is(run: Run) -> None:
    assert run("springline", "--help").stdout.startswith("Usage: springline")
    assert run("springline", "--version").stdout.startswith("springline ")


def test_the_library_loads_nothing_of_the_server_side(run: Run) -> None:
    rooms = "springline.client, springline.sdk, springline.cli.app, springline.api.app, springline.local.stack"
    rooms += ", springline.published, springline.deployed"
    script = f"import sys, {rooms}; print([one for one in {(*NAMES, 'temporalio')} if one in sys.modules])"
    done = run("python", "-c", script)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_tables_and_ledger_are_reached(run: Run, api: Served, tmp_path: Path) -> None:
    created = document(run("springline", "table", "create", "flights", "--schema", SCHEMA))
    assert created["table"]["name"] == "flights"
    listed = document(run("springline", "table", "list"))
    assert [one["name"] for one in listed["tables"]] == ["flights"]
    request = tmp_path / "request.json"
    request.write_text(run_request("run").model_dump_json())
    appended = document(run("springline", "ledger", "append", "--file", str(request)))
    assert len(appended["events"]) == 2


PIPELINE = """
from springline.sdk import asset
{imports}

@asset
def raw(): ...

@asset
def report(raw): ...
"""


def test_a_pipeline_is_validated_and_deployed(run: Run, api: Served, folder: Path) -> None:
    (folder / "flights.py").write_text(PIPELINE.format(imports=""))
    assert document(run("springline", "validate", "flights.py"))["ok"]
    done = document(run("springline", "deploy", "flights.py"))
    assert done["changes"]["added"] == ["raw", "report"]
    assert [one["asset"]["key"] for one in document(run("springline", "asset", "list"))["assets"]] == ["raw", "report"]
    script = "import flights; from springline.sdk import materialize; print(list(materialize(flights).assets))"
    assert run("python", "-c", script).stdout == "['raw', 'report']\n"
    # A module of the user's is the user's, whatever it is called.
    (folder / "theirs.py").write_text(PIPELINE.format(imports="import worker"))
    ended = run("springline", "validate", "theirs.py")
    assert ended.returncode == 2
    assert "worker is not yours" in json.loads(ended.stdout)["problems"][0]["message"]


def test_doctor_looks_at_temporal(run: Run, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    done = run(
        "springline",
        *("doctor", "--store", (tmp_path / "store").as_uri(), "--api", NOWHERE),
        TEMPORAL_ADDRESS="127.0.0.1:1",
        TEMPORAL_CONFIG_FILE=str(tmp_path / "none.toml"),
    )
    assert done.returncode == 4, done
    findings = {one["name"]: one for one in json.loads(done.stdout)["findings"]}
    assert findings["temporal"]["state"] == "unreachable"
    assert "does not answer at 127.0.0.1:1" in findings["temporal"]["what"]


def test_the_stack_comes_up_and_is_well(run: Run, programs: Path, folder: Path, tmp_path: Path) -> None:
    program = [str(programs / "springline")]
    with Dev(tmp_path, "dev", program=program, cwd=folder, env={"PYTHONPATH": f"{folder}:."}) as dev:
        found = dev.ready()
        for one in ("springline", f"{found['folder']}/bin/springline"):
            done = run(one, "doctor", **found["environment"])
            assert done.returncode == 0, done
        dev.end()
