"""The command line of a study, and where its results, page and figure go."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.lib.machine import machine
from benchmarks.lib.page import with_origin
from benchmarks.lib.runs import once
from tlpot.errors import TlpotError
from tlpot.files import write_whole

RESULTS = Path(__file__).parents[1] / "results"
EVIDENCE = Path(__file__).parents[2] / "docs" / "evidence"
"""Pages and figures of committed results; those of other results lie beside them."""
Results = dict[str, Any]


class Study:
    """A question with its measurement, and the page and figure that are made of its results.

    Parameters
    ----------
    script, document
        ``__file__`` and ``__doc__`` of the script; its results are called as it is.
    page
        Markdown of the results, of nothing but them; ``results["name"]`` is what they are called.
    draw
        Figure of the results, or None if they do not suffice for one.
    names
        Where the script has several results: what they are called.
    full
        Whether there is a size for minutes (``results/reduced``), and ``--full``.
    seeds
        Of split and training, if they can be chosen.
    runs
        Whether it keeps work on the way.
    have_only
        Whether it may be told to train none of the models that it judges.
    """

    def __init__(
        self,
        script: str,
        document: str | None,
        page: Callable[[Results], str],
        draw: Callable[[Results], Figure | None] = lambda results: None,
        names: Sequence[str] = (),
        full: bool = False,
        seeds: Sequence[int] | None = None,
        runs: bool = True,
        have_only: bool = False,
        dpi: int = 150,
    ) -> None:
        self.names = tuple(names) or (Path(script).stem,)
        self.page, self.draw, self.dpi, self.full = page, draw, dpi, full
        self.options = argparse.ArgumentParser(
            description=document, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        add = self.options.add_argument
        add("--page", action="store_true", help="measure nothing: pages, figures of what there is")
        add("--results", type=Path, default=RESULTS, help="folder of results")
        if runs:
            add("--runs", type=Path, default=Path("runs"), help="folder of what is kept on the way")
        if full:
            add("--full", action="store_true", help="hours, resumable; else minutes")
        if seeds is not None:
            add("--seeds", nargs="+", type=int, default=seeds, help="of split and training")
        if have_only:
            add("--have-only", action="store_true", help="train nothing, judge what there is")

    def main(self, measure: Callable[[argparse.Namespace], Iterator[Results]]) -> None:
        """Parse the command line and run.

        Parameters
        ----------
        measure
            Yields the results so far, as often as they are worth keeping. Its argument has the
            options, ``machine`` and ``name`` (of the results: it may set it before it yields).
        """
        given = self.options.parse_args()
        try:
            if given.page:
                self._pages(given)
                return
            given.machine, given.name = machine(), self.names[0]
            for results in measure(given):
                self._write(given.name, {"machine": given.machine, **results}, self.folder(given))
        except TlpotError as error:
            raise SystemExit(f"error: {error}") from None

    def folder(self, given: argparse.Namespace) -> Path:
        """Where the results of this size are."""
        return given.results / "reduced" if self.full and not given.full else given.results

    def shelf(self, folder: Path) -> Path:
        """Where page and figures of a folder's results go."""
        if not folder.resolve().is_relative_to(RESULTS):
            return folder
        return EVIDENCE / folder.resolve().relative_to(RESULTS)

    def committed(self, given: argparse.Namespace) -> Results:
        """Results of before, empty if there are none."""
        return _read(self.folder(given) / f"{given.name}.json")

    def answers(
        self,
        given: argparse.Namespace,
        shared: Results,
        wanted: Mapping[str, tuple[Results, Callable[[], Results]]],
    ) -> Iterator[Results]:
        """Results with all that is kept under ``runs`` or committed, then after each new answer.

        Parameters
        ----------
        given
            The options.
        shared
            What holds for all answers; committed results for which it does not are not taken.
        wanted
            By the name that an answer is kept under: what it says of itself, and how to get it.
        """
        before, by_name = self.committed(given), {}
        rows = before.get("runs", []) if shared.items() <= before.items() else []
        for name, (about, work) in wanted.items():
            path = given.runs / given.name / f"{name}.json"
            if path.exists():
                by_name[name] = once(path, work)
            elif there := next((row for row in rows if about.items() <= row.items()), None):
                by_name[name] = there
        if by_name:
            yield {**shared, "runs": [by_name[name] for name in wanted if name in by_name]}
        for name in () if given.have_only else [name for name in wanted if name not in by_name]:
            by_name[name] = once(given.runs / given.name / f"{name}.json", wanted[name][1])
            yield {**shared, "runs": [by_name[name] for name in wanted if name in by_name]}

    def _pages(self, given: argparse.Namespace) -> None:
        for option, value in vars(given).items():
            if option not in ("page", "results") and value != self.options.get_default(option):
                raise TlpotError(f"--page measures nothing; leave out --{option.replace('_', '-')}")
        for folder in (given.results, given.results / "reduced"):
            for name in self.names:
                if results := _read(folder / f"{name}.json"):
                    self._show(name, results, folder)

    def _write(self, name: str, results: Results, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / f"{name}.json", json.dumps(results, indent=1) + "\n")
        self._show(name, json.loads(json.dumps(results)), folder)

    def _show(self, name: str, results: Results, folder: Path) -> None:
        results, shelf = results | {"name": name}, self.shelf(folder)
        shelf.mkdir(parents=True, exist_ok=True)
        page = with_origin(self.page(results), results).rstrip()
        if figure := self.draw(results):
            figure.savefig(shelf / f"{name}.png", dpi=self.dpi)
            page += "" if f"({name}.png)" in page else f"\n\n![the same, drawn]({name}.png)"
        write_whole(shelf / f"{name}.md", page + "\n")


def _read(path: Path) -> Results:
    return json.loads(path.read_text()) if path.exists() else {}
