"""Runs over a store: what is asked for, what is planned, where a run stands; and the messages of attempts."""
