"""`make demo`: eight writers fill a Delta table, a pipeline appends events; the demo keeps killing their worker."""
