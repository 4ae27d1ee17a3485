"""Parsing of URLs, the same for every route: a path segment is one name, and no parameter is ignored.

An id may contain a slash, which a URL has as %2F. Servers undo escapes before they look for the route, so that such an
id would become two segments: `routed_path` keeps these escapes until the route is found, `read_url` undoes them then.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Any, Union, get_args, get_origin
from urllib.parse import unquote

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.routing import BaseRoute, compile_path

from springline.bounds import on_one_line
from springline.errors import Code, refused


@dataclass(frozen=True, slots=True)
class _Described:
    """Routes as the OpenAPI document has them: paths with their methods, and their query parameters.

    `query`: by path template and method, whether each parameter may be sent more than once. `before`: by template, the
    more specific templates that match, too: by OpenAPI's rule a path without names comes before one with names.
    """

    query: Mapping[tuple[str, str], Mapping[str, bool]]
    paths: Mapping[str, re.Pattern[str]]
    before: Mapping[str, Sequence[str]]

    def template_of(self, path: str) -> str | None:
        """Return the template of a path."""
        matching = [template for template, pattern in self.paths.items() if pattern.fullmatch(path)]
        return min(matching, key=lambda template: template.count("{"), default=None)


def routed_path(scope: Mapping[str, Any]) -> str:
    """Return the path for the search of the route: escapes undone, except those of slash and percent sign."""
    raw: bytes = scope.get("raw_path") or b""
    if b"%" not in raw:
        path: str = scope["path"]
        return path
    names = (unquote(name.decode("latin-1")) for name in raw.split(b"/"))
    return "/".join(name.replace("%", "%25").replace("/", "%2F") for name in names)


async def read_url(request: Request) -> None:
    """Decode the path's names and check the query: a dependency of every route.

    Raises `Refused` (INVALID_REQUEST) for a query parameter that the route does not have, and for one that is sent more
    than once but takes one value; `HTTPException` (405) if a name in the path is a fixed segment of another route.
    """
    described = _described(request.app)
    template: str = getattr(request.scope.get("route"), "path", "")
    if any(described.paths[other].fullmatch(request.scope["path"]) for other in described.before.get(template, ())):
        raise HTTPException(405)
    names = request.scope.get("path_params", {})
    request.scope["path_params"] = {
        name: unquote(value) if isinstance(value, str) else value for name, value in names.items()
    }
    if not request.scope.get("query_string"):
        return
    known = described.query.get((template, request.method), {})
    sent = request.query_params
    for name in sent:
        if name not in known:
            offered = f"it takes {', '.join(sorted(known))}" if known else "it takes none"
            raise refused(
                Code.INVALID_REQUEST,
                f"{on_one_line(name, 100)} is not a query parameter of this request",
                field=on_one_line(name, 100),
                value=sent[name],
                remedy=f"Remove it, or correct its spelling: {offered}.",
            )
        values = sent.getlist(name)
        if len(values) > 1 and not known[name]:
            raise refused(
                Code.INVALID_REQUEST,
                f"{name} is sent {len(values)} times, and one value can count",
                field=name,
                value=values,
                remedy=f"Send {name} once.",
            )


class CheckedRouter(APIRouter):
    """Routes each of which reads its URL by `read_url`. `options`: those of FastAPI's router.

    The application takes the routes as they are. Included as a router, each would be built once more, which takes a
    process's first request more than a second.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(dependencies=[Depends(read_url)], **options)


def methods_at(app: FastAPI, path: str) -> list[str]:
    """Return the methods that the OpenAPI document has at a path."""
    described = _described(app)
    template = described.template_of(path)
    return sorted(method for of, method in described.query if of == template)


def _described(app: FastAPI) -> _Described:
    known: _Described | None = getattr(app.state, "described", None)
    if known is None:
        known = app.state.described = _described_by(query_parameters(app.routes))
    return known


def query_parameters(routes: Iterable[BaseRoute]) -> dict[tuple[str, str], dict[str, bool]]:
    """Return the query parameters of routes, as their OpenAPI document has them: see `_Described`.

    From the routes themselves, because making the document takes a second.
    """
    return {
        (route.path_format, method): dict(_query_of(route.dependant))
        for route in routes
        if isinstance(route, APIRoute) and route.include_in_schema
        for method in route.methods or ()
    }


def _query_of(dependant: Dependant) -> Iterator[tuple[str, bool]]:
    for field in dependant.query_params:
        kind = field.field_info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            for name, info in kind.model_fields.items():
                yield info.alias or name, _is_many(info.annotation)
        else:
            yield field.alias, _is_many(kind)
    for other in dependant.dependencies:
        yield from _query_of(other)


def _is_many(kind: Any) -> bool:
    """Say whether an annotation is one of a list, also if it may be None."""
    if get_origin(kind) in (Union, UnionType):
        return any(map(_is_many, get_args(kind)))
    return get_origin(kind) is list


def _described_by(query: Mapping[tuple[str, str], Mapping[str, bool]]) -> _Described:
    paths = {template: compile_path(template)[0] for template in dict.fromkeys(template for template, _ in query)}
    # The number of each template's names, and a path that the template itself matches.
    samples = [(other, other.count("{"), other.replace("{", "").replace("}", "")) for other in paths]
    before = {}
    for template, pattern in paths.items():
        names = template.count("{")
        before[template] = [other for other, count, path in samples if count < names and pattern.fullmatch(path)]
    return _Described(query, paths, {template: others for template, others in before.items() if others})
