"""Seconds and bytes of each op for each configuration and residency."""
