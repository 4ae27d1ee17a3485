"""Google Cloud Storage over the wire: lost answers, refusals and time-outs, through a proxy before an emulator."""

from __future__ import annotations

import asyncio
import json
import os

import pytest

from springline.local.ports import free_ports
from springline.paths import ObjectPath
from springline.storage.gcs import EMULATOR_VARIABLE, READ_ATTEMPTS, GcsStore
from springline.storage.port import (
    IfAbsent,
    IfVersion,
    PreconditionFailed,
    Stored,
    StoreError,
    StoreMisconfigured,
    StoreRetry,
    StoreUnknown,
)
from springline.storage.resolve import ATTEMPTS, Created, Other, Same, put_once
from tests.storage.proxy import Answer, Drop, Hold, Proxy, Tamper

PATH = ObjectPath("delta/coordinator.json")
BIG = 9 * 1024 * 1024


async def created(store: GcsStore, data: bytes = b"one") -> str:
    result = await store.put(PATH, data, IfAbsent())
    assert isinstance(result, Stored)
    return result.version


async def content(store: GcsStore) -> bytes | None:
    stored = await store.get(PATH)
    return None if stored is None else stored.data


async def test_lost_answer_of_a_create(wired: GcsStore, proxy: Proxy) -> None:
    proxy.next_write(Drop())
    with pytest.raises(StoreUnknown):
        await wired.put(PATH, b"mine", IfAbsent())
    assert len(proxy.writes) == 1, "a mutation is never sent twice behind our back"
    assert await content(wired) == b"mine"
    assert isinstance(await put_once(wired, PATH, b"mine"), Same)


async def test_put_once_settles_a_lost_answer(wired: GcsStore, proxy: Proxy) -> None:
    proxy.next_write(Drop())
    assert isinstance(await put_once(wired, PATH, b"mine"), Same)
    assert len(proxy.writes) == 1


async def test_put_once_settles_a_lost_request(wired: GcsStore, proxy: Proxy) -> None:
    proxy.next_write(Answer(503))
    assert isinstance(await put_once(wired, PATH, b"mine"), Created)
    assert len(proxy.writes) == 2


async def test_put_once_gives_up_unclear(wired: GcsStore, proxy: Proxy) -> None:
    for _ in range(ATTEMPTS):
        proxy.next_write(Answer(503))
    with pytest.raises(StoreUnknown):
        await put_once(wired, PATH, b"mine")
    assert len(proxy.writes) == ATTEMPTS


async def test_put_once_on_a_throttled_name_reads_back(wired: GcsStore, proxy: Proxy) -> None:
    version = await created(wired, b"theirs")
    proxy.next_write(Answer(429))
    assert await put_once(wired, PATH, b"mine") == Other(b"theirs", version)
    proxy.next_write(Answer(429))
    with pytest.raises(StoreRetry):
        await put_once(wired, ObjectPath("free"), b"mine")


async def test_lost_answer_of_a_swap_never_destroys_newer_bytes(wired: GcsStore, proxy: Proxy) -> None:
    first = await created(wired)
    proxy.next_write(Drop())
    with pytest.raises(StoreUnknown):
        await wired.put(PATH, b"two", IfVersion(first))
    assert len(proxy.writes) == 2
    stored = await wired.get(PATH)
    assert stored is not None
    assert stored.data == b"two"
    newer = await wired.put(PATH, b"three", IfVersion(stored.version))
    assert isinstance(newer, Stored)
    assert isinstance(await wired.put(PATH, b"two", IfVersion(first)), PreconditionFailed)
    assert await content(wired) == b"three"


async def test_lost_answer_of_a_delete_is_sent_once(wired: GcsStore, proxy: Proxy) -> None:
    version = await created(wired)
    proxy.next_write(Drop())
    with pytest.raises(StoreUnknown):
        await wired.delete(PATH, if_version=version)
    assert [request.method for request in proxy.writes] == ["POST", "DELETE"]
    assert await content(wired) is None


@pytest.mark.parametrize("lost", [1, 2])
async def test_lost_answers_of_a_big_create(wired: GcsStore, proxy: Proxy, lost: int) -> None:
    """Above 8 MiB an upload is two requests; each of their answers can get lost."""
    data = os.urandom(BIG)
    if lost == 2:
        proxy.next_write(Hold())
        _released(proxy)
    proxy.next_write(Drop())
    with pytest.raises(StoreUnknown):
        await wired.put(PATH, data, IfAbsent())
    assert len(proxy.writes) == lost
    result = await put_once(wired, PATH, data)
    assert isinstance(result, Same if lost == 2 else Created)
    assert await content(wired) == data


