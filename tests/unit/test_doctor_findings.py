"""What doctor makes of workers, their builds and stores, and of runs that do not move."""

from __future__ import annotations

from activities.messages import Probed
from entrypoints.doctor import Poller, run_finding, settings_finding, store_finding, version_findings
from entrypoints.runs import Trouble
from springline.cli.findings import FindingState, PublishedSettings
from springline.names import COMMIT_QUEUE
from springline.projection.config import FoldConfig

OLD, NEW = Poller("1.0", "springline", False), Poller("1.1", "springline", False)
V_OLD, V_NEW = Poller("1.0", "springline", True), Poller("1.1", "springline", True)


def test_builds_without_versions_are_a_mistake_and_named() -> None:
    (finding,) = version_findings({COMMIT_QUEUE: [OLD, NEW, OLD]}, {})
    assert finding.state is FindingState.WRONG
    assert "1.0, 1.1" in finding.what
    assert version_findings({COMMIT_QUEUE: [OLD, OLD]}, {})[0].state is FindingState.OK


def test_builds_by_versions_are_fine_as_long_as_the_current_one_polls() -> None:
    both = {COMMIT_QUEUE: [V_OLD, V_NEW]}
    assert version_findings(both, {"springline": "1.1"})[0].state is FindingState.OK
    (none_current,) = version_findings(both, {"springline": None})
    (gone,) = version_findings({COMMIT_QUEUE: [V_OLD]}, {"springline": "1.1"})
    for finding in (none_current, gone):
        assert finding.state is FindingState.WRONG
        assert "set-current-version --deployment-name springline --build-id" in (finding.remedy or "")
    assert "1.1" in gone.what


def test_workers_with_and_without_versions_do_not_mix() -> None:
    (finding,) = version_findings({COMMIT_QUEUE: [OLD, V_NEW]}, {"springline": "1.1"})
    assert finding.state is FindingState.WRONG


def test_another_store_is_wrong() -> None:
    workers = [Probed(store_id="a", build_id="1", identity="x"), Probed(store_id="a", build_id="1", identity="y")]
    assert store_finding("a", workers).state is FindingState.OK
    assert store_finding("b", workers).state is FindingState.WRONG
    assert store_finding("", workers).state is FindingState.WRONG
    assert store_finding(None, workers).state is FindingState.SKIPPED
    two = [*workers, Probed(store_id="b", build_id="1", identity="z")]
    assert "2 different stores" in store_finding("a", two).what


def test_workers_that_fold_otherwise_than_what_is_published_are_wrong() -> None:
    def probed(days: int | None) -> Probed:
        folding = FoldConfig("", "", b"", days)
        return Probed(
            store_id="a", build_id="1", identity="x", fold_fingerprint=folding.fingerprint, retention_days=days
        )

    def published(name: str, days: int | None, secret: bytes = b"") -> PublishedSettings:
        return PublishedSettings(name, FoldConfig("acme", name, secret, days).fingerprint, days)

    same = published("acme/prod", 30)
    assert settings_finding([same], [probed(30), probed(30)]).state is FindingState.OK
    assert settings_finding([], [probed(30)]).state is FindingState.OK
    assert settings_finding([same], [probed(30), probed(None)]).state is FindingState.WRONG
    assert settings_finding([same], [Probed(store_id="a", build_id="0", identity="x")]).state is FindingState.SKIPPED
    found = settings_finding([same, published("acme/old", None)], [probed(30)])
    assert found.state is FindingState.WRONG
    assert (
        found.what == "the state of acme/old was folded with no SPRINGLINE_RETENTION_DAYS, and a worker has "
        "SPRINGLINE_RETENTION_DAYS=30: nothing is appended to it"
    )
    assert "no SPRINGLINE_RETENTION_DAYS again" in (found.remedy or "")
    other = settings_finding([published("acme/prod", 30, b"another")], [probed(30)])
    assert "another SPRINGLINE_RUN_ID_SECRET" in other.what


def test_runs_that_do_not_move_are_named() -> None:
    stuck = Trouble("commit/acme/prod/t", "r", "its workflow task fails, attempt 7")
    finding = run_finding([stuck], [])
    assert finding.state is FindingState.WRONG
    assert "commit/acme/prod/t" in finding.what
    assert "attempt 7" in finding.what
    assert run_finding([], [Trouble("w", "r", "")]).state is FindingState.WRONG
    assert run_finding([], []).state is FindingState.OK
