"""Reading events: what is accepted, what is refused and why, and that both ways of reading agree.

See docs/formats.md#reading-events.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import inspect, to_builtins

from springline.ledger import envelope
from springline.ledger import events as e
from springline.ledger.envelope import Event, MalformedEvent, parse_event
from springline.ledger.nested import TIMESTAMP_MARK, ManualTrigger, PollSource
from tests.ledger.strategies import DATA, data_of
from tests.support.event_samples import APPENDIX_A, FINISHED, LEDGERS, STARTED, bodies_of, event_of, text_of

TOO_BIG = 2**64


def refused(body: bytes) -> str:
    with pytest.raises(MalformedEvent) as caught:
        parse_event(body)
    assert str(caught.value) == caught.value.reason
    return caught.value.reason


def read(data: Any, **fields: Any) -> Event:
    return parse_event(text_of(event_of(data, **fields)))


def shuffled(value: Any, order: random.Random) -> Any:
    """Return the same JSON value with the keys of every object in another order."""
    if isinstance(value, dict):
        keys = list(value)
        order.shuffle(keys)
        return {key: shuffled(value[key], order) for key in keys}
    return [shuffled(item, order) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("ledger", LEDGERS)
def test_golden_ledgers_are_read_both_ways_alike(ledger: str) -> None:
    order = random.Random(ledger)
    for body in bodies_of(ledger):
        event = parse_event(body)
        value = json.loads(body)
        assert event == envelope._parse_exactly(body)
        assert event == parse_event(json.dumps(shuffled(value, order), indent=1).encode())
        assert event.event_id == value["event_id"]
        assert (event.data is None) == (value["data"]["type"] == "unknown")
        if event.data is not None:
            assert to_builtins(event.data) == value["data"]


def of_ours(payload: type) -> bool:
    """Say whether the reference does not know a type."""
    return e.EVENT_TYPES[payload].tag.startswith("springline_")


def test_the_specifications_events() -> None:
    events = [parse_event(line) for line in APPENDIX_A]
    assert {type(event.data) for event in events} == {*(one for one in e.EVENT_TYPES if not of_ours(one)), type(None)}
    assert [event.event_id for event in events] == sorted(event.event_id for event in events)
    beat = events[8]
    assert isinstance(beat.data, e.TaskHeartbeat)
    assert (beat.data.heartbeat_at, beat.data.progress_pct) == ("2025-01-15T10:00:05.123456789Z", 50)
    assert (beat.timestamp, beat.timestamp_ns) == ("2025-01-15T10:00:05.200Z", 1_736_935_205_200_000_000)
    assert events[13].causation_id == "01JHMPGWA0000AQKFF0000000D"
    assert events[24].data is None


@given(DATA, st.randoms(use_true_random=False))
def test_both_ways_of_reading_agree(data: dict[str, Any], order: random.Random) -> None:
    body = text_of(event_of(data))
    event = parse_event(body)
    assert event == envelope._parse_exactly(body)
    assert event == parse_event(json.dumps(shuffled(json.loads(body), order)).encode())


@given(DATA, st.data())
def test_a_missing_or_misshapen_field_is_refused_or_means_absence(data: dict[str, Any], draw: st.DataObject) -> None:
    """Whatever is done to one field, both ways of reading say the same."""
    key = draw.draw(st.sampled_from(sorted(data)))
    junk = draw.draw(st.sampled_from([None, 1, -1, TOO_BIG, True, "x", [], {}, ["x"], {"type": "x"}, [None]]))
    for changed in ({k: v for k, v in data.items() if k != key}, data | {key: junk}):
        body = text_of(event_of(changed))
        outcomes: list[object] = []
        for way in (parse_event, envelope._parse_exactly):
            try:
                outcomes.append(way(body))
            except MalformedEvent as error:
                outcomes.append(error.reason)
        assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize(
    "body",
    [
        text_of(event_of({"type": "brand_new", "run_id": 5, "at": "never", "x": [1.5, None]})),
        text_of(event_of({"type": "RunTriggered", "run_id": "r"})),
        text_of(event_of({"type": ""})),
        text_of(event_of({"type": "unknown"}, event_version=99)),
        b'{"x": 1e400, "y": -0, "y": 123456789012345678901234567890, "data": {"z": 1, "type": "new", "z": 2}, '
        + text_of(event_of(None))[1:],
    ],
    ids=range(5),
)
def test_unknown_types_are_passed_over(body: bytes) -> None:
    assert parse_event(body).data is None


def test_unknown_fields_are_passed_over() -> None:
    plain = read(STARTED)
    assert read(STARTED | {"shoe_size": 4.5, "more": {"a": [None]}}, extra={"deep": [1.5]}) == plain
    assert read(STARTED, timestamp_ns="soon") == plain
    assert read(STARTED, timestamp_ns=7) == plain
    twice = text_of(event_of(STARTED)).replace(b'"data":{', b'"extra":1,"extra":2,"data":{"more":1,"more":2,')
    assert parse_event(twice) == plain


def test_absent_null_and_default() -> None:
    beat = STARTED | {"type": "task_heartbeat"}
    absent = read(beat)
    assert read(beat | {"heartbeat_at": None, "progress_pct": None, "message": None}) == absent
    assert parse_event(text_of(event_of(beat) | {"correlation_id": None, "causation_id": None})) == absent

    triggered = {"type": "run_triggered", "run_id": "r", "plan_id": "p", "root_assets": []}
    event = read(triggered | {"trigger": {"type": "manual", "user_id": "u", "more": 1}})
    assert isinstance(event.data, e.RunTriggered)
    assert (event.data.labels, event.data.run_key, event.data.trigger) == ({}, None, ManualTrigger("u"))

    planned = read({"type": "plan_created", "run_id": "r", "plan_id": "p", "tasks": [{"key": "k", "depends_on": []}]})
    assert isinstance(planned.data, e.PlanCreated)
    task = planned.data.tasks[0]
    assert (task.max_attempts, task.heartbeat_timeout_sec, task.requires_visible_output) == (3, 300, False)

    dispatch = {name: value for name, value in STARTED.items() if name != "worker_id"}
    asked = read(dispatch | {"type": "dispatch_requested", "dispatch_id": "d"})
    assert isinstance(asked.data, e.DispatchRequested)
    assert asked.data.worker_queue == "default-queue"

    sensor = {"type": "sensor_evaluated", "sensor_id": "s", "eval_id": "e", "status": {"status": "no_new_data"}}
    evaluated = read(sensor | {"trigger_source": {"source": "poll", "poll_epoch": -5}})
    assert isinstance(evaluated.data, e.SensorEvaluated)
    assert (evaluated.data.run_requests, evaluated.data.trigger_source) == ([], PollSource(-5))


TRIGGERED = {
    "type": "run_triggered",
    "run_id": "r",
    "plan_id": "p",
    "root_assets": [],
    "trigger": {"type": "manual", "user_id": "u"},
}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (None, "data: is missing"),
        ([], "data: is a list, not an object"),
        ({}, "data.type: is missing"),
        ({"type": 5}, "data.type: is 5, not a string"),
        ({"type": None}, "data.type: is null, not a string"),
        (TRIGGERED | {"labels": None}, "data.labels: is null, not an object"),
        (TRIGGERED | {"labels": {"a": 1}}, "data.labels.a: is 1, not a string"),
        (TRIGGERED | {"labels": {"a": None}}, "data.labels.a: is null, not a string"),
        (TRIGGERED | {"trigger": {"type": "magic"}}, "data.trigger.type: is 'magic', not one of cron, manual"),
        (TRIGGERED | {"trigger": {"user_id": "u"}}, "data.trigger.type: is missing"),
        (TRIGGERED | {"trigger": {"type": "manual"}}, "data.trigger.user_id: is missing"),
        (TRIGGERED | {"root_assets": None}, "data.root_assets: is null, not a list"),
        (TRIGGERED | {"root_assets": [1]}, "data.root_assets[0]: is 1, not a string"),
        (TRIGGERED | {"root_assets": {}}, "data.root_assets: is an object, not a list"),
        (TRIGGERED | {"run_id": None}, "data.run_id: is null, not a string"),
        (STARTED | {"attempt": -1}, "data.attempt: is -1, not from 0 to 4294967295"),
        (STARTED | {"attempt": 2**32}, "data.attempt: is 4294967296, not from"),
        (STARTED | {"attempt": 1.0}, "data.attempt: is 1.0, not an integer"),
        (STARTED | {"attempt": True}, "data.attempt: is true, not an integer"),
        (STARTED | {"attempt": "1"}, "data.attempt: is '1', not an integer"),
        (STARTED | {"type": "task_heartbeat", "progress_pct": 256}, "data.progress_pct: is 256, not from 0 to 255"),
        (FINISHED | {"outcome": "SUCCEEDED"}, "data.outcome: is 'SUCCEEDED', not one of cancelled, failed"),
        (FINISHED | {"output": {"rowCount": TOO_BIG}}, "data.output.rowCount: is 18446744073709551616"),
        (FINISHED | {"output": {"byteSize": TOO_BIG}}, "data.output.byteSize: is 18446744073709551616"),
        (FINISHED | {"output": {"deltaVersion": 2**63}}, "data.output.deltaVersion: is 9223372036854775808, not"),
        (FINISHED | {"error": {"message": "m"}}, "data.error.category: is missing"),
        (FINISHED | {"error": {"category": "timeout", "message": "m"}}, "data.error.category: is 'timeout'"),
        *[
            (FINISHED | {"metrics": {name: TOO_BIG}}, f"data.metrics.{name}: is 18446744073709551616")
            for name in ("cpuTimeMs", "peakMemoryBytes", "ioReadBytes", "ioWriteBytes")
        ],
        ({"type": "plan_created", "run_id": "r", "plan_id": "p", "tasks": [{"key": "k"}]}, "data.tasks[0].depends_on"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_misshapen_payloads(data: Any, reason: str) -> None:
    body = text_of(event_of(data))
    assert refused(body).startswith(reason)
    assert refused(b" " + body).startswith(reason), "in the exact way of reading too"


def test_u64_is_wholly_accepted() -> None:
    most = {"cpuTimeMs": TOO_BIG - 1, "peakMemoryBytes": TOO_BIG - 1, "ioReadBytes": 0, "ioWriteBytes": 0}
    event = read(FINISHED | {"metrics": most, "output": {"rowCount": TOO_BIG - 1}})
    assert isinstance(event.data, e.TaskCompletionRecorded)
    assert event.data.metrics is not None
    assert event.data.metrics.cpu_time_ms == TOO_BIG - 1


ENVELOPE_FIELDS = [name for name in event_of({}) if name != "data"]


@pytest.mark.parametrize("name", ENVELOPE_FIELDS)
def test_envelope_fields_are_obligatory(name: str) -> None:
    event = event_of(STARTED)
    assert refused(text_of({key: value for key, value in event.items() if key != name})) == f"{name}: is missing"
    assert refused(text_of(event | {name: None})).startswith(f"{name}: is null, not")
    assert refused(text_of(event | {name: ["x"]})).startswith(f"{name}: is a list, not")


@pytest.mark.parametrize("version", [-1, 2**32, 1.0, "1"])
def test_bad_versions(version: Any) -> None:
    assert refused(text_of(event_of(STARTED, event_version=version))).startswith("event_version: is ")


def fields_twice(value: Any, kind: inspect.Type) -> Iterator[str]:
    """Yield texts of an object in which one known field, at any depth, stands twice."""
    if isinstance(kind, inspect.Metadata):
        yield from fields_twice(value, kind.type)
    elif isinstance(kind, inspect.UnionType):
        for member in kind.types:
            if not isinstance(member, inspect.StructType) or member.tag in (None, *value.values()):
                yield from fields_twice(value, member)
    elif isinstance(kind, inspect.ListType) and isinstance(value, list) and value:
        for text in fields_twice(value[0], kind.item_type):
            yield f"[{text}]"
    elif isinstance(kind, inspect.StructType) and isinstance(value, dict):
        kinds = {field.encode_name: field.type for field in kind.fields}
        for key, item in value.items():
            others = "".join(f",{json.dumps(k)}:{json.dumps(v)}" for k, v in value.items() if k != key)
            same = f"{json.dumps(key)}:{json.dumps(item)}"
            yield f"{{{same},{same}{others}}}"
            if key in kinds:
                for text in fields_twice(item, kinds[key]):
                    yield f"{{{json.dumps(key)}:{text}{others}}}"


@pytest.mark.parametrize("line", APPENDIX_A, ids=range(1, 26))
def test_no_known_field_stands_twice(line: bytes) -> None:
    value = json.loads(line)
    kind = inspect.type_info(e.PAYLOAD_TYPES.get(value["data"]["type"], e._Payload))
    texts = list(fields_twice(value["data"], kind))
    assert len(texts) >= len(value["data"])
    for data in texts:
        body = json.dumps(value | {"data": "HERE"}).replace('"HERE"', data).encode()
        assert "stands twice" in refused(body)
    for key in value:
        twice = line.replace(b"{", b"{" + text_of({key: value[key]})[1:-1] + b",", 1)
        assert refused(twice) == f"{key}: stands twice"


def test_a_repeated_label_is_data() -> None:
    body = text_of(event_of(TRIGGERED | {"labels": {"a": "1", "b": "2"}})).replace(b'"b":"2"', b'"a":"2"')
    event = parse_event(body)
    assert isinstance(event.data, e.RunTriggered)
    assert event.data.labels == {"a": "2"}, "of a repeated one the last counts"


GOOD = text_of(event_of(STARTED))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"null",
        b"[]",
        b'"x"',
        b"\xef\xbb\xbf" + GOOD,
        GOOD + b"x",
        GOOD + GOOD,
        GOOD[:-1],
        GOOD.replace(b'"prod"', b"'prod'"),
        GOOD.replace(b'"prod"', b'"pr\xff"'),
        GOOD.replace(b'"prod"', b'"pr\xed\xa0\x80"'),
        GOOD.replace(b'"prod"', rb'"pr\ud800"'),
        GOOD.replace(b'"prod"', rb'"pr\udc00\ud800"'),
        GOOD.replace(b'"prod"', rb'"prod","\ud800":1'),
        GOOD.replace(b'"prod"', rb'"prod","extra":["\udfff"]'),
        GOOD.replace(b'"prod"', b'"prod","extra":NaN'),
        GOOD.replace(b'"prod"', b'"prod","extra":01'),
        GOOD.replace(b'"prod"', b'"pr\nod"'),
        GOOD.replace(b'"prod"', b'"prod","extra":' + b"[" * 128 + b"]" * 128),
        GOOD.replace(b'"attempt":1', b'"attempt":-0'),
        GOOD.replace(b'"attempt":1', b'"attempt":1e0'),
        GOOD.replace(b'"attempt":1', b'"attempt":' + b"9" * 5_000),
    ],
    ids=range(23),
)
def test_bytes_that_are_no_event(body: bytes) -> None:
    assert refused(body)


def test_depth_is_judged_by_the_text_alone() -> None:
    deep = b'"prod","extra":["' + b"[" * 500 + b'\\"[",' + b"[" * 126 + b"]" * 127
    assert parse_event(GOOD.replace(b'"prod"', deep)).workspace_id == "prod"
    assert "inside each other" in refused(
        GOOD.replace(b'"prod"', deep.replace(b",[", b",[[").replace(b"]]", b"]]]", 1))
    )
    assert "inside each other" in refused(b"[" * 1_000_000)


def timestamp_paths(kind: inspect.Type, path: tuple[str | int, ...]) -> Iterator[tuple[str | int, ...]]:
    """Yield the paths of all timestamps in a type."""
    if isinstance(kind, inspect.Metadata):
        if kind.extra == TIMESTAMP_MARK:
            yield path
    elif isinstance(kind, inspect.UnionType):
        for member in kind.types:
            yield from timestamp_paths(member, path)
    elif isinstance(kind, inspect.ListType):
        yield from timestamp_paths(kind.item_type, (*path, 0))
    elif isinstance(kind, inspect.StructType):
        for field in kind.fields:
            yield from timestamp_paths(field.type, (*path, field.encode_name))


ALL_TIMESTAMPS = [
    (name, path)
    for name, payload in e.PAYLOAD_TYPES.items()
    for path in timestamp_paths(inspect.type_info(payload), ())
]


def test_all_timestamps_are_found() -> None:
    assert sorted({".".join(map(str, path)) for _, path in ALL_TIMESTAMPS}) == [
        "fire_at",
        "heartbeat_at",
        "output.publishedAt",
        "output_visibility.published_at",
        "published_at",
        "scheduled_for",
    ]


@pytest.mark.parametrize(("name", "path"), ALL_TIMESTAMPS, ids=str)
def test_a_bad_timestamp_anywhere_is_refused(name: str, path: tuple[str | int, ...]) -> None:
    data = complete(name)
    place: Any = data
    for step in path[:-1]:
        place = place[step]
    assert place[path[-1]].endswith("Z")
    assert read(data).data is not None
    place[path[-1]] = "2025-01-15T10:00:00"
    assert "is no timestamp" in refused(text_of(event_of(data)))
    place[path[-1]] = 1_736_935_200
    assert "is 1736935200, not a string" in refused(text_of(event_of(data)))
    place[path[-1]] = "2025-01-15 11:00:00+0100"
    assert read(data).data is not None


def test_a_bad_envelope_timestamp_is_refused() -> None:
    assert "is no timestamp" in refused(text_of(event_of(STARTED, timestamp="2025-01-15T10:00:00")))
    assert "is no timestamp" in refused(text_of(event_of({"type": "new"}, timestamp="yesterday")))
    assert read(STARTED, timestamp="2025-01-15 11:00:60+0100").timestamp_ns == 1_736_935_260_000_000_000


def complete(name: str) -> dict[str, Any]:
    """Return a payload that has every timestamp its type knows."""
    base = {name: value for name, value in STARTED.items() if name != "type"}
    instant = "2025-01-15T10:00:00Z"
    tick = {"schedule_id": "s", "tick_id": "t", "definition_version": "v", "asset_selection": []}
    fields: dict[str, dict[str, Any]] = {
        "task_heartbeat": base | {"heartbeat_at": instant},
        "task_finished": {name: value for name, value in FINISHED.items() if name != "output_visibility"},
        "task_completion_recorded": FINISHED,
        "task_output_visibility_changed": base | {"visibility_state": "visible", "published_at": instant},
        "timer_requested": {"timer_id": "t", "timer_type": "cron", "fire_at": instant},
        "schedule_ticked": tick | {"scheduled_for": instant, "status": {"status": "triggered"}},
    }
    copied: dict[str, Any] = json.loads(json.dumps(fields[name] | {"type": name}))
    return copied


@given(data_of(e.TaskCompletionRecorded))
def test_all_numbers_are_checked_on_the_fast_way(data: dict[str, Any]) -> None:
    """A number too big is refused whatever else the payload holds."""
    for shape in ("output", "metrics"):
        for key, value in (data.get(shape) or {}).items():
            if isinstance(value, int):
                changed = data | {shape: data[shape] | {key: TOO_BIG}}
                assert f"data.{shape}.{key}: is 18446744073709551616" in refused(text_of(event_of(changed)))
