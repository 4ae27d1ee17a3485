"""`springline dev`: the stack in the foreground; what dies is started again, and Ctrl-C leaves nothing."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

from springline.cli.dev import _write_entry, not_taken, watch
from springline.cli.dev_pipelines import DevPipeline, DevPipelines, deployed_text
from springline.local.homefolder import HomeFolder
from springline.local.ports import LOOPBACK
from springline.local.run import ToolFailed, ToolMisconfigured
from springline.local.runfolder import start_mark
from springline.local.stack import EmbeddedStack
from springline.paths import Scope
from tests.cli.conftest import Cli

ROOT = Path(__file__).parents[2]
WAIT_SECONDS = 300.0


def wait_for(what: Callable[[], bool], process: subprocess.Popen[str], log: Path) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not what():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


class Dev:
    """`springline dev` in a process of its own."""

    def __init__(
        self,
        tmp_path: Path,
        name: str,
        *options: str,
        program: Sequence[str] = (sys.executable, "-m", "springline.cli"),
        cwd: Path = ROOT,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.out, self.log = tmp_path / f"{name}.json", tmp_path / f"{name}.txt"
        command = [*program, "dev", "--folder", str(tmp_path / "run"), *options]
        with self.out.open("w") as stdout, self.log.open("w") as stderr:
            self.process = subprocess.Popen(
                command,
                stdout=stdout,
                stderr=stderr,
                text=True,
                cwd=cwd,
                env=os.environ | (env or {}),
                start_new_session=True,
            )

    def says(self, text: str) -> None:
        wait_for(lambda: text in self.log.read_text(), self.process, self.log)

    def ready(self) -> dict[str, Any]:
        self.says("source ")
        document: dict[str, Any] = json.loads(self.out.read_text())
        return document

    def children(self, folder: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((Path(folder) / "children.json").read_text())
        return found

    def end(self) -> None:
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(240) == 0, self.log.read_text()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def shell(document: dict[str, Any], commands: str) -> subprocess.CompletedProcess[str]:
    """Run commands as a person does who has sourced what `dev` names, with nothing else on the path."""
    bare = {"PATH": os.defpath, "HOME": os.environ.get("HOME", "/"), "XDG_CONFIG_HOME": "/nowhere"}
    return subprocess.run(
        ["bash", "-c", f"source '{document['source']}'; {commands}"],
        capture_output=True,
        text=True,
        check=False,
        env=bare,
        cwd="/",
    )


def test_it_stays_the_same_between_starts_and_restarts_what_is_killed(tmp_path: Path) -> None:
    with Dev(tmp_path, "first") as dev:
        first = dev.ready()
        assert "removes nothing" in dev.log.read_text()
        assert stat.S_IMODE(Path(first["source"]).stat().st_mode) == 0o600
        doctor = shell(first, "springline doctor")
        assert doctor.returncode == 0, doctor.stdout
        with Dev(tmp_path, "second") as second:
            assert second.process.wait(240) == 2
            assert f"process {dev.process.pid}" in second.log.read_text()
        children = dev.children(first["folder"])
        os.kill(children["worker-1"]["pid"], signal.SIGKILL)
        dev.says("worker-1 ended with code -9; starting it again\n")
        time.sleep(4)  # It has begun to come up, and is killed once more.
        os.kill(dev.children(first["folder"])["worker-1"]["pid"], signal.SIGKILL)
        dev.says("worker-1 is ready again")
        made = shell(first, """springline table create flights --schema '[{"name":"x","type":"long"}]'""")
        assert made.returncode == 0, made.stderr
        children = dev.children(first["folder"])
        dev.end()
        for child in children.values():
            assert start_mark(child["pid"]) != child["started"]
        with pytest.raises(httpx.TransportError):
            httpx.get(first["api"])
    (port,) = {int(first["api"].rsplit(":", 1)[1])}
    with socket.create_server((LOOPBACK, port)), Dev(tmp_path, "third", "--workers", "2") as dev:
        third = dev.ready()
        assert f"port {port} (api) of the last start is taken" in dev.log.read_text()
        same = ("temporal", "web_ui", "store", "folder", "source")
        assert {name: third[name] for name in same} == {name: first[name] for name in same}
        assert third["environment"]["SPRINGLINE_TOKEN"] == first["environment"]["SPRINGLINE_TOKEN"]
        listed = shell(third, "springline table list --field tables.0.name; temporal workflow count")
        assert listed.stdout.splitlines()[0] == "flights", listed.stderr
        assert int(listed.stdout.rsplit(":", 1)[1]) >= 1, "Temporal's database is the one of before"
        dev.end()


def test_what_is_temporary_is_removed_at_the_end(tmp_path: Path) -> None:
    with Dev(tmp_path, "only", "--temporary") as dev:
        document = dev.ready()
        assert f"removes {document['folder']} with all tables" in dev.log.read_text()
        dev.end()
    assert not Path(document["folder"]).exists()


def test_fresh_removes_what_a_stack_left_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    home = HomeFolder(folder, print)
    assert home.is_new
    home.remember(secret="s", ports={"api": 1})
    assert stat.S_IMODE((folder / "dev.json").stat().st_mode) == 0o600
    with pytest.raises(ToolMisconfigured, match=f"process {os.getpid()}"):
        HomeFolder(folder, print)
    for name in ("temporal.db-wal", "mine.txt"):
        (folder / name).touch()
    (folder / "store").mkdir()
    home.close(keep=False)
    again = HomeFolder(folder, print)
    assert again.memory == {"secret": "s", "ports": {"api": 1}}
    again.close(keep=False)
    fresh = HomeFolder(folder, print, fresh=True)
    assert fresh.memory == {}
    fresh.close(keep=False)
    assert {file.name for file in folder.iterdir()} == {"mine.txt", "owner.lock"}


class Stub(EmbeddedStack):
    """A stack whose worker dies at the given moments; nothing of it is real but what `watch` sees.

    `takes` is how long the worker takes until it is ready, in seconds.
    """

    def __init__(self, folder: Path, deaths: list[float], takes: float = 1.0) -> None:
        super().__init__(folder, scope=Scope("acme", "dev"))
        self.now = 0.0
        self.deaths = deaths
        self.takes = takes
        self.dead = False
        self.starts: list[float] = []

    def dead_children(self) -> dict[str, int]:
        if self.deaths and self.now >= self.deaths[0]:
            self.deaths.pop(0)
            self.dead = True
        return {"worker-1": -9} if self.dead else {}

    def start_child(self, name: str, *, wait: bool = True) -> None:
        assert not wait, "whoever waits does not see what else dies"
        self.dead = False
        self.starts.append(self.now)

    def lacks(self, name: str) -> str | None:
        return None if self.now - self.starts[-1] >= self.takes else "no answer yet"

    def pause(self, seconds: float) -> None:
        if self.now > 100:
            raise KeyboardInterrupt
        self.now += seconds


def test_whatever_dies_now_and_then_is_started_again_at_once(tmp_path: Path) -> None:
    stack = Stub(tmp_path, [2.0, 5.0, 20.0, 40.0])
    with pytest.raises(KeyboardInterrupt):
        watch(stack, pause=stack.pause, clock=lambda: stack.now)
    assert stack.starts == [2.0, 5.0, 20.0, 40.0]


def test_what_dies_while_it_comes_up_is_started_again_a_little_later(tmp_path: Path) -> None:
    stack = Stub(tmp_path, [2.0, 6.0, 12.0, 60.0], takes=10.0)
    with pytest.raises(KeyboardInterrupt):
        watch(stack, pause=stack.pause, clock=lambda: stack.now)
    assert stack.starts == [2.0, 7.0, 14.0, 60.0]


def test_what_is_never_ready_is_given_up(tmp_path: Path) -> None:
    stack = Stub(tmp_path, [float(second) for second in range(2, 100)], takes=1_000.0)
    stack.child = lambda name: _Dead()  # type: ignore[method-assign, assignment, return-value]
    with pytest.raises(ToolFailed, match=r"worker-1 ended with code -9, 5 times in a row before .*:\nwhy it died"):
        watch(stack, pause=stack.pause, clock=lambda: stack.now)
    assert len(stack.starts) == 5


def test_a_deploy_is_told_with_all_that_the_file_declares() -> None:
    nothing: dict[str, list[str]] = {"added": [], "changed": [], "removed": []}
    found = {"keys": ["a", "b"], "tasks": [], "schedules": [{}], "sensors": [{}, {}], "pools": [{}]}
    answer = {
        "changes": nothing | {"added": ["a", "b"], "pools": [{}]},
        "tasks": nothing,
        "schedules": nothing,
        "sensors": nothing | {"removed": ["s"]},
    }
    told = "2 assets, 1 schedule, 2 sensors, 1 pool (2 added, 1 removed, 1 pool set)"
    assert deployed_text(found, answer) == told
    assert (
        deployed_text({"keys": []}, {**answer, "changes": nothing, "sensors": nothing}) == "0 assets (nothing changes)"
    )


class Starting(Stub):
    """A stack whose worker ends with these codes, one after the other, before it is ready; None: it gets ready."""

    def __init__(self, folder: Path, codes: list[int | None]) -> None:
        super().__init__(folder, [])
        self.codes = codes
        self.exit_code: int | None = None

    def child(self, name: str) -> Any:
        return self

    def wait_ready(self, name: str, timeout_s: float = 0) -> None:
        self.exit_code = self.codes.pop(0)
        if self.exit_code is not None:
            raise ToolFailed("ended")


def test_what_is_killed_while_the_stack_comes_up_is_started_again(tmp_path: Path) -> None:
    stack = Starting(tmp_path, [-9, -9, None])
    stack.wait_through_kills("worker-1")
    assert len(stack.starts) == 2
    for codes in ([1], [-9] * 5):
        with pytest.raises(ToolFailed):
            Starting(tmp_path, [*codes]).wait_through_kills("worker-1")


class _Dead:
    def log_tail(self) -> str:
        return "why it died"


def test_the_link_to_a_program_is_never_to_itself(tmp_path: Path) -> None:
    """Whoever has sourced what a stack wrote, and starts the next one there, has that link on the path."""
    home = HomeFolder(tmp_path / "run", print)
    real = tmp_path / "temporal"
    real.touch()
    stack = Stub(tmp_path, [])
    stack._run = home
    link = home.path / "bin" / "temporal"
    for stack.program in (real, link):
        _write_entry(stack, {"X": "y"})
        assert link.resolve() == real.resolve()
    home.close(keep=False)


def test_a_program_that_is_not_there_is_bad_input(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPRINGLINE_TEMPORAL_CLI", str(tmp_path / "missing"))
    ended = cli("dev", "--folder", str(tmp_path / "run"))
    assert (ended.code, ended.error["code"]) == (2, "INVALID_REQUEST")
    assert "SPRINGLINE_TEMPORAL_CLI" in ended.error["message"]


@pytest.mark.parametrize(("arguments", "field"), [(["--tenant", "A"], "tenant"), (["--workers", "0"], "--workers")])
def test_bad_options_are_bad_input(arguments: list[str], field: str, cli: Cli) -> None:
    ended = cli("dev", *arguments)
    assert (ended.code, ended.error["field"]) == (2, field)


PIPELINE = """
from springline.sdk import asset

