"""HTTP answers for refusals and all other errors, with one body for all of them.

See docs/formats.md#errors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from springline.bounds import on_one_line, shown
from springline.errors import Code, CommitSince, Refusal

RETRY_AFTER_S = 2
REQUEST_ID_HEADER = "X-Request-Id"


class ErrorBody(BaseModel):
    """What every answer but a successful one says: what is wrong, where, and what to do."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "code": "STALE_READ_VERSION",
                    "message": "read_version 6 is not the latest version 8",
                    "field": "read_version",
                    "value": 6,
                    "remedy": "Read the table at version 8, compute the commit again and send it with a new key.",
                    "latest_version": 8,
                    "commits_since": [{"version": 7, "operation": "WRITE", "key": None}],
                    "requestId": "01JHMP8000000000000000000A",
                }
            ]
        }
    )

    code: Code = Field(description="Machine-readable; never changes once shipped.")
    message: str = Field(description="What is wrong, in a sentence.")
    field: str | None = Field(description="Where it is wrong: a header, a field of the body, a claim of the token.")
    value: Any = Field(description="What was found there; long values are cut.")
    remedy: str | None = Field(description="What to do about it.")
    latest_version: int | None = Field(default=None, description="On version conflicts: the table's latest version.")
    commits_since: list[CommitSince] | None = Field(
        default=None, description="On version conflicts: what was committed since `read_version`, at most 100."
    )
    requestId: str = Field(description="The request's id, also in the header X-Request-Id and in the logs.")


def refusal_response(refusal: Refusal, request_id: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return the answer for `refusal`, with the headers that its status needs."""
    body: dict[str, Any] = {
        "code": refusal.code.value,
        "message": refusal.message,
        "field": refusal.field,
        "value": refusal.value,
        "remedy": refusal.remedy,
    }
    if refusal.latest_version is not None:
        body["latest_version"] = refusal.latest_version
    if refusal.commits_since is not None:
        body["commits_since"] = [since.model_dump() for since in refusal.commits_since]
    body["requestId"] = request_id
    extra = dict(headers or {})
    if refusal.status == 401:
        problem = "" if refusal.code is Code.MISSING_TOKEN else ' error="invalid_token"'
        extra["WWW-Authenticate"] = f'Bearer realm="springline"{"," if problem else ""}{problem}'
    if refusal.status == 503:
        extra["Retry-After"] = str(RETRY_AFTER_S)
    return Response(json.dumps(body), status_code=refusal.status, media_type="application/json", headers=extra)


def internal_refusal() -> Refusal:
    """Return the refusal for a fault of ours: it tells callers where to look, and no internals."""
    return Refusal(
        code=Code.INTERNAL,
        message="the request failed for a reason that is not its own",
        remedy="Send the same request again under the same key; if it fails again, look for requestId in the logs.",
    )


def validation_refusal(errors: Sequence[Mapping[str, Any]]) -> Refusal:
    """Return the refusal for the first of FastAPI's validation `errors`."""
    first = errors[0]
    kind = first["type"]
    name = _field_of(first["loc"])
    if kind == "json_invalid":
        return Refusal(
            code=Code.INVALID_REQUEST,
            message=f"the body is not JSON: {first.get('ctx', {}).get('error', 'it cannot be parsed')}",
            field="body",
            value=f"at character {first['loc'][-1]}",
            remedy="Send one JSON object with the header Content-Type: application/json.",
        )
    if name == "body":
        message, value = "the body is not a JSON object", None
        remedy = "Send one JSON object with the header Content-Type: application/json."
    elif kind == "missing":
        message, value, remedy = f"{name} is missing", None, f"Add {name} to the request."
    elif kind in ("extra_forbidden", "unexpected_keyword_argument"):
        message, value = f"{name} is not a field of this request", shown(first.get("input"))
        remedy = f"Remove {name}, or correct its spelling; the API's description is at /docs."
    else:
        said = str(first["msg"]).removeprefix("Value error, ")
        message, value = f"{name}: {said[:1].lower()}{said[1:]}", shown(first.get("input"))
        remedy = f"Correct {name}; the API's description is at /docs."
    return Refusal(code=Code.INVALID_REQUEST, message=message, field=name, value=value, remedy=remedy)


def _field_of(location: Sequence[str | int]) -> str:
    """Return a dotted name, without the part of the request and the names of a union's alternatives."""
    parts = [str(part) for part in location[1:] if isinstance(part, int) or part.isidentifier()]
    return on_one_line(".".join(parts)) or str(location[0])
