"""How long a run waits for attempts of another workflow of it: while they give signs of life, and then not long."""

from __future__ import annotations

from springline.control.runs.messages import LoadedAsset, LoadedRun, LoadedTask
from springline.control.runs.patience import FIRST_MS, MOST_DOUBLINGS, Patience
from springline.control.runs.progress import LEDGER_BEAT_MS
from tests.control.test_run_world import lived

STEP_MS = 5_000
DAY_MS = 86_400_000


def rows(state: str = "DISPATCHED", attempt: int = 1, *, failures: int = 0, heard_ms: int | None = None) -> LoadedRun:
    task = LoadedTask(
        key="a",
        asset="a",
        state=state,
        attempt=attempt,
        attempt_id=f"theirs-{attempt}",
        max_attempts=21,
        failures=failures,
        heard_ms=heard_ms,
    )
    asset = LoadedAsset(key="a", location="flights", heartbeat_ms=10_000)
    return LoadedRun(run_id="run_1", state="RUNNING", assets=[asset], tasks=[task])


def waited(loaded: LoadedRun) -> int:
    """Return after how long rows that stand still are taken over."""
    patience, now_ms = Patience(), 0
    while not patience.exhausted({"a"}, loaded, now_ms):
        now_ms += STEP_MS
    return now_ms


def test_what_came_late_from_a_workflow_that_is_gone_is_taken_over_soon() -> None:
    assert waited(rows()) == FIRST_MS
    assert waited(rows("RUNNING", heard_ms=1)) == 2 * LEDGER_BEAT_MS


def test_an_attempt_of_a_pool_is_given_the_time_of_one_that_runs() -> None:
    loaded = rows()
    pooled = loaded.model_copy(update={"assets": [loaded.assets[0].model_copy(update={"pool": "warehouse"})]})
    assert waited(pooled) == 2 * LEDGER_BEAT_MS


def test_an_attempt_that_is_heard_of_is_never_taken_over() -> None:
    patience = Patience()
    for now_ms in range(0, DAY_MS, STEP_MS):
        heard_ms = now_ms - now_ms % LEDGER_BEAT_MS
        assert not patience.exhausted({"a"}, rows("RUNNING", heard_ms=heard_ms), now_ms)


def test_a_start_is_a_sign_of_life() -> None:
    patience = Patience()
    assert not patience.exhausted({"a"}, rows(), 0)
    assert not patience.exhausted({"a"}, rows("RUNNING"), FIRST_MS)
    assert patience.exhausted({"a"}, rows("RUNNING"), FIRST_MS + 2 * LEDGER_BEAT_MS) == ["a"]


def test_a_task_that_was_the_own_one_meanwhile_is_waited_for_anew() -> None:
    patience = Patience()
    patience.exhausted({"a"}, rows(), 0)
    patience.exhausted(set(), rows(), STEP_MS)
    assert not patience.exhausted({"a"}, rows(), FIRST_MS)


def test_two_clusters_without_a_worker_do_not_use_up_the_attempts() -> None:
    waits = [waited(rows(attempt=attempt)) for attempt in range(1, 21)]
    assert waits[:3] == [FIRST_MS, 2 * FIRST_MS, 4 * FIRST_MS]
    assert max(waits) == FIRST_MS << MOST_DOUBLINGS
    assert sum(waits) > DAY_MS / 2
    assert waited(rows(attempt=3, failures=2)) == FIRST_MS, "failures of the function are no losses"


def test_workflows_do_take_over_from_each_other_in_the_simulation() -> None:
    taken_over = 0
    for seed in range(1_000, 1_300):
        world = lived(seed)
        world.check()
        taken_over += world.taken_over
    assert taken_over
