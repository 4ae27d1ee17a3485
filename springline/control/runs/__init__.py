"""Decisions about runs, as values: what is planned, and what a run does next."""
