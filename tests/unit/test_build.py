"""A build id says what a worker runs: the same sources have the same id, any change of them another."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest
from temporalio.api.deployment.v1 import RoutingConfig, WorkerDeploymentInfo, WorkerDeploymentVersion
from temporalio.common import VersioningBehavior

from entrypoints.build import RUNS_WORKFLOWS, computed_build_id, source_hash
from entrypoints.deployment import Standing, deployment_config, standing_of
from springline.config import ConfigurationError, load_settings

STORE = {"store_url": "memory://"}


def test_the_id_is_version_and_hash_and_fits_temporal() -> None:
    assert re.fullmatch(r"[0-9][A-Za-z0-9.]*-[0-9a-f]{12}", computed_build_id())
    version = deployment_config(load_settings(STORE)).version
    assert version.to_canonical_string() == f"springline.{computed_build_id()}"


def test_any_change_of_a_source_is_another_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "some_package"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "inner" / "__init__.py").write_text("x = 1\n")
    (tmp_path / "some_module.py").write_text("y = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    names = ("some_package", "some_module")
    seen = {source_hash(names)}
    for path, text in (
        ("some_package/inner/__init__.py", "x = 2\n"),
        ("some_module.py", "y = 2\n"),
        ("some_package/b.py", ""),
    ):
        (tmp_path / path).write_text(text)
        seen.add(source_hash(names))
        shutil.rmtree(package / "__pycache__", ignore_errors=True)
    assert len(seen) == 4
    (package / "notes.txt").write_text("no code")
    assert source_hash(names) in seen
    sys.modules.pop("some_package", None)


def test_what_a_worker_runs_is_all_of_it() -> None:
    assert set(RUNS_WORKFLOWS) == {"worker", "entrypoints", "workflows", "activities", "springline"}


def test_without_versions_the_build_is_told_and_routes_nothing() -> None:
    pinned, off = (deployment_config(load_settings(STORE | {"versioning": mode})) for mode in ("auto", "off"))
    assert (pinned.use_worker_versioning, off.use_worker_versioning) == (True, False)
    assert pinned.default_versioning_behavior is VersioningBehavior.PINNED
    assert pinned.version == off.version


@pytest.mark.parametrize(
    "wrong", [{"build_id": "a b"}, {"build_id": ""}, {"deployment": "with.dot"}, {"versioning": "on"}]
)
def test_what_temporal_would_not_take_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match=f"SPRINGLINE_{next(iter(wrong)).upper()}"):
        load_settings(STORE | wrong)


def test_where_a_build_stands() -> None:
    info = WorkerDeploymentInfo(
        routing_config=RoutingConfig(current_deployment_version=WorkerDeploymentVersion(build_id="2"))
    )
    for build_id in ("1", "2", "3"):
        info.version_summaries.add(deployment_version=WorkerDeploymentVersion(build_id=build_id))
    info.version_summaries[0].first_activation_time.FromSeconds(1)
    info.version_summaries[1].current_since_time.FromSeconds(2)
    assert standing_of(info, "1") == Standing(known=True, current=False, was_current=True, current_build="2")
    assert standing_of(info, "2").current
    assert standing_of(info, "3") == Standing(known=True, current=False, was_current=False, current_build="2")
    assert standing_of(info, "4") == Standing(current_build="2")
