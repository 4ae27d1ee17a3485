"""The command line, called in this process, against the real HTTP surface on a real port, without Temporal."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from springline.api.tokens import make_token
from springline.cli.app import build_app
from springline.cli.doctor import TemporalFindings
from springline.cli.findings import Finding, fine
from springline.cli.session import begin
from springline.storage.memory import MemoryStore
from tests.support.local_api import ACME, SECRET, serving
from tests.support.local_rebuilds import LocalRebuilds
from tests.support.local_repairs import LocalRepairs

GOLDEN = Path(__file__).parents[1] / "golden" / "delta"
GOLDEN_TABLE = "01946b1c-0000-7000-8000-0000000000aa"
HINT = "springline: "


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def document(self) -> Any:
        """The one JSON document on standard output of a command that did its work."""
        assert self.code == 0, self
        return json.loads(self.stdout)

    @property
    def hints(self) -> list[str]:
        return [line.removeprefix(HINT) for line in self.stderr.splitlines() if line.startswith(HINT)]

    @property
    def error(self) -> dict[str, Any]:
        """The one JSON document on standard error of a command that did not; with nothing on standard output."""
        assert self.code != 0, self
        assert self.stdout == "", self
        lines = [line for line in self.stderr.splitlines() if not line.startswith(HINT)]
        body: dict[str, Any] = json.loads("\n".join(lines))
        assert list(body)[:5] == ["code", "message", "field", "value", "remedy"]
        assert body["message"], body
        assert body["remedy"], body
        return body


Cli = Callable[..., Ended]


async def all_is_well(*_: object) -> list[Finding]:
    return [fine("temporal", "stands in for a healthy one")]


def invoke(*arguments: str, stdin: str | bytes | None = None, temporal: TemporalFindings = all_is_well) -> Ended:
    result = CliRunner().invoke(build_app(temporal), list(arguments), input=stdin, prog_name="springline")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Ended(result.exit_code, result.stdout, result.stderr)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever the person who runs the tests has set, or keeps in profiles, must not reach the commands.

    Nor does what a test has chosen reach the next.
    """
    begin()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
    for name in os.environ:
        if name.startswith("TEMPORAL_") or (name.startswith("SPRINGLINE_") and not name.startswith(_TOOLS)):
            monkeypatch.delenv(name)


_TOOLS = (
    "SPRINGLINE_TEMPORAL_CLI",
    "SPRINGLINE_FAKE_GCS_SERVER",
    "SPRINGLINE_TEST_SERVER",
    "SPRINGLINE_CACHE_DIR",
)


@pytest.fixture
def cli() -> Cli:
    return invoke


@dataclass(frozen=True)
class Served:
    """An API on a port of its own."""

    url: str
    store: MemoryStore
    rebuilds: LocalRebuilds
    repairs: LocalRepairs

    def paths(self) -> set[str]:
        return set(self.store.objects)


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """Serve the HTTP surface over a store in memory, and let the environment name it and a good token."""
    store = MemoryStore(name="lake")
    rebuilds = LocalRebuilds(store)
    repairs = LocalRepairs(store)
    with serving(store, rebuilds=rebuilds, repairs=repairs) as url:
        monkeypatch.setenv("SPRINGLINE_API_URL", url)
        monkeypatch.setenv("SPRINGLINE_TOKEN", make_token(SECRET, ACME, subject="tester"))
        yield Served(url, store, rebuilds, repairs)


@pytest.fixture
def golden(tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that copies the store which the reference left in a crash window."""

    def copy(window: str) -> Path:
        folder = tmp_path / window
        shutil.copytree(GOLDEN / window / "store", folder)
        return folder

    return copy


SCHEMA = json.dumps([{"name": "x", "type": "long"}])


@pytest.fixture
def flights(api: Served, cli: Cli) -> str:
    """Create a table and return its id."""
    table_id: str = cli("table", "create", "flights", "--schema", SCHEMA).document["table"]["table_id"]
    return table_id


def payload(number: int = 1) -> str:
    add = {
        "path": f"part-{number:04}.parquet",
        "partitionValues": {},
        "size": 1024,
        "modificationTime": 1_736_935_200_000,
        "dataChange": True,
    }
    return json.dumps({"add": add}) + "\n"
