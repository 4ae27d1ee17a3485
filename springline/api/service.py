"""Routes about the process itself: health, readiness, version, metrics. They need no token."""

from __future__ import annotations

import asyncio
import contextlib
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from fastapi import Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from springline.api.context import FromDeps, Operator, errors
from springline.api.models import ReadinessBody, ReadyBody, VersionBody
from springline.api.ports import Deps, Probe
from springline.api.urls import CheckedRouter
from springline.caches import Brief

PROBE_TIMEOUT_S = 5.0
SHARED_S = 0.5
"""Calls within so many seconds share one answer, because these routes need no token and each probe costs us."""

router = CheckedRouter(tags=["service"])


@router.get("/health", summary="Is the process alive?")
async def health() -> dict[str, str]:
    """Answer as long as the process runs, whatever it depends on."""
    return {"status": "ok"}


def readiness_of(deps: Deps) -> Brief[str, ReadinessBody]:
    """Return the readiness check of the process; calls within `SHARED_S` share one answer."""

    async def ask(_: str) -> ReadinessBody:
        return await _looked_at_all(deps)

    return Brief(ask, SHARED_S)


@router.get("/ready", summary="Can it do its work?", responses={503: {"model": ReadyBody}})
async def ready(request: Request, response: Response) -> ReadyBody:
    """Look at the store, Temporal and the workers; 503 while one of them is out of reach or another than it should be.

    Anybody may ask, and is told yes or no. What is wrong is told to operators: `GET /api/v1/readiness`.
    """
    found = await _readiness(request)
    response.status_code = 200 if found.ready else 503
    return ReadyBody(ready=found.ready)


@router.get("/api/v1/readiness", summary="What stands in the way?", responses=errors(503))
async def readiness(request: Request, workspace: Operator) -> ReadinessBody:
    """Tell what was found where `/ready` looks, whether it is ready or not.

    Runs that do not move are told as a warning: the others go on, and need this process.
    """
    return await _readiness(request)


async def _readiness(request: Request) -> ReadinessBody:
    shared: Brief[str, ReadinessBody] = request.app.state.readiness
    return await shared.get("")


async def _looked_at_all(deps: Deps) -> ReadinessBody:
    answers = await asyncio.gather(*map(_looked_at, [*deps.probes.values(), *deps.warnings.values()]))
    found = dict(zip([*deps.probes, *deps.warnings], answers, strict=True))
    checks = {name: found[name] for name in deps.probes}
    warnings = {name: found[name] for name in deps.warnings if found[name] != "ok"}
    return ReadinessBody(ready=all(answer == "ok" for answer in checks.values()), checks=checks, warnings=warnings)


@router.get("/version", summary="What is running?")
async def running(deps: FromDeps) -> VersionBody:
    """Return name and version of the software and of its API, and the id of its store."""
    store_id = None
    if deps.store_id is not None:
        with contextlib.suppress(Exception):
            store_id = await asyncio.wait_for(deps.store_id(), PROBE_TIMEOUT_S)
    return VersionBody(name="springline", version=installed_version(), api="v1", store_id=store_id)


@router.get("/metrics", summary="Prometheus metrics", response_class=Response)
async def metrics(deps: FromDeps) -> Response:
    """Return this process's metrics in the Prometheus text format."""
    return Response(generate_latest(deps.metrics), media_type=CONTENT_TYPE_LATEST)


@cache
def installed_version() -> str:
    """Return the version of the installed package, `unknown` in a bare checkout."""
    try:
        return version("springline")
    except PackageNotFoundError:
        return "unknown"


async def _looked_at(probe: Probe) -> str:
    try:
        await asyncio.wait_for(probe(), PROBE_TIMEOUT_S)
    except TimeoutError:
        return f"no answer within {PROBE_TIMEOUT_S:g} s"
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:300]
    return "ok"
