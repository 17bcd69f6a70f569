"""A plan, running: pinned workers, shared-memory rings, the executor."""
