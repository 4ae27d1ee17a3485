"""What workers are told of an attempt, from what is deployed."""

from __future__ import annotations

from springline.control.runs.planning import RunOrigin, plan_tasks
from springline.control.runs.progress import RunProgress
from springline.control.runs.standing import at_its_beginning
from springline.definitions.manifest import DeployedManifest
from springline.ledger.nested import ManualTrigger


def test_the_limits_of_assets_and_tasks_are_told() -> None:
    manifest = DeployedManifest.model_validate(
        {
            "format": 2,
            "manifest_id": "m",
            "deployed_at_ms": 0,
            "fingerprint": "f",
            "locations": [],
            "assets": [
                {"key": "free", "location": "flights"},
                {"key": "limited", "location": "flights", "memory_bytes": 2**29, "timeout_ms": 5_000},
            ],
            "tasks": [{"key": "step", "location": "flights", "memory_bytes": 2**30}],
        }
    )
    tasks = plan_tasks(manifest, list(manifest.nodes), None)
    origin = RunOrigin("run_1", "k", ManualTrigger(user_id="u"), ["*"], "m")
    progress = RunProgress(at_its_beginning(origin, manifest, tasks), "acme", "prod", "w")
    told = {one.task_key: (one.memory_bytes, one.timeout_ms) for one in progress.begin(0, 10)}
    assert told == {"free": (None, None), "limited": (2**29, 5_000), "step": (2**30, None)}
