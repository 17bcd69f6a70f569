"""Rings: the shared memory through which items pass from one process to another."""
