"""Plans: their model, their file, and the plain evaluation of problem.md that checks them."""
