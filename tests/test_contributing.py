"""What a newcomer is told holds: files that are named exist, lint is the same everywhere."""

import re
from importlib import import_module
from pathlib import Path

import pytest
import yaml

import tlpot

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PATHS = sorted(set(re.findall(r"`((?:tlpot|tests)/[\w./]*)`", GUIDE)))


@pytest.mark.parametrize("path", PATHS)
def test_a_file_that_the_guide_names_exists(path):
    assert (ROOT / path).exists()


@pytest.mark.parametrize("place", re.findall(r"`tlpot/([\w/]+\.py`: `\w+)`", GUIDE))
def test_a_name_that_the_guide_sends_to_is_there(place):
    module, name = place.split(".py`: `")
    assert hasattr(import_module(f"tlpot.{module.replace('/', '.')}"), name)


def test_every_room_of_the_package_is_in_the_table():
    table = (ROOT / "docs/reference/index.md").read_text(encoding="utf-8")
    rooms = [path.parent.name for path in (ROOT / "tlpot").glob("*/__init__.py")]
    assert [room for room in rooms if f"`tlpot/{room}`" not in table] == []


def test_a_commit_is_checked_as_make_test_checks():
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    commands = [hook["entry"].removeprefix(".venv/bin/") for hook in repository["hooks"]]
    recipe = re.search(r"^test:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    alone = [line.partition(" & ")[0] for line in recipe[1].splitlines()]
    lint = [line.removeprefix("\t$(BIN)/").removesuffix(" .") for line in alone]
    assert commands == lint[:-1]
    assert lint[-1].startswith("python -m pytest")


def test_a_citation_names_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == tlpot.__version__
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
