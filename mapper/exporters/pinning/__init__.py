"""The pinning of a plan alone, for tools that start processes."""
