"""Topology files."""
