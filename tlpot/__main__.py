"""``python -m tlpot``."""

from tlpot.cli.main import main

main()
