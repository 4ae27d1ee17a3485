"""Decisions about sensors: when the next evaluation is due, and what becomes of what it has found."""
