"""The pipeline files of `springline dev`: deployed into its workspace, and a worker for each among its processes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from springline.cli.documents import DocumentVerdict, hint
from springline.cli.http import API_VARIABLE, MANIFESTS, TOKEN_VARIABLE, Api
from springline.cli.pipelines import Json, body_of, describe, verdict
from springline.config import PREFIX
from springline.errors import Code, Refused, refused
from springline.local.processes import module_command, module_path
from springline.local.stack import EmbeddedStack
from springline.work.request import WorkRequest

_MODULE: Final = "entrypoints.work"
_DRAIN_SECONDS: Final = 5.0
"""How long attempts under way may go on when their worker is told to end."""
_API_SECONDS: Final = 5.0
_Mark = tuple[int, int]
"""Time of change in nanoseconds, and size."""


@dataclass(slots=True)
class DevPipeline:
    """One file: what it declared when it was read last, and how it looked on disk before that.

    `waits`: its worker is not started before the file changes, because it cannot be loaded as it is. `imports`: how the
    user's own modules looked that it imports.
    """

    target: str
    found: Json
    mark: _Mark | None
    waits: bool = False
    imports: dict[str, _Mark | None] = field(default_factory=dict)

    @property
    def child(self) -> str:
        """The name of its worker among the stack's processes."""
        return f"work-{self.found['location']}"


class DevPipelines:
    """The pipeline files of one stack.

    `concurrency`: how many attempts each worker makes at once. `memory_bytes`: how much one may use whose asset does
    not say it, None for any.
    """

    def __init__(
        self, pipelines: Sequence[DevPipeline] = (), concurrency: int = 1, memory_bytes: int | None = None
    ) -> None:
        self._pipelines = list(pipelines)
        self._concurrency = concurrency
        self._memory_bytes = memory_bytes
        self._environment: Mapping[str, str] = {}

    def of_child(self, name: str) -> DevPipeline | None:
        """Return the file whose worker has this name among the stack's processes, None for any other process."""
        return next((one for one in self._pipelines if one.child == name), None)

    def begin(self, stack: EmbeddedStack, environment: Mapping[str, str]) -> list[Json]:
        """Deploy every file and start its worker; return what the document of `springline dev` says of them.

        `environment` has the variables by which users' code finds the stack. Raises `Refused` if a file cannot be
        deployed, and `ToolFailed` if a worker does not become ready.
        """
        self._environment = environment
        for one in self._pipelines:
            self._deploy(one)
            self._add_worker(stack, one)
        for one in self._pipelines:
            stack.start_child(one.child, wait=False)
        for one in self._pipelines:
            stack.wait_through_kills(one.child)
        return [
            {
                "file": one.found["file"],
                "location": one.found["location"],
                "assets": one.found["keys"],
                "log": str(stack.log(one.child)),
            }
            for one in self._pipelines
        ]

    def renewed(self, down: Set[str] = frozenset()) -> list[str]:
        """Deploy the files that have changed on disk; return the names of the workers that are to be started anew.

        A file that is wrong now is told of, and changes nothing; `down` names the workers that are not at work now, as
        their users are told then. Blocks while such a file is imported.
        """
        return [
            one.child
            for one in self._pipelines
            if self._has_changed(one) and self._is_deployed_again(one, is_down=one.child in down)
        ]

    def _has_changed(self, one: DevPipeline) -> bool:
        mark = mark_of(one.found["file"])
        imports = {file: mark_of(file) for file in one.imports}
        # An editor may take a file away for a moment to put another one into its place.
        if mark is None or None in imports.values() or (mark, imports) == (one.mark, one.imports):
            return False
        one.mark, one.imports = mark, imports
        return True

    def _is_deployed_again(self, one: DevPipeline, *, is_down: bool) -> bool:
        file = one.found["file"]
        does = "is started when the file is right" if is_down else "goes on"
        hint(f"{file} has changed: deploying it")
        found = describe(one.target, None)
        if found["problems"]:
            _tell(found["problems"])
            hint(f"{file} cannot be deployed as it is now; what was deployed before stays, and its worker {does}")
            return False
        before, one.found = one.found, found
        one.imports = {file: one.imports.get(file) or mark_of(file) for file in found.get("imports", ())}
        try:
            self._deploy(one)
        except Refused as error:
            one.found = before
            refusal = error.refusal
            hint(f"{refusal.message}. {refusal.remedy}")
            if refusal.code is Code.UNAVAILABLE:
                # The API may be starting again: the next look tries once more.
                one.mark = None
            hint(f"{file} was not deployed; what was deployed before stays, and its worker {does}")
            return False
        one.waits = False
        return True

    def _deploy(self, one: DevPipeline) -> None:
        with Api(self._environment[API_VARIABLE], self._environment[TOKEN_VARIABLE], wait_s=_API_SECONDS) as api:
            answer = api.call("POST", root=MANIFESTS, body=body_of(one.found)).body
        what = deployed_text(one.found, answer)
        hint(f"{one.found['file']} is deployed: {what}")

    def _add_worker(self, stack: EmbeddedStack, one: DevPipeline) -> None:
        theirs = os.environ.get("PYTHONPATH")
        request = WorkRequest(
            file=one.target,
            tenant=stack.scope.tenant,
            workspace=stack.scope.workspace,
            location=one.found["location"],
            concurrency=self._concurrency,
            memory_bytes=self._memory_bytes,
            python_path=theirs,
            ready_file=str(stack.ready_file(one.child)),
        )
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TEMPORAL_", PREFIX))}
        environment = {
            **kept,
            **self._environment,
            f"{PREFIX}SHUTDOWN_GRACE": f"{_DRAIN_SECONDS:g}",
            "PYTHONPATH": module_path(theirs),
            "PYTHONUNBUFFERED": "1",
        }
        command = module_command(_MODULE, request.model_dump_json())
        # Users' code finds files beside it from here, as it does under `springline work`.
        stack.add_child(one.child, command, env=environment, cwd=Path.cwd())