def _released(proxy: Proxy) -> None:
    """Let the rule set last pass its request on unchanged."""
    rule = proxy._rules[-1][1]
    assert isinstance(rule, Hold)
    rule.released.set()


async def test_a_big_create_loses_the_race_at_its_end(wired: GcsStore) -> None:
    data = os.urandom(BIG)
    results = await asyncio.gather(wired.put(PATH, data, IfAbsent()), wired.put(PATH, data[::-1], IfAbsent()))
    assert sorted(type(result).__name__ for result in results) == ["PreconditionFailed", "Stored"]
    assert await content(wired) == (data if isinstance(results[0], Stored) else data[::-1])


async def test_every_write_carries_a_generation(wired: GcsStore, proxy: Proxy) -> None:
    version = await created(wired)
    result = await wired.put(PATH, b"two", IfVersion(version))
    assert isinstance(result, Stored)
    await wired.put(ObjectPath("big"), os.urandom(BIG), IfAbsent())
    await wired.delete(PATH, if_version=result.version)
    sent = [(request.method, request.query.get("ifGenerationMatch")) for request in proxy.writes]
    assert sent == [
        ("POST", ["0"]),
        ("POST", [version]),
        ("POST", ["0"]),
        ("PUT", None),  # the second half of the resumable upload, which the first half bound to its generation
        ("DELETE", [result.version]),
    ]
    assert "upload_id" in proxy.writes[3].query


async def test_nothing_is_sent_that_nobody_asked_for(wired: GcsStore, proxy: Proxy) -> None:
    await created(wired)
    for _ in range(20):
        await wired.head(PATH)
    assert len(proxy.requests) == 21


async def test_a_foreign_token_sends_nothing(wired: GcsStore, proxy: Proxy) -> None:
    for token in ("0", "00", "", "sha256:ab", "-5", "1.0"):
        assert isinstance(await wired.put(PATH, b"x", IfVersion(token)), PreconditionFailed)
        assert await wired.delete(PATH, if_version=token) is False
    assert proxy.requests == []


THROTTLED = json.dumps({"error": {"code": 403, "errors": [{"reason": "rateLimitExceeded"}]}}).encode()

WRITE_REFUSALS: list[tuple[int, bytes, type[StoreError]]] = [
    (400, b"{}", StoreMisconfigured),
    (401, b"{}", StoreMisconfigured),
    (403, b"{}", StoreMisconfigured),
    (403, b"not json", StoreMisconfigured),
    (403, THROTTLED, StoreRetry),
    (404, b"{}", StoreMisconfigured),
    (408, b"{}", StoreUnknown),
    (413, b"{}", StoreMisconfigured),
    (429, b"{}", StoreRetry),
    (500, b"{}", StoreUnknown),
    (502, b"<html>", StoreUnknown),
    (503, b"{}", StoreUnknown),
    (504, b"", StoreUnknown),
    (200, b"no json", StoreUnknown),
    (200, b"{}", StoreUnknown),
]


@pytest.mark.parametrize(("status", "body", "error"), WRITE_REFUSALS)
@pytest.mark.parametrize("size", [1, BIG])
async def test_refused_writes(
    wired: GcsStore, proxy: Proxy, status: int, body: bytes, error: type[StoreError], size: int
) -> None:
    proxy.next_write(Answer(status, body))
    with pytest.raises(StoreError) as caught:
        await wired.put(PATH, b"x" * size, IfAbsent())
    assert type(caught.value) is error
    assert len(proxy.writes) == 1
    assert await content(wired) is None


@pytest.mark.parametrize(
    ("status", "error"),
    [(401, StoreMisconfigured), (403, StoreMisconfigured), (429, StoreRetry), (500, StoreUnknown), (503, StoreUnknown)],
)
async def test_refused_deletes(wired: GcsStore, proxy: Proxy, status: int, error: type[StoreError]) -> None:
    version = await created(wired)
    proxy.next_write(Answer(status))
    with pytest.raises(StoreError) as caught:
        await wired.delete(PATH, if_version=version)
    assert type(caught.value) is error
    assert len(proxy.writes) == 2
    assert await content(wired) == b"one"


