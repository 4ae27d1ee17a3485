"""Pure rules of Delta commits: no I/O, no clock, no randomness."""
