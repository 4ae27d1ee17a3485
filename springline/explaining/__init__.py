"""Why something ran, did not run, or waits: answers made of rows and events of the ledger alone."""
