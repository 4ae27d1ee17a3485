"""Everything a caller sends has a bound: what the OpenAPI document says of it, and what the edge refuses by kind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Any
from urllib.parse import quote

import httpx
import orjson
import pytest
from pydantic import ValidationError

from springline.api.app import create_app
from springline.api.edge import METHODS, refusal_of_body
from springline.bounds import on_one_line, shown
from springline.delta.messages import CommitOutcome
from springline.errors import Code, Refusal
from tests.api.conftest import EVENTS, TABLES, V1, World, assert_refused, fresh, new_key
from tests.support.document_requests import KINDS, Sent, beyond_bounds, mutated, operations_of

Schema = dict[str, Any]


def described(world: World) -> dict[str, Any]:
    return create_app(replace(world.deps, metrics=fresh())).openapi()


def unbounded(document: dict[str, Any], schema: Schema, at: str) -> Iterator[str]:
    """Yield the places of a schema whose values could be of any size."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        yield from unbounded(document, document["components"]["schemas"][name], at)
        return
    if schema.get("type") in ("boolean", "null") or "enum" in schema or "const" in schema:
        return
    for alternative in schema.get("anyOf") or schema.get("oneOf") or ():
        yield from unbounded(document, alternative, at)
    if "anyOf" in schema or "oneOf" in schema:
        return
    match schema.get("type"):
        case "string" | None:
            if "maxLength" not in schema:
                yield at
        case "integer" | "number":
            if not {"maximum", "exclusiveMaximum"} & set(schema) or not {"minimum", "exclusiveMinimum"} & set(schema):
                yield at
        case "array":
            if "maxItems" not in schema:
                yield at
            yield from unbounded(document, schema["items"], f"{at}[]")
        case "object":
            for name, inner in schema.get("properties", {}).items():
                yield from unbounded(document, inner, f"{at}.{name}")
            more = schema.get("additionalProperties", True)
            if more is not False and "maxProperties" not in schema:
                yield f"{at}{{}}"
            # What is free in form is bounded by the edge, in depth, number and bytes.
            if isinstance(more, dict):
                yield from unbounded(document, more, f"{at}{{}}")


def places(document: dict[str, Any]) -> Iterator[tuple[str, Schema]]:
    for operation in operations_of(document):
        at = f"{operation.method} {operation.path}"
        for parameter in operation.spec.get("parameters", ()):
            yield f"{at} {parameter['in']} {parameter['name']}", parameter["schema"]
        for content in operation.spec.get("requestBody", {}).get("content", {}).values():
            yield f"{at} body", content["schema"]


async def test_every_parameter_and_every_field_of_a_body_has_a_bound(world: World) -> None:
    document = described(world)
    found = [(place, schema) for place, schema in places(document)]
    assert len(found) > 40
    assert [where for place, schema in found for where in unbounded(document, schema, place)] == []


def test_a_field_without_a_bound_is_found() -> None:
    forgotten: Schema = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "text": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "number": {"type": "integer", "minimum": 0},
            "many": {"type": "array", "items": {"type": "string", "maxLength": 3}},
            "any": {},
            "free": {"type": "object", "additionalProperties": {"type": "string"}, "maxProperties": 3},
            "good": {"type": "string", "maxLength": 3},
        },
    }
    assert list(unbounded({}, forgotten, "body")) == [
        "body.text",
        "body.number",
        "body.many",
        "body.any",
        "body.free{}",
    ]


async def test_what_the_document_bounds_is_refused_beyond_it(world: World) -> None:
    """One more than the most, in every place that names its most: refused, and named, by each route."""
    document = described(world)
    sent = [one for operation in operations_of(document) for one in beyond_bounds(operation, document)]
    assert len(sent) > 60
    for one in sent:
        answer = await ask(world, one)
        assert answer.status_code in (400, 404, 409, 413), (one.what, answer.text)
        assert answer.status_code != 404 or one.where == "path", (one.what, answer.text)
        assert len(answer.content) < 4_000, one.what


async def ask(world: World, sent: Sent) -> httpx.Response:
    headers = world.bearer_for(sent.url) | {"Content-Type": "application/json"} | sent.headers
    return await world.client.request(sent.method, sent.url, content=sent.content, headers=headers)


DEEP = b"[" * 100_000


