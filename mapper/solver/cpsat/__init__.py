"""Proofs for graphs with very many ideals, where one configuration makes every load linear (problem.md, way 3)."""
