"""The README's examples, as they stand: its Python and its commands, in order, on an embedded stack."""

from __future__ import annotations

import os
import re
from pathlib import Path

from springline.local.stack import EmbeddedStack
from springline.paths import Scope
from tests.server.runbook import FENCED, ROOT, Block, Shell, matches

README = ROOT / "README.md"
SCOPE = Scope("acme", "dev")
STARTS_SOMETHING = re.compile(r"^(make |source \.venv/bin/activate)|docker compose", re.MULTILINE)
"""Commands that set up or start what this test stands in for."""


def runnable(folder: Path) -> str:
    """Return a page with the README's examples: Python becomes a command, pictures and set-up are left out."""
    left_out = False
    blocks = [f"# Set-up\n\n```sh\ncd '{folder}'\n```\n"]
    for match in re.finditer(rf"{FENCED.pattern}|^```\n.*?^```$", README.read_text("utf-8"), FENCED.flags):
        language, content = match[1], match[2]
        if language == "python":
            left_out = False
            blocks.append(f"```sh\npython - <<'PROGRAM'\n{content}PROGRAM\n```\n")
        elif language == "text" and left_out:
            continue
        elif language is not None:
            left_out = STARTS_SOMETHING.search(content) is not None
            blocks += [] if left_out else [match[0] + "\n"]
    return "\n".join(blocks)


def test_the_examples_run_as_they_stand(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    page = tmp_path / "README.md"
    page.write_text(runnable(work))
    with EmbeddedStack(tmp_path / "stack", scope=SCOPE) as stack:
        environment = stack.child_environment() | {
            "SPRINGLINE_API_URL": stack.api_url,
            "SPRINGLINE_TOKEN": stack.token(),
            "PATH": os.environ.get("PATH", os.defpath),
            "XDG_CONFIG_HOME": str(tmp_path / "config"),
        }
        printed = Shell(tmp_path / "programs", tmp_path, environment).follow(page)
    check(printed)


def check(printed: list[tuple[Block, str]]) -> None:
    """Check that every example printed what the page says."""
    assert len(printed) >= 5
    for block, text in printed:
        if block.output is not None:
            assert matches(block.output, text), f"{block.commands}\nprinted:\n{text}\nnot:\n{block.output}"
    said = {block.commands: text for block, text in printed}
    (pipeline,) = (text for commands, text in said.items() if "lake.ledger.append" in commands)
    assert re.fullmatch(r"visible 01[0-9A-Z]{24}\n\['mart.weather'\]\nRUNNING\n", pipeline), pipeline
    (folded,) = (text for commands, text in said.items() if "state fold" in commands)
    offline, published, equal = folded.split()
    assert offline == published
    assert equal == "true"
