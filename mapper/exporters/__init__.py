"""Exporters: a plan for the runtimes that people have, one module a target; and their mappings read back."""
