"""Workers: the processes that compute, from their start to their end."""
