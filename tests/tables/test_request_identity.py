"""A request that carries a fingerprint is known by it: by no bytes, paths or versions that came with it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from springline import paths
from springline.commit.registry import Registry
from springline.commit.reserve import reserve
from springline.commit.table import CommitTable
from springline.delta.coordinator import Coordinator, decode_coordinator
from springline.delta.identity import request_hash
from springline.delta.markers import Content, Marker, Sameness, decode_marker, markers_from_log, same_as_log, sameness
from springline.delta.messages import CommitMode, CommitRequest
from springline.delta.payload import fingerprint_of, parse_payload
from springline.delta.rounds import Candidate, candidate_of, merged_payload, reservation
from springline.errors import Code, Refused
from springline.storage.scoped import ScopedStore
from tests.api.conftest import World, add, new_key, world  # noqa: F401 - a fixture
from tests.judging.committing import order_of
from tests.support.local_api import ACME

KEY = "01946b1c-0000-7000-8000-000000000001"
ROWS = "ab" * 32
OTHER_ROWS = "cd" * 32


def info(fingerprint: Any = ROWS, operation: Any = "append", key: str = KEY, **more: Any) -> dict[str, Any]:
    request = {"operation": operation, "fingerprint": fingerprint}
    return {
        "commitInfo": {"timestamp": 1, "txnId": key, "isBlindAppend": True, "springline": {"request": request}} | more
    }


def payload(*actions: dict[str, Any]) -> bytes:
    return b"".join(orjson.dumps(action) + b"\n" for action in actions)


def request(
    mode: CommitMode = CommitMode.APPEND, read_version: int = 0, path: str = "p", key: str = KEY
) -> CommitRequest:
    return CommitRequest(
        idempotency_key=key, mode=mode, read_version=read_version, staged_path=path, staged_version="1"
    )


def candidate(data: bytes, **options: Any) -> Candidate:
    return candidate_of(request(**options), parse_payload(data))


def marker(mode: CommitMode = CommitMode.APPEND, fingerprint: str | None = f"append:{ROWS}") -> Marker:
    one = candidate(payload(info(), add("a")), mode=mode)
    log, sha256 = paths.delta_log("t", 1), "sha of the first"
    return Marker(KEY, "", one.member.request_hash, 1, log, 0, mode, 0, "p", "1", sha256, fingerprint)


SAME_CASES = [
    (Content("x", f"append:{ROWS}"), CommitMode.APPEND, 5, "q", Sameness.SAME),
    (Content("x", f"append:{OTHER_ROWS}"), CommitMode.APPEND, 0, "q", Sameness.DIFFERENT),
    (Content("x", f"overwrite:{ROWS}"), CommitMode.APPEND, 0, "q", Sameness.DIFFERENT),
    (Content("x", f"append:{ROWS}"), CommitMode.STRICT, 0, "p", Sameness.DIFFERENT),
    (Content("x"), CommitMode.APPEND, 0, "q", Sameness.DIFFERENT),
    (None, CommitMode.APPEND, 0, "p", Sameness.SAME),
    (Content("of bytes that were damaged since"), CommitMode.APPEND, 0, "p", Sameness.SAME),
    (None, CommitMode.APPEND, 0, "q", Sameness.UNDECIDED),
]


@pytest.mark.parametrize(("content", "mode", "read_version", "path", "wanted"), SAME_CASES)
def test_key_mode_operation_and_fingerprint_decide(
    content: Content | None, mode: CommitMode, read_version: int, path: str, wanted: Sameness
) -> None:
    asked = request(mode, read_version, path)
    assert sameness(marker(), asked, content) is wanted
    if wanted is Sameness.UNDECIDED:
        assert same_as_log(marker(), asked, content, Content("log", f"append:{ROWS}")) is Sameness.UNDECIDED


def test_a_strict_request_may_come_again_for_another_version() -> None:
    again = request(CommitMode.STRICT, 7, "q")
    assert sameness(marker(CommitMode.STRICT), again, Content("x", f"append:{ROWS}")) is Sameness.SAME
    assert request_hash(again, "x", f"append:{ROWS}") == request_hash(
        request(CommitMode.STRICT, 1), "y", f"append:{ROWS}"
    )


def test_a_marker_of_the_reference_is_settled_by_the_log() -> None:
    reference = Marker(KEY, "", "their hash", 1, "log", 0)
    asked = request(CommitMode.STRICT, 9, "q")
    for rows, wanted in ((ROWS, Sameness.SAME), (OTHER_ROWS, Sameness.DIFFERENT)):
        content = Content("x", f"append:{rows}")
        assert sameness(reference, asked, content) is Sameness.UNDECIDED
        assert same_as_log(reference, asked, content, Content("log", f"append:{ROWS}")) is wanted


def test_a_marker_without_one_is_judged_by_bytes_as_ever() -> None:
    old = marker(fingerprint=None)
    assert sameness(old, request(), Content("sha of the first", f"append:{ROWS}")) is Sameness.SAME
    assert sameness(old, request(), Content("of bytes that were damaged since")) is Sameness.SAME
    assert sameness(old, request(path="q"), Content("x", f"append:{ROWS}")) is Sameness.DIFFERENT


BAD = [
    info("AB" * 32),
    info("ab"),
    info(5),
    info(operation=""),
    info(operation="Append!"),
    info(operation=None),
    {"commitInfo": {"springline": {"request": "text"}}},
]


@pytest.mark.parametrize("action", BAD)
def test_a_malformed_one_is_refused(action: dict[str, Any]) -> None:
    with pytest.raises(Refused) as caught:
        parse_payload(payload(action, add("a")))
    assert caught.value.refusal.code is Code.INVALID_PAYLOAD
    assert "springline.request" in caught.value.refusal.message


def test_other_commits_carry_none() -> None:
    for one in (None, {}, {"springline": None}, {"springline": {"round_id": "x"}}, {"springline": "text"}):
        assert fingerprint_of(one) is None


def test_it_is_stored_and_read_back_and_absent_where_it_was() -> None:
    one = candidate(payload(info(), add("a")))
    plain = candidate(payload(add("b")), key=new_key())
    both = reservation(
        commit_id="r", version=1, staged_path="p", staged_version="1", payload_sha256="s", now_ms=0,
        members=[one.member, plain.member],
    )  # fmt: skip
    encoded = Coordinator(0, both).encode("x")
    assert decode_coordinator(encoded, "x").inflight == both
    assert [member.fingerprint for member in both.members] == [f"append:{ROWS}", None]
    assert encoded.count(b'"fingerprint"') == 1
    one_marker = marker()
    assert decode_marker(one_marker.encode("x"), "x", one_marker.idempotency_key, root="t") == one_marker
    assert b"fingerprint" not in marker(fingerprint=None).encode("x")


def test_two_attempts_of_one_request_are_two_reservations() -> None:
    def reserved(data: bytes) -> str:
        one = candidate(data)
        return reservation(
            commit_id=KEY, version=1, staged_path="p", staged_version="1", payload_sha256=one.payload.sha256, now_ms=0,
            members=[one.member],
        ).identity  # fmt: skip

    assert reserved(payload(info(), add("a"))) != reserved(payload(info(), add("b")))


def test_markers_are_made_anew_of_the_log_alone() -> None:
    members = [candidate(payload(info(key=KEY), add("a"))), candidate(payload(add("b")), key=new_key())]
    log = merged_payload(new_key(), 5, members)
    assert [one.fingerprint for one in markers_from_log(1, "log", log)] == [f"append:{ROWS}", None]
    assert [one.request_hash for one in markers_from_log(1, "log", log)] == [one.member.request_hash for one in members]
    single = payload(info(), add("a"))
    (found,) = markers_from_log(1, "log", single)
    assert (found.fingerprint, found.request_hash) == (f"append:{ROWS}", members[0].member.request_hash)


async def test_the_same_rows_as_other_files_get_the_first_answer(world: World) -> None:  # noqa: F811
    await world.create()
    key = new_key()

    async def commit(path: str, rows: str, read_version: int = 0, mode: str = "append") -> Any:
        staged = await world.stage("flights", info(rows, key=key), add(path))
        return await world.commit("flights", staged, key, read_version=read_version, mode=mode)

    first = await commit("a", ROWS)
    assert (first.status_code, first.json()["version"]) == (200, 1)
    staged = await world.stage("flights", add("between"))
    assert (await world.commit("flights", staged)).json()["version"] == 2
    again = await commit("b", ROWS, read_version=2)
    assert again.json() == first.json()
    assert again.headers["Idempotency-Replayed"] == "true"
    for other in (await commit("a", OTHER_ROWS), await commit("b", ROWS, mode="strict", read_version=2)):
        assert (other.status_code, other.json()["code"]) == (409, "KEY_REUSED")
        assert "Use a new key only" in other.json()["remedy"]
    view = (await world.client.get(f"/api/v1/delta/tables/flights/commits/{key}")).json()
    assert view["fingerprint"] == f"append:{ROWS}"


async def test_a_strict_request_that_was_stale_is_committed_for_a_later_version(world: World) -> None:  # noqa: F811
    await world.create()
    key = new_key()
    staged = await world.stage("flights", add("between"))
    await world.commit("flights", staged)
    answers = []
    for path, version in (("a", 0), ("b", 1), ("c", 2)):
        staged = await world.stage("flights", info(key=key), add(path))
        answers.append(await world.commit("flights", staged, key, read_version=version, mode="strict"))
    assert [one.status_code for one in answers] == [409, 200, 200]
    assert answers[0].json()["code"] == "STALE_READ_VERSION"
    assert answers[1].json() == answers[2].json()


@pytest.mark.parametrize(("properties", "wanted"), [({}, None), ({"delta.checkpointInterval": "7"}, 7)])
async def test_a_round_tells_how_often_its_table_wants_checkpoints(
    world: World,  # noqa: F811
    properties: dict[str, str],
    wanted: int | None,
) -> None:
    table_id = await world.create(properties=properties)
    staged = await world.stage("flights", add("a"))
    store = ScopedStore(world.store, ACME)
    table = CommitTable(store, table_id, await Registry(store).root_of(table_id))
    asked = CommitRequest(idempotency_key=new_key(), mode=CommitMode.APPEND, read_version=0, **staged)
    assert (await reserve(table, order_of(table, asked))).checkpoint_interval == wanted
