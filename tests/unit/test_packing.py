"""Long parts of messages travel packed, and arrive as they were."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from springline.api.ledger import EventAsked
from springline.ledger.request import AppendRequest, NewEvent
from springline.packing import MAX_UNPACKED, PACKED, PACKED_FROM, pack, packed_length, unpack

REQUEST = "01946b1c-0000-7000-8000-000000000001"


class Item(BaseModel):
    name: str
    needs: list[int] = []


class Message(BaseModel):
    data: Annotated[dict[str, Any], *PACKED] = {}
    items: Annotated[list[Item], *PACKED] = []


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


@given(st.binary(max_size=5_000))
def test_what_is_packed_is_unpacked(data: bytes) -> None:
    assert unpack(pack(data)) == data


@given(st.lists(json_values, max_size=5), st.integers(0, 3))
def test_messages_arrive_as_they_were(values: list[Any], times: int) -> None:
    tasks = [*values, *["x" * 400] * (times * 300)]
    message = Message(data={"type": "plan_created", "tasks": tasks, "more": values})
    try:
        text = message.model_dump_json()
    except ValueError:
        # A lone surrogate in a short message: as before.
        return
    assert Message.model_validate_json(text) == message
    sent = json.loads(text)["data"]
    is_long = len(json.dumps(message.data, separators=(",", ":"))) >= PACKED_FROM
    assert isinstance(sent, str) == is_long
    assert packed_length(message.data) == (len(sent) if is_long else None)


def test_a_long_list_of_models_is_packed_and_a_short_one_can_be_read() -> None:
    short = Message(items=[Item(name="a", needs=[1])])
    assert json.loads(short.model_dump_json())["items"] == [{"name": "a", "needs": [1]}]
    many = Message(items=[Item(name=f"task {number}", needs=[number]) for number in range(10_000)])
    text = many.model_dump_json()
    assert len(text) < 120_000
    assert Message.model_validate_json(text) == many
    assert many.model_dump()["items"][0] == {"name": "task 0", "needs": [0]}, "only messages are packed"


@pytest.mark.parametrize(
    "text",
    [
        "no base64!",
        base64.b64encode(b"nothing that was packed").decode(),
        pack(b"x" * 100)[:-8],
        base64.b64encode(zlib.compress(b"\0" * (MAX_UNPACKED + 1))).decode(),
    ],
)
def test_what_nobody_packed_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="packed text"):
        unpack(text)
    with pytest.raises(ValidationError):
        Message.model_validate({"data": text})


def test_callers_of_the_api_cannot_send_packed_events() -> None:
    data = {"type": "plan_created", "tasks": [{"key": "k" * 500}] * 1_000}
    packed = json.loads(NewEvent(data=data).model_dump_json())["data"]
    assert NewEvent.model_validate({"data": packed}).data == data
    with pytest.raises(ValidationError):
        EventAsked.model_validate({"data": packed})


def test_a_long_event_weighs_what_it_takes_of_a_message_and_of_a_round() -> None:
    data = {"type": "plan_created", "tasks": ["k" * 60] * 10_000}
    request = AppendRequest(request_id=REQUEST, events=[NewEvent(data=data)])
    length = len(json.dumps(data, separators=(",", ":")))
    packed = packed_length(data)
    assert packed is not None
    assert packed < length // 8 == request.payload_bytes
