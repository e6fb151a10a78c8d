"""`python -m keyway.cli`."""

from keyway.cli import main

main()
