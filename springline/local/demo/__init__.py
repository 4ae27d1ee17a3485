"""`make demo`: eight writers fill a Delta table, a pipeline appends events; their worker is killed all the while."""
