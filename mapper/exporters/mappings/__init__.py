"""Mappings of others, rankfiles and tables, as plans."""