@pytest.mark.parametrize(
    ("content", "field", "said"),
    [
        (DEEP, "body", "more than 128 arrays"),
        (b'{"a":' + DEEP + b"]" * 100_000 + b"}", "body", "more than 128 arrays"),
        (b'{"a":' * 129 + b"1" + b"}" * 129, "body", "more than 128 arrays"),
        (orjson.dumps([0] * 300_000), "body", "more than 250000 values"),
        (orjson.dumps({"a": {f"k{number}": 0 for number in range(5_001)}}), "a", "5001 members"),
        (b'{"a":[{"b":"x\\u0000"}]}', "a[0].b", "NUL"),
        (b'{"a":{"\\u0000":1}}', "a.\\x00", "NUL"),
        (b'{"a":"\\ud800"}', "a", "surrogate"),
        (b'{"\\udfff":1}', "\\udfff", "surrogate"),
        (b'{"a":"\xed\xa0\x80"}', "body", "not JSON"),
        (b'{"a":"\xff"}', "body", "not JSON"),
        (b'{"a":1' + b"0" * 5_000 + b"}", "body", "not JSON"),
        (b'{"a":1' + b"0" * 30 + b"}", "a", "64 bits"),
        (b'{"a":-99999999999999999999}', "a", "64 bits"),
        (b'{"a":NaN}', "body", "not JSON"),
        ('{"a":1}'.encode("utf-16"), "body", "not JSON"),
        (b'{"key":1,"key":1}', "body", "'key' twice"),
        (b'{"a":[{"b":{"c":1,"d":2 , "c" : 3}}]}', "body", "'c' twice"),
        (b'{"a":1,"\\u0061":2}', "body", "'a' twice"),
        (b'{"a":' * 126 + b'{"b":1,"b":2}' + b"}" * 126, "body", "'b' twice"),
        (b"", None, ""),
        (b'{"a":' * 128 + b"1" + b"}" * 128, None, ""),
        *((content, None, "") for content in (b"null", b"5", b"true", b'"a:b"', b"[]", b"{}", b"[1,[],{}]")),
        (b'{"a":"{\\"k\\":1,\\"k\\":2}","b":{"a":":"}}', None, ""),
        (b'{"a":18446744073709551615,"b":-9223372036854775808,"c":"\\ud83d\\ude00"}', None, ""),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_no_body_may_hold(content: bytes, field: str | None, said: str) -> None:
    refusal = refusal_of_body(content) if content else None
    if field is None:
        assert refusal is None
        return
    assert refusal is not None
    assert refusal.code is Code.INVALID_REQUEST
    assert refusal.field == field
    assert said in refusal.message
    assert refusal.remedy
    assert refusal.value
    assert len(str(refusal.value)) < 700
    orjson.dumps(refusal.model_dump())


@pytest.mark.parametrize("path", [TABLES, EVENTS, f"{TABLES}/x/commits", f"{TABLES}/x/commits/stage", "/rebuild"])
async def test_a_key_twice_in_a_body_is_refused_before_a_route_sees_it(world: World, path: str) -> None:
    """Readers of JSON differ about it: a proxy that looks at the first would not see what the service takes."""
    content = b'{"name":"a","read_version":1,"read_version":2,"name":"b"}'
    answer = await world.client.post(path, content=content, headers={"Content-Type": "application/json"})
    assert_refused(answer, 400, "INVALID_REQUEST", "body", remedy="every key once")


@pytest.mark.parametrize("path", [TABLES, EVENTS, f"{TABLES}/x/commits", f"{TABLES}/x/commits/stage", "/rebuild"])
async def test_a_body_nested_too_deep_is_refused_before_a_route_sees_it(world: World, path: str) -> None:
    for content in (DEEP, b'{"name":' * 100_000):
        answer = await world.client.post(path, content=content, headers={"Content-Type": "application/json"})
        assert_refused(answer, 400, "INVALID_REQUEST", "body", remedy="nests at most 128")


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/api/v1/runs/%ED%A0%80", "path"),
        ("/api/v1/runs/a%00b", "path"),
        ("/api/v1/runs/a%0Ab", "path"),
        ("/api/v1/runs/%FF", "path"),
        ("/api/v1/runs/" + "x" * 5_000, "path"),
        ("/api/v1/runs?run_key=%ED%A0%80", "query"),
        ("/api/v1/runs?run_key=a%00", "query"),
        ("/api/v1/runs?run_key=" + "x" * 9_000, "query"),
        ("/api/v1/runs?" + "&".join(["state=RUNNING"] * 200), "query"),
        ("/api/v1/runs?" + "&".join(["state=RUNNING"] * 60), "state"),
        ("/api/v1/runs?run_key=" + "x" * 1_025, "run_key"),
    ],
    ids=lambda value: value[:34],
)
async def test_what_no_url_may_hold(world: World, path: str, field: str) -> None:
    answer = await world.client.get(path)
    body = assert_refused(answer, 400, "INVALID_REQUEST", field)
    assert len(answer.content) < 2_000
    assert body["message"].isprintable()


