"""Requests of many callers on their way to a sequencer: coalesced into batches, sent again until there is an answer."""
