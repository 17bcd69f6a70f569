"""Machines: their model, the files that describe them, and discovery of the one at hand."""
