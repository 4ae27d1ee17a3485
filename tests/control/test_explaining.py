"""A run says what it is making for longest, what it waits for, and why."""

from __future__ import annotations

from typing import Any

from springline.control.runs.explaining import longest_running, waits_for
from springline.control.runs.messages import AttemptEnded, AttemptStarted, LoadedAsset, LoadedRun, LoadedTask
from springline.control.runs.progress import RunProgress

NOW = 1_700_000_000_000
AT = "2023-11-14T22:13:20Z"


def progress(*states: str, queue: str | None = None, url: str | None = None, **more: Any) -> RunProgress:
    """Return a run of tasks t0, t1, ... in these states."""
    tasks = [
        LoadedTask(key=f"t{number}", asset="a", state=state, max_attempts=30) for number, state in enumerate(states)
    ]
    asset = LoadedAsset(
        key="a", location="flights", queue=queue, url=url, heartbeat_ms=10_000, retries=3, retry_delay_ms=5_000
    )
    return RunProgress(LoadedRun(run_id="r", state="RUNNING", assets=[asset], tasks=tasks, **more), "acme", "dev", "w")


def begin(run: RunProgress, *keys: str, at_ms: int = NOW) -> None:
    """Have workers begin attempts, one second after the other."""
    for place, key in enumerate(keys):
        attempt_id = run.running[key].attempt_id
        said = AttemptStarted(
            task_key=key, attempt=1, attempt_id=attempt_id, worker_id="w-1", started_at_ms=at_ms + place * 1_000
        )
        run.started(said, at_ms + 60_000)


def test_what_runs_longest_is_first_however_often_it_was_heard_of() -> None:
    run = progress("READY", "READY", "READY")
    run.begin(NOW, 10)
    begin(run, "t2", "t0", "t1")
    assert [(one.task_key, one.since_ms) for one in longest_running(run)] == [
        ("t2", NOW),
        ("t0", NOW + 1_000),
        ("t1", NOW + 2_000),
    ]
    assert waits_for(run, 10) == []


def test_attempts_without_a_worker_are_told_by_queue() -> None:
    run = progress(*["READY"] * 5, queue="gpu")
    run.begin(NOW, 5)
    assert waits_for(run, 500) == [
        f"t0, t1, t2 and 2 more: no worker of code location flights, queue gpu has begun, since {AT}"
    ]
    begin(run, "t0", "t1", "t2", "t3")
    assert waits_for(run, 500) == [f"t4: no worker of code location flights, queue gpu has begun, since {AT}"]


def test_attempts_over_http_are_told_by_their_worker() -> None:
    url = "https://workers.example.com/t"
    run = progress(*["READY"] * 3, url=url)
    assert run.begin(NOW, 5) == []
    assert waits_for(run, 500) == [f"t0, t1, t2: the worker at {url} has not taken it, since {AT}"]
    run.taken("t0", run.running["t0"].attempt_id, NOW)
    assert waits_for(run, 500) == [
        f"t0: the worker at {url} has not started it, since {AT}",
        f"t1, t2: the worker at {url} has not taken it, since {AT}",
    ]
    rows = [
        LoadedTask(
            key=f"t{number}",
            asset="a",
            state="RUNNING",
            attempt=1,
            attempt_id=run.running[f"t{number}"].attempt_id,
            max_attempts=30,
            started_ms=NOW - number,
        )
        for number in range(3)
    ]
    loaded = run._loaded.model_copy(update={"tasks": rows})
    run.outbox.clear()
    fresh, dropped = run.overlaid(loaded, [], NOW + 1_000)
    assert dropped == []
    assert waits_for(fresh, 500) == []
    assert [(one.task_key, one.since_ms) for one in longest_running(fresh)] == [
        ("t2", NOW - 2),
        ("t1", NOW - 1),
        ("t0", NOW),
    ]


def test_a_retry_is_told_with_its_instant() -> None:
    run = progress("READY")
    run.begin(NOW, 1)
    failed = AttemptEnded(
        outcome="failed", worker_id="w-1", started_at_ms=NOW, ended_at_ms=NOW, category="USER_CODE", message="no"
    )
    run.ended("t0", run.running["t0"].attempt_id, failed, NOW - 5_000)
    assert waits_for(run, 500) == [f"t0: another attempt after a failure, the first at {AT}"]


def test_a_hold_a_limit_and_another_workflow_are_told() -> None:
    assert waits_for(progress("READY", held=True), 500) == ["the workspace is held: nothing begins until the hold ends"]
    run = progress("READY", "READY")
    run.begin(NOW, 1)
    begin(run, "t0")
    assert waits_for(run, 1) == ["1 ready task(s): 1 attempts are under way, and no more may be"]
    other = progress("BLOCKED")
    other.foreign.add("t0")
    assert waits_for(other, 500) == [
        "t0: an attempt of another workflow of this run, which is taken over when it stands still"
    ]
