"""The API's description for people and programs: Swagger UI from files of this package, so that it works offline.

The files are those of the npm package `swagger-ui-dist`, unchanged (`assets/README.md` has version, hashes, license).
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import orjson
from fastapi import Request, Response

from springline.api.urls import CheckedRouter
from springline.errors import Code, refused

router = CheckedRouter(include_in_schema=False)

ASSETS = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "start.js": "text/javascript",
}
_SAFE = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""A content security policy: the page loads nothing from other sites, and sends nothing to them."""
_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Springline: the HTTP API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""


@router.get("/openapi.json")
async def document(request: Request) -> Response:
    """Return the OpenAPI document."""
    return Response(orjson.dumps(request.app.openapi()), media_type="application/json", headers=_SAFE)


@router.get("/docs")
async def page() -> Response:
    """Return the page that shows the OpenAPI document."""
    return Response(_PAGE, media_type="text/html", headers=_SAFE | {"Content-Security-Policy": _POLICY})


@router.get("/docs/{name}")
async def asset(name: str) -> Response:
    """Return a file that the page needs."""
    if name not in ASSETS:
        raise refused(
            Code.ROUTE_NOT_FOUND,
            "the page has no such file",
            field="path",
            value=name[:100],
            remedy="Open /docs.",
        )
    headers = _SAFE | {"Cache-Control": "public, max-age=3600"}
    return Response(_content(name), media_type=ASSETS[name], headers=headers)


@cache
def _content(name: str) -> bytes:
    return files("springline.api").joinpath("assets", name).read_bytes()
