"""Requests made from the OpenAPI document: beyond its bounds, and mutated by kind. New routes are in it at once."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any
from urllib.parse import quote

Document = dict[str, Any]
Schema = dict[str, Any]

KINDS = ("deep", "long", "surrogate", "nul", "wrong type", "huge number", "huge")
LONG = 3_000_000
_METHODS = ("get", "post", "put", "patch", "delete")
_RAW = "<raw>"


@dataclass(frozen=True)
class Operation:
    """One method of one path of the document."""

    method: str
    path: str
    spec: dict[str, Any]

    def parameters(self, where: str) -> list[dict[str, Any]]:
        return [one for one in self.spec.get("parameters", ()) if one["in"] == where]


@dataclass(frozen=True)
class Sent:
    """A request to be sent; `what` says what is odd about it, and `where` the part that is."""

    what: str
    where: str
    method: str
    url: str
    content: bytes = b""
    headers: dict[str, Any] = field(default_factory=dict)


def operations_of(document: Document) -> list[Operation]:
    """Return all operations of a document."""
    return [
        Operation(method.upper(), path, spec)
        for path, methods in document["paths"].items()
        for method, spec in methods.items()
        if method in _METHODS
    ]


def example_of(document: Document, operation: Operation) -> Any:
    """Return a body that is well formed, None for an operation without one."""
    content = operation.spec.get("requestBody", {}).get("content", {}).get("application/json")
    if content is None:
        return None
    examples = content.get("examples")
    if examples:
        return copy.deepcopy(next(iter(examples.values()))["value"])
    return value_of(document, content["schema"])


def value_of(document: Document, schema: Schema) -> Any:
    """Return a small value of a schema."""
    if "$ref" in schema:
        return value_of(document, document["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    if schema.get("examples"):
        return copy.deepcopy(schema["examples"][0])
    for name in ("enum", "anyOf", "oneOf"):
        if name in schema:
            return schema[name][0] if name == "enum" else value_of(document, schema[name][0])
    match schema.get("type"):
        case "object":
            return {name: value_of(document, inner) for name, inner in schema.get("properties", {}).items()}
        case "array":
            return [value_of(document, schema["items"])]
        case "integer" | "number":
            return schema.get("minimum", 0)
        case "boolean":
            return False
    return "x"


# Beyond the bounds that the document names.


def beyond_bounds(operation: Operation, document: Document) -> Iterator[Sent]:
    """Yield a request for each bound of an operation that is one beyond it, and well formed otherwise."""
    for where in ("path", "query", "header"):
        for parameter in operation.parameters(where):
            for value in _beyond(document, parameter["schema"]):
                yield _with_parameter(operation, document, parameter, value, f"{value!r:.40}")
    body = operation.spec.get("requestBody", {}).get("content", {}).get("application/json")
    if body is None:
        return
    example = example_of(document, operation)
    for place, schema in _fields(document, body["schema"], ()):
        for value in _beyond(document, schema):
            spoilt = _replaced(example, place, value)
            yield _request(operation, document, f"{'.'.join(map(str, place))}: {value!r:.40}", "body", spoilt)


def _fields(document: Document, schema: Schema, place: tuple[str | int, ...]) -> Iterator[tuple[Any, Schema]]:
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    for name, inner in schema.get("properties", {}).items():
        yield (*place, name), inner
        yield from _fields(document, inner, (*place, name))
    if schema.get("type") == "array":
        yield (*place, 0), schema["items"]
        yield from _fields(document, schema["items"], (*place, 0))


def _beyond(document: Document, schema: Schema) -> Iterator[Any]:
    for alternative in schema.get("anyOf", ()):
        yield from _beyond(document, alternative)
    kind = schema.get("type")
    if "maxLength" in schema:
        yield "x" * (schema["maxLength"] + 1)
    if kind in ("integer", "number"):
        yield from (schema[name] + step for name, step in (("maximum", 1), ("minimum", -1)) if name in schema)
    if "maxItems" in schema:
        yield [value_of(document, schema["items"])] * (schema["maxItems"] + 1)
    if "maxProperties" in schema:
        yield {f"k{number}": "x" for number in range(schema["maxProperties"] + 1)}


# Mutations by kind.


def mutated(operation: Operation, document: Document, kind: str, random: Random, body: Any = None) -> Sent:
    """Return a request to an operation that is spoilt in one place, by one kind of mutation; `body`: a good one."""
    example = example_of(document, operation) if body is None else body
    parameters = operation.spec.get("parameters", ())
    spots: list[Any] = list(parameters)
    if example is not None:
        spots += [("body", place) for place in _places(example)] * 2
    if not spots:
        return _request(operation, document, f"{kind} query", "query", None, query=[("x", _text(kind, random))])
    spot = random.choice(spots)
    if isinstance(spot, dict):
        return _with_parameter(operation, document, spot, _text(kind, random), kind)
    place = spot[1]
    what = f"{kind} at {'.'.join(map(str, place)) or 'the whole'}"
    raw = _json(kind, random)
    if kind == "wrong type" or not place or random.random() < 0.9:
        spoilt = _replaced(example, place, _RAW)
    else:  # In the name of a field instead of its value.
        spoilt = {**example, _RAW: 1}
        raw = raw if raw.startswith('"') else f'"{raw[:1_000]}"'
    request = _request(operation, document, what, "body", spoilt)
    content = request.content.replace(json.dumps(_RAW).encode(), raw.encode())
    return Sent(request.what, "body", request.method, request.url, content, request.headers)


def _places(value: Any, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    yield place
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from _places(one, (*place, key))


def _json(kind: str, random: Random) -> str:
    """Return JSON text of a kind."""
    match kind:
        case "deep":
            depth = random.choice([129, 1_000, 20_000, 100_000])
            opening, closing = random.choice([("[", "]"), ('{"a":', "}"), ('{"type":', "}"), ('[{"fields":', "}]")])
            return opening * depth + "1" + closing * depth
        case "long":
            return json.dumps(random.choice(["x", "é", '"', "/"]) * random.choice([10_000, 200_000, LONG // 4, LONG]))
        case "surrogate":
            return json.dumps(random.choice(["\ud800", "a\udfffb", "\udc00\ud800", "x" * 1_000 + "\ud83d"]))
        case "nul":
            return json.dumps(random.choice(["\0", "a\0b", "\0" * 1_000]))
        case "wrong type":
            return random.choice(
                ["null", "true", "0", "-1", "1.5", '""', '"x"', "[]", "{}", "[null]", '{"":{}}', "[[]]", '[{"a":1}]']
            )
        case "huge number":
            return random.choice(
                [
                    str(2**63),
                    str(-(2**63) - 1),
                    str(2**64),
                    "1" + "0" * 300,
                    "9" * 5_000,
                    "1e308",
                    "-1e400",
                    "-0",
                    "NaN",
                ]
            )
    return random.choice(
        [
            "[" + ",".join(["0"] * 300_000) + "]",
            "{" + ",".join(f'"k{number}":{{}}' for number in range(100_000)) + "}",
            json.dumps("x" * 6_000_000),
            "[" + ",".join(['"x"'] * 6_000) + "]",
        ]
    )


def _text(kind: str, random: Random) -> str | bytes:
    """Return what stands for a kind in a URL or a header; bytes are percent-encoded as they are."""
    match kind:
        case "deep":
            return random.choice(["[" * 3_000, '{"a":' * 500, "../" * 500, "((" * 700])
        case "long":
            return "x" * random.choice([1_025, 4_000, 9_000, 30_000])
        case "surrogate":
            return random.choice([b"\xed\xa0\x80", b"a\xed\xbf\xbf", b"\xff\xfe", b"\xc0\x80"])
        case "nul":
            return random.choice([b"\0", b"a\0b", b"a\nb", b"\r\n\r\nGET / HTTP/1.1"])
        case "wrong type":
            return random.choice(
                ["", " ", "null", "[]", "{}", "true", "-1", "1.5", "..", "%", "a=b=c", "=", "\u2028", "'--"]
            )
        case "huge number":
            return random.choice([str(2**63), str(-(2**64)), "9" * 900, "1e308", "inf", "nan", "-0"])
    return "x" * 60_000


# Putting requests together.


def _replaced(example: Any, place: tuple[str | int, ...], value: Any) -> Any:
    if not place:
        return value
    spoilt = copy.deepcopy(example)
    inner = spoilt
    for key in place[:-1]:
        inner = inner.setdefault(key, {}) if isinstance(inner, dict) else inner[key]
    last = place[-1]
    if isinstance(inner, list) and last == len(inner):
        inner.append(value)
    else:
        inner[last] = value
    return spoilt


def _with_parameter(operation: Operation, document: Document, parameter: dict[str, Any], value: Any, what: str) -> Sent:
    name, where = parameter["name"], parameter["in"]
    described = f"{what} in {where} {name}"
    body = example_of(document, operation)
    if where == "query":
        values = value if isinstance(value, list) else [value]
        return _request(operation, document, described, where, body, query=[(name, one) for one in values])
    if where == "header":
        data = value if isinstance(value, bytes) else str(value).encode()
        data = bytes(one for one in data if one >= 32) or b"\xff"
        return _request(operation, document, described, where, body, headers={name: data[:30_000].strip() or b"x"})
    return _request(operation, document, described, where, body, path={name: value})


def _request(
    operation: Operation,
    document: Document,
    what: str,
    where: str,
    body: Any,
    *,
    path: dict[str, Any] | None = None,
    query: list[tuple[str, Any]] | None = None,
    headers: dict[str, Any] | None = None,
) -> Sent:
    url = operation.path
    for parameter in operation.parameters("path"):
        name = parameter["name"]
        value = (path or {}).get(
            name, value_of(document, parameter["schema"] | {"examples": parameter.get("examples")})
        )
        url = url.replace(f"{{{name}}}", _quoted(value))
    if query:
        url += "?" + "&".join(f"{name}={_quoted(value)}" for name, value in query)
    content = b"" if body is None else json.dumps(body).encode()
    return Sent(f"{operation.method} {operation.path}: {what}", where, operation.method, url, content, headers or {})


def _quoted(value: Any) -> str:
    return quote(value if isinstance(value, bytes) else str(value), safe="")
