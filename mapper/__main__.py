"""`python -m mapper` is the command line."""

from mapper.cli.main import main

main()
