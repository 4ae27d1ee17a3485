"""Dependencies of every route: the application's parts, the bearer's workspace, and error models for the docs."""

from __future__ import annotations

from typing import Annotated, Any, Final, cast

from fastapi import Depends, Request, Security
from fastapi.security import HTTPBearer, SecurityScopes

from springline.api.answers import CallbackErrorBody, ErrorBody
from springline.api.auth import Principal
from springline.api.ports import Deps
from springline.api.tokens import OPERATE, READ, WRITE
from springline.api.workspaces import Workspace, Workspaces
from springline.published.reader import PublishedReader

bearer = HTTPBearer(
    bearerFormat="JWT",
    description="Claims tenant, workspace, sub, exp, aud = springline; claim scope: read, write, operate.",
    auto_error=False,
)


def deps_of(request: Request) -> Deps:
    """Return the parts that the application was made with."""
    return cast(Deps, request.app.state.deps)


def principal_of(request: Request) -> Principal:
    """Return the bearer of the request's token."""
    return cast(Principal, request.state.principal)


def workspace_of(request: Request, needed: SecurityScopes, _: Annotated[object, Depends(bearer)]) -> Workspace:
    """Return the workspace of the bearer; raises `Refused` (FORBIDDEN) without the scopes that the route needs."""
    principal = principal_of(request)
    for scope in needed.scopes:
        principal.require(scope)
    return cast(Workspaces, request.app.state.workspaces).of(principal.scope)


def published_of(request: Request) -> PublishedReader:
    """Return the reader of what is published, with what it has read before."""
    return cast(PublishedReader, request.app.state.published)


FromDeps = Annotated[Deps, Depends(deps_of)]
FromPrincipal = Annotated[Principal, Depends(principal_of)]
FromPublished = Annotated[PublishedReader, Depends(published_of)]
FromWorkspace = Annotated[Workspace, Depends(workspace_of)]
"""For what a route depends on by `Security`, with the scopes that it names there."""
Reader = Annotated[Workspace, Security(workspace_of, scopes=[READ])]
Writer = Annotated[Workspace, Security(workspace_of, scopes=[WRITE])]
Operator = Annotated[Workspace, Security(workspace_of, scopes=[OPERATE])]

_MEANINGS = {
    400: "Bad input; nothing was written. Beyond the schemas, what `x-judged-beyond-schema` says is refused.",
    401: "No token, or one that is not valid.",
    403: "The token does not carry the scope that is needed.",
    404: "No such thing in the workspace of the token.",
    408: "The body did not arrive within 60 seconds; nothing was done.",
    409: "A conflict with what is stored, or a stored object that is damaged (STORED_DAMAGED); nothing was written.",
    410: "The attempt is over: its worker stops; nothing was written.",
    413: "The body is larger than 5 MiB.",
    500: "A fault of the server, met by this request alone (REQUEST_FAILED) or not (INTERNAL); the same request may be "
    "sent again under the same key. A store that is misconfigured (STORE_MISCONFIGURED) stays so until an operator "
    "corrects it.",
    503: "No answer in time; send the same request again under the same key after Retry-After seconds.",
}

_ALWAYS = frozenset({400, 401, 403, 500})


ERROR_BODIES: Final = (ErrorBody, CallbackErrorBody)
"""What answers refer to by name: as models of routes, each would be built for each of 500 answers at every start."""


def _described(status: int, body: type[ErrorBody]) -> dict[str, Any]:
    """Return an error answer for the OpenAPI document."""
    schema = {"$ref": f"#/components/schemas/{body.__name__}"}
    return {"description": _MEANINGS[status], "content": {"application/json": {"schema": schema}}}


TOO_SLOW: Final = _described(408, ErrorBody)


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the error answers of a route for the OpenAPI document, including those of every route."""
    return {status: _described(status, ErrorBody) for status in sorted({*_ALWAYS, *statuses})}


def callback_errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the error answers of a callback for the OpenAPI document, including those of every callback."""
    told = sorted({400, 401, 404, 409, 413, 500, 503, *statuses})
    return {status: _described(status, CallbackErrorBody) for status in told}
