"""The HTTP application: routes, middleware, and one error body for all errors."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from springline.api import (
    automation,
    backfills,
    callbacks,
    commits,
    docs,
    explain,
    hold,
    ledger,
    lineage,
    manifests,
    pools,
    rebuild,
    repair,
    report,
    run_logs,
    run_requests,
    runs,
    schedules,
    sensors,
    service,
    staleness,
    tables,
)
from springline.api.answers import refusal_response, validation_refusal
from springline.api.context import ERROR_BODIES, TOO_SLOW
from springline.api.described import describe
from springline.api.edge import BoundedBody, BoundedHead
from springline.api.metrics import HttpMetrics, ReadsCollector
from springline.api.middleware import Authentication, RequestContext
from springline.api.ports import Deps
from springline.api.urls import methods_at
from springline.api.workspaces import Workspaces
from springline.bounds import on_one_line
from springline.deployed.reading import ManifestReader
from springline.errors import Code, InvariantViolated, Refusal, Refused
from springline.paths import InvalidPath
from springline.published.reader import PublishedReader
from springline.storage.damage import DamagedObject
from springline.storage.port import StoreError, StoreMisconfigured

_log = logging.getLogger("springline.api")
_DESCRIPTION = """\
Commit to Delta tables on object storage, exactly once per idempotency key:

1. **Stage** the Delta actions of a commit.
2. **Commit** what was staged, under a UUIDv7 of your own.
3. After a lost answer, send the same request again under the same key.

Events of runs, tasks, schedules, sensors and backfills are appended to the workspace's ledger; what they come to is
read from the published state. Every such answer says which revision it was read from. Assets and how they are made
are deployed, one code location at a time.

