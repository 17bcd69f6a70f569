"""Which cores are which replica: the best placement, and named ones to compare with."""