async def test_a_delete_that_lost_is_false(wired: GcsStore, proxy: Proxy) -> None:
    version = await created(wired)
    proxy.next_write(Answer(412))
    assert await wired.delete(PATH, if_version=version) is False


@pytest.mark.parametrize("fault", [Answer(503), Answer(429), Answer(403, THROTTLED), Drop(), Tamper()])
@pytest.mark.parametrize("times", range(READ_ATTEMPTS + 1))
async def test_reads_pass_over_faults(wired: GcsStore, proxy: Proxy, fault: Answer | Drop | Tamper, times: int) -> None:
    await created(wired)
    for _ in range(times):
        proxy.next_read(fault)
    if times < READ_ATTEMPTS:
        assert await content(wired) == b"one"
    else:
        with pytest.raises(StoreRetry):
            await wired.get(PATH)


@pytest.mark.parametrize("status", [400, 401, 403])
async def test_refused_reads_are_final(wired: GcsStore, proxy: Proxy, status: int) -> None:
    for _ in range(2):
        proxy.next_read(Answer(status))
    with pytest.raises(StoreMisconfigured):
        await wired.get(PATH)
    assert len(proxy.requests) == 1


async def test_a_missing_bucket_is_named(wired: GcsStore, proxy: Proxy) -> None:
    gone = GcsStore("no-such-bucket")
    with pytest.raises(StoreMisconfigured, match=r"no-such-bucket.*no such bucket"):
        await gone.put(PATH, b"", IfAbsent())
    proxy.next_read(Answer(404, b'{"error": {"message": "The specified bucket does not exist."}}'))
    with pytest.raises(StoreMisconfigured, match="no such bucket"):
        await gone.get(PATH)
    await gone.aclose()


async def test_a_head_that_cannot_be_read(wired: GcsStore, proxy: Proxy) -> None:
    for body in (b"", b"[]", b'{"size": "1"}'):
        proxy.next_read(Answer(200, body))
    with pytest.raises(StoreRetry):
        await wired.head(PATH)


async def test_no_answer_in_time(wired: GcsStore, proxy: Proxy) -> None:
    impatient = GcsStore(wired.bucket, timeout=(5.0, 0.3))
    held = Hold()
    proxy.next_write(held)
    with pytest.raises(StoreUnknown):
        await impatient.put(PATH, b"late", IfAbsent())
    held.released.set()
    assert await content(wired) == b"late"
    await impatient.aclose()


async def test_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EMULATOR_VARIABLE, f"http://127.0.0.1:{free_ports(1)[0]}")
    store = GcsStore("bucket")
    with pytest.raises(StoreRetry):
        await store.put(PATH, b"", IfAbsent())
    with pytest.raises(StoreRetry):
        await store.delete(PATH, if_version="1")
    with pytest.raises(StoreRetry):
        await store.get(PATH)
    await store.aclose()


async def test_an_emulator_without_a_scheme_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EMULATOR_VARIABLE, "localhost:4443")
    with pytest.raises(StoreMisconfigured, match=EMULATOR_VARIABLE):
        GcsStore("bucket")


async def test_no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.delenv(EMULATOR_VARIABLE, raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", f"{tmp_path}/nothing.json")
    with pytest.raises(StoreMisconfigured, match="credentials"):
        GcsStore("bucket")


async def test_a_cancelled_write_is_waited_for(wired: GcsStore, proxy: Proxy) -> None:
    """No operation outlives its caller: when the cancellation arrives, the write has had its answer."""
    held = Hold()
    proxy.next_write(held)
    writing = asyncio.create_task(wired.put(PATH, b"x", IfAbsent()))
    assert await asyncio.to_thread(held.arrived.wait, 10)
    writing.cancel()
    await asyncio.sleep(0)
    assert not writing.done()
    held.released.set()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert await content(wired) == b"x"


async def test_the_bucket_of_an_emulator_is_made_by_whoever_comes_first(
    fake_gcs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(EMULATOR_VARIABLE, f"http://{fake_gcs}")
    stores = [GcsStore("made-on-demand") for _ in range(4)]
    with pytest.raises(StoreMisconfigured, match="no such bucket"):
        await stores[0].put(PATH, b"one", IfAbsent())
    await asyncio.gather(*(store.prepare() for store in stores))
    await created(stores[0])
    await stores[1].prepare()
    assert await content(stores[2]) == b"one"
    for store in stores:
        await store.aclose()
