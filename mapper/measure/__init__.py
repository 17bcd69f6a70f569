"""Measuring the machine at hand: what its memory, its links and its software take."""
