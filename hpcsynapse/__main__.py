"""`python -m hpcsynapse`."""

from hpcsynapse.cli.main import main

main()
