"""Routes about the process itself: health, readiness, version, metrics. They need no token."""

from __future__ import annotations

import asyncio
from importlib.metadata import PackageNotFoundError, version

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from springline.api.context import FromDeps
from springline.api.models import ReadyBody, VersionBody
from springline.api.ports import Probe

PROBE_TIMEOUT_S = 3.0

router = APIRouter(tags=["service"])


@router.get("/health", summary="Is the process alive?")
async def health() -> dict[str, str]:
    """Answer as long as the process runs, whatever it depends on."""
    return {"status": "ok"}


@router.get("/ready", summary="Can it do its work?", responses={503: {"model": ReadyBody}})
async def ready(deps: FromDeps, response: Response) -> ReadyBody:
    """Look at the store and at Temporal; 503 while either is out of reach."""
    answers = await asyncio.gather(*(_looked_at(probe) for probe in deps.probes.values()))
    checks = dict(zip(deps.probes, answers, strict=True))
    body = ReadyBody(ready=all(answer == "ok" for answer in answers), checks=checks)
    if not body.ready:
        response.status_code = 503
    return body


@router.get("/version", summary="What is running?")
async def running() -> VersionBody:
    """Return name and version of the software and of its API."""
    return VersionBody(name="springline", version=installed_version(), api="v1")


@router.get("/metrics", summary="Prometheus metrics", response_class=Response)
async def metrics(deps: FromDeps) -> Response:
    """Return this process's metrics in the Prometheus text format."""
    return Response(generate_latest(deps.metrics), media_type=CONTENT_TYPE_LATEST)


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