@asset
def numbers() -> int:
    return 20

@asset
def doubled(context, numbers: int) -> None:
    print(f"made {numbers * 2}")
"""


PAIRS = """
from springline.sdk import daily, multi_partitions, static

days = daily(start="2026-01-01")

@asset(partitions=days)
def day(context) -> str:
    return context.partition_key

@asset(partitions=multi_partitions(day=days, region=static("eu", "a|b")))
def sales(context, day: str) -> str:
    begin, _ = context.time_window
    print(f"sold {context.partition_keys['region']} on {day}, {begin:%d.%m.%Y}")
    return context.partition_key

@asset(partitions=days)
def report(sales: dict) -> None:
    print(f"reported {sorted(sales.items())}")
"""


def test_files_are_deployed_worked_and_followed(tmp_path: Path) -> None:
    file = tmp_path / "flow.py"
    file.write_text(PIPELINE + PAIRS)
    with Dev(tmp_path, "only", "--temporary", "--concurrency", "1", str(file), cwd=tmp_path) as dev:
        document = dev.ready()
        (pipeline,) = document["pipelines"]
        assert pipeline["location"] == "flow"
        assert pipeline["assets"] == ["numbers", "doubled", "day", "sales", "report"]
        log = Path(pipeline["log"])
        made = shell(document, "springline run start '*doubled' --watch --field run.state")
        assert (made.returncode, made.stdout) == (0, "SUCCEEDED\n"), made.stderr
        assert "made 40" in log.read_text()
        # One partition of an asset in two dimensions, between assets that have one of them.
        keys = "--partition 2026-01-31 --partition '2026-01-31|a%7Cb'"
        made = shell(document, f"springline run start '*report' {keys} --watch --field run.state")
        assert (made.returncode, made.stdout) == (0, "SUCCEEDED\n"), made.stderr
        said = log.read_text()
        assert "sold a|b on 2026-01-31, 31.01.2026" in said
        assert "reported [('2026-01-31|a%7Cb', '2026-01-31|a%7Cb')]" in said

        file.write_text(f"{PIPELINE + PAIRS}\nraise RuntimeError('half')\n")
        dev.says("cannot be deployed as it is now; what was deployed before stays, and its worker goes on")
        assert "half" in dev.log.read_text()
        os.kill(dev.children(document["folder"])["work-flow"]["pid"], signal.SIGKILL)
        dev.says("work-flow cannot work as it is, and is started again when its file changes:")

        file.write_text(f"{PIPELINE.replace('20', '30')}{PAIRS}\n@asset\ndef more(): ...\n")
        dev.says("flow.py is deployed: 6 assets (1 added)")
        dev.says("work-flow is ready again")
        # Its processes run in the folder of whoever has started it, and find the stack.
        made = shell(document, "springline run start '*doubled' more --watch --field run.state")
        assert (made.returncode, made.stdout) == (0, "SUCCEEDED\n"), made.stderr
        assert "made 60" in log.read_text()
        children = dev.children(document["folder"])
        dev.end()
    assert start_mark(children["work-flow"]["pid"]) != children["work-flow"]["started"]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"a.py": "import nope"}, "nope"),
        ({"a.py": PIPELINE, "b.py": "x = "}, "invalid syntax"),
        ({"a.py": PIPELINE, "x/a.py": PIPELINE}, "two files are called a"),
    ],
)
def test_wrong_files_start_nothing(
    files: dict[str, str], said: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in files.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(text)
    ended = cli("dev", *files)
    assert ended.code == 2
    assert said in ended.stdout + ended.stderr
    assert not Path(".springline").exists()


def test_a_limit_of_memory_is_a_size(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = cli("dev", "--memory-limit", "lots")
    assert (ended.code, ended.error["field"]) == (2, "--memory-limit")
    monkeypatch.setenv("SPRINGLINE_MEMORY_LIMIT", "1KiB")
    ended = cli("dev")
    assert (ended.code, ended.error["value"]) == (2, "1KiB")


def test_concurrency_is_that_of_files(cli: Cli) -> None:
    ended = cli("dev", "--concurrency", "2")
    assert (ended.code, ended.error["field"]) == (2, "--concurrency")


class Flow(DevPipelines):
    """One file whose worker is `worker-1`, and which changes at the given moments."""

    def __init__(self, stack: Stub, changes: list[float]) -> None:
        one = DevPipeline("flow.py", {"file": "flow.py", "location": "flow", "keys": []}, None)
        super().__init__([one])
        self.one, self.stack, self.changes = one, stack, changes
        self.down: list[tuple[float, bool]] = []

    def of_child(self, name: str) -> DevPipeline | None:
        return self.one

    def renewed(self, down: Set[str] = frozenset()) -> list[str]:
        self.down.append((self.stack.now, "worker-1" in down))
        if not self.changes or self.stack.now < self.changes[0]:
            return []
        self.changes.pop(0)
        self.one.waits = False
        return ["worker-1"]


class Stubborn(Stub):
    """A stack whose worker ends with `code`, and when it is killed; it heeds no other signal."""

    code = -9

    def dead_children(self) -> dict[str, int]:
        return dict.fromkeys(super().dead_children(), self.code)

    def child(self, name: str) -> Any:
        return self

    def signal(self, number: int) -> None:
        assert number == signal.SIGTERM

    def kill(self, name: str) -> None:
        self.dead = True

    def log_tail(self) -> str:
        return "why it died"


def test_a_worker_of_a_file_that_cannot_be_loaded_waits_for_a_change(tmp_path: Path) -> None:
    stack = Stubborn(tmp_path, [2.0, 60.0])
    stack.code = 2
    with pytest.raises(KeyboardInterrupt):
        watch(stack, Flow(stack, [20.0]), pause=stack.pause, clock=lambda: stack.now)
    assert stack.starts == [20.0]


def test_a_worker_of_a_file_is_started_for_ever(tmp_path: Path) -> None:
    stack = Stubborn(tmp_path, [float(second) for second in range(2, 200)], takes=1_000.0)
    with pytest.raises(KeyboardInterrupt):
        watch(stack, Flow(stack, []), pause=stack.pause, clock=lambda: stack.now)
    assert len(stack.starts) > 10


def test_a_worker_that_does_not_end_for_a_change_is_killed(tmp_path: Path) -> None:
    stack = Stubborn(tmp_path, [])
    with pytest.raises(KeyboardInterrupt):
        watch(stack, Flow(stack, [20.0]), pause=stack.pause, clock=lambda: stack.now)
    assert stack.starts == [30.5]


def test_a_worker_is_down_from_its_death_or_the_order_to_end_until_it_is_ready(tmp_path: Path) -> None:
    stack = Stubborn(tmp_path, [5.0])
    flow = Flow(stack, [20.0])
    with pytest.raises(KeyboardInterrupt):
        watch(stack, flow, pause=stack.pause, clock=lambda: stack.now)
    assert stack.starts == [5.0, 30.5]
    assert [now for now, is_down in flow.down if is_down] == [
        now for now, _ in flow.down if 5.0 <= now <= 6.0 or 20.0 < now <= 31.5
    ]


@pytest.mark.parametrize("is_down", [False, True])
def test_a_broken_file_is_told_with_what_its_worker_does(
    is_down: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever reads that the worker goes on does not look for the runs that wait for it."""
    file = tmp_path / "flow.py"
    file.write_text("def a(:\n")
    pipelines = DevPipelines([DevPipeline(str(file), {"file": str(file), "location": "flow", "keys": []}, None)])
    assert pipelines.renewed({"work-flow"} if is_down else frozenset()) == []
    told = capsys.readouterr().err
    assert "cannot be deployed as it is now; what was deployed before stays" in told
    assert ("its worker goes on" in told, "is started when the file is right" in told) == (not is_down, is_down)


@pytest.mark.parametrize(("is_there", "partitions"), [(False, 1), (True, 4)])
def test_a_database_keeps_the_partitions_that_it_began_with(is_there: bool, partitions: int, tmp_path: Path) -> None:
    """Tasks that wait in a partition which is no longer read would wait for ever."""
    database = tmp_path / "run" / "temporal.db"
    database.parent.mkdir()
    if is_there:
        # Of a build that did not remember them, and left them to the server.
        database.touch()
    for _ in range(2):
        home = HomeFolder(database.parent, print)
        stack = Stub(tmp_path, [])
        stack._run = home
        assert stack._partitions() == partitions
        database.touch()
        home.close(keep=False)


def test_settings_that_a_stack_does_not_take_are_told() -> None:
    given = ["PATH", "SPRINGLINE_TOKEN", "SPRINGLINE_STORE_URL", "SPRINGLINE_RETENTION_DAYS", "SPRINGLINE_MEMORY_LIMIT"]
    assert not_taken(given) == ["SPRINGLINE_RETENTION_DAYS"]
