"""Staleness: the rules by themselves, and over rows of the published state against a literal reading of them."""
