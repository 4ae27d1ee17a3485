"""Attempts in processes: their ends, whatever user code does."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from springline.local.processes import module_path
from springline.paths import Scope
from springline.storage.scoped import ScopedStore
from springline.work.outputs import read_output
from springline.work.pool import PipelineNotLoaded
from tests.work.conftest import Open, gone, order, taken, takes

FLOW = """
import asyncio, ctypes, multiprocessing, os, signal, subprocess, sys, time
from pathlib import Path
from springline.sdk import Cancelled, Context, NonRetryable, asset, checks, daily

HERE = Path(__file__).parent

@asset(partitions=daily("2024-01-01"))
def good(context: Context) -> dict:
    print("hello from", context.partition_key)
    context.log.info("logged %d", 7)
    context.add_metadata(rows=12, config=context.config["day"], attempt=context.attempt, run=context.run_id)
    return {"pid": os.getpid()}

@asset(checks=[checks.unique("n"), checks.row_count(2, severity="warn")])
def doubled(context: Context) -> list:
    return [{"n": 1}] * context.config["rows"]

@asset
async def later(context: Context) -> None:
    await asyncio.sleep(0)
    context.add_metadata(pid=os.getpid())

@asset
def bad() -> None:
    inner()

def inner():
    raise ValueError("no rows")

@asset
def final() -> None:
    raise NonRetryable("the file is damaged")

@asset
def leaves() -> None:
    sys.exit("I am off")

@asset
def ends() -> None:
    print("before the end", flush=True)
    os._exit(3)

@asset
def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)

@asset
def crashes() -> None:
    ctypes.string_at(0)

@asset
def noisy() -> None:
    os.write(1, b"\\x00\\xff{}\\n" * 3)
    os.write(2, b"x" * 70_000)
    sys.stdout.write("no newline")
    sys.__stdout__.write("!")
    sys.stdout = None

@asset
def sleeps() -> None:
    began()
    try:
        time.sleep(60)
    except Exception:
        pass
    finally:
        (HERE / "cleaned").write_text("yes")

@asset
async def dozes() -> None:
    began()
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        (HERE / "cleaned").write_text("yes")
        raise

@asset
def deaf() -> None:
    began()
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass

@asset
def swallows() -> None:
    began()
    try:
        time.sleep(60)
    except Cancelled:
        pass

@asset
def grinds() -> None:
    began()
    sum(range(10**12))

@asset
def tells(context: Context) -> None:
    context.progress(0.25, "a quarter")
    time.sleep(0.8)
    context.progress(0.5)
    time.sleep(0.8)

@asset
def talks(context: Context) -> None:
    context.add_metadata(text="x" * 70_000)

@asset
def odd(context: Context) -> None:
    context.metadata["what"] = {1, 2}

@asset
def raises_oddly(context: Context) -> None:
    context.metadata["what"] = {1, 2}
    raise ValueError("mine")

@asset
def forks() -> None:
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.map(abs, [-1]) == [1]
    child = subprocess.Popen(["sleep", "60"])
    child.terminate()
    assert child.wait() == -signal.SIGTERM

@asset
def path(context: Context) -> None:
    said = subprocess.run(["sh", "-c", "echo ${PYTHONPATH-none}"], capture_output=True, text=True).stdout
    context.add_metadata(path=said.strip())

@asset
def copies(context: Context) -> int:
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if context.config["how"] == "exit":
        sys.exit(3)
    if context.config["how"] == "raise":
        raise ValueError("of the copy")
    return 7

@asset
def orphans() -> None:
    child = subprocess.Popen(["sleep", "60"])
    (HERE / "began").write_text(str(child.pid))
    os._exit(4)

@asset
def closes(context: Context) -> None:
    os.close(1)
    os.close(2)

@asset
def closes_all() -> None:
    os.closerange(0, 100)

@asset
def imports() -> None:
    import beside
    assert beside.ANSWER == 42

