"""Benchmarks, run by `make bench`: `bench.commit` measures commits per second against targets and a peer."""
