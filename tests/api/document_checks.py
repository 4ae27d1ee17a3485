"""What Schemathesis is told to check beyond its own: a request that fits the schemas is refused for a documented rule.

Loaded by Schemathesis itself (`hooks` of its configuration).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import schemathesis
from schemathesis import Case, CheckContext, Response

from springline.bounds import JUDGED

Schema = dict[str, Any]


@schemathesis.check
def refused_for_a_documented_rule(ctx: CheckContext, response: Response, case: Case[Any]) -> None:
    """A 400 to what fits the schemas names a field of which the document says that it is judged beyond them."""
    if response.status_code != 400 or case.meta is None or not case.meta.generation.mode.is_positive:
        return
    body = response.json()
    field = re.split(r"[.\[ ]", body["field"] or "")[0]
    document: Schema = case.operation.schema.raw_schema
    operation = document["paths"][case.operation.path][case.operation.method.lower()]
    if field not in set(_judged(document, operation)):
        raise AssertionError(f"{field!r} is refused by no rule that the document has: {body['message']}")


def _judged(document: Schema, operation: Schema) -> Iterator[str]:
    """Yield the parameters and fields of an operation that are judged by more than their form."""
    for parameter in operation.get("parameters", ()):
        if _has_a_rule(document, parameter["schema"]):
            yield parameter["name"]
    for content in operation.get("requestBody", {}).get("content", {}).values():
        schema = _resolved(document, content["schema"])
        # A body that may be left out is one of two.
        for one in schema.get("anyOf", [schema]):
            for name, of_field in _resolved(document, one).get("properties", {}).items():
                if _has_a_rule(document, of_field):
                    yield name


def _has_a_rule(document: Schema, schema: Any) -> bool:
    if isinstance(schema, list):
        return any(_has_a_rule(document, one) for one in schema)
    if not isinstance(schema, dict):
        return False
    found = _resolved(document, schema)
    return JUDGED in schema or JUDGED in found or any(_has_a_rule(document, one) for one in found.values())


def _resolved(document: Schema, schema: Schema) -> Schema:
    reference = schema.get("$ref")
    if reference is None:
        return schema
    found: Schema = document["components"]["schemas"][reference.rpartition("/")[2]]
    return found
