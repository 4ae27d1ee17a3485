"""A proof runs again when anything that it uses has changed, and only then (`tests/support/proofs.py`)."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from tests.support import proofs

MUTANTS = "tests/exhaustive/test_mutants.py"
SETS = "tests/sets/test_mutants.py"


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Give a copy of what a test file uses, which the test may change."""

    def copy(file: str) -> Path:
        for path in proofs.used_by(file):
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(proofs.ROOT / path, tmp_path / path)
        graph = proofs.graph()
        monkeypatch.setattr(proofs, "ROOT", tmp_path)
        monkeypatch.setattr(proofs, "graph", lambda: graph)
        return tmp_path

    return copy


@pytest.mark.parametrize(
    "changed",
    [
        "springline/commit/complete.py",
        "springline/commit/__init__.py",
        "activities/commit.py",
        "tests/exhaustive/plans.py",
        "tests/conftest.py",
        "requirements/test.txt",
        MUTANTS,
    ],
)
def test_what_a_proof_uses_changes_its_fingerprint(changed: str, copied: Callable[[str], Path]) -> None:
    there = copied(MUTANTS)
    before = proofs.fingerprint.__wrapped__(MUTANTS)
    (there / changed).write_text((there / changed).read_text("utf-8") + "\n", "utf-8")
    assert proofs.fingerprint.__wrapped__(MUTANTS) != before


def test_the_data_a_proof_reads_changes_its_fingerprint(copied: Callable[[str], Path]) -> None:
    there = copied(SETS)
    before = proofs.fingerprint.__wrapped__(SETS)
    file = there / "tests/golden/ledgers/plain/ledger.jsonl.gz"
    file.write_bytes(file.read_bytes() + b"\n")
    assert proofs.fingerprint.__wrapped__(SETS) != before


def test_what_a_proof_does_not_use_changes_nothing() -> None:
    assert not [path for path in proofs.used_by(MUTANTS) if path.startswith(("springline/api/", "springline/client/"))]
    assert len(proofs.used_by(MUTANTS)) > 50


@pytest.mark.parametrize("file", proofs.PROOFS)
def test_every_file_with_proofs_has_some(file: str) -> None:
    assert "proof" in (proofs.ROOT / file).read_text("utf-8")
    for folder in proofs.PROOFS[file]:
        assert any((proofs.ROOT / folder).iterdir())


@dataclass
class Collected:
    """What `leave_out` uses of a collected test."""

    nodeid: str
    marks: list[str]

    def get_closest_marker(self, name: str) -> object:
        return name if name in self.marks else None

    def add_marker(self, mark: pytest.MarkDecorator) -> None:
        self.marks.append(mark.name)


@pytest.mark.parametrize(("same", "marks"), [(True, ["proof", "full"]), (False, ["proof"])])
def test_a_proof_counts_as_long_while_its_code_is_the_same(
    same: bool, marks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proofs, "known", lambda: {MUTANTS: proofs.fingerprint(MUTANTS) if same else "of other code"})
    proof, other = Collected(f"{MUTANTS}::test_a", ["proof"]), Collected(f"{MUTANTS}::test_b", [])
    proofs.leave_out(cast("list[pytest.Item]", [proof, other]))
    assert (proof.marks, other.marks) == (marks, [])


def test_a_file_that_is_not_listed_has_no_proofs() -> None:
    with pytest.raises(pytest.UsageError, match=r"tests/x\.py"):
        proofs.leave_out(cast("list[pytest.Item]", [Collected("tests/x.py::test_a", ["proof"])]))
