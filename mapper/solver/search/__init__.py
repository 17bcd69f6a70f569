"""The search for the best plan within limits: its space, one request on it, bounds, and what conflicts."""
