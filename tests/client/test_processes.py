"""Clients in processes that were forked: they work, or are refused at once; none hangs."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

from tests.client.conftest import Folder

PROGRAM = """
import os, sys, pyarrow as pa
from springline.client import Springline
from springline.errors import Refused
lake = Springline(sys.argv[1], sys.argv[2], deadline_s=20)
table = lake.create_table(sys.argv[3], pa.table({{"n": [1]}}))
table.status()
{before}
child = os.fork()
if child == 0:
    try:
        print("child", table.append({{"n": [2]}}).version, flush=True)
        os._exit(0)
    except Refused as error:
        print("refused", error.refusal.field, error.refusal.remedy, flush=True)
        os._exit(3)
    except BaseException as error:
        print("failed", type(error), error, flush=True)
        os._exit(4)
_, status = os.waitpid(child, 0)
print("parent", table.append({{"n": [3]}}).version, flush=True)
lake.close()
sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize(
    ("before", "code", "said"),
    [
        ("", 0, ["child 1", "parent 2"]),
        ("table.append({'n': [1]})", 3, ["refused process", "parent 2"]),
        (
            "import deltalake; deltalake.write_deltalake(sys.argv[4], pa.table({'a': [1]}))",
            3,
            ["refused process", "parent 1"],
        ),
    ],
    ids=["fresh", "after an append", "after another's use of the library"],
)
def test_a_forked_process_works_or_is_refused_at_once(
    folder: Folder, tmp_path: object, before: str, code: int, said: list[str]
) -> None:
    program = textwrap.dedent(PROGRAM).format(before=before)
    name = f"forked-{abs(hash(before))}"
    done = subprocess.run(
        [sys.executable, "-c", program, folder.url, folder.token, name, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    for line, wanted in zip(done.stdout.splitlines(), said, strict=True):
        assert line.startswith(wanted), done.stdout
    if code == 3:
        assert "spawn" in done.stdout
