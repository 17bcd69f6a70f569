"""The report: one offline page that shows a plan, its machine, its model, and what was measured."""
