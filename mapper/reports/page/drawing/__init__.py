"""How the pictures of the report are drawn: from plain data to marks on a sheet, and from there to SVG."""
