"""The README's examples, as they stand: its Python and its commands, in order, on the stack that it has one start."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tests.server.runbook import FENCED, ROOT, Block, Shell, matches

README = ROOT / "README.md"
LEFT_OUT = re.compile(r"^(make |source \.venv/bin/activate)|docker compose", re.MULTILINE)
"""Commands that set up what is there already, or start what is tested elsewhere."""
TERMINAL = re.compile(r"^springline dev .*$", re.MULTILINE)
"""What runs in the foreground, in a terminal of its own."""
WITH_A_STACK = """{command} > dev.json 2> dev.log &
until grep -q ^source dev.log; do kill -0 $!; sleep 0.1; done
$(grep ^source dev.log)"""
BESIDE_A_STACK = """springline deploy pipeline.py > deployed.json
springline work pipeline.py --tenant acme --workspace dev > work.log 2>&1 &"""
"""What a page runs in its place where there is a stack."""


def runnable(folder: Path, in_a_terminal: str = WITH_A_STACK, page: Path = README) -> str:
    """Return a page with the examples of another, by default the README.

    Python becomes a command, pictures and set-up are left out.
    `in_a_terminal` stands for a command that goes on.
    """
    left_out = False
    blocks = [f"# Set-up\n\n```sh\ncd '{folder}'\n```\n"]
    for match in re.finditer(rf"{FENCED.pattern}|^```\n.*?^```$", page.read_text("utf-8"), FENCED.flags):
        language, content = match[1], match[2]
        if language == "python":
            left_out = False
            blocks.append(f"```sh\npython - <<'PROGRAM'\n{content}PROGRAM\n```\n")
        elif language == "text" and left_out:
            continue
        elif language is not None:
            left_out = LEFT_OUT.search(content) is not None
            shown = TERMINAL.sub(lambda line: in_a_terminal.format(command=line[0]), match[0])
            blocks += [] if left_out else [f"{shown}\n"]
    return "\n".join(blocks)


def followed(tmp_path: Path, page: Path) -> list[tuple[Block, str]]:
    """Run the examples of a page in a new folder, as a newcomer would, and return each block with what it printed."""
    work = tmp_path / "work"
    work.mkdir()
    shown = tmp_path / page.name
    shown.write_text(runnable(work, page=page))
    # The same for whoever runs the tests, except for where the programs are.
    kept = ("SPRINGLINE_TEMPORAL_CLI", "SPRINGLINE_CACHE_DIR")
    environment = {
        **{
            name: value
            for name, value in os.environ.items()
            if name in kept or not name.startswith(("TEMPORAL_", "SPRINGLINE_"))
        },
        "PATH": os.environ.get("PATH", os.defpath),
        # The page goes into a folder of its own.
        "PYTHONPATH": str(ROOT),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
    }
    try:
        return Shell(tmp_path / "programs", tmp_path, environment).follow(shown)
    except AssertionError as error:
        log = work / "dev.log"
        error.add_note(log.read_text("utf-8") if log.exists() else "no stack was started")
        raise


def test_the_examples_run_as_they_stand(tmp_path: Path) -> None:
    check(followed(tmp_path, README))


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