def read_pipelines(files: Sequence[str]) -> list[DevPipeline] | DocumentVerdict:
    """Return what files declare, or everything that is wrong with them. Raises `Refused` for two of one name."""
    marks = [mark_of(file) for file in files]
    read = [DevPipeline(file, describe(file, None), mark) for file, mark in zip(files, marks, strict=True)]
    wrong = [one.found for one in read if one.found["problems"]]
    if wrong:
        problems = [problem for found in wrong for problem in found["problems"]]
        return verdict({**wrong[0], "file": ", ".join(found["file"] for found in wrong), "problems": problems})
    for place, one in enumerate(read):
        if any(one.child == other.child for other in read[:place]):
            raise refused(
                Code.INVALID_REQUEST,
                f"two files are called {one.found['location']}, and each would take the other's place in the workspace",
                field="FILE",
                value=one.target,
                remedy="Give one of them another name, or each file once.",
            )
    for one in read:
        # Of a module by its dotted name, the file is known only now.
        one.mark = one.mark or mark_of(one.found["file"])
        one.imports = {file: mark_of(file) for file in one.found.get("imports", ())}
    return read


def mark_of(file: str) -> _Mark | None:
    """Return by what a change of a file is seen, None if it is not there."""
    try:
        status = Path(file).stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _tell(problems: Sequence[Mapping[str, Any]]) -> None:
    for one in problems:
        for line in (one["traceback"] or "").splitlines():
            hint(f"    {line}")
        asset = f"asset {one['asset']} " if one["asset"] else ""
        hint(f"{one['file']}:{one['line'] or 1}: {asset}{one['message']}. {one['remedy']}")


def deployed_text(found: Mapping[str, Any], answer: Mapping[str, Any]) -> str:
    """Return how much of each kind a file declares, and how many of them all a deploy has changed."""
    sizes = [
        (len(found["keys"]), "asset"),
        *((len(found.get(f"{kind}s", ())), kind) for kind in ("task", "schedule", "sensor", "pool")),
    ]
    declared = ", ".join(f"{size} {kind}{'' if size == 1 else 's'}" for size, kind in sizes if size or kind == "asset")
    changes = {
        kind: len(answer["changes"][kind]) + sum(len(answer[of][kind]) for of in ("tasks", "schedules", "sensors"))
        for kind in ("added", "changed", "removed")
    }
    told = [f"{count} {kind}" for kind, count in changes.items() if count]
    pools = len(answer["changes"].get("pools", ()))
    if pools:
        told.append(f"{pools} pool{'' if pools == 1 else 's'} set")
    return f"{declared} ({', '.join(told) or 'nothing changes'})"
