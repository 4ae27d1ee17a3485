"""What operators can see of commits: every figure of them, as the worker's activities give them out."""

from __future__ import annotations

from springline import names
from springline.delta.messages import CommitMode
from springline.storage.memory import MemoryStore
from tests.activities.metrics import Metrics
from tests.damage.tables import FIRST, in_flight, ref_of
from tests.support.commit_rounds import Rounds
from tests.support.rows import adding, create_rows_table


async def test_every_answer_is_counted_by_its_result_and_every_version_by_its_mode(metrics: Metrics) -> None:
    store = MemoryStore()
    entry = await create_rows_table(store, "rows", FIRST)
    rounds = Rounds(store, ref_of(FIRST), entry.root, metrics.environment())
    both = [await rounds.stage(adding(f"{number}.parquet")) for number in range(2)]
    alone = await rounds.stage(adding("2.parquet"), mode=CommitMode.STRICT, read_version=1)
    late = await rounds.stage(adding("3.parquet"), mode=CommitMode.STRICT, read_version=0)
    await rounds.commit(*both)
    await rounds.commit(alone)
    await rounds.commit(alone, late)
    assert sum(metrics.of(names.METRIC_COMMITS, result="committed")) == 3
    assert sum(metrics.of(names.METRIC_COMMITS, result="replayed")) == 1
    assert sum(metrics.of(names.METRIC_COMMITS, result="refused")) == 1
    assert metrics.of(names.METRIC_ROUNDS, mode="append") == [1]
    assert metrics.of(names.METRIC_ROUNDS, mode="strict") == [1]
    assert metrics.of(names.METRIC_ROUND_MEMBERS) == [2, 1]


async def test_a_reservation_found_in_flight_is_counted_by_what_became_of_it(metrics: Metrics) -> None:
    made = await in_flight("logged", 1, 2)()
    rounds = Rounds(made.store(), made.ref, made.root, metrics.environment())
    await rounds.commit(await rounds.stage(adding("new.parquet"), read_version=made.latest))
    assert metrics.of(names.METRIC_RECOVERIES, outcome="completed") == [1]
