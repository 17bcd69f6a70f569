"""Exploration: every mapping of a model onto machines that strategies, sizes and numbers of stages and copies span."""
