"""From a problem to one with fewer ops, each with the way back."""
