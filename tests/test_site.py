"""The documentation site: it builds, works from a disk without a network, and states what holds."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
ORIGINALS = ("thesis", "schnet", "cgcnn", "powder", "emodes")
"""Pages of other works beside ours, in docs/evidence."""
FIGURE = re.compile(r"\d[\d.,]*\s?(meV|kJ/mol|kcal/mol|ms\b)|±|\bR?M[AS]E\b \d")
DATE = re.compile(r"20\d\d-\d\d-\d\d")
NUMBER = re.compile(r"\d+\.\d+(?: ± \d+(?:\.\d+)?)?")
LINK = re.compile(r"\]\((answered/\w+\.md|\w+\.md)\)")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site, built as `make docs` builds it, but for the tutorials' output."""
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    folder = tmp_path_factory.mktemp("docs") / "site"
    words = ["-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.returncode, done.stderr
    return folder


def test_reference_pages_are_made_of_the_program(site):
    command_line = (site / "reference/cli.html").read_text(encoding="utf-8")
    config = (site / "reference/config.html").read_text(encoding="utf-8")
    assert 'id="tlpot-sample-propose"' in command_line
    assert "--max-spread" in command_line
    assert "training.fine_angles" in config
    functions = (site / "reference/api/finetuning.html").read_text(encoding="utf-8")
    assert 'id="tlpot.finetuning.run.finetune"' in functions


def test_every_module_for_use_from_outside_is_in_the_reference(site):
    pages = list((site / "reference/api").glob("*.html"))
    assert {"data", "model", "training"} <= {page.stem for page in pages}
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for path in (ROOT / "tlpot" / page.stem).rglob("[!_]*.py"):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            assert f'<h2 id="{module.replace(".", "")}">{module}' in text, module


def test_search_and_pages_work_from_a_disk(site, browser):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(60_000)
    loaded: list[str] = []
    page.on("request", lambda request: loaded.append(request.url))
    page.goto((site / "index.html").as_uri())
    page.click(".md-search__input")
    page.keyboard.type("quarantine")
    page.wait_for_selector(".md-search-result__link")
    links = page.locator(".md-search-result__link")
    assert "howto/relax.html" in "".join(link.get_attribute("href") for link in links.all())
    blocks = "[...document.querySelectorAll('.highlight:not(.printed) pre > code')]"
    cut_off = f"{blocks}.some(block => block.scrollWidth > block.clientWidth)"
    for name in ("index", "reference/config", "evidence/thesis", "tutorials/learning"):
        for width in (1280, 390):
            page.set_viewport_size({"width": width, "height": 900})
            page.goto((site / f"{name}.html").as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") <= width, name
            assert not page.evaluate(cut_off), name
    page.close()
    assert not [url for url in loaded if not url.startswith(("file:", "data:", "blob:"))]


def test_a_page_that_states_figures_states_their_date():
    for path in DOCS.glob("**/*.md"):
        text = path.read_text(encoding="utf-8")
        assert not FIGURE.search(text) or DATE.search(text), path


@pytest.mark.parametrize("name", ORIGINALS)
def test_figures_beside_an_original_are_those_of_the_pages_that_are_named(name):
    """Of every row with an error bar: the originals state none, beside ours have their column."""
    text = (DOCS / f"evidence/{name}.md").read_text(encoding="utf-8")
    assert "What differs" in text
    assert "What we conclude" in text
    pages = [DOCS / "evidence" / target for target in LINK.findall(text)]
    measured = "\n".join(path.read_text(encoding="utf-8") for path in pages)
    tables = [block.splitlines() for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)]
    rows = [(head, row) for head, *rest in tables for row in rest if "± " in row]
    assert len(rows) > 1
    cells = [
        cell
        for head, row in rows
        for above, cell in zip(head.split("|"), row.split("|"), strict=True)
        if not above.strip().startswith("thesis:")
    ]
    numbers = [number for cell in cells for number in NUMBER.findall(cell)]
    assert [n for n in numbers if n not in measured] == []


def test_figures_of_the_readme_are_those_of_the_pages_that_it_names():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    pages = {
        n: (DOCS / f"evidence/{n}.md").read_text() for n in ("crystals", "lattice_energy", "csp")
    }
    errors = re.findall(r"^\| \d\d_\w+ \| default \| ([\d.]+)", pages["crystals"], re.MULTILINE)
    energies = sorted(map(float, errors))
    assert f"of {len(energies)} molecular crystals" in readme
    assert f"[{energies[0]:.1f} to {energies[-1]:.1f} meV/atom]" in readme
    (crystals, error) = re.search(
        r"^\| default \| (\d+) \| ([\d.]+)", pages["lattice_energy"], re.M
    ).groups()
    assert int(crystals) == len(energies)
    assert f"[{float(error):.1f} kJ/mol]" in readme
    row = re.search(r"^\| fine-tuned on 30% \|(.*)", pages["csp"], re.MULTILINE)[1]
    correlations = sorted(float(cell.split()[0]) for cell in row.strip(" |").split("|"))
    assert f"rank correlation of {correlations[0]:.2f} to {correlations[-1]:.2f}]" in readme
