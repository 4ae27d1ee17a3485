"""Pools in pipeline files: declared once, named by what they are or by name, and judged with everything else."""

from __future__ import annotations

from pathlib import Path

import pytest

from springline.sdk import Pool, asset, materialize, pool
from springline.sdk.describing import described
from springline.sdk.loading import examine

BEGIN = "from springline.sdk import asset, pool\n"


def examined(folder: Path, text: str) -> tuple[dict[str, int], list[tuple[int | None, str | None, str]]]:
    file = folder / "flights.py"
    file.write_text(BEGIN + text)
    loaded = examine(file)
    return dict(loaded.pipeline.pools), [(one.line, one.asset, one.message) for one in loaded.problems]


def test_a_pool_is_named_by_itself_or_by_its_name(tmp_path: Path) -> None:
    text = 'w = pool("warehouse", slots=3)\npool("api", slots=1)\n'
    text += '@asset(pool=w)\ndef a(): ...\n@asset(pool="api")\ndef b(): ...\n'
    assert examined(tmp_path, text) == ({"api": 1, "warehouse": 3}, [])
    found = described(examine(tmp_path / "flights.py"))
    assert found["pools"] == [{"name": "api", "slots": 1}, {"name": "warehouse", "slots": 3}]
    assert [one["pool"] for one in found["assets"]] == ["warehouse", "api"]


def test_a_pool_of_another_module_counts_if_it_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "shared_pools.py").write_text(BEGIN + 'warehouse = pool("warehouse", slots=3)\n')
    text = 'from shared_pools import warehouse\n@asset(pool="warehouse")\ndef a(): ...\n'
    for _ in range(2):
        # The second time the module is there already, and declares nothing anew.
        assert examined(tmp_path, text) == ({"warehouse": 3}, [])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('@asset(pool="warehouse")\ndef a(): ...\n', (2, "a", "names the pool 'warehouse', which is not declared")),
        (
            'pool("w", slots=0)\n@asset\ndef a(): ...\n',
            (2, None, "pool w has slots 0, which is no number from 1 to 10,000"),
        ),
        (
            'pool("w", slots="3")\n@asset\ndef a(): ...\n',
            (2, None, "pool w has slots '3', which is no number from 1 to 10,000"),
        ),
        (
            'pool("w", slots=1)\npool("w", slots=2)\n@asset\ndef a(): ...\n',
            (3, None, "pool w has 1 slots at flights.py:2, and 2 here"),
        ),
    ],
)
def test_what_is_wrong_with_a_pool_is_told_with_its_line(
    text: str, problem: tuple[int, str | None, str], tmp_path: Path
) -> None:
    _, problems = examined(tmp_path, text)
    assert problems == [problem]


def test_a_name_that_is_none(tmp_path: Path) -> None:
    _, ((line, _, message),) = examined(tmp_path, 'pool("a/b", slots=1)\n@asset\ndef a(): ...\n')
    assert (line, message.startswith("pool a/b has the name 'a/b', which ")) == (2, True)


def test_to_make_assets_here_needs_no_pool() -> None:
    @asset(pool="nowhere")
    def a() -> int:
        return 1

    assert materialize([a]).success
    assert isinstance(pool("p", slots=1), Pool)
    assert repr(pool("p", slots=1)) == "<pool p>"
