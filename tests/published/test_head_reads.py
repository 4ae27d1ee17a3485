"""Where the published state stands is told for one read while nothing changes, and an older pointer is still seen."""

from __future__ import annotations

import pytest

from springline.paths import ObjectPath, orchestration_pointer
from springline.published.reader import PublishedReader
from springline.storage.damage import DamagedObject
from springline.storage.memory import MemoryStore
from springline.storage.port import StoredObject
from tests.support.sequencer_run import Run
from tests.support.sequencer_world import SCOPE, ask, triggered


class Counting(MemoryStore):
    """A store that counts what is read."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    async def get(self, path: ObjectPath) -> StoredObject | None:
        self.reads += 1
        return await super().get(path)


async def test_a_head_that_did_not_change_costs_one_read() -> None:
    store = Counting()
    run, reader = Run(store), PublishedReader(store)
    for number in range(3):
        await run.append(ask(number + 1, triggered(f"r-{number}")))
        store.reads = 0
        first = await reader.head(SCOPE)
        assert store.reads <= 4
        store.reads = 0
        assert await reader.head(SCOPE) == first
        assert (await reader.digest(SCOPE)).head == first
        assert store.reads == 2
    older = store.objects[SCOPE.full(orchestration_pointer())].data
    for number in range(3, 6):
        await run.append(ask(number + 1, triggered(f"r-{number}")))
    await reader.head(SCOPE)
    store.seed(SCOPE.full(orchestration_pointer()), older)
    with pytest.raises(DamagedObject):
        await reader.head(SCOPE)
