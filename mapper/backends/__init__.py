"""From a stage's program to something that can be called: by torch op by op, or compiled by a library."""
