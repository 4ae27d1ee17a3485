"""Springline on one machine: the programs it needs, the ports they use and the stack they form."""
