"""The checks of `springline doctor`: configuration, store, clock and API. Those of Temporal are behind a port."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from difflib import get_close_matches
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx

from springline.cli.doctor_runs import runs_findings
from springline.cli.findings import Finding, FindingState, PublishedSettings, fine, skipped, unreachable, wrong
from springline.cli.grid import instant
from springline.cli.http import TABLES, TOKEN_VARIABLE
from springline.cli.variables import unknown_variables
from springline.config import PREFIX, ConfigurationError, Settings, load_settings
from springline.errors import InvariantViolated
from springline.local.processes import module_command, module_path
from springline.paths import Scope, canary_object
from springline.storage.canary import canary
from springline.storage.filesystems import unsupported_filesystem
from springline.storage.identity import known_store_id
from springline.storage.local import OWN_FOLDER
from springline.storage.port import (
    IfAbsent,
    IfVersion,
    ObjectStore,
    Stored,
    StoreError,
    StoreMisconfigured,
    StoreRetry,
    StoreUnknown,
)
from springline.storage.url import open_store

TemporalFindings = Callable[[str | None, str | None, Sequence[PublishedSettings]], Awaitable[list[Finding]]]
"""Looks at Temporal and the workers. It is told the id of the store that is configured here and the name of the hooks
to connect with, None for what is not known, and how the states of workspaces were folded."""
_TEMPORAL = "entrypoints.doctor"

CLOCK_TOLERANCE_SECONDS = 60.0
HTTP_TIMEOUT_SECONDS = 5.0
GCS_ENDPOINT = "https://storage.googleapis.com"
EMULATOR_VARIABLE = "STORAGE_EMULATOR_HOST"
_STORE_VARIABLE = f"{PREFIX}STORE_URL"
_STORE_CHECKS = ("store permissions", "store preconditions")


async def examine(
    store_url: str | None,
    api_url: str | None,
    temporal: TemporalFindings,
    *,
    new_name: Callable[[], str],
    scope: Scope | None = None,
    deep: bool = False,
    token: str | None = None,
) -> list[Finding]:
    """Check everything and return the findings, in the order in which they are best corrected.

    `store_url` overrides the environment's; `api_url` may be None; `new_name` makes names of scratch objects
    that are never used twice. `scope`: the workspace to check, by default all; `deep` lists its objects.
    `token`: the bearer token for calls of the API.
    """
    settings, findings = configuration(store_url)
    findings = [*misspelt(os.environ), *findings]
    url = settings.store_url if settings is not None else store_url
    if url is None:
        findings += [skipped(name, f"{_STORE_VARIABLE} is not usable") for name in ("store", *_STORE_CHECKS)]
    store, unopened = (None, []) if url is None else _opened(url)
    try:
        ours = None if store is None else await _store_id(store)
        published = [] if store is None or ours is None else await _published_settings(store, scope)
        store_part, clock_part, api_part, runs_part, temporal_part = await asyncio.gather(
            _nothing() if url is None or store is None else examine_url(url, store, new_name(), scope, deep=deep),
            clocks(url, api_url),
            api_findings(api_url, token, ours, scope),
            runs_findings(api_url, token),
            temporal(ours, None if settings is None else settings.temporal_hooks, published),
        )
    finally:
        if store is not None:
            await store.aclose()
    return [*findings, *unopened, *store_part, *clock_part, *api_part, *runs_part, *temporal_part]


async def temporal_findings(
    store_id: str | None, hooks_name: str | None, published: Sequence[PublishedSettings]
) -> list[Finding]:
    """Have Temporal and the workers looked at by the server side, in a process of its own.

    Nothing of the server side is imported here: beside a user's pipelines its modules may not be those of the name.
    """
    environment = os.environ | {"PYTHONPATH": module_path(os.environ.get("PYTHONPATH"))}
    process = await asyncio.create_subprocess_exec(
        *module_command(_TEMPORAL, store_id or "", hooks_name or "", json.dumps(published)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
    )
    try:
        said, complaint = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode != 0:
        lines = complaint.decode(errors="replace").strip().splitlines() or ["nothing was said"]
        remedy = f"See `{sys.executable} -P -m {_TEMPORAL}`."
        return [wrong("temporal", f"could not be looked at: {lines[-1]}", remedy)]
    return [Finding(one["name"], FindingState(one["state"]), one["what"], one["remedy"]) for one in json.loads(said)]


def configuration(store_url: str | None) -> tuple[Settings | None, list[Finding]]:
    """Read the configuration as every process does; one finding for each variable that is wrong."""
    try:
        settings = load_settings({} if store_url is None else {"store_url": store_url})
    except ConfigurationError as error:
        found = [wrong(problem.variable, problem.message, problem.remedy) for problem in error.problems]
        return None, found
    findings = [fine("configuration", f"every {PREFIX}* variable that is set has a usable value")]
    if settings.jwt_secret is None and settings.jwt_jwks_url is None:
        name = f"{PREFIX}JWT_SECRET"
        remedy = f"set {name} or {PREFIX}JWT_JWKS_URL where the API runs"
        findings.append(skipped(name, f"is not set: this environment can run workers, but not the API; {remedy}"))
    return settings, findings


def misspelt(environment: Iterable[str]) -> list[Finding]:
    """Return a finding for each variable that looks like one of ours and is unknown."""
    return [
        wrong(
            name,
            "is set, and nothing reads it",
            f"Did you mean {nearest}? Rename or unset it." if nearest else "Unset it; see springline/config.py.",
        )
        for name, nearest in unknown_variables(environment).items()
    ]


def _opened(url: str) -> tuple[ObjectStore | None, list[Finding]]:
    """Open the store at `url`, which the caller closes; without one, findings say why."""
    try:
        return open_store(url), []
    except StoreMisconfigured as error:
        remedy = f"Correct --store or {_STORE_VARIABLE}; for gs:// also look at GOOGLE_APPLICATION_CREDENTIALS."
        return None, [wrong("store", str(error), remedy), *_skip("the store cannot be opened")]


async def examine_url(
    url: str, store: ObjectStore, name: str, scope: Scope | None = None, *, deep: bool = False
) -> list[Finding]:
    """Check the store at `url`, which is open, with a scratch object of this `name`, then check a workspace in it."""
    kind = unsupported_filesystem(folder) if (folder := _folder_of(url)) is not None else None
    lost = None if folder is None or folder.exists() else _lost(url, folder)
    if lost is not None:
        return [lost, *_skip("the store's folder is not there")]
    if kind is not None:
        return [_network_file_system(url, kind), *_skip("the file system is not usable")]
    found = [fine("store", f"{url} can be opened"), *await examine_store(store, name)]
    if not all(one.ok is not False for one in found):
        return [*found, skipped("workspaces", "the store cannot be used as it is")]
    # Segments need Arrow's codecs, which take a moment to import: so import them only here.
    from springline.cli.doctor_workspace import all_workspaces_findings, workspace_findings  # noqa: PLC0415

    if scope is None:
        return [*found, *await all_workspaces_findings(store, deep=deep)]
    return [*found, *await workspace_findings(store, scope, deep=deep)]


async def examine_store(store: ObjectStore, name: str) -> list[Finding]:
    """Try every operation on a scratch object, then whether preconditions are enforced."""
    permissions = await permission_finding(store, name)
    if not permissions.ok:
        return [permissions, skipped(_STORE_CHECKS[1], "the store cannot be used as it is")]
    return [permissions, await precondition_finding(store, name)]


async def permission_finding(store: ObjectStore, name: str) -> Finding:
    """Create, read, overwrite and delete one scratch object; the finding names the first operation that fails."""
    path = canary_object(f"{name}-permissions")
    doing, permission = "create", "storage.objects.create"
    try:
        created = await store.put(path, b"created", IfAbsent())
        doing, permission = "read", "storage.objects.get"
        there = await store.get(path)
        if not isinstance(created, Stored) or there is None or there.data != b"created":
            return wrong(
                _STORE_CHECKS[0],
                f"{path} does not read back as it was written",
                "Use another store: one with strong read-after-write consistency.",
            )
        doing, permission = "overwrite", "storage.objects.delete (which overwriting needs)"
        swapped = await store.put(path, b"overwritten", IfVersion(created.version))
        doing, permission = "delete", "storage.objects.delete"
        gone = isinstance(swapped, Stored) and await store.delete(path, if_version=swapped.version)
    except StoreMisconfigured as error:
        return wrong(
            _STORE_CHECKS[0],
            f"cannot {doing} an object: {error}",
            f"For a bucket grant {permission}, for example by roles/storage.objectUser; for a folder let this user "
            "write there.",
        )
    except (StoreRetry, StoreUnknown) as error:
        return unreachable(
            _STORE_CHECKS[0],
            f"no clear answer when it was to {doing} an object: {error}",
            f"Check the network and, for an emulator, {EMULATOR_VARIABLE}; then run `springline doctor` again.",
        )
    if not gone:
        return wrong(
            _STORE_CHECKS[0],
            f"{path} cannot be overwritten or deleted at the version that was just written",
            "Use a store whose objects can be overwritten: no retention policy, no object holds.",
        )
    return fine(_STORE_CHECKS[0], "objects can be created, read, overwritten and deleted")


async def precondition_finding(store: ObjectStore, name: str) -> Finding:
    """Race two conditional creates and try a stale compare-and-swap (the canary of every worker's start)."""
    try:
        await canary(store, name)
    except StoreMisconfigured as error:
        return wrong(
            _STORE_CHECKS[1],
            str(error),
            "Use Google Cloud Storage, a local folder, or an emulator that enforces ifGenerationMatch.",
        )
    except (StoreRetry, StoreUnknown) as error:
        return unreachable(_STORE_CHECKS[1], f"no clear answer: {error}", "Run `springline doctor` again.")
    return fine(_STORE_CHECKS[1], "of two racing creates one wins, and a stale compare-and-swap is refused")


async def clocks(store_url: str | None, api_url: str | None) -> list[Finding]:
    """Compare this machine's clock with those of the bucket and the API, over HTTP."""
    findings = []
    if store_url is not None and store_url.startswith("gs:"):
        findings.append(await clock("clock against the store", bucket_endpoint()))
    if api_url is not None:
        findings.append(await clock("clock against the API", api_url))
    return findings or [skipped("clock", "nothing with a clock of its own to compare with: no bucket, no API")]


async def clock(name: str, url: str, *, now: Callable[[], float] = time.time) -> Finding:
    """Compare the local clock, in Unix seconds, with the Date of an HTTP answer from `url`, with any status."""
    before = now()
    try:
        async with httpx.AsyncClient(timeout=HTTP_TIMEOUT_SECONDS) as client:
            answer = await client.get(url)
        remote = parsedate_to_datetime(answer.headers["Date"]).timestamp()
    except (httpx.HTTPError, httpx.InvalidURL):
        return skipped(name, f"no answer from {url}")
    except (KeyError, ValueError):
        return skipped(name, f"{url} answers without a usable Date")
    return judge_clock(name, before, now(), remote)


def judge_clock(name: str, before_s: float, after_s: float, remote_s: float) -> Finding:
    """Judge a clock by its Unix seconds before and after a call and the other side's in between.

    The Date of HTTP has no fractions of a second, so a difference of up to one second means nothing.
    """
    off = 0.0
    if remote_s > after_s:
        off = after_s - remote_s
    elif remote_s + 1 < before_s:
        off = before_s - remote_s - 1
    said = f"{abs(off):.0f} s {'behind' if off < 0 else 'ahead'}"
    if abs(off) > CLOCK_TOLERANCE_SECONDS:
        return wrong(
            name,
            f"this machine's clock is {said}: idempotency keys (UUIDv7) and tokens carry its time",
            "Set the clock, for example with `timedatectl set-ntp true`, and run `springline doctor` again.",
        )
    return fine(name, f"this machine's clock is right to {CLOCK_TOLERANCE_SECONDS:.0f} s ({said})")


async def api_findings(
    url: str | None, token: str | None, ours: str | None = None, scope: Scope | None = None
) -> list[Finding]:
    """Check that the API is ready, that its store is the one with the id `ours`, and that it accepts the token.

    `scope`: the checked workspace, which the token should be for.
    """
    if url is None:
        return [skipped("api", "no address is given: --api, SPRINGLINE_API_URL or a profile")]
    usable = token if token and token.isascii() and token.isprintable() else None
    found = await _api_health(url, usable, ours)
    if found.state is FindingState.WRONG and "Springline API" in found.what:
        return [found, skipped("token", "there is no API to try it with")]
    return [found, await token_finding(url, token, scope)]


async def _api_health(url: str, token: str | None, ours: str | None) -> Finding:
    remedy = "Start the API (`python -m entrypoints.api`, or `springline dev`) or correct SPRINGLINE_API_URL."
    if not url.startswith(("http://", "https://")):
        return wrong("api", f"{url} is not the address of a Springline API", "Give an http:// or https:// URL.")
    try:
        async with httpx.AsyncClient(timeout=HTTP_TIMEOUT_SECONDS) as client:
            answer = await client.get(f"{url.rstrip('/')}/ready")
            running = _document(await client.get(f"{url.rstrip('/')}/version"))
            told = await _readiness(client, url, token)
    except httpx.ProtocolError as error:
        return wrong("api", f"{url} answers, and is not a Springline API ({error})", remedy)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return unreachable("api", f"no answer from {url} ({type(error).__name__}: {error})", remedy)
    if answer.status_code in (httpx.codes.OK, httpx.codes.SERVICE_UNAVAILABLE):
        if running.get("name") != "springline":
            return wrong("api", f"{url} answers, and is not a Springline API", remedy)
        if ours is not None and running.get("store_id") not in (None, ours):
            said = f"the store of {url} is not the one that is configured here"
            return wrong("api", said, f"Give both the same {_STORE_VARIABLE}, or correct SPRINGLINE_API_URL.")
    if answer.status_code == httpx.codes.OK:
        warnings = told.get("warnings")
        if warnings:
            return wrong("api", f"{url} is ready, and warns: {str(warnings)[:300]}", "See what it names.")
        return fine("api", f"{url} is ready")
    if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
        if not told:
            hidden = f"Set {TOKEN_VARIABLE} to a token with the scope operate: it tells operators why."
            return unreachable("api", f"{url} is not ready", hidden)
        checks = {name: said for name, said in dict(told.get("checks") or {}).items() if said != "ok"}
        return unreachable("api", f"{url} is not ready: {str(checks)[:300]}", "See what it names; try again then.")
    return wrong("api", f"{url} answers HTTP {answer.status_code}: not a Springline API", remedy)


async def _readiness(client: httpx.AsyncClient, url: str, token: str | None) -> dict[str, Any]:
    """Return the readiness that the API tells operators; empty without a token that it accepts."""
    if token is None:
        return {}
    path = f"{url.rstrip('/')}/api/v1/readiness"
    answer = await client.get(path, headers={"Authorization": f"Bearer {token}"})
    return _document(answer) if answer.status_code == httpx.codes.OK else {}


async def token_finding(url: str, token: str | None, scope: Scope | None = None) -> Finding:
    """Try the bearer token on the API, and say for which workspace and until when it is."""
    remedy = f"Give another one by --token, --token-file, {TOKEN_VARIABLE} or a profile; `springline token` makes one."
    if not token:
        return skipped("token", f"none is given: what asks the API needs one ({TOKEN_VARIABLE})")
    claims = _claims(token)
    if claims is None:
        return wrong("token", "the token is none: a JWT has three parts that are base64 of JSON", remedy)
    until = claims.get("exp")
    ends = instant(int(until * 1000)) if isinstance(until, int | float) else None
    if isinstance(until, int | float) and until < time.time():
        return wrong("token", f"the token expired at {ends}", remedy)
    place = f"{claims.get('tenant')}/{claims.get('workspace')}"
    try:
        async with httpx.AsyncClient(timeout=HTTP_TIMEOUT_SECONDS) as client:
            answer = await client.get(
                f"{url.rstrip('/')}{TABLES}", params={"limit": 1}, headers={"Authorization": f"Bearer {token}"}
            )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return skipped("token", f"no answer from {url} ({type(error).__name__})")
    if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        said = str(_document(answer).get("message") or f"HTTP {answer.status_code}")
        return wrong("token", f"the API refuses it: {said}", remedy)
    if scope is not None and place != f"{scope.tenant}/{scope.workspace}":
        asked = f"{scope.tenant}/{scope.workspace}"
        return wrong("token", f"the token is of workspace {place}, and {asked} is looked at", remedy)
    if answer.status_code != httpx.codes.OK:
        return skipped("token", f"the API answers HTTP {answer.status_code} to it at the moment")
    return fine("token", f"the API takes it: workspace {place}, {claims.get('scope')}, until {ends or 'for ever'}")


def _claims(token: str) -> dict[str, Any] | None:
    """Return the claims of a token, unverified; None if it is not a JWT."""
    import jwt  # noqa: PLC0415 - loads the cryptography library

    try:
        claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    except jwt.InvalidTokenError:
        return None
    return claims


def _document(answer: httpx.Response) -> dict[str, Any]:
    """Return the JSON object of an answer, an empty one if it has none."""
    try:
        found = answer.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


async def _store_id(store: ObjectStore) -> str | None:
    """Return the id of the store, empty if it has none, None if it cannot be read."""
    try:
        return await known_store_id(store) or ""
    except (StoreError, InvariantViolated, OSError):
        return None


async def _published_settings(store: ObjectStore, scope: Scope | None) -> list[PublishedSettings]:
    """Return how the published states of the store were folded, as far as they can be read."""
    from springline.cli.doctor_workspace import published_settings  # noqa: PLC0415 - Arrow takes a moment

    try:
        return await published_settings(store, scope)
    except (StoreError, InvariantViolated, OSError):
        return []


def bucket_endpoint() -> str:
    """Return the URL at which the bucket, or its emulator, answers HTTP."""
    host = os.environ.get(EMULATOR_VARIABLE)
    if not host:
        return GCS_ENDPOINT
    return host if "://" in host else f"http://{host}"


def _folder_of(url: str) -> Path | None:
    parts = urlsplit(url)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def _lost(url: str, folder: Path) -> Finding | None:
    """Judge a missing folder: a finding if it may be misspelt, None if the first write will probably create it."""
    parent = folder.parent
    if not parent.is_dir():
        return wrong("store", f"{url}: there is no folder {parent}", f"Correct --store or {_STORE_VARIABLE}.")
    stores = [one.name for one in parent.iterdir() if (one / OWN_FOLDER).is_dir()]
    nearest = get_close_matches(folder.name, stores, 1)
    if not nearest:
        return None
    meant = (parent / nearest[0]).as_uri()
    return wrong(
        "store", f"{url}: there is no such folder", f"Did you mean {meant}? Correct --store or {_STORE_VARIABLE}."
    )


def _network_file_system(url: str, kind: str) -> Finding:
    return wrong(
        "store",
        f"{url} lies on a file system of type {kind}, on which locks do not bind every machine",
        "Use a folder on a local disk, or a bucket.",
    )


def _skip(why: str) -> list[Finding]:
    return [skipped(name, why) for name in _STORE_CHECKS]


async def _nothing() -> list[Finding]:
    return []
