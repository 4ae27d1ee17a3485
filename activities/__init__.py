"""Activities: I/O, nothing else. Each is idempotent and safe to run twice at once."""
