"""Schedules over a store in memory, with the real sequencer's steps and no Temporal."""
