"""The composition root: where domain, Temporal and processes are put together."""
