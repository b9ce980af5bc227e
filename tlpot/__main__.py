"""``python -m tlpot``."""

from tlpot.cli import main

main()
