"""Plans as files for programs of people's own: JSON, a table, a drawing."""
