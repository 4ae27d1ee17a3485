"""The report: what happened in a workspace and what is wrong now, as one HTML page made of rows alone."""
