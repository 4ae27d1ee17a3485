"""docker-compose.yml as processes: under load every service is killed or restarted, and nothing is lost or doubled.

The story, told in order: a token by the documented command, a table with four writers and a ledger with two, a rebuild
by the Temporal CLI while workers die, then Temporal, PostgreSQL, the emulator and the API, each stopped or killed. Each
time the callers go on, and how long they had to wait is printed.
"""

from __future__ import annotations

import itertools
import json
import os
import shlex
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from springline.client import DeltaTable, Springline
from springline.client.http import Unavailable
from springline.client.table import new_key
from springline.storage.gcs import EMULATOR_VARIABLE
from springline.storage.port import StoreError
from tests.server.cluster import DEADLINE_S
from tests.server.operations import rows_of
from tests.server.runbook import FENCED, Shell
from tests.server.test_readme import BESIDE_A_STACK, README, check, runnable
from tests.server.topology import Topology
from tests.support.rows import rows
from tests.support.sequencer_world import planned, triggered

pytestmark = pytest.mark.full

WRITERS, APPENDERS = 4, 2
ANSWERS = 25
"""So many of each kind, asked for and answered after a fault, mean that callers go on."""
LONGEST_PAUSE_S = 90.0
REPLAYS = 40
EMULATOR_KILLS = 5
"""One in ten cuts a write off between an object and its attributes."""
TENANT, WORKSPACE = "acme", "dev"
IN_WORKSPACE = ("--tenant", TENANT, "--workspace", WORKSPACE)


@pytest.fixture
def topology(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Topology]:
    with Topology(tmp_path) as topology:
        monkeypatch.setenv(EMULATOR_VARIABLE, topology.url("gcs", 4443))
        yield topology


