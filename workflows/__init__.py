"""Workflows: deterministic orchestration, nothing else."""
