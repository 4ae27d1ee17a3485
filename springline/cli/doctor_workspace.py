"""The checks of `springline doctor` in workspaces: the published state, all accepted events, tables, definitions.

Workspaces are found by listing the bucket, skipping the objects under each. `deep` reads all records of accepted events
and lists the ledger: only so does it find that all newer objects, with pointer and records, have vanished together. It
also reads the whole log of each table, and lists the markers.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress

from springline.cli.findings import Finding, PublishedSettings, fine, skipped, unreachable, wrong
from springline.cli.presence import find_workspaces
from springline.commit.audit import audit, glance
from springline.commit.inspect import list_tables
from springline.commit.repair import registry_problems
from springline.commit.table import CommitTable
from springline.deployed.pools import read_settings
from springline.deployed.reading import LOST, read_latest, read_manifest
from springline.paths import (
    Scope,
    deployed_manifest,
    event_id_from_ledger_path,
    ledger_prefix,
    orchestration_rounds_prefix,
    parse_orchestration_round,
    parse_table_entry,
)
from springline.projection.schema import OPEN_RUN, RUNS
from springline.published.head import PublishedHead, read_head
from springline.published.index import EventsIndex
from springline.published.index_files import read_index, read_node
from springline.published.lists import equals
from springline.published.reader import read_published
from springline.sequencer.accepted import AcceptedSet, pending_rounds, survey
from springline.storage.damage import RUNBOOK, DamagedObject
from springline.storage.port import ObjectStore, StoreMisconfigured, StoreRetry, StoreUnknown
from springline.storage.scoped import ScopedStore
from springline.storage.together import each
from springline.ulids import is_canonical_ulid

GAP_RUNBOOK = "runbooks/ledger-gap.md"
_SHOWN = 3


MOST_WORKSPACES = 50
"""How many workspaces are checked by default; one more is named, and checked on request."""
MOST_TABLES = 200
"""How many tables of a workspace are checked."""


async def all_workspaces_findings(store: ObjectStore, *, deep: bool) -> list[Finding]:
    """Check `MOST_WORKSPACES` workspaces of `store`, which is the whole bucket; add a finding if there are more."""
    try:
        scopes = await find_workspaces(store, MOST_WORKSPACES + 1)
    except (StoreRetry, StoreUnknown) as error:
        return [unreachable(_ALL, f"no clear answer: {error}", "Run `springline doctor` again.")]
    except StoreMisconfigured as error:
        return [skipped(_ALL, f"the store cannot be listed ({error}); name one with --tenant and --workspace")]
    if not scopes:
        return [fine(_ALL, "there is none in the store yet")]
    found: list[Finding] = []
    for scope in scopes[:MOST_WORKSPACES]:
        found += await workspace_findings(store, scope, deep=deep)
    if len(scopes) > MOST_WORKSPACES:
        first = scopes[MOST_WORKSPACES]
        what = (
            f"{MOST_WORKSPACES} were looked at, and there are more, from {first.tenant}/{first.workspace} on; "
            "name each of them with --tenant and --workspace"
        )
        found.append(skipped(_ALL, what))
    return found


_ALL = "workspaces"


async def published_settings(store: ObjectStore, scope: Scope | None) -> list[PublishedSettings]:
    """Return how the published states were folded: of a workspace of `store`, which is the whole bucket, or of all.

    Those that cannot be read, and those that the reference has published, are left out. Raises the store's errors.
    """
    found: list[PublishedSettings] = []
    for one in [scope] if scope is not None else await find_workspaces(store, MOST_WORKSPACES):
        with suppress(DamagedObject):
            head = await read_head(ScopedStore(store, one))
            ours = None if head is None else head.manifest.springline
            if ours is not None:
                name = f"{one.tenant}/{one.workspace}"
                found.append(PublishedSettings(name, ours.config.fingerprint, ours.config.retention_days))
    return found


async def workspace_findings(store: ObjectStore, scope: Scope, *, deep: bool) -> list[Finding]:
    """Check a workspace of `store`, which is the whole bucket; one finding for each problem."""
    name = f"workspace {scope.tenant}/{scope.workspace}"
    try:
        scoped = ScopedStore(store, scope)
        return [
            *await _examine(scoped, name, deep=deep),
            *await _tables(scoped, scope, deep=deep),
            *await _definitions(scoped, scope),
            *(await _needed_manifests(scoped, scope) if deep else []),
        ]
    except (StoreRetry, StoreUnknown) as error:
        return [unreachable(name, f"no clear answer: {error}", "Run `springline doctor` again.")]


async def _tables(store: ScopedStore, scope: Scope, *, deep: bool) -> list[Finding]:
    """Check the tables of a workspace; one finding for each damaged object, or one if none is damaged."""
    page = await list_tables(store, limit=MOST_TABLES)
    name = f"tables of {scope.tenant}/{scope.workspace}"
    found = [_table_finding(scope, _id_of(one.object), one.object, one.problem, _RECOVER) for one in page.damaged]
    for listed in page.tables:
        entry = listed.entry
        table = CommitTable(store, entry.table_id, entry.root)
        found += [
            _table_finding(scope, entry.name, one.object, one.problem, _RECOVER)
            for one in await registry_problems(store, entry.table_id)
        ]
        findings = (await audit(table, deep=True)).findings if deep else await glance(table)
        found += [_table_finding(scope, entry.name, one.object, one.problem, one.remedy) for one in findings]
    if page.cursor is not None:
        what = f"{MOST_TABLES} were looked at, and there are more; `springline table verify` looks at one"
        found.append(skipped(name, what))
    if not found and page.tables:
        found.append(fine(name, f"{len(page.tables)} table(s), and nothing is wrong with what was looked at"))
    return found


async def _definitions(store: ScopedStore, scope: Scope) -> list[Finding]:
    """Check the deployed manifest of a workspace, and the sizes of its pools; nothing if nothing is deployed."""
    name = f"definitions of {scope.tenant}/{scope.workspace}"
    try:
        found = await read_latest(store)
        await read_settings(store)
    except DamagedObject as error:
        return [_damaged(name, error)]
    if found is None:
        return []
    manifest = found.manifest
    tasks = f" and {len(manifest.tasks)} task(s)" if manifest.tasks else ""
    what = f"{len(manifest.assets)} asset(s){tasks} of {len(manifest.locations)} code location(s)"
    return [fine(name, f"manifest {manifest.manifest_id} is deployed: {what}")]


async def _needed_manifests(store: ScopedStore, scope: Scope) -> list[Finding]:
    """Read the manifests by which runs go on; one finding for each that is lost or damaged."""
    try:
        _, snapshot = await read_published(store, (RUNS.name,))
    except DamagedObject as error:
        return [_damaged(f"runs of {scope.tenant}/{scope.workspace}", error)]
    rows = snapshot[RUNS.name].select(equals(RUNS, "state", list(OPEN_RUN)))
    named = Counter(row[RUNS.index("code_version")] for row in rows)
    problems: list[DamagedObject] = []
    for manifest_id, runs in named.items():
        if not isinstance(manifest_id, str) or not is_canonical_ulid(manifest_id):
            continue
        try:
            manifest = await read_manifest(store, manifest_id)
        except DamagedObject as error:
            problems.append(error)
        else:
            if manifest is None:
                why = f"is missing, and {runs} open run(s) name it"
                problems.append(DamagedObject(deployed_manifest(manifest_id), why, LOST))
    return [_damaged(f"runs of {scope.tenant}/{scope.workspace}", error) for error in problems]


_RECOVER = "Run `springline table recover --replace-damaged --markers` for it; runbooks/coordinator-lost.md tells more."


def _id_of(path: str) -> str:
    """Return the name of a damaged entry: the id in its path."""
    return parse_table_entry(path) or path


def _table_finding(scope: Scope, table: str, path: str, problem: str, remedy: str) -> Finding:
    return wrong(f"table {scope.tenant}/{scope.workspace}/{table}", f"{path}: {problem}", remedy)


async def _examine(store: ObjectStore, name: str, *, deep: bool) -> list[Finding]:
    found: list[Finding] = []
    head: PublishedHead | None = None
    index: EventsIndex | None = None
    pending = 0
    try:
        head = await read_head(store)
        ours = None if head is None else head.manifest.springline
        pending = len(await pending_rounds(store, 0 if ours is None else ours.rounds_folded))
        index = await read_index(store, None if ours is None else ours.events.index)
        await each(lambda ref: read_node(store, ref), index.nodes)
    except DamagedObject as error:
        found.append(_damaged(name, error))
    if deep:
        found += await _deep(store, name, head, index)
    if found:
        return found
    if head is None:
        return [fine(name, "nothing is published, and nothing says that anything was")]
    waits = f", {pending} round(s) are accepted and not visible: the next append finishes them" if pending else ""
    return [fine(name, f"manifest {head.manifest.manifest_id} is published{waits}")]


async def _deep(store: ObjectStore, name: str, head: PublishedHead | None, index: EventsIndex | None) -> list[Finding]:
    """Read all records of accepted events, and list the ledger."""
    ours = None if head is None else head.manifest.springline
    if ours is None:
        accepted = await survey(store, None, folded=None)
    else:
        accepted = await survey(store, index, folded=ours.rounds_folded, count=ours.events.count)
    found = [_damaged(name, hole.error) for hole in accepted.holes]
    found += [_damaged(name, hole.error) for hole in accepted.passed_over]
    numbers = [
        number
        async for info in store.list(orchestration_rounds_prefix())
        if (number := parse_orchestration_round(info.path)) is not None
    ]
    if max(numbers, default=0) > accepted.last_round:
        what = f"there is a record of round {max(numbers)}, and {accepted.last_round} is the last that can be reached"
        found.append(wrong(name, what, f"Restore the records between them from a copy; {RUNBOOK} tells more."))
    return [*found, *await _unknown_events(store, name, accepted)]


async def _unknown_events(store: ObjectStore, name: str, accepted: AcceptedSet) -> list[Finding]:
    unknown = [
        info.path
        async for info in store.list(ledger_prefix())
        if (event_id := event_id_from_ledger_path(info.path)) is not None and event_id not in accepted.hashes
    ]
    if not unknown:
        return []
    shown = ", ".join(unknown[-_SHOWN:])
    what = f"{len(unknown)} event(s) lie in the ledger, and nothing says that they were accepted, such as {shown}"
    remedy = f"{GAP_RUNBOOK} tells whose they are; if round records are gone as well, restore these from a copy first."
    return [wrong(name, what, remedy)]


def _damaged(name: str, error: DamagedObject) -> Finding:
    remedy = f"{error.remedy[0].upper()}{error.remedy[1:]}; {RUNBOOK} tells more."
    return wrong(name, f"{error.path} {error.why}", remedy)
