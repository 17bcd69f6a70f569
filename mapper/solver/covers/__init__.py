"""The dynamic program: ideals, what each stage between two of them costs, and the best chains of stages."""
