"""Graphs from files: our own `mapper-graph/1`, dnn-partitioning JSON and PipeDream `graph.txt`."""
