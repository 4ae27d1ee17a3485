"""`springline doctor`: each thing that can be wrong is named, with what to run; the exit code says how bad it is."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from springline.api.tokens import make_token
from springline.cli import doctor
from springline.cli.doctor import examine_store, judge_clock
from springline.cli.doctor_page import page
from springline.cli.findings import Finding, FindingState, exit_code, fine, skipped, unreachable, wrong
from springline.cli.variables import unknown_variables
from springline.local.ports import free_ports
from springline.paths import ObjectPath
from springline.storage.faults import Decision, FaultyStore, Operation, OperationKind
from springline.storage.gcs import EMULATOR_VARIABLE
from springline.storage.local import LocalStore
from springline.storage.memory import MemoryStore
from springline.storage.port import (
    IfAbsent,
    IfVersion,
    ObjectInfo,
    ObjectStore,
    Precondition,
    PutResult,
    StoredObject,
    StoreMisconfigured,
    StoreUnknown,
)
from tests.cli.conftest import Cli, Ended, Served
from tests.storage.conftest import bucket, fake_gcs  # noqa: F401 - fixtures
from tests.support.local_api import ACME, SECRET


def by_name(ended: Ended) -> dict[str, dict[str, Any]]:
    document = json.loads(ended.stdout)
    assert document["ok"] is (ended.code == 0)
    for finding in document["findings"]:
        assert set(finding) == {"name", "ok", "state", "what", "remedy"}
        assert finding["ok"] == {"ok": True, "skipped": None}.get(finding["state"], False)
        if finding["ok"] is False:
            assert finding["remedy"], finding
            assert any(hint.startswith(f"{finding['name']}: ") for hint in ended.hints)
    return {finding["name"]: finding for finding in document["findings"]}


# The whole command.


def test_all_is_well_with_a_local_store(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPRINGLINE_JWT_SECRET", "x" * 40)
    ended = cli("doctor", "--store", tmp_path.as_uri())
    assert ended.code == 0
    states = {name: finding["state"] for name, finding in by_name(ended).items()}
    assert states == {
        "configuration": "ok",
        "store": "ok",
        "store permissions": "ok",
        "store preconditions": "ok",
        "workspaces": "ok",
        "clock": "skipped",
        "api": "skipped",
        "temporal": "ok",
    }
    assert ended.hints == []
    left = [file for file in tmp_path.rglob("*") if file.is_file() and ".springline" not in file.parts]
    assert left == []


def test_the_store_of_the_environment_is_the_default(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPRINGLINE_STORE_URL", tmp_path.as_uri())
    assert by_name(cli("doctor"))["store"]["what"] == f"{tmp_path.as_uri()} can be opened"


def test_the_store_is_opened_once_and_closed(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []

    class Noted(LocalStore):
        async def aclose(self) -> None:
            steps.append("closed")
            await super().aclose()

    def opened(url: str) -> ObjectStore:
        steps.append(url)
        return Noted(tmp_path)

    monkeypatch.setattr(doctor, "open_store", opened)
    assert cli("doctor", "--store", tmp_path.as_uri()).code == 0
    assert steps == [tmp_path.as_uri(), "closed"]


def test_without_a_store_the_variable_is_named(cli: Cli) -> None:
    ended = cli("doctor")
    found = by_name(ended)
    assert ended.code == 2
    assert found["SPRINGLINE_STORE_URL"]["state"] == "wrong"
    assert found["store permissions"]["state"] == "skipped"


def test_every_wrong_variable_is_named_and_the_given_store_is_looked_at(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPRINGLINE_API_PORT", "many")
    monkeypatch.setenv("SPRINGLINE_JWT_SECRET", "short and secret")
    ended = cli("doctor", "--store", tmp_path.as_uri())
    found = by_name(ended)
    assert ended.code == 2
    assert found["SPRINGLINE_API_PORT"]["state"] == found["SPRINGLINE_JWT_SECRET"]["state"] == "wrong"
    assert found["store preconditions"]["state"] == "ok"
    assert "short and secret" not in ended.stdout + ended.stderr


@pytest.mark.parametrize("url", ["s3://bucket", "file://relative", "gs://"])
def test_a_store_that_cannot_be_opened_is_wrong(url: str, cli: Cli) -> None:
    ended = cli("doctor", "--store", url)
    assert ended.code == 2
    assert any(url in finding["what"] for finding in by_name(ended).values() if finding["state"] == "wrong")


def test_a_file_in_place_of_the_folder_is_wrong(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert by_name(cli("doctor", "--store", file.as_uri()))["store"]["state"] == "wrong"


def test_a_network_file_system_is_wrong(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "unsupported_filesystem", lambda _: "nfs4")
    ended = cli("doctor", "--store", tmp_path.as_uri())
    found = by_name(ended)
    assert ended.code == 2
    assert "nfs4" in found["store"]["what"]
    assert found["store preconditions"]["state"] == "skipped"
    assert list(tmp_path.iterdir()) == []


def test_a_bucket_out_of_reach_means_try_again(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EMULATOR_VARIABLE, "http://127.0.0.1:1")
    ended = cli("doctor", "--store", "gs://some-bucket")
    found = by_name(ended)
    assert ended.code == 4
    assert found["store permissions"]["state"] == "unreachable"
    assert EMULATOR_VARIABLE in found["store permissions"]["remedy"]
    assert found["clock against the store"]["state"] == "skipped"


def test_a_bucket_of_an_emulator_is_well_and_its_clock_is_compared(
    fake_gcs: str,  # noqa: F811
    bucket: str,  # noqa: F811
    cli: Cli,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(EMULATOR_VARIABLE, f"http://{fake_gcs}")
    ended = cli("doctor", "--store", f"gs://{bucket}")
    assert ended.code == 0
    assert by_name(ended)["clock against the store"]["state"] == "ok"


def test_a_bucket_that_is_not_there_is_wrong(
    fake_gcs: str,  # noqa: F811
    cli: Cli,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(EMULATOR_VARIABLE, f"http://{fake_gcs}")
    ended = cli("doctor", "--store", "gs://never-made")
    assert ended.code == 2
    assert by_name(ended)["store permissions"]["state"] == "wrong"


def test_an_api_that_is_ready_is_well(api: Served, cli: Cli, tmp_path: Path) -> None:
    found = by_name(cli("doctor", "--store", tmp_path.as_uri()))
    assert found["api"]["state"] == found["clock against the API"]["state"] == "ok"


def test_an_api_that_does_not_answer_means_try_again(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = free_ports(1)
    monkeypatch.setenv("SPRINGLINE_API_URL", f"http://127.0.0.1:{port}")
    ended = cli("doctor", "--store", tmp_path.as_uri())
    assert ended.code == 4
    assert by_name(ended)["api"]["state"] == "unreachable"


def test_what_temporal_lacks_decides_the_exit_code_too(cli: Cli, tmp_path: Path) -> None:
    async def lacking(*_: object) -> list[Finding]:
        return [wrong("search attribute X", "is not registered", "`temporal operator ...`")]

    ended = cli("doctor", "--store", tmp_path.as_uri(), temporal=lacking)
    assert ended.code == 2
    assert "search attribute X: is not registered. `temporal operator ...`" in ended.hints


# Findings.


def test_what_is_wrong_outweighs_what_is_out_of_reach() -> None:
    well, off, bad = fine("a", "b"), unreachable("a", "b", "c"), wrong("a", "b", "c")
    assert exit_code([well, skipped("a", "b")]) == 0
    assert exit_code([well, off]) == 4
    assert exit_code([off, bad, well]) == 2


# The store.


class Careless(MemoryStore):
    """A store that accepts preconditions and ignores them, like some emulators."""

    async def put(self, path: ObjectPath, data: bytes, precondition: Precondition) -> PutResult:
        there = await self.get(path)
        return await super().put(path, data, IfAbsent() if there is None else IfVersion(there.version))


async def test_a_store_that_ignores_preconditions_is_wrong() -> None:
    permissions, preconditions = await examine_store(Careless(), "x")
    assert permissions.state is FindingState.OK
    assert preconditions.state is FindingState.WRONG
    assert "2 of 2 racing" in preconditions.what
    assert "ifGenerationMatch" in (preconditions.remedy or "")


class Deny(ObjectStore):
    """A store on which this account lacks one permission."""

    def __init__(self, denied: str) -> None:
        self.inner = MemoryStore()
        self.denied = denied

    def _check(self, doing: str) -> None:
        if doing == self.denied:
            raise StoreMisconfigured(f"403: no permission to {doing}")

    async def get(self, path: ObjectPath) -> StoredObject | None:
        self._check("read")
        return await self.inner.get(path)

    async def put(self, path: ObjectPath, data: bytes, precondition: Precondition) -> PutResult:
        self._check("create" if isinstance(precondition, IfAbsent) else "overwrite")
        return await self.inner.put(path, data, precondition)

    async def head(self, path: ObjectPath) -> ObjectInfo | None:
        self._check("read")
        return await self.inner.head(path)

    async def delete(self, path: ObjectPath, *, if_version: str) -> bool:
        self._check("delete")
        return await self.inner.delete(path, if_version=if_version)

    async def list(self, prefix: ObjectPath, *, start_after: ObjectPath | None = None) -> AsyncIterator[ObjectInfo]:
        async for info in self.inner.list(prefix, start_after=start_after):
            yield info


@pytest.mark.parametrize(
    ("denied", "permission"),
    [
        ("create", "storage.objects.create"),
        ("read", "storage.objects.get"),
        ("overwrite", "storage.objects.delete"),
        ("delete", "storage.objects.delete"),
    ],
)
async def test_the_permission_that_lacks_is_named(denied: str, permission: str) -> None:
    permissions, preconditions = await examine_store(Deny(denied), "x")
    assert permissions.state is FindingState.WRONG
    assert f"cannot {denied} an object" in permissions.what
    assert permission in (permissions.remedy or "")
    assert preconditions.state is FindingState.SKIPPED


async def test_a_folder_that_cannot_be_written_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "canary").write_text("in the way")
    (finding, *_) = [
        one for one in await doctor.examine_url(tmp_path.as_uri(), LocalStore(tmp_path), "x") if one.ok is False
    ]
    assert finding.name == "store permissions"


@pytest.mark.parametrize("kind", [OperationKind.PUT, OperationKind.GET, OperationKind.DELETE])
async def test_an_operation_without_an_answer_means_try_again(kind: OperationKind) -> None:
    async def fail(operation: Operation) -> Decision:
        return Decision.LOSE if operation.kind is kind else Decision.PROCEED

    permissions, preconditions = await examine_store(FaultyStore(MemoryStore(), hook=fail), "x")
    assert (permissions.state, preconditions.state) == (FindingState.UNREACHABLE, FindingState.SKIPPED)


class Forgetful(MemoryStore):
    """A store whose reads lag behind its writes."""

    async def get(self, path: ObjectPath) -> StoredObject | None:
        return None


class Held(MemoryStore):
    """A store under a retention policy: nothing is ever deleted."""

    async def delete(self, path: ObjectPath, *, if_version: str) -> bool:
        return False


@pytest.mark.parametrize("store", [Forgetful(), Held()], ids=["lagging", "retained"])
async def test_a_store_that_does_not_keep_its_word_is_wrong(store: ObjectStore) -> None:
    permissions, preconditions = await examine_store(store, "x")
    assert (permissions.state, preconditions.state) == (FindingState.WRONG, FindingState.SKIPPED)


class Vague(MemoryStore):
    """A store that stops to answer after the permissions were tried."""

    async def put(self, path: ObjectPath, data: bytes, precondition: Precondition) -> PutResult:
        if "race" in path:
            raise StoreUnknown("lost")
        return await super().put(path, data, precondition)


async def test_a_canary_without_an_answer_means_try_again() -> None:
    permissions, preconditions = await examine_store(Vague(), "x")
    assert (permissions.state, preconditions.state) == (FindingState.OK, FindingState.UNREACHABLE)


# The clock.


@pytest.mark.parametrize(
    ("remote", "state"),
    [
        (1000.0, FindingState.OK),
        (1061.5, FindingState.OK),
        (939.5, FindingState.OK),
        (1063.0, FindingState.WRONG),
        (938.0, FindingState.WRONG),
    ],
)
def test_a_clock_may_be_off_by_a_minute(remote: float, state: FindingState) -> None:
    finding = judge_clock("clock", 1000.0, 1002.0, remote)
    assert finding.state is state
    if state is FindingState.WRONG:
        assert "UUIDv7" in finding.what
        assert ("behind" in finding.what) is (remote > 1000)
        assert "timedatectl" in (finding.remedy or "")


@pytest.fixture
def clock_server() -> Iterator[tuple[str, dict[str, str | None]]]:
    """Serve a Date of our choice."""
    date: dict[str, str | None] = {"Date": None}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(404)
            if date["Date"] is not None:
                self.send_header("Date", date["Date"])
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", date
    server.shutdown()
    server.server_close()
    thread.join()


async def test_the_other_clock_is_read_from_any_answer(clock_server: tuple[str, dict[str, str | None]]) -> None:
    url, date = clock_server
    date["Date"] = formatdate(time.time() - 3600, usegmt=True)
    assert (await doctor.clock("clock", url)).state is FindingState.WRONG
    date["Date"] = formatdate(usegmt=True)
    assert (await doctor.clock("clock", url)).state is FindingState.OK


@pytest.mark.parametrize("value", [None, "yesterday"])
async def test_without_a_usable_date_there_is_nothing_to_compare(
    value: str | None, clock_server: tuple[str, dict[str, str | None]]
) -> None:
    url, date = clock_server
    date["Date"] = value
    assert (await doctor.clock("clock", url)).state is FindingState.SKIPPED


def test_an_emulator_may_be_named_without_a_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.bucket_endpoint() == "https://storage.googleapis.com"
    monkeypatch.setenv(EMULATOR_VARIABLE, "127.0.0.1:4443")
    assert doctor.bucket_endpoint() == "http://127.0.0.1:4443"


# What users get wrong.


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("SPRINGLINE_STOER_URL", "SPRINGLINE_STORE_URL"),
        ("SPRINGLINE_STORE", "SPRINGLINE_STORE_URL"),
        ("SPRINGLINE_API", None),
        ("SPRNGLINE_TOKEN", "SPRINGLINE_TOKEN"),
        ("springline_token", "SPRINGLINE_TOKEN"),
        ("SPRINGLINE_WORLD_PEACE", None),
    ],
)
def test_a_misspelt_variable_is_told_the_nearest(
    name: str, nearest: str | None, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "x")
    ended = cli("doctor", "--store", tmp_path.as_uri())
    found = by_name(ended)[name]
    assert (ended.code, found["state"]) == (2, "wrong")
    assert nearest is None or nearest in found["remedy"]


def test_other_variables_are_none_of_ours() -> None:
    assert unknown_variables(["PATH", "SPRING_PROFILES_ACTIVE", "STRIPE_TOKEN", "SPRINGLINE_API_URL"]) == {}


def test_a_misspelt_folder_is_told_the_store_beside_it(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "lake" / ".springline").mkdir(parents=True)
    found = by_name(cli("doctor", "--store", (tmp_path / "lkae").as_uri()))
    assert (tmp_path / "lake").as_uri() in found["store"]["remedy"]
    assert not (tmp_path / "lkae").exists()
    found = by_name(cli("doctor", "--store", (tmp_path / "nowhere" / "lake").as_uri()))
    assert found["store"]["state"] == "wrong"
    assert not (tmp_path / "nowhere").exists()


def token_of(ended: Ended) -> dict[str, Any]:
    return by_name(ended)["token"]


def test_the_token_is_tried_on_the_api(api: Served, cli: Cli, tmp_path: Path) -> None:
    where = ("doctor", "--store", tmp_path.as_uri())
    good = token_of(cli(*where))
    assert good["state"] == "ok"
    assert "workspace acme/prod" in good["what"]
    expired = make_token(SECRET, ACME, subject="x", now_s=time.time() - 7_200)
    other = make_token("another secret, which is long enough", ACME, subject="x")
    for token, said in ((expired, "expired at 20"), (other, "refuses it"), ("abc", "three parts")):
        found = token_of(cli(*where, "--token", token))
        assert found["state"] == "wrong"
        assert said in found["what"]
    found = token_of(cli(*where, "--tenant", "acme", "--workspace", "dev"))
    assert "acme/dev is looked at" in found["what"]


def test_an_address_of_something_else_is_no_api(cli: Cli, tmp_path: Path) -> None:
    ended = cli("doctor", "--store", tmp_path.as_uri(), "--api", "127.0.0.1:8080", "--token", "x")
    found = by_name(ended)
    assert (found["api"]["state"], found["token"]["state"]) == ("wrong", "skipped")


def test_a_person_sees_a_page_of_at_most_thirty_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["store", "store permissions", "clock", "api", "token", *(f"temporal {number}" for number in range(12))]
    all_well = page([fine("configuration", "x"), *(fine(name, "is well " * 20) for name in names)])
    assert len(all_well.splitlines()) <= 30
    assert all_well.endswith("All is well.\n")
    text = page([wrong("SPRINGLINE_X", "is wrong", "Set it."), unreachable("api", "no answer", "Start it.")])
    assert [line.split() for line in text.splitlines()] == [
        ["configuration"],
        ["wrong", "SPRINGLINE_X:", "is", "wrong"],
        ["Set", "it."],
        ["API"],
        ["no", "answer", "api:", "no", "answer"],
        ["Start", "it."],
        ["1", "to", "correct,", "1", "without", "an", "answer"],
    ]
