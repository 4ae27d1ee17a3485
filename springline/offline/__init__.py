"""Folding events that somebody names, without Temporal and without publishing (`springline state fold`)."""
