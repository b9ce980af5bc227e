"""``tlpot`` and ``python -m tlpot``: what is left to say where not even the command line loads."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; where a library of it is missing, examine or say so."""
    try:
        from tlpot.cli.main import main as run
    except ImportError as error:
        if sys.argv[1:2] == ["doctor"]:
            from tlpot.cli.health import report

            sys.exit(report("--json" in sys.argv))
        python = sys.executable
        print(
            f"error: {error}, in {python}; `{python} -m tlpot doctor` says what is missing",
            file=sys.stderr,
        )
        sys.exit(2)
    run()


if __name__ == "__main__":
    main()
