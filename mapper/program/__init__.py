"""The traced model as plain data: cards, tracing, weights, splitting into stages, rebuilding as torch modules."""
