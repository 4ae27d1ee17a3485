"""Object storage: the port (`port`), its adapters, and the wrapper that injects faults."""
