"""The machine that this process runs on: affinity, load, what it allows."""
