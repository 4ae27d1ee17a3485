"""The operator's command line: one JSON document on standard output, hints and errors on standard error."""
