"""`make demo`: eight writers fill a Delta table with real data while the worker is killed again and again."""
