"""The search for the best plan, with its proof. The only importer of ortools."""
