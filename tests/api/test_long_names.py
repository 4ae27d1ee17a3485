"""Names that a request sends become names of objects: none is longer than a file system takes."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from springline.api.answers import is_callback
from springline.paths import MAX_SCOPE_NAME, ObjectPath, Scope
from springline.storage.memory import MemoryStore
from springline.storage.port import Precondition, PutResult
from tests.api.conftest import World, new_world
from tests.api.test_every_route import PUBLIC, Held, filled
from tests.support.document_requests import Operation, example_of, operations_of

MOST = 255
LONG = ["x" * 1_000, "\u00e9" * 128]
"""The latter is within every bound in characters that is above 127."""
LONGEST = Scope("t" * MAX_SCOPE_NAME, "w" * MAX_SCOPE_NAME)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[ObjectPath]:
    """Return the names under which objects are put, as they are."""
    paths: list[ObjectPath] = []
    put = MemoryStore.put

    async def noted(self: MemoryStore, path: ObjectPath, data: bytes, precondition: Precondition) -> PutResult:
        paths.append(path)
        return await put(self, path, data, precondition)

    monkeypatch.setattr(MemoryStore, "put", noted)
    return paths


def places(value: Any, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the places of texts in a body."""
    if isinstance(value, str):
        yield place
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from places(one, (*place, key))


def bodies(example: Any) -> Iterator[Any]:
    for place in places(example):
        for text in LONG:
            body = copy.deepcopy(example)
            inner = body
            for key in place[:-1]:
                inner = inner[key]
            inner[place[-1]] = text
            yield body


def urls(operation: Operation, held: Held) -> Iterator[str]:
    """Yield an operation's path with the names of what there is, and then with each of them replaced by long ones."""
    names = {name: held.value(name, operation.path) for name in re.findall(r"\{(\w+)\}", operation.path)}
    for values in (names, *(names | {name: text} for name in names for text in LONG)):
        yield operation.path.format_map({name: quote(value, safe="") for name, value in values.items()})


async def test_no_text_of_a_request_makes_a_name_longer_than_a_file_has(world: World, written: list[Any]) -> None:
    held = await filled(world)
    document = world.app.openapi()
    for operation in operations_of(document):
        if operation.path in PUBLIC:
            continue
        example = example_of(document, operation)
        if isinstance(example, dict):
            example |= {name: held.staged[name] for name in ("staged_path", "staged_version") if name in example}
        known, *others = urls(operation, held)
        sent = [(known, body) for body in bodies(example)] + [(url, example) for url in others]
        needed = {one["name"]: "x" for one in operation.parameters("query") if one.get("required")}
        queries = [needed | {one["name"]: text} for one in operation.parameters("query") for text in LONG]
        for url, body, query in [*((url, body, needed) for url, body in sent), *((known, example, q) for q in queries)]:
            answer = await world.client.request(
                operation.method,
                url,
                params=query,
                content=b"" if body is None else json.dumps(body).encode(),
                headers=world.bearer_for(url) if is_callback(url) else {},
            )
            assert answer.status_code < 500, (operation.method, url, body, answer.text)
    assert written
    assert {path for path in written if longest(path) > MOST} == set()


def longest(path: str) -> int:
    return max(len(one.encode()) for one in path.split("/"))


async def test_the_longest_names_of_a_workspace_fit(written: list[Any]) -> None:
    async with new_world() as world:
        world.client.headers.update(world.bearer(LONGEST))
        await world.create()
    assert max(map(longest, written)) == MOST
