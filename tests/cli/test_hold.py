"""`springline hold show | set | release`: documents for programs, and what people see."""

from __future__ import annotations

from tests.cli.conftest import Cli, Served


def test_a_workspace_is_held_and_released(cli: Cli, api: Served) -> None:
    assert cli("hold", "show").document["held"] is False
    found = cli("hold", "set", "--reason", "the warehouse moves").document
    assert (found["held"], found["changed"], found["reason"]) == (True, True, "the warehouse moves")
    assert "the warehouse moves" in cli("hold", "show", "-o", "table").stdout
    assert cli("hold", "set").document["changed"] is False
    assert cli("hold", "release").document["changed"] is True
    assert cli("hold", "release").document["changed"] is False


def test_a_reason_that_no_line_can_show_is_refused(cli: Cli, api: Served) -> None:
    refused = cli("hold", "set", "--reason", " ")
    assert (refused.code, "one line" in refused.stderr) == (2, True)
    assert cli("hold", "show").document["held"] is False