def began() -> None:
    (HERE / "began").write_text(str(os.getpid()))
"""


async def begun(folder: Path) -> int:
    """Wait until a function has begun, and return its process's id."""
    while True:
        said = (folder / "began").read_text() if (folder / "began").exists() else ""
        if said:
            return int(said)
        await asyncio.sleep(0.02)


TYPED = """
from pydantic import BaseModel
from springline.sdk import Context, asset

class Load(BaseModel):
    rows: int = 3

@asset(config=Load, retries=5)
def typed(context: Context[Load]) -> None:
    context.add_metadata(rows=context.config.rows)
"""


async def test_a_config_that_its_model_refuses_fails_the_attempt_for_good(opened: Open) -> None:
    worker = await opened(TYPED)
    end = await worker.make("typed", config={"rows": "4"})
    assert (end.outcome, end.metadata) == ("succeeded", {"rows": 4})
    end = await worker.make("typed", config={"rows": "soon"}, attempt=2)
    assert (end.outcome, end.category, end.reason_code) == ("failed", "CONFIGURATION", "config_refused")
    assert (end.retryable, end.stack_trace) == (False, None)
    assert end.message is not None
    assert "config.rows is 'soon', which does not fit: input should be a valid integer" in end.message
    # The process has not ended by it.
    assert (await worker.make("typed", attempt=3)).metadata == {"rows": 3}


async def test_a_function_gets_its_context_and_its_end_is_told(opened: Open, caplog: pytest.LogCaptureFixture) -> None:
    worker = await opened(FLOW)
    end = await worker.make("good", partition_key="2024-01-31", attempt=2, config={"day": "x"})
    assert (end.outcome, end.category, end.message, end.retryable) == ("succeeded", None, None, None)
    assert end.metadata == {"rows": 12, "config": "x", "attempt": 2, "run": "run_1"}
    assert worker.started == [end.started_at_ms]
    assert end.started_at_ms < end.ended_at_ms
    assert end.worker_id == "w1"
    assert end.cpu_time_ms is not None
    assert end.peak_memory_bytes is not None
    assert 5_000_000 < end.peak_memory_bytes < 500_000_000
    told = [one.getMessage() for one in caplog.records]
    assert "run_1 good[2024-01-31]#2: hello from 2024-01-31" in told
    assert "run_1 good[2024-01-31]#2: INFO springline.asset.good: logged 7" in told
    # One process makes one attempt after the other, async ones too, until it was used often enough.
    pids = [(await worker.make("later")).metadata["pid"] for _ in range(2)]
    assert len(set(pids)) == 1


async def test_checks_are_made_before_the_end_is_told(opened: Open) -> None:
    worker = await opened(FLOW)
    end = await worker.make("doubled", config={"rows": 1})
    assert (end.outcome, [(one.name, one.passed) for one in end.checks]) == (
        "succeeded",
        [("unique(n)", True), ("row_count", False)],
    )
    end = await worker.make("doubled", config={"rows": 2})
    assert (end.outcome, end.category, end.reason_code, end.retryable) == (
        *("failed", "DATA_QUALITY", "check_failed"),
        False,
    )
    assert end.message is not None
    assert end.message.endswith("of it was written: unique(n): 1 key is there more than once, such as n=1 2 times")
    assert [(one.severity, one.passed) for one in end.checks] == [("error", False), ("warn", True)]
    assert end.stack_trace is None


async def test_a_process_is_replaced_after_so_many_attempts(opened: Open) -> None:
    worker = await opened(FLOW, attempts_each=2)
    pids = [(await worker.make("later")).metadata["pid"] for _ in range(5)]
    assert (pids[0], pids[2]) == (pids[1], pids[3])
    assert len(set(pids)) == 3
    assert await gone(pids[0])


