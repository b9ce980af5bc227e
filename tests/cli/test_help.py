"""What a user meets first: help with examples, completion, names behind a dot, telling reprs."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main

import tlpot
from tlpot.cli.main import app, main
from tlpot.config.run import parse_config


def walk(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        inner = hasattr(command, "commands")
        yield from walk(command, f"{name} ") if inner else [(before + name, command)]


VERBS = dict(walk(typer.main.get_command(app)))


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_has_an_example_of_its_own_options(verb):
    epilog = VERBS[verb].epilog or ""
    assert epilog.startswith("Example"), verb
    flags = {flag for option in VERBS[verb].params for flag in option.opts}
    for command in re.split(r"Examples?: |; (?=tlpot)", epilog)[1:]:
        assert command.startswith(f"tlpot {verb}")
        words = shlex.split(command)
        assert {word for word in words if word.startswith("-")} <= flags, command


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_breaks_lines_where_the_terminal_ends(verb):
    """Source code is wider: its line ends would leave every second line half empty."""
    paragraphs = (VERBS[verb].help or "").split("\n\n")
    assert not [text for text in paragraphs if "\n" in text.strip()]


def test_the_help_shows_the_workflow(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    places = [text.index(word) for word in ("In order: doctor", "init --from", "finetune config")]
    assert places == sorted(places)


def test_completion_knows_verbs_and_leaves_paths_to_the_shell():
    def complete(words: str, place: int) -> str:
        code = "from tlpot.cli.main import app; app(prog_name='tlpot')"
        environment = {"COMP_WORDS": words, "COMP_CWORD": str(place)}
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | environment | {"_TLPOT_COMPLETE": "complete_bash"},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout.strip()

    assert complete("tlpot fine", 1) == "finetune"
    assert complete("tlpot md POSCAR --ensem", 3) == "--ensemble"
    assert complete("tlpot finetune con", 2) == "", "bash then offers files: complete -o default"
    options = {flag for p in typer.main.get_command(app).params for flag in p.opts}
    assert {"--install-completion", "--show-completion"} <= options


def test_a_dot_offers_the_public_names():
    assert dir(tlpot) == sorted(tlpot.__all__)
    assert all(hasattr(tlpot, name) for name in dir(tlpot))


def test_reprs_tell_in_one_line(finished, labelled):
    potential = finished.potential
    assert re.fullmatch(
        r"<Potential of \S+: H C N O, 3 members, on test frames [\d.e+]+ meV/atom, [\d.e+]+ meV/Å>",
        repr(potential),
    )
    assert repr(finished) == f"<PotentialRun {finished.folder}: {potential!r}>"
    assert f"{potential!r}" in repr(tlpot.TLPotCalculator(potential))
    frame = labelled(1)[0]
    assert repr(frame) == "<Frame teacher.extxyz#0: H2O, crystal, energy, forces, stress>"
    config = parse_config({"data": {"files": "x"}, "training": {"epochs": 3}})
    assert repr(config) == "Config(data=Data(files=['x']), training=Training(epochs=3))"
