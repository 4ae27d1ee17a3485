"""Workers and API of two versions understand each other: messages pass over fields they do not know.

See docs/protocol.md#deploy.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

import activities.messages
import activities.table_messages
import springline.delta.request
import springline.delta.table_request
import springline.errors
import springline.ledger.request
import springline.rebuild.messages
import springline.sequencer.messages
import workflows.ledger_messages
import workflows.messages
import workflows.rebuild_messages
from tests.api.conftest import World
from workflows.ledger_messages import AppendBatch
from workflows.messages import CommitStart

MODULES = (
    activities.messages,
    activities.table_messages,
    springline.delta.request,
    springline.delta.table_request,
    springline.errors,
    springline.ledger.request,
    springline.rebuild.messages,
    springline.rebuild.messages,
    springline.sequencer.messages,
    workflows.ledger_messages,
    workflows.messages,
    workflows.rebuild_messages,
)
"""Where everything is that crosses between processes by Temporal."""

KEY = "01946b1c-0000-7000-8000-000000000001"


def models() -> list[type[BaseModel]]:
    found = {
        model
        for module in MODULES
        for _, model in inspect.getmembers(module, inspect.isclass)
        if issubclass(model, BaseModel) and model is not BaseModel
    }
    return sorted(found, key=lambda model: model.__qualname__)


def closed(schema: Any, path: str = "") -> Iterator[str]:
    """Return where a JSON schema refuses what it does not know."""
    if isinstance(schema, dict):
        if schema.get("additionalProperties") is False:
            yield path
        for name, part in schema.items():
            yield from closed(part, f"{path}/{name}")
    elif isinstance(schema, list):
        for number, part in enumerate(schema):
            yield from closed(part, f"{path}/{number}")


@pytest.mark.parametrize("model", models(), ids=lambda model: model.__name__)
def test_no_message_refuses_a_field_of_a_newer_writer(model: type[BaseModel]) -> None:
    assert list(closed(model.model_json_schema())) == []


def with_news(value: Any) -> Any:
    """Return a document with a field in every object that nobody knows yet."""
    if isinstance(value, dict):
        return {name: with_news(item) for name, item in value.items()} | {"of_the_next_version": {"x": [1]}}
    return [with_news(item) for item in value] if isinstance(value, list) else value


def test_a_newer_callers_requests_are_taken_as_they_are_understood() -> None:
    request = {
        "idempotency_key": KEY,
        "mode": "append",
        "read_version": 3,
        "staged_path": f"delta/staging/{KEY}/x.json",
        "staged_version": "7",
    }
    start = {"tenant": "acme", "workspace": "prod", "table_id": KEY, "requests": [request]}
    assert CommitStart.model_validate(with_news(start)) == CommitStart.model_validate(start)
    event = {"data": {"type": "run_triggered"}, "causation_id": "c"}
    known = {"requests": [{"request_id": KEY, "events": [event]}]}
    # What an event's payload holds is not ours to pass over.
    newer = with_news(known)
    newer["requests"][0]["events"][0]["data"] = event["data"]
    assert AppendBatch.model_validate(newer) == AppendBatch.model_validate(known)


async def test_over_http_an_unknown_field_is_refused_at_every_depth(world: World) -> None:
    schema = (await world.client.get("/openapi.json")).json()
    bodies = {
        operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        for path in schema["paths"].values()
        for operation in path.values()
        if "$ref" in operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    }
    assert len(bodies) > 5
    waiting, seen = list(bodies), set(bodies)
    while waiting:
        name = waiting.pop()
        component = schema["components"]["schemas"][name]
        if component.get("type") == "object":
            assert component.get("additionalProperties") is False, name
        for ref in references(component):
            if ref not in seen:
                seen.add(ref)
                waiting.append(ref)


def references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"].rpartition("/")[2]
        for part in schema.values():
            yield from references(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from references(part)