async def test_an_error_of_user_code_is_told_with_its_own_lines(opened: Open, tmp_path: Path) -> None:
    worker = await opened(FLOW)
    end = await worker.make("bad")
    assert (end.outcome, end.category, end.message, end.retryable) == (
        "failed",
        "USER_CODE",
        "ValueError: no rows",
        None,
    )
    assert end.stack_trace is not None
    assert end.stack_trace.splitlines()[1].startswith(f'  File "{tmp_path / "flow.py"}"')
    assert "in inner" in end.stack_trace
    assert "springline/" not in end.stack_trace
    final = await worker.make("final")
    assert (final.message, final.retryable) == ("NonRetryable: the file is damaged", False)
    assert (await worker.make("leaves")).message == "SystemExit: I am off"
    assert (await worker.make("imports")).message == "ModuleNotFoundError: No module named 'beside'"
    (tmp_path / "beside.py").write_text("ANSWER = 42")
    assert (await worker.make("imports")).outcome == "succeeded"


@pytest.mark.parametrize(
    ("asset", "category", "said"),
    [
        ("ends", "USER_CODE", "the process of ends ended with exit code 3 while its function ran"),
        ("crashes", "USER_CODE", "the process of crashes was ended by the signal SIGSEGV while"),
        ("killed", "INFRASTRUCTURE", "the process of killed was ended by the signal SIGKILL from outside"),
    ],
)
async def test_a_process_that_ends_is_an_end_and_is_replaced(
    asset: str, category: str, said: str, opened: Open, caplog: pytest.LogCaptureFixture
) -> None:
    worker = await opened(FLOW)
    end = await worker.make(asset)
    assert (end.outcome, end.category) == ("failed", category)
    assert end.message is not None
    assert end.message.startswith(said)
    assert (await worker.make("later")).outcome == "succeeded"
    if asset == "ends":
        assert "run_1 ends#1: before the end" in [one.getMessage() for one in caplog.records]


async def test_what_user_code_prints_breaks_nothing(opened: Open, caplog: pytest.LogCaptureFixture) -> None:
    worker = await opened(FLOW)
    assert (await worker.make("noisy")).outcome == "succeeded"
    assert (await worker.make("later", attempt=2)).outcome == "succeeded"
    told = [one.getMessage() for one in caplog.records if "noisy" in one.getMessage()]
    assert sum(len(one.replace("run_1 noisy#1: ", "")) for one in told) > 70_000
    assert told[-1].endswith("no newline!")


async def test_progress_is_told(opened: Open) -> None:
    worker = await opened(FLOW)
    assert (await worker.make("tells")).outcome == "succeeded"
    assert worker.told == [(0.25, "a quarter"), (0.5, None)]


async def test_metadata_without_bounds_fail_the_attempt(opened: Open) -> None:
    worker = await opened(FLOW)
    end = await worker.make("talks")
    assert (end.category, end.retryable, end.reason_code, end.metadata) == (
        "CONFIGURATION",
        False,
        "metadata_too_large",
        {},
    )


async def test_metadata_that_are_no_json_fail_the_attempt_unless_it_has_failed_anyway(opened: Open) -> None:
    worker = await opened(FLOW)
    odd = await worker.make("odd")
    assert (odd.category, odd.retryable, odd.reason_code) == ("CONFIGURATION", False, "metadata_not_json")
    assert (await worker.make("raises_oddly")).message == "ValueError: mine"


