"""Which partitions of assets are stale, and why: told from rows and definitions when asked for, and never stored."""
