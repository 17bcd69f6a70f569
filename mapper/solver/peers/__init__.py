"""What others would have done: planners to compare with, as functions on the same problem."""