Every error has the same body: what is wrong, where, and what to do about it.
"""


def create_app(deps: Deps) -> FastAPI:
    """Return the application; `deps` has everything that it talks to."""
    app = FastAPI(
        title="Springline",
        version=service.installed_version(),
        description=_DESCRIPTION,
        openapi_tags=[
            {"name": "tables", "description": "Create, adopt and look at tables."},
            {"name": "commits", "description": "Stage, commit, and ask what became of a key."},
            {"name": "ledger", "description": "Append events, take in foreign ones, ask where the ledger stands."},
            {
                "name": "runs",
                "description": "Start, repeat, cancel runs; runs, tasks, partitions, timers.",
            },
            {"name": "pools", "description": "How many attempts run at once: sizes, who has slots, who waits."},
            {"name": "hold", "description": "Let nothing new begin in the workspace, and let it go on."},
            {"name": "callbacks", "description": "What workers over HTTP call back, with tokens of attempts; timers."},
            {"name": "sensors", "description": "Sensors: push to them, evaluate, pause, resume, reset, set cursors."},
            {"name": "automation", "description": "Schedules, sensors and backfills."},
            {"name": "explain", "description": "Why something ran, did not run, or waits; who decided what and when."},
            {"name": "definitions", "description": "Deploy code locations; manifests and assets as they are deployed."},
            {"name": "rebuild", "description": "Rebuild the published state from events, watch it, and cancel it."},
            {"name": "repair", "description": "What stands still in the workspace, and having it looked at now."},
            {"name": "service", "description": "Health, readiness, version, metrics; no token needed."},
        ],
        redirect_slashes=False,
        docs_url=None,  # `springline.api.docs` serves these without files from the network.
        redoc_url=None,
        openapi_url=None,
    )
    app.state.deps = deps
    app.state.workspaces = Workspaces(deps.store)
    app.state.published = PublishedReader(deps.store)
    app.state.manifests = ManifestReader()
    app.state.readiness = service.readiness_of(deps)
    deps.metrics.register(ReadsCollector(app.state.published.counts))
    of_runs = (run_requests, runs, run_logs, pools, hold, callbacks)
    of_evaluators = (automation, schedules, sensors, backfills, explain)
    of_assets = (manifests, lineage, staleness)
    for module in (
        tables,
        commits,
        ledger,
        *of_runs,
        *of_evaluators,
        *of_assets,
        rebuild,
        repair,
        report,
        service,
        docs,
    ):
        app.router.routes.extend(module.router.routes)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(StoreError, _store_error)
    app.add_exception_handler(InvariantViolated, _damaged)
    app.add_exception_handler(InvalidPath, _no_path)
    # The last one added is the outermost.
    app.add_middleware(BoundedBody)
    app.add_middleware(Authentication, verifier=deps.verifier, task_tokens=deps.task_tokens)
    app.add_middleware(BoundedHead)
    app.add_middleware(RequestContext, metrics=HttpMetrics(deps.metrics), new_id=deps.new_name)
    _complete_the_document(app)
    return app


def _answer(request: Request, refusal: Refusal, headers: dict[str, str] | None = None) -> Response:
    return refusal_response(refusal, request.state.request_id, headers, path=request.url.path)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return _answer(request, error.refusal)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return _answer(request, validation_refusal(error.errors()))


async def _http_error(request: Request, error: Exception) -> Response:
    """Answer requests that the framework refuses by itself: unknown routes, wrong methods, bodies it cannot parse."""
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == 404:
        refusal = Refusal(
            code=Code.ROUTE_NOT_FOUND,
            message=f"there is nothing at {request.url.path}",
            field="path",
            value=request.url.path,
            remedy="Check the path; the API's description is at /docs.",
        )
    elif error.status_code == 405:
        # The framework knows only one of several routes with the same path.
        allowed = ", ".join(methods_at(request.app, request.scope["path"])) or headers.get("Allow", "")
        headers["Allow"] = allowed
        refusal = Refusal(
            code=Code.METHOD_NOT_ALLOWED,
            message=f"{request.method} is not possible at {request.url.path}",
            field="method",
            value=request.method,
            remedy=f"Use {allowed}." if allowed else "Check the method; the API's description is at /docs.",
        )
    else:
        refusal = Refusal(
            code=Code.INVALID_REQUEST,
            message=f"the request cannot be read: {error.detail}",
            field="body",
            remedy="Send one JSON object in UTF-8 with the header Content-Type: application/json.",
        )
    return _answer(request, refusal, headers)


async def _store_error(request: Request, error: Exception) -> Response:
    """Answer a fault of the store: a passing one, unless the store is misconfigured."""
    if isinstance(error, StoreMisconfigured):
        _log.error("request %s: the store is misconfigured: %s", request.state.request_id, error)
        final = Refusal(
            code=Code.STORE_MISCONFIGURED,
            message="the object store refuses what the request needs, and will go on to do so",
            field="store",
            remedy="Call an operator: `springline doctor` and the log, under requestId, tell what has to be corrected.",
        )
        return _answer(request, final)
    refusal = Refusal(
        code=Code.UNAVAILABLE,
        message="the object store gives no answer just now",
        remedy="Send the same request again in a moment, under the same key if it has one.",
    )
    return _answer(request, refusal)


async def _damaged(request: Request, error: Exception) -> Response:
    """Answer that an object of the caller's workspace is damaged: which, and what is wrong with it."""
    assert isinstance(error, InvariantViolated)
    _log.error("request %s: what is stored is damaged: %s", request.state.request_id, on_one_line(str(error), 2_000))
    known = error.refusal if isinstance(error, DamagedObject) else None
    refusal = Refusal(
        code=Code.STORED_DAMAGED,
        message=f"what is stored is damaged: {known.message if known else error}",
        field="stored object",
        value=known.value if known else None,
        remedy=known.remedy
        if known
        else "Call an operator, who restores the object that the message names; nothing was changed.",
    )
    return _answer(request, refusal)


async def _no_path(request: Request, error: Exception) -> Response:
    """Answer a name that no object can have, such as `..`: nothing is stored under it."""
    assert isinstance(error, InvalidPath)
    refusal = Refusal(
        code=Code.INVALID_PATH, message=str(error), field=error.field, value=error.value, remedy=f"{error.remedy}."
    )
    return _answer(request, refusal)


_DOCUMENT: dict[str, Any] = {}


def _complete_the_document(app: FastAPI) -> None:
    """Let the application describe itself. All applications have the same routes, so that one document serves all."""
    original = app.openapi

    def openapi() -> dict[str, Any]:
        if not _DOCUMENT:
            document = original()
            describe(document, ERROR_BODIES, TOO_SLOW)
            _DOCUMENT.update(document)
        return _DOCUMENT

    app.openapi = openapi  # type: ignore[method-assign]
