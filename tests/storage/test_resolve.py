"""Create-only writes whose answers are late, lost or refused, and calls made together."""

from __future__ import annotations

import asyncio

import pytest

from springline.paths import ObjectPath
from springline.storage.faults import Decision, FaultyStore, Operation, OperationKind, ProcessDied, plan
from springline.storage.memory import MemoryStore
from springline.storage.port import StoreError, StoreMisconfigured, StoreRetry, StoreUnknown
from springline.storage.resolve import ATTEMPTS, Created, Other, Same, put_once
from springline.storage.together import together

PATH = ObjectPath("object")


def store_with(*decisions: Decision, seed: bytes | None = None) -> FaultyStore:
    """Return a store whose operations are decided in this order; the rest proceed."""
    memory = MemoryStore()
    if seed is not None:
        memory.seed(PATH, seed)
    return FaultyStore(memory, hook=plan(dict(enumerate(decisions))))


def kinds(store: FaultyStore) -> str:
    return " ".join(traced.operation.kind for traced in store.trace)


GO, BEFORE, AFTER, LOSE, LATE = (
    Decision.PROCEED,
    Decision.FAIL_BEFORE,
    Decision.FAIL_AFTER,
    Decision.LOSE,
    Decision.LATE,
)


@pytest.mark.parametrize(
    ("decisions", "seed", "result", "asked"),
    [
        ((), None, Created("1"), "put"),
        ((AFTER,), None, Same("1"), "put get"),
        ((LOSE,), None, Created("1"), "put get put"),
        ((LATE,), None, Created("1"), "put get put"),
        ((LOSE, GO, AFTER), None, Same("1"), "put get put get"),
        ((LOSE, GO, LOSE), None, Created("1"), "put get put get put"),
        ((), b"mine", Same("1"), "put get"),
        ((), b"theirs", Other(b"theirs", "1"), "put get"),
        ((AFTER,), b"theirs", Other(b"theirs", "1"), "put get"),
        ((LOSE,), b"mine", Same("1"), "put get"),
        ((BEFORE,), b"mine", Same("1"), "put get"),
        ((BEFORE,), b"theirs", Other(b"theirs", "1"), "put get"),
    ],
)
async def test_put_once(decisions: tuple[Decision, ...], seed: bytes | None, result: object, asked: str) -> None:
    store = store_with(*decisions, seed=seed)
    assert await put_once(store, PATH, b"mine") == result
    assert kinds(store) == asked
    await store.deliver_late()
    assert await put_once(store, PATH, b"mine") == (Same(result.version) if isinstance(result, Created) else result)


@pytest.mark.parametrize(
    ("decisions", "seed", "error", "asked"),
    [
        ((BEFORE,), None, StoreRetry, "put get"),
        ((BEFORE, BEFORE), None, StoreRetry, "put get"),
        ((GO, BEFORE), b"theirs", StoreRetry, "put get"),
        # Once a put was in doubt, "certainly not written" must never be said again.
        ((LATE, BEFORE), None, StoreUnknown, "put get"),
        ((LATE, GO, BEFORE), None, StoreUnknown, "put get put get"),
        ((LATE, GO, BEFORE, BEFORE), None, StoreUnknown, "put get put get"),
        ((LOSE, GO) * ATTEMPTS, None, StoreUnknown, " ".join(["put get"] * ATTEMPTS)),
    ],
)
async def test_put_once_without_a_clear_answer(
    decisions: tuple[Decision, ...], seed: bytes | None, error: type[StoreError], asked: str
) -> None:
    store = store_with(*decisions, seed=seed)
    with pytest.raises(StoreError) as caught:
        await put_once(store, PATH, b"mine")
    assert type(caught.value) is error
    assert kinds(store) == asked


async def test_put_once_while_somebody_keeps_removing_the_object() -> None:
    memory = MemoryStore()

    async def there_only_for_puts(operation: Operation) -> Decision:
        if operation.kind is OperationKind.PUT:
            memory.seed(PATH, b"theirs")
        else:
            memory.remove(PATH)
        return Decision.PROCEED

    with pytest.raises(StoreRetry):
        await put_once(FaultyStore(memory, hook=there_only_for_puts), PATH, b"mine")


async def test_put_once_passes_on_what_is_final() -> None:
    class Closed(MemoryStore):
        async def put(self, *args: object) -> object:  # type: ignore[override]
            raise StoreMisconfigured("no permission")

    with pytest.raises(StoreMisconfigured):
        await put_once(Closed(), PATH, b"mine")


async def value(result: object, *, after: int = 0) -> object:
    for _ in range(after):
        await asyncio.sleep(0)
    if isinstance(result, BaseException):
        raise result
    return result


async def test_together_keeps_the_order() -> None:
    assert list(await together(value(1, after=5), value(2), value(3, after=2))) == [1, 2, 3]
    assert await together() == []


async def test_together_starts_all_at_once() -> None:
    store = FaultyStore(MemoryStore(), latency=0.001)
    await together(*(store.get(ObjectPath(f"{number}")) for number in range(50)))
    assert store.steps["main"] == 1
    assert store.count(OperationKind.GET) == 50


async def test_together_waits_for_all_before_it_raises() -> None:
    ended: list[str] = []

    async def slow() -> None:
        await value(None, after=20)
        ended.append("slow")

    with pytest.raises(KeyError):
        await together(value(KeyError("first")), slow(), value(ValueError("second"), after=3))
    assert ended == ["slow"]


async def test_together_raises_the_first_in_order_but_a_death_before_all() -> None:
    with pytest.raises(KeyError):
        await together(value(KeyError(), after=9), value(ValueError()))
    with pytest.raises(ProcessDied):
        await together(value(KeyError()), value(ProcessDied("a"), after=9))


async def test_together_cancelled_ends_with_all_ended() -> None:
    ended: list[int] = []

    async def stubborn(number: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await value(None, after=10)
            ended.append(number)

    waiting = asyncio.ensure_future(together(stubborn(1), stubborn(2)))
    await value(None, after=3)
    waiting.cancel()
    await value(None, after=2)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert sorted(ended) == [1, 2]
