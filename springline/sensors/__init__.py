"""Sensors over a store: where they stand, what they find, and what is recorded of it."""
