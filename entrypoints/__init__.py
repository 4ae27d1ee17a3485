"""The composition root, which wires domain, Temporal and processes."""
