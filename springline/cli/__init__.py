"""The operator's command line: tables for people, JSON for programs; hints and errors on standard error."""
