"""The checks of `springline doctor` on runs and schedules of the token's workspace, by what the API tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import httpx

from springline.cli.findings import Finding, fine, skipped, unreachable, wrong
from springline.cli.http import REPAIR, RUNS, SCHEDULES
from springline.ulids import is_canonical_ulid

TASKS: Final = "/api/v1/tasks"
TIMEOUT_S: Final = 5.0
MOST_RUNS: Final = 1_000
MOST_TASKS: Final = 1_000
"""How many open runs and running tasks are looked at."""
RUNBOOK: Final = "runbooks/run-stuck.md"
REPAIR_RUNBOOK: Final = "runbooks/repair.md"
_NAME: Final = "runs"
MOST_SCHEDULES: Final = 1_000
OVERDUE_S: Final = 30.0
"""An instant is decided on within seconds."""
DRIFT_RUNBOOK: Final = "runbooks/schedule-drift.md"
_SHOWN: Final = 3

Json = Mapping[str, Any]


async def runs_findings(url: str | None, token: str | None) -> list[Finding]:
    """Check whether runs go on in the workspace of the token; nothing without API or token."""
    if url is None or not token or not token.isascii() or not token.isprintable():
        return []
    headers = {"Authorization": f"Bearer {token}"}
    try:
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=TIMEOUT_S) as client:
            active = await client.get(RUNS, params={"state": ["TRIGGERED", "RUNNING"], "limit": MOST_RUNS})
            repair = await client.get(REPAIR)
            schedules = await client.get(SCHEDULES, params={"enabled": True, "limit": MOST_SCHEDULES})
            tasks = await client.get(TASKS, params={"state": "RUNNING", "limit": MOST_TASKS})
        if not all(one.status_code == httpx.codes.OK for one in (active, repair, tasks, schedules)):
            # What is wrong with API and token is a finding of its own.
            return [skipped(_NAME, "the API does not tell of them with this token at the moment")]
        # Runs of no deployed manifest are executed by others.
        ours = {one["run_id"] for one in active.json()["items"] if is_canonical_ulid(one.get("code_version") or "")}
        due = schedule_findings(schedules.json()["items"], datetime.now(UTC))
        found = [
            *repair_findings(repair.json(), has_work=bool(ours) or bool(schedules.json()["items"])),
            *silent_findings([one for one in tasks.json()["items"] if one["run_id"] in ours], datetime.now(UTC)),
        ]
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError) as error:
        return [skipped(_NAME, f"the API does not tell of them ({type(error).__name__})")]
    return [*(found or [fine(_NAME, "none stands still that should go on")]), *due]


def repair_findings(view: Json, *, has_work: bool) -> list[Finding]:
    """Judge what Repair tells of its last look: nobody looks, it cannot, or what it does has not helped."""
    name = "repair"
    last = view["last"] or {"items": [], "trouble": [], "waiting_requests": 0}
    if not view["running"]:
        if not has_work:
            return []
        what = "nothing looks after the workspace, though it has runs or schedules: what has lost its workflow stays so"
        return [unreachable(name, what, "`springline repair run` starts it; workers do within minutes, if one runs.")]
    found = []
    if view["trouble"] is not None:
        what = f"the last look at the workspace has failed: {view['trouble']}"
        found.append(wrong(name, what, f"Correct what it names; {REPAIR_RUNBOOK} tells more."))
    found += [wrong(name, said, f"See {REPAIR_RUNBOOK}.") for said in last["trouble"][:_SHOWN]]
    stays = [one for one in last["items"] if one["times"] > 0 or one["error"] is not None]
    for one in stays[:_SHOWN]:
        about = f"{one['kind']} {one['subject']}".strip()
        failed = "" if one["error"] is None else f", and the repair fails: {one['error']}"
        what = f"{about}: {one['why']}, still after {one['times']} repair(s){failed}"
        found.append(wrong(name, what, f"See {REPAIR_RUNBOOK}, what stays."))
    if len(stays) > _SHOWN:
        found.append(wrong(name, f"{len(stays) - _SHOWN} more findings stay", "`springline repair show` names them."))
    return found


def schedule_findings(schedules: Sequence[Json], now: datetime) -> list[Finding]:
    """Judge schedules that are on: nobody decides on an instant that has come, or it is never due. None: no finding."""
    on = [one for one in schedules if is_canonical_ulid(one.get("code_version") or "")]
    on = [one for one in on if not (one.get("settings") or {}).get("deleted")]
    name, found = "schedules", []
    late = sorted((one["overdue_since"], one["schedule_id"]) for one in on if one.get("overdue_since"))
    late = [one for one in late if (now - datetime.fromisoformat(one[0])).total_seconds() > OVERDUE_S]
    if late:
        more = "" if len(late) == 1 else f", and {len(late) - 1} more"
        what = f"nobody has decided on the instant {late[0][0]} of {late[0][1]}{more}: the evaluator is late or gone"
        found.append(wrong(name, what, f"`springline repair run` brings it back; {DRIFT_RUNBOOK} tells more."))
    never = [one["schedule_id"] for one in on if one.get("next_due_at") is None]
    if never:
        what = f"{len(never)} that are on are never due, such as {', '.join(never[:_SHOWN])}: the line cannot be read"
        found.append(wrong(name, what, "`springline explain schedule SCHEDULE` says why; correct the definition."))
    if not on:
        return []
    return found or [fine(name, f"{len(on)} are on, and every instant that has come is decided on")]


def silent_findings(tasks: Sequence[Json], now: datetime) -> list[Finding]:
    """Judge running tasks of which the ledger has heard nothing for longer than it should."""
    silent = []
    for one in tasks:
        heard = [datetime.fromisoformat(at) for at in (one.get("last_heartbeat_at"), one.get("started_at")) if at]
        limit_s = one.get("heartbeat_timeout_sec")
        if heard and limit_s and (now - max(heard)).total_seconds() > limit_s:
            silent.append((max(heard), f"{one['task_key']} of run {one['run_id']}"))
    if not silent:
        return []
    silent.sort()
    since, first = silent[0]
    more = "" if len(silent) == 1 else f", and {len(silent) - 1} more"
    what = f"the ledger has heard nothing of {first} since {since:%Y-%m-%dT%H:%M:%SZ}{more}: its run does not tell"
    return [wrong("attempts", what, f"See whether the run's workflow is alive: {RUNBOOK}, step 2.")]
