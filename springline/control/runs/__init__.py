"""Decisions about runs: from what was asked for to a plan. No I/O, no clock."""
