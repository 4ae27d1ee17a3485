"""`springline rebuild start | watch | verify | explain | cancel`: through the HTTP API, with a bar for people."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from springline.cli.documents import Document, Verdict, hint
from springline.cli.http import DEFAULT_WAIT_SECONDS, REBUILD, Api, ApiOption, TokenOption, WaitOption
from springline.cli.rebuild_account import next_step, told
from springline.cli.rebuild_plan import OutOption, Plan, plan_of_index
from springline.cli.rebuild_progress import Bar
from springline.cli.stores import OptionalTenant, OptionalWorkspace, StoreOption
from springline.errors import EXIT_CONFLICT, EXIT_DONE, Code, Refusal, Refused, refused
from springline.rebuild.messages import RebuildMode, RebuildView

POLL_SECONDS = 0.5

ManifestArgument = Annotated[
    str, typer.Argument(metavar="MANIFEST", help="Path of a rebuild manifest, as `rebuild plan` prints it.")
]
OptionalManifest = Annotated[
    str | None,
    typer.Argument(
        metavar="[MANIFEST]", help="Path of a rebuild manifest; without one, all accepted events are listed first."
    ),
]
ModeOption = Annotated[
    RebuildMode,
    typer.Option(
        "--mode",
        help="catch-up: fold listed events above the watermark. full: fold all from nothing and replace the state. "
        "verify: as full, but publish nothing and report differences.",
    ),
]
MissingOption = Annotated[
    bool,
    typer.Option(
        "--allow-missing", help="Publish although events are missing, damaged or not listed: they are gone then."
    ),
]
WatchOption = Annotated[bool, typer.Option("--watch/--no-watch", help="Wait for the end and show how far it is.")]
RunOption = Annotated[
    str | None, typer.Option("--run-id", metavar="ID", help="One rebuild; default: the workspace's newest.")
]


def start(
    manifest: ManifestArgument,
    *,
    mode: ModeOption = RebuildMode.CATCH_UP,
    allow_missing: MissingOption = False,
    watch: WatchOption = True,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> Verdict:
    """Start a rebuild and watch it. Ctrl-C ends the watching, not the rebuild.

    Exit code: 0 it is done, 2 the manifest or an option is wrong, 3 events are missing or damaged, another rebuild is
    under way, or a verification found differences; 4 there is no answer.
    """
    with Api(api, token, wait_s=wait, again="look with `springline rebuild watch` whether it was started") as surface:
        view = _start(surface, manifest, mode, allow_missing=allow_missing)
        return _watched(surface, view) if watch else Verdict(view, EXIT_DONE)


def verify(
    manifest: OptionalManifest = None,
    *,
    tenant: OptionalTenant = None,
    workspace: OptionalWorkspace = None,
    store: StoreOption = None,
    out: OutOption = None,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> Verdict:
    """Prove that the published state is what its events say: fold them anew, publish nothing, report differences.

    Prints what it came to and, under `comparison`, the differences: by table in `counts`, the first 100 by key and
    column. Exit code: 0 it is, 3 it is not, or events are missing; else as `start`.
    """
    if manifest is None:
        plan = _planned(store, tenant, workspace, out)
        hint(f"{plan.events:,} accepted events are listed in {plan.manifest}")
        manifest = plan.manifest
    with Api(api, token, wait_s=wait) as surface:
        return _watched(surface, _start(surface, manifest, RebuildMode.VERIFY, allow_missing=False))


def watch(
    *,
    run_id: RunOption = None,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> Verdict:
    """Watch a rebuild until its end and print what came of it, at once if it has ended. Exit code as `start`."""
    with Api(api, token, wait_s=wait) as surface:
        return _watched(surface, _view(surface, run_id))


def explain(
    *,
    run_id: RunOption = None,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> Document:
    """Tell what a rebuild has done, what it found missing, damaged or different, and what to do next."""
    with Api(api, token, wait_s=wait) as surface:
        view = _view(surface, run_id)
        result = view.result or {}
        report = _report(surface, result["report_path"]) if result.get("report_path") else {}
    progress, comparison = view.progress or {}, report.get("comparison") or {}
    bad = [one.model_dump(mode="json") for one in view.missing_or_damaged] or progress.get("bad", [])
    account: dict[str, Any] = {
        "workflow_id": view.workflow_id,
        "run_id": view.run_id,
        "status": view.status.value,
        "phase": progress.get("phase", view.phase),
        "percent": progress.get("percent", view.percent),
        "started_at": view.started_at,
        "ended_at": view.ended_at,
        "stopped_in": progress.get("stopped_in"),
        "timings": result.get("timings") or progress.get("timings", {}),
        "next_step": progress.get("next_step") or next_step(view),
        "failure": None if view.failure is None else view.failure.model_dump(mode="json", exclude_none=True),
        "result": view.result,
        "missing_or_damaged": report.get("missing_or_damaged", bad),
        "accepted_and_not_listed": report.get("accepted_and_not_listed", view.accepted_and_not_listed),
        "published_state_problem": comparison.get("problem"),
        "differences_by_table": comparison.get("counts", {}),
        "differences": comparison.get("differences", []),
        "rows": report.get("rows", {}),
        "steps": [step.model_dump(mode="json") for step in view.steps],
    }
    return account


def cancel(
    *,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> Document:
    """Cancel the rebuild that runs. Readers see the state from before; finished parts are used by the next one."""
    with Api(api, token, wait_s=wait) as surface:
        return RebuildView.model_validate(surface.call("DELETE", root=REBUILD).body)


def _start(surface: Api, manifest: str, mode: RebuildMode, *, allow_missing: bool) -> RebuildView:
    body = {"rebuild_manifest_path": manifest, "mode": mode.value, "allow_missing": allow_missing}
    view = RebuildView.model_validate(surface.call("POST", root=REBUILD, body=body, params={"wait": 0}).body)
    hint(f"rebuild started: workflow {view.workflow_id}, run {view.run_id}")
    return view


def _view(surface: Api, run_id: str | None) -> RebuildView:
    params = None if run_id is None else {"run_id": run_id}
    return RebuildView.model_validate(surface.call("GET", root=REBUILD, params=params).body)


def _report(surface: Api, path: str) -> dict[str, Any]:
    try:
        return surface.call("GET", "report", root=REBUILD, params={"path": path}).body
    except Refused as error:
        hint(f"{error.refusal.message}; the account is told without it")
        return {}


def _watched(surface: Api, view: RebuildView) -> Verdict:
    """Show how far a rebuild is until it has ended; return its result, or raise why it has none."""
    with Bar() as bar:
        bar.show(view)
        while not view.ended:
            time.sleep(POLL_SECONDS)
            view = _view(surface, view.run_id)
            bar.show(view)
    result = view.result
    if result is None:
        raise Refused(view.failure or _ended_somehow(view))
    if result["mode"] != RebuildMode.VERIFY.value:
        return Verdict(result, EXIT_DONE)
    return _compared(surface, result)


def _compared(surface: Api, result: dict[str, Any]) -> Verdict:
    """Return what a verification came to, with its differences from the report, of which a person sees the first."""
    is_equal = result["equal"] is True
    report = {} if is_equal or not result.get("report_path") else _report(surface, result["report_path"])
    found = report.get("comparison") or {}
    comparison = {
        "problem": found.get("problem"),
        "counts": found.get("counts", {}),
        "differences": found.get("differences", []),
    }
    for line in told(comparison):
        hint(line)
    return Verdict(result | {"comparison": comparison}, EXIT_DONE if is_equal else EXIT_CONFLICT)


def _ended_somehow(view: RebuildView) -> Refusal:
    return Refusal(
        code=Code.UNAVAILABLE,
        message=f"the rebuild {view.run_id} is {view.status.value} and says nothing of itself",
        field="rebuild",
        value=view.run_id,
        remedy="Run `springline rebuild explain`, and look at the workflow in the Temporal Web UI.",
    )


def _planned(store: str | None, tenant: str | None, workspace: str | None, out: str | None) -> Plan:
    for option, value in (("--tenant", tenant), ("--workspace", workspace)):
        if value is None:
            raise refused(
                Code.INVALID_REQUEST,
                f"{option} is not given, and no manifest either",
                field=option,
                remedy="Give MANIFEST, or --store, --tenant and --workspace so that one is made first.",
            )
    assert tenant is not None
    assert workspace is not None
    return plan_of_index(store, tenant, workspace, out)
