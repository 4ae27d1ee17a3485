"""Additions to the OpenAPI document that FastAPI does not derive by itself.

The document must say which requests are refused, in schemas as far as these can. If a value is checked by more than its
form, such as a cursor, which must be one of the same list, its schema has `x-judged-beyond-schema` with the rule in
words (`springline.bounds.judged`): a value that fits the schema may still get a 400, which names the field.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from fastapi import FastAPI
from pydantic import BaseModel

_METHODS_WITH_BODY: Final = ("post", "put", "patch")
_NO_NUL: Final = "^[^\\u0000]*$"
_ADDRESSABLE: Final = "^(?!\\.{1,2}$)[^\\u0000-\\u001f\\u007f]+$"

Document = dict[str, Any]
Schema = dict[str, Any]


def describe(document: Document, bodies: Sequence[type[BaseModel]], too_slow: Schema) -> None:
    """Complete the document in place.

    `bodies`: models to which answers refer by name; `too_slow`: the answer to a body that does not arrive in time.
    """
    for operations in document["paths"].values():
        for method, operation in operations.items():
            answers = operation.get("responses", {})
            answers.pop("422", None)  # FastAPI's own, which our API never sends.
            if method in _METHODS_WITH_BODY:
                answers["408"] = too_slow
            for parameter in operation.get("parameters", ()):
                _describe_parameter(parameter)
    schemas = document.get("components", {}).get("schemas", {})
    schemas |= _schemas_of(bodies)
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for name in _sent(document):
        for schema in _strings(schemas[name]):
            if not {"pattern", "enum", "const", "format"} & set(schema):
                schema["pattern"] = _NO_NUL


def _schemas_of(bodies: Sequence[type[BaseModel]]) -> dict[str, Schema]:
    """Return the schemas of models and of what they hold, in the form of FastAPI: of an application of them."""
    app = FastAPI()
    app.add_api_route("/", lambda: None, responses={400 + place: {"model": one} for place, one in enumerate(bodies)})
    found: dict[str, Schema] = app.openapi()["components"]["schemas"]
    return found


def _describe_parameter(parameter: dict[str, Any]) -> None:
    schema = parameter["schema"]
    alternatives = [one for one in schema.get("anyOf", ()) if one.get("type") != "null"]
    if len(alternatives) == 1:
        # A caller can leave a parameter out, and cannot send null.
        del schema["anyOf"]
        schema.update(alternatives[0])
        schema.pop("default", None)
    for text in _strings(schema):
        if not {"pattern", "enum", "const", "format"} & set(text):
            text["pattern"] = _ADDRESSABLE if parameter["in"] == "path" else _NO_NUL


def _strings(schema: Any) -> Iterator[Schema]:
    """Yield the schemas of texts within a schema, names of free members included; references are not followed."""
    if isinstance(schema, list):
        for one in schema:
            yield from _strings(one)
    if not isinstance(schema, dict):
        return
    if schema.get("type") == "string":
        yield schema
    for key in ("anyOf", "oneOf", "allOf", "items", "additionalProperties", "propertyNames"):
        yield from _strings(schema.get(key))
    for one in schema.get("properties", {}).values():
        yield from _strings(one)


def _sent(document: Document) -> set[str]:
    """Return the names of the schemas in request bodies."""
    found: set[str] = set()
    waiting: list[Any] = [
        operation["requestBody"]
        for operations in document["paths"].values()
        for operation in operations.values()
        if "requestBody" in operation
    ]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list):
            waiting += one
        elif isinstance(one, dict):
            name = str(one.get("$ref", "")).rpartition("/")[2]
            if name and name not in found:
                found.add(name)
                waiting.append(document["components"]["schemas"][name])
            waiting += one.values()
    return found
