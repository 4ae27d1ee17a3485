"""Decisions about schedules: which instants are due, and what becomes of each."""
