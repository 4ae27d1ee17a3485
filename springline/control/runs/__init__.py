"""Decisions about runs, as values: how one is planned, and what it does next."""
