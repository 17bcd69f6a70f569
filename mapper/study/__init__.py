"""Comparisons that need both the solver and the executor."""
