"""Model cards, and plain-torch modules for models that no library has."""
