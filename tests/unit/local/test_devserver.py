from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

from springline.local.devserver import DYNAMIC_CONFIG, dev_server_command, dev_server_ready
from springline.local.ports import free_ports
from springline.names import SEARCH_ATTRIBUTES


def test_the_command_line_carries_the_tuning_and_the_search_attributes() -> None:
    command = dev_server_command(
        Path("/bin/temporal"), database=Path("/run/t.db"), port=1, http_port=2, ui_port=3, metrics_port=4
    )
    words = [str(word) for word in command]
    pairs = set(pairwise(words))
    assert ("--ip", "127.0.0.1") in pairs
    assert ("--sqlite-pragma", "journal_mode=WAL") in pairs
    assert ("--db-filename", "/run/t.db") in pairs
    for name, kind in SEARCH_ATTRIBUTES.items():
        assert ("--search-attribute", f"{name}={kind}") in pairs
    for key, value in DYNAMIC_CONFIG.items():
        assert ("--dynamic-config-value", f"{key}={value}") in pairs
        json.loads(value)
    assert ("--dynamic-config-value", "matching.numTaskqueueReadPartitions=1") in pairs
    assert ("--dynamic-config-value", "matching.numTaskqueueWritePartitions=1") in pairs


def test_a_server_that_is_not_there_is_not_ready() -> None:
    (port,) = free_ports(1)
    assert dev_server_ready(port) == "no answer yet (ConnectError)"
