"""A file or folder that a config or an option names may have ``~`` and ``$VARIABLES``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from tlpot.ablation.sweep import Sweep
from tlpot.cli.jobs import DynamicsJob, RankJob, RelaxJob
from tlpot.cli.main import main
from tlpot.config.run import Config, parse_config
from tlpot.config.sections import EXPANDED
from tlpot.errors import TlpotError
from tlpot.powder.config import PowderConfig
from tlpot.property.config import PropertyConfig

NAMES = re.compile(r"\b(file|folder|CSV|YAML|powder pattern)\b")
OTHERS = {"molecule", "scheduler", "elements", "group", "property"}
"""Expanded where they are read, or names of something else."""


def fields(section: type[BaseModel]) -> Iterator[tuple[str, object]]:
    for name, field in section.model_fields.items():
        kinds = [field.annotation, *get_args(field.annotation)]
        if str in kinds and NAMES.search(field.description or ""):
            yield name, field
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from fields(kind)


@pytest.mark.parametrize(
    "section", [Config, PropertyConfig, PowderConfig, Sweep, RankJob, RelaxJob, DynamicsJob]
)
def test_every_field_that_names_one_file_is_expanded(section):
    named = {name: field for name, field in fields(section) if list not in _origins(field)}
    assert "output" in named
    for name, field in named.items():
        assert name in OTHERS or EXPANDED in field.metadata, name


def _origins(field) -> set:
    return {getattr(kind, "__origin__", None) for kind in [field.annotation]}


@pytest.fixture
def home(monkeypatch, tmp_path) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PROJECT", "benzene")
    monkeypatch.delenv("NOWHERE", raising=False)
    return tmp_path


def test_home_and_variables_are_written_out(home):
    def config(output: str) -> Config:
        return parse_config({"data": {"files": "x"}, "output": output})

    assert config("~/runs/$PROJECT").output == str(home / "runs/benzene")
    assert config("${PROJECT}-2").output == "benzene-2"
    assert config("runs/a~b").output == "runs/a~b"
    with pytest.raises(TlpotError, match=r"output: \$NOWHERE/x: .*\$NOWHERE is not set"):
        config("$NOWHERE/x")


def test_a_run_lands_at_home(home, settings):
    import tlpot

    run = tlpot.finetune(settings | {"output": "~/$PROJECT"})
    assert run.folder == home / "benzene"
    assert (home / "benzene" / "report.html").exists()
    again = {"data": settings["data"], "model": {"base": "~/benzene"}, "output": "~/second"}
    tlpot.finetune(again | {"training": settings["training"]})
    assert (home / "second" / "model.safetensors").exists()
    assert not Path("~").exists()


def test_an_option_that_a_shell_leaves_alone(home, settings, monkeypatch):
    monkeypatch.chdir(home)
    words = ["sample", "choose", settings["data"]["files"][0], "--by", "random", "--number", "2"]
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--output=~/chosen.extxyz"])
    assert not stopped.value.code
    assert (home / "chosen.extxyz").exists()
    assert not Path("~").exists()
