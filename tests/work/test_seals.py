"""Seals in a store: which one counts, through lost answers, and whatever is wrong with the bytes."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from springline.checked import with_checksum
from springline.paths import ObjectPath, write_seal
from springline.storage.damage import DamagedObject
from springline.storage.memory import MemoryStore
from springline.storage.port import Precondition, PutResult, StoredObject, StoreRetry, StoreUnknown
from springline.work.seals import FORMAT, Seal, SealedWrite, read_seal, seal, sealed_object

PATH = write_seal("run_1", "days[2024-01-31]")


def sealed(attempt: int = 1, task: str = "days[2024-01-31]") -> Seal:
    write = SealedWrite(
        number=1, table="raw", operation="append", key="k", staged="effects/x", sha256="0" * 64, rows=attempt
    )
    return Seal(
        scope="run_1",
        task=task,
        run_id="run_1",
        attempt=attempt,
        attempt_id=f"a{attempt}",
        worker_id="w",
        sealed_at_ms=1_000,
        metadata={"told": [1, None]},
        writes=[write],
    )


class Unreliable(MemoryStore):
    """A store that loses answers and requests, as `plan` has it for one call after the other."""

    def __init__(self, *plan: str) -> None:
        super().__init__()
        self._plan = list(plan)

    async def put(self, path: ObjectPath, data: bytes, precondition: Precondition) -> PutResult:
        fault = self._plan.pop(0) if self._plan else ""
        if fault == "request":
            raise StoreRetry("not connected")
        done = await super().put(path, data, precondition)
        if fault == "answer":
            raise StoreUnknown("the answer was lost")
        return done

    async def get(self, path: ObjectPath) -> StoredObject | None:
        if self._plan and self._plan[0] == "read":
            self._plan.pop(0)
            raise StoreRetry("not connected")
        return await super().get(path)


async def no_pause(_seconds: float) -> None:
    return


async def test_the_first_seal_counts_for_ever() -> None:
    store = MemoryStore()
    assert await read_seal(store, "run_1", "days[2024-01-31]") is None
    assert await seal(store, sealed(1)) == sealed(1)
    assert await seal(store, sealed(2)) == sealed(1), "a second one loses"
    assert await seal(store, sealed(1)) == sealed(1), "its own is its own"
    assert await read_seal(store, "run_1", "days[2024-01-31]") == sealed(1)
    assert list(store.objects) == [PATH]


@pytest.mark.parametrize(
    "plan", [("answer",), ("request", "answer"), ("answer", "read"), ("request", "request", "read")]
)
async def test_a_lost_answer_is_read_back(plan: tuple[str, ...]) -> None:
    store = Unreliable(*plan)
    assert await seal(store, sealed(1), no_pause) == sealed(1)
    assert await seal(store, sealed(2), no_pause) == sealed(1)


async def test_a_store_that_does_not_answer_decides_nothing() -> None:
    with pytest.raises(StoreRetry):
        await seal(Unreliable(*["request"] * 100), sealed(1), no_pause)
    with pytest.raises(StoreRetry):
        await read_seal(Unreliable(*["read"] * 100), "run_1", "t", no_pause)


DATA = sealed_object(sealed(1))


@given(st.integers(0, len(DATA) - 1), st.integers(1, 255))
async def test_every_changed_byte_is_noticed(at: int, by: int) -> None:
    await refused(DATA[:at] + bytes([DATA[at] ^ by]) + DATA[at + 1 :])


@given(st.integers(0, len(DATA) - 1))
async def test_a_cut_seal_is_noticed(at: int) -> None:
    await refused(DATA[:at])


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (sealed_object(sealed(1, task="other")), "cannot be read"),
        (b"{}", "cannot be read"),
        (orjson.dumps(sealed(1).model_dump()), "cannot be read: it has no checksum"),
        (with_checksum(b'{"format":1,"scope":"run_1"}', PATH), "cannot be read"),
        (with_checksum(orjson.dumps(sealed(1).model_dump() | {"writes": []}), PATH), "cannot be read"),
        (with_checksum(orjson.dumps(sealed(1).model_dump() | {"task": "t"}), PATH), "is the seal of t of run_1"),
        (
            with_checksum(orjson.dumps(sealed(1).model_dump() | {"format": FORMAT + 1}), PATH),
            f"has the format {FORMAT + 1}, and this build reads {FORMAT}",
        ),
    ],
)
async def test_what_is_no_seal_of_the_task_is_refused(data: bytes, why: str) -> None:
    assert why in await refused(data)


async def refused(data: bytes) -> str:
    """Check that such an object is refused by its name, by who looks and by who seals, and stays as it is."""
    store = MemoryStore()
    store.seed(PATH, data)
    with pytest.raises(DamagedObject) as raised:
        await read_seal(store, "run_1", "days[2024-01-31]")
    with pytest.raises(DamagedObject):
        await seal(store, sealed(2))
    assert raised.value.path == PATH
    assert store.objects[PATH].data == data
    return raised.value.why