@dataclass
class Load:
    """Writers of one table and appenders of one ledger; each repeats what had no answer under its key."""

    url: str
    token: str
    versions: dict[str, int] = field(default_factory=dict)
    """The version that each key was answered."""
    rows: dict[str, int] = field(default_factory=dict)
    events: dict[str, list[str]] = field(default_factory=dict)
    """The ids that each request's events were answered."""
    runs: dict[str, str] = field(default_factory=dict)
    answers: list[tuple[str, float, float]] = field(default_factory=list)
    """What was asked, when, and when it was answered."""
    repeated: int = 0
    enough: threading.Event = field(default_factory=threading.Event)
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def lake(self) -> Springline:
        return Springline(self.url, self.token, deadline_s=DEADLINE_S)

    def write(self) -> None:
        with self.lake() as lake:
            table = lake.table("rows")
            while not self.enough.is_set():
                key, number, asked = new_key(), next(self._numbers), time.monotonic()
                version = self._until_answered(partial(append_row, table, number, key))
                with self._lock:
                    self.rows[key], self.versions[key] = number, version
                    self.answers.append(("commit", asked, time.monotonic()))

    def append(self) -> None:
        with self.lake() as lake:
            while not self.enough.is_set():
                request, run, asked = new_key(), f"run-{next(self._numbers)}", time.monotonic()
                ids = self._until_answered(partial(append_run, lake, run, request))
                with self._lock:
                    self.runs[request], self.events[request] = run, ids
                    self.answers.append(("append", asked, time.monotonic()))

    def _until_answered(self, ask: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + 2 * LONGEST_PAUSE_S
        while True:
            try:
                return ask()
            except (Unavailable, StoreError):
                # The store is out of reach, or the answer is: the same key says what became of it.
                if time.monotonic() > deadline:
                    raise
                with self._lock:
                    self.repeated += 1
                time.sleep(0.2)

    def goes_on(self, since: float) -> dict[str, float]:
        """Wait for answers to what was asked after `since`; return the longest pause since then, by what was asked."""
        deadline = time.monotonic() + LONGEST_PAUSE_S
        while True:
            with self._lock:
                answers = list(self.answers)
            later = Counter(what for what, asked, _ in answers if asked > since)
            if min(later["commit"], later["append"]) >= ANSWERS:
                break
            assert time.monotonic() < deadline, f"callers do not go on: {later} answers in {LONGEST_PAUSE_S:g} s"
            time.sleep(0.05)
        pauses = {}
        for what in ("commit", "append"):
            ends = [since, *sorted(at for of, _, at in answers if of == what and at > since)]
            pauses[what] = max(after - before for before, after in itertools.pairwise(ends))
        return pauses


def row(number: int) -> Any:
    return rows([number], "ours")


def append_row(table: DeltaTable, number: int, key: str) -> int:
    return table.append(row(number), key=key).version


def append_run(lake: Springline, run: str, request: str) -> list[str]:
    outcome = lake.ledger.append([triggered(run), planned(run, "a", "b")], request_id=request)
    return [event.event_id for event in outcome.events]


@pytest.mark.timeout(1800)
def test_every_service_dies_under_load_and_nothing_is_lost(
    topology: Topology, record_property: Callable[[str, object], None]
) -> None:
    began = time.monotonic()
    token = topology.run("api", "springline", "token", *IN_WORKSPACE, "--field", "token").strip()
    load = Load(topology.url("api", 8080), token)
    with load.lake() as lake:
        lake.create_table("rows", row(0)[:0].schema)

    def tell(what: str, pauses: dict[str, float]) -> None:
        told = ", ".join(f"{1000 * seconds:.0f} ms without an answer to any {of}" for of, seconds in pauses.items())
        record_property("explored", f"docker-compose.yml, {what}: {told}")

    def fault(what: str, do: Callable[[], object]) -> None:
        since = time.monotonic()
        do()
        tell(what, load.goes_on(since))

    with ThreadPoolExecutor(WRITERS + APPENDERS + 1) as pool:
        asking = [pool.submit(load.write) for _ in range(WRITERS)] + [
            pool.submit(load.append) for _ in range(APPENDERS)
        ]
        try:
            tell("nothing", load.goes_on(time.monotonic()))
            manifest = topology.run(
                "api", *cli(token, "rebuild", "plan", *IN_WORKSPACE), "--field", "rebuild_manifest_path"
            )
            rebuild = pool.submit(rebuild_by_temporal, topology, manifest.strip(), "full")
            fault("kill -9 of worker-1", lambda: topology.kill("worker-1"))
            fault("kill -9 of worker-2", lambda: topology.kill("worker-2"))
            assert rebuild.result()["visibility_status"] == "visible"
            fault("Temporal stopped and started", lambda: again(topology, "temporal"))
            fault("kill -9 of Temporal", lambda: topology.kill("temporal"))
            fault("PostgreSQL stopped and started", lambda: again(topology, "postgres"))
            fault("kill -9 of PostgreSQL", lambda: topology.kill("postgres"))
            fault("the emulator stopped and started", lambda: again(topology, "gcs"))
            for number in range(1, EMULATOR_KILLS + 1):
                fault(f"kill -9 of the emulator, number {number}", lambda: topology.kill("gcs"))
            fault("SIGTERM to the API", lambda: again(topology, "api"))
        finally:
            load.enough.set()
        for one in asking:
            one.result()
    restarts = sum(len(one.restarts) for one in topology.containers.values())
    seconds = time.monotonic() - began
    record_property(
        "explored",
        f"docker-compose.yml, in all: {len(load.versions)} commits, {len(load.events)} appends, "
        f"{load.repeated} calls repeated by the caller, {restarts} restarts by policy, {seconds:.0f} s",
    )
    for name in topology.containers:
        if not topology.containers[name].once:
            topology.wait_healthy(name)
    check_table(load)
    check_ledger(topology, load, token)
    check_memory(topology, record_property)


def test_the_examples_of_the_readme_run_on_the_host(topology: Topology, tmp_path: Path) -> None:
    """What a newcomer types after `docker compose up`, then every other example, against what Compose started."""
    work, programs = tmp_path / "work", tmp_path / "programs"
    work.mkdir()
    programs.mkdir()
    (programs / "docker").write_text(in_container(topology, "compose", "exec", "-T", "api"))
    (programs / "docker").chmod(0o755)
    (first,) = (match for match in FENCED.finditer(README.read_text("utf-8")) if "docker compose exec" in match[2])
    page = tmp_path / "README.md"
    examples = runnable(work, BESIDE_A_STACK)
    page.write_text(topology.published(f"# Token\n\n{first[0]}\n```text\ntrue\n```\n{examples}"))
    check(Shell(programs, tmp_path, {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(tmp_path)}).follow(page))


def in_container(topology: Topology, *words: str) -> str:
    """Return a script that runs a command in a service, as `docker` does with these words before it."""
    environment = [f"{name}={value}" for name, value in topology.containers[words[-1]].environment.items()]
    expected = f'[ "$1 $2 $3 $4" = "{" ".join(words)}" ] || exit 2'
    return f'#!/bin/sh\n{expected}\nshift {len(words)}\nexec env -i {shlex.join(environment)} "$@"\n'


def cli(token: str, *words: str) -> list[str]:
    """Return a command of ours as an operator gives it in the container of the API."""
    return ["env", "SPRINGLINE_API_URL=http://127.0.0.1:8080", f"SPRINGLINE_TOKEN={token}", "springline", *words]


def rebuild_by_temporal(topology: Topology, manifest: str, mode: str) -> dict[str, Any]:
    """Start a rebuild by the Temporal CLI alone, as the README says, and return its report."""
    order = {"tenant": TENANT, "workspace": WORKSPACE, "mode": mode, "rebuild_manifest_path": manifest}
    said = topology.run(
        "namespace",
        *("temporal", "workflow", "execute", "--type", "RebuildWorkflow", "--task-queue", "springline-rebuild"),
        *("--task-timeout", "2s", "--workflow-id", f"rebuild/{TENANT}/{WORKSPACE}", "--input", json.dumps(order)),
        *("--output", "json"),
    )
    result: dict[str, Any] = json.loads(said)["result"]
    return result


def again(topology: Topology, name: str) -> None:
    """Do what `docker compose restart` does."""
    code = topology.stop(name)
    assert code == os.EX_OK, f"{name} ended with {code} when it was asked to\n{topology.log(name)}"
    topology.start(name)


def check_table(load: Load) -> None:
    """Every row that was answered is there once, versions have no gap, and every key stands for its version."""
    with load.lake() as lake:
        table = lake.table("rows")
        assert rows_of(table) == Counter((number, "ours") for number in load.rows.values())
        history = table.history(100_000)
        assert [one.version for one in history] == list(range(len(history) - 1, -1, -1))
        of_key = {key: one.version for one in history for key in one.keys}
        assert {key: of_key[key] for key in load.versions} == load.versions
        for key in list(load.versions)[:: len(load.versions) // REPLAYS or 1]:
            assert table.append(row(load.rows[key]), key=key).version == load.versions[key]
        assert table.status()["last_checkpoint"] is not None
        assert rows_of(table) == Counter((number, "ours") for number in load.rows.values())


def check_ledger(topology: Topology, load: Load, token: str) -> None:
    """Every event that was answered is there once, requests stand for their events, and a rebuild agrees."""
    with load.lake() as lake:
        for request in list(load.events)[:: len(load.events) // REPLAYS or 1]:
            assert append_run(lake, load.runs[request], request) == load.events[request]
        assert Counter(run["run_id"] for run in lake.state.runs()) == Counter(load.runs.values())
    tail = topology.run("api", *cli(token, "ledger", "tail", *IN_WORKSPACE, "--from", "0"))
    there = Counter(json.loads(line)["event_id"] for line in tail.splitlines())
    assert there == Counter(event for ids in load.events.values() for event in ids)
    manifest = topology.run("api", *cli(token, "rebuild", "plan", *IN_WORKSPACE), "--field", "rebuild_manifest_path")
    report = rebuild_by_temporal(topology, manifest.strip(), "verify")
    assert report["equal"] is True, report


def check_memory(topology: Topology, record_property: Callable[[str, object], None]) -> None:
    """No process came near the memory that its service may have."""
    units = {"m": 1 << 20, "g": 1 << 30}
    told = []
    for name, container in topology.containers.items():
        if not container.once:
            limit = str(container.spec["mem_limit"])
            assert container.peak < 0.8 * int(limit[:-1]) * units[limit[-1]], f"{name}: {container.peak} of {limit}"
            told.append(f"{container.peak >> 20} MB {name} of {limit}")
    record_property("explored", f"docker-compose.yml, peak of memory: {', '.join(told)}")