async def test_too_many_headers_and_too_long_ones(world: World) -> None:
    many = [(f"x-{number}", "v") for number in range(200)]
    assert_refused(await world.client.get("/health", headers=many), 400, "INVALID_REQUEST", "headers")
    long = {"X-Long": "v" * 20_000}
    assert_refused(await world.client.get("/health", headers=long), 400, "INVALID_REQUEST", "headers")


@pytest.mark.parametrize("claims", [b"[" * 8_000, b"\xff\xfe", b'"x"', b'{"alg":' * 2_000])
async def test_a_token_of_anything_is_no_token(world: World, claims: bytes) -> None:
    import base64

    part = base64.urlsafe_b64encode(claims).rstrip(b"=").decode()
    for token in (f"{part}.{part}.{part}", part, f"{part}..", "e30.e30.e30"):
        answer = await world.client.get(f"{V1}/runs", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code in (400, 401), answer.text


async def test_made_up_methods_and_paths_make_no_series(world: World) -> None:
    before = len((await world.client.get("/metrics")).content)
    for number in range(200):
        answer = await world.client.request(f"MADE{number}", f"/nowhere/{number}")
        assert_refused(answer, 405, "METHOD_NOT_ALLOWED", "method")
        await world.client.get(f"/nowhere/{number}")
        await world.client.get(f"{V1}/runs/{number}")
    text = (await world.client.get("/metrics")).text
    assert len(text) - before < 20_000
    assert 'method="other"' in text
    assert "MADE" not in text
    assert {line.split('method="')[1].split('"')[0] for line in text.splitlines() if 'method="' in line} <= {
        *METHODS,
        "other",
    }


async def test_a_path_forges_no_log_line(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "springline.api"):
        await world.client.get("/nowhere/x%0A2026-01-01 ERROR forged%1B[31m%E2%80%A8")
    assert all(one.getMessage().isprintable() for one in caplog.records if one.name == "springline.api")
    assert on_one_line("a\nb\x1b\u2028") == "a\\nb\\x1b\\u2028"


def test_a_refusal_is_short_and_can_be_encoded_whatever_was_refused() -> None:
    nested: Any = "x"
    for _ in range(100_000):
        nested = [nested]
    for value in (
        "\ud800" * 3_000_000,
        nested,
        {"\ud800" * 1_000: ["\0"] * 10**6},
        10**5_000,
        float("nan"),
        b"\xff",
        {1},
    ):
        refusal = Refusal(
            code=Code.INVALID_REQUEST, message=f"{'x' * 10**6}\ud800", field="f" * 10**6, value=value, remedy="\udfff"
        )
        encoded = orjson.dumps(refusal.model_dump(mode="json"))
        assert len(encoded) < 5_000
        assert Refusal.model_validate_json(refusal.model_dump_json()) == refusal
        json.loads(encoded)
    assert shown("a\0b") == "a\\x00b"


def test_a_code_that_only_newer_builds_know_is_read_and_named() -> None:
    newer = {"code": "TABLE_LOCKED", "message": "the table is locked", "remedy": "wait", "latest_version": 7}
    outcome = CommitOutcome.model_validate({"idempotency_key": new_key(), "refusal": newer})
    refusal = outcome.refusal
    assert refusal is not None
    assert (refusal.code, refusal.message) == (Code.INTERNAL, "TABLE_LOCKED: the table is locked")
    assert (refusal.remedy, refusal.latest_version) == ("wait", 7)
    for code in ("", "locked", "table locked", 7, None, "A" * 100):
        with pytest.raises(ValidationError):
            Refusal.model_validate({"code": code, "message": "x"})


async def test_wrong_forms_are_refused_on_every_route_and_no_route_fails(world: World) -> None:
    """Every kind of mutation of every request of the document, in short."""
    await world.create()
    document = described(world)
    count = 0
    for operation in operations_of(document):
        for kind in KINDS:
            for number in range(1):
                one = mutated(operation, document, kind, Random(f"{kind}{number}"))
                answer = await ask(world, one)
                count += 1
                assert answer.status_code < 500, (one.what, answer.text)
                assert len(answer.content) < 100_000, one.what
    assert count > 150


async def test_names_that_are_no_paths_are_not_found(world: World) -> None:
    for name in ("..x", "a/b", "a\\b", "_delta_log", "é" * 100, "a" * 200, " ", "%", quote("a b")):
        answer = await world.client.get(f"{TABLES}/{quote(name, safe='')}")
        assert answer.status_code in (400, 404), answer.text
        answer = await world.client.get(f"{TABLES}/{quote(name, safe='')}/commits/{new_key()}")
        assert answer.status_code in (400, 404), answer.text