@pytest.mark.parametrize("python_path", [None, "/theirs"])
async def test_what_user_code_starts_has_the_path_that_it_would_have_without_a_worker(
    python_path: str | None, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", module_path(python_path))
    worker = await opened(FLOW, python_path=python_path)
    assert (await worker.make("path")).metadata == {"path": python_path or "none"}


async def test_what_user_code_starts_minds_signals_and_ends_with_its_process(opened: Open, tmp_path: Path) -> None:
    worker = await opened(FLOW)
    end = await worker.make("forks")
    assert end.outcome == "succeeded", end.stack_trace
    end = await asyncio.wait_for(worker.make("orphans"), 60)
    assert (end.category, end.reason_code) == ("USER_CODE", "process_ended")
    assert await gone(await begun(tmp_path))


@pytest.mark.parametrize(("how", "code"), [("exit", 3), ("raise", 1), ("return", 0)])
async def test_a_copy_that_a_function_forks_ends_with_it_and_says_nothing(
    how: str, code: int, opened: Open, caplog: pytest.LogCaptureFixture
) -> None:
    worker = await opened(FLOW)
    end = await worker.make("copies", config={"how": how}, keeps_output=True)
    assert (end.outcome, end.message) == ("succeeded", None)
    output = await read_output(ScopedStore(worker.store, Scope("acme", "dev")), taken(order("copies")))
    assert output.data == str(code).encode()
    after = await worker.make("good", partition_key="2024-01-31", config={"day": "x"})
    assert after.metadata["config"] == "x"
    assert ("ValueError: of the copy" in "".join(one.getMessage() for one in caplog.records)) == (how == "raise")


async def test_a_process_whose_output_is_closed_is_replaced(opened: Open) -> None:
    worker = await opened(FLOW)
    before = (await worker.make("later")).metadata["pid"]
    assert (await worker.make("closes")).outcome == "succeeded"
    assert (await worker.make("later", attempt=2)).metadata["pid"] != before
    end = await worker.make("closes_all")
    assert (end.category, end.reason_code) == ("USER_CODE", "process_ended")


@pytest.mark.parametrize("asset", ["sleeps", "dozes"])
@pytest.mark.parametrize("why", ["cancelled", "timeout"])
async def test_a_function_that_is_stopped_can_clean_up(asset: str, why: str, opened: Open, tmp_path: Path) -> None:
    worker = await opened(FLOW)
    making = asyncio.create_task(worker.make(asset, timeout_ms=300 if why == "timeout" else None))
    pid = await begun(tmp_path)
    if why == "cancelled":
        worker.stop.set()
    end = await asyncio.wait_for(making, 60)
    if why == "cancelled":
        assert (end.outcome, end.category, end.retryable) == ("cancelled", "CANCELLED", False)
    else:
        assert (end.outcome, end.category, end.retryable) == ("failed", "TIMEOUT", None)
        assert end.message == f"{asset} took longer than its timeout, 300ms"
    assert (tmp_path / "cleaned").read_text() == "yes"
    assert await gone(pid)


@pytest.mark.parametrize("asset", ["deaf", "grinds"])
@pytest.mark.parametrize("why", ["cancelled", "timeout"])
async def test_a_function_that_does_not_stop_is_killed(asset: str, why: str, opened: Open, tmp_path: Path) -> None:
    worker = await opened(FLOW, grace_s=0.3)
    making = asyncio.create_task(worker.make(asset, timeout_ms=300 if why == "timeout" else None))
    pid = await begun(tmp_path)
    if why == "cancelled":
        worker.stop.set()
    end = await asyncio.wait_for(making, 60)
    assert (end.outcome, end.category) == (("cancelled", "CANCELLED") if why == "cancelled" else ("failed", "TIMEOUT"))
    if why == "timeout":
        assert end.message is not None
        assert "did not end within 0.3 s" in end.message
    assert await gone(pid)
    worker.stop.clear()
    assert (await worker.make("later")).outcome == "succeeded"


async def test_a_function_that_ends_well_though_it_was_cancelled_has_made_its_asset(
    opened: Open, tmp_path: Path
) -> None:
    worker = await opened(FLOW)
    making = asyncio.create_task(worker.make("swallows"))
    await begun(tmp_path)
    worker.stop.set()
    assert (await making).outcome == "succeeded"


async def test_a_signal_from_elsewhere_stops_nothing(opened: Open) -> None:
    worker = await opened(FLOW)
    async with worker.pool.process() as process:
        pid = process.pid
    making = asyncio.create_task(worker.make("tells"))
    await worker.has_told.wait()
    os.kill(pid, signal.SIGTERM)
    assert (await making).outcome == "succeeded"


async def test_what_was_to_stop_before_it_began_does_not_begin(opened: Open, tmp_path: Path) -> None:
    worker = await opened(FLOW)
    worker.stop.set()
    end = await worker.make("sleeps")
    assert (end.outcome, worker.started) == ("cancelled", [])
    assert not (tmp_path / "began").exists()


@pytest.mark.parametrize("fields", [{"asset": "missing"}, {"asset": "bad", "location": "other"}])
async def test_an_asset_that_the_file_lacks_is_handed_back(fields: dict[str, str], opened: Open) -> None:
    worker = await opened(FLOW)
    asset = fields.pop("asset")
    end = await worker.make(order(asset, **fields))
    assert (end.outcome, end.category, end.reason_code) == ("failed", "INFRASTRUCTURE", "asset_missing")
    assert end.message is not None
    assert f"lacks the asset {asset}" in end.message
    assert "deploy and start workers of the same file" in end.message
    assert worker.started == []


async def test_attempts_run_side_by_side_up_to_the_bound(opened: Open) -> None:
    source = """
    import os, time
    from pathlib import Path
    from springline.sdk import Context, asset
    HERE = Path(__file__).parent

    @asset
    def meets(context: Context) -> None:
        mine = HERE / f"here-{context.attempt}"
        mine.touch()
        deadline = time.monotonic() + 60
        while not (HERE / f"here-{context.attempt ^ 1}").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    @asset
    def alone() -> None:
        place = HERE / "place"
        place.mkdir()
        time.sleep(0.05)
        place.rmdir()
    """
    worker = await opened(source, concurrency=2)
    pair = await asyncio.gather(*(worker.make("meets", attempt=number) for number in (2, 3)))
    assert [one.outcome for one in pair] == ["succeeded"] * 2
    single = await opened(source, concurrency=1)
    ends = await asyncio.gather(*(single.make("alone", attempt=number) for number in range(1, 4)))
    assert [one.outcome for one in ends] == ["succeeded"] * 3


async def test_a_file_that_cannot_be_loaded_is_told(opened: Open) -> None:
    with pytest.raises(PipelineNotLoaded, match=r"flow.py:2: raises ZeroDivisionError") as wrong:
        await opened("\n1 / 0\n")
    assert len(wrong.value.problems) == 1
    with pytest.raises(PipelineNotLoaded, match="ended with exit code 9"):
        await opened("import os\nos._exit(9)\n")


async def test_a_file_that_broke_later_fails_attempts_for_another_worker(opened: Open, tmp_path: Path) -> None:
    worker = await opened(FLOW, attempts_each=1)
    assert (await worker.make("later")).outcome == "succeeded"
    (tmp_path / "flow.py").write_text("1 / 0")
    end = await worker.make("later", attempt=2)
    assert (end.outcome, end.category, end.reason_code) == ("failed", "INFRASTRUCTURE", "pipeline_not_loaded")


async def test_a_task_runs_and_hands_its_output_on(opened: Open) -> None:
    flow = """
    from springline.sdk import Context, asset, task

    @task(retries=1)
    def prepare(context: Context) -> list:
        context.add_metadata(asset=context.asset, task=context.task_key)
        return [1, 2]

    @asset
    def total(prepare: list) -> int:
        assert prepare == [1, 2]
        return sum(prepare)
    """
    worker = await opened(flow)
    first = order("prepare", keeps_output=True)
    made = await worker.make(first)
    assert (made.outcome, made.metadata) == ("succeeded", {"asset": "prepare", "task": "prepare"})
    assert (await worker.make(order("total", inputs=takes("prepare", first)))).outcome == "succeeded"
