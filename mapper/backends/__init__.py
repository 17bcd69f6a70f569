"""From a stage's program to something that can be called."""
