"""rank, relax and md are told by flags, by key=value and by a YAML file, and by all alike."""

from __future__ import annotations

from pathlib import Path

import ase.io
import pytest
import typer
import yaml
from ase.build import molecule

from tlpot.cli.jobs import DynamicsJob, RankJob, RelaxJob
from tlpot.cli.main import app, main
from tlpot.cli.options import keys
from tlpot.errors import TlpotError
from tlpot.sampling.settings import Proposal

COMMANDS = typer.main.get_command(app).commands
JOBS = {"rank": RankJob, "relax": RelaxJob, "md": DynamicsJob}


@pytest.fixture(autouse=True)
def empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def told(verb, *words):
    """What a verb reads from its words, without doing it."""
    command = COMMANDS[verb]
    context = command.make_context(verb, [str(word) for word in words])
    command.refuse_idle(context)
    return context.obj


def write(name="job.yaml", **values):
    Path(name).write_text(yaml.safe_dump(values))
    return name


def run(*words):
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in words])
    return stopped.value.code or 0


@pytest.mark.parametrize("verb", JOBS)
def test_options_are_the_fields_of_the_section(verb):
    options = {option.name: option for option in COMMANDS[verb].params}
    fields = dict(keys(JOBS[verb]))
    assert set(options) - {"help", "settings"} == set(fields)
    for name, key in fields.items():
        if name not in ("files", "file"):
            assert options[name].default == key.default, name
            assert options[name].help.startswith(key.field.description), name


def test_proposals_are_told_as_their_section_says():
    options = {option.name: option for option in COMMANDS["sample"].commands["propose"].params}
    for name, field in Proposal.model_fields.items():
        assert options[name].required == field.is_required(), name
        assert field.is_required() or options[name].default == field.default, name
        assert options[name].help.startswith(field.description), name


def test_all_three_ways_say_the_same():
    flags = told("rank", "a.cif", "--steps", 50, "--symmetry", "--experimental", "b.cif")
    assert flags.relaxation.steps == 50
    assert flags.experimental == ["b.cif"]
    flat = {"files": "a.cif", "steps": 50, "symmetry": True, "experimental": "b.cif"}
    nested = {"files": ["a.cif"], "relaxation": {"steps": 50, "symmetry": True}}
    nested["experimental"] = ["b.cif"]
    for words in (
        ("a.cif", "steps=50", "symmetry=true", "experimental=b.cif"),
        ("a.cif", "relaxation.steps=50", "--set", "symmetry=true", "experimental=[b.cif]"),
        (write(**flat),),
        (write("nested.yaml", **nested),),
        (write("section.yaml", rank=flat, relax={"files": "c.cif"}),),
        (write("bare.yaml", symmetry=True), "a.cif", "steps=50", "--experimental", "b.cif"),
    ):
        assert told("rank", *words) == flags, words
    assert told("relax", "section.yaml").files == ["c.cif"]


def test_what_is_nearer_the_user_counts():
    config = write(files=["a.cif"], model="mini", steps=50, fmax=0.1, output="o")
    job = told("relax", config, "steps=60", "--fmax", 0.2, "--model", "ani2x", "b.cif")
    assert (job.steps, job.fmax, job.model) == (60, 0.2, "ani2x")
    assert (job.files, job.output) == (["b.cif"], "o")
    assert told("relax", config, "--steps", 1000).steps == 1000, "a default counts when given"
    with pytest.raises(TlpotError, match=r"steps is set twice: drop --steps or steps="):
        told("relax", config, "steps=60", "--steps", 60)


@pytest.mark.parametrize(
    ("verb", "values", "words", "said"),
    [
        ("rank", {"steps": 5, "relaxation": {"steps": 5}}, (), "steps: given twice"),
        ("rank", {}, ("steps=5", "steps=6"), "steps: given twice"),
        ("rank", {"stepz": 5}, (), "job.yaml is not a valid config:\n  stepz: .*mean 'steps'"),
        ("rank", {"relaxation": {"stepz": 5}}, (), "relaxation.stepz: .*mean 'steps'"),
        ("rank", {"experimantal": "x"}, (), "mean 'experimental'"),
        ("rank", {"relaxation": None}, (), "mean 'relax'"),
        ("rank", {"steps": "many"}, (), r"relaxation.steps: .*integer.*\(got 'many'\)"),
        ("rank", {"steps": 50.5}, (), "relaxation.steps: .*integer"),
        ("rank", {"relax": {"steps": 5}}, (), "section relax, but none for rank"),
        ("rank", {"rank": {"steps": 5}, "fmax": 1}, (), "fmax stands beside the section rank"),
        ("rank", {}, ("stepz=5",), "cannot rank like this:\n  stepz: .*mean 'steps'"),
        ("rank", {}, ("--set", "steps"), "must read key=value"),
        ("rank", {"relax": False}, ("steps=5",), "--steps has no effect with --no-relax"),
        ("rank", {"relax": False, "steps": 5}, (), "no effect with relax: false"),
        ("rank", {"phonons": 2}, ("phonons=0", "--temperature", 9), "without --phonons"),
        ("rank", {"dispersion": "d3"}, ("engine=ase",), "engine has no effect with dispersion: d3"),
        ("rank", {"dispersion": "d3", "batch_atoms": 9}, (), "batch_atoms has no effect with disp"),
        ("relax", {"free": "cell"}, ("--fmax", 1), "--fmax has no effect with --free cell"),
        ("relax", {"free": "cell", "fmax": 1}, (), "fmax has no effect with free: cell"),
        ("relax", {"scheduler": "tcp://x:1"}, ("workers=2",), "with --scheduler tcp://x:1"),
        ("relax", {}, ("other.yaml",), "give one YAML file"),
        ("md", {"temprature": 5}, (), "mean 'temperature'"),
        ("md", {"temperature": float("nan")}, (), "temperature: .*(finite|greater)"),
        ("md", {}, ("other.xyz",), "x other.xyz: name one file"),
    ],
)
def test_what_is_unknown_or_without_effect_is_refused(verb, values, words, said):
    Path("other.yaml").touch()
    with pytest.raises(TlpotError, match=f"(?s){said}"):
        told(verb, write(**values), "x", *words)


def test_what_goes_together_in_a_file_and_flags_is_taken():
    config = write(files="x", phonons=2, pattern="p.xy")
    job = told("rank", config, "--temperature", 9, "--shift", 0.5)
    assert (job.temperature, job.shift, job.phonons) == (9, 0.5, 2)
    assert told("md", write(file="x", ensemble="npt"), "--pressure", 1, "tau_cell=9").tau_cell == 9


def test_a_file_is_needed_and_may_have_any_name():
    with pytest.raises(TlpotError, match="no files named"):
        told("rank", write(model="mini"))
    Path("T=300.xyz").write_text("")
    assert told("rank", "T=300.xyz").files == ["T=300.xyz"]
    assert told("rank", "T=300.xyz@0", "T=*.xyz").files == ["T=300.xyz@0", "T=*.xyz"]


def test_a_ranking_is_that_of_its_flags(request, capsys):
    urea = f"{request.config.rootpath / 'datasets/urea/urea.extxyz'}@0:60:20"
    words = ["rank", urea, "--model", "mini", "--no-relax", "--output", "flags"]
    assert run(*words) == 0
    config = write(rank={"files": [urea], "model": "ani2x", "output": "yaml", "relax": False})
    assert run("rank", config, "model=mini") == 0
    flags, filed = (Path(folder, "ranking.csv").read_text() for folder in ("flags", "yaml"))
    assert flags == filed
    assert len(flags.splitlines()) == 4
    capsys.readouterr()
    assert run("rank", config, "modl=mini", "output=third") == 2
    assert "did you mean 'model'?" in capsys.readouterr().err
    assert not Path("third").exists()


def test_relaxing_and_dynamics_from_a_file(capsys):
    ase.io.write("water.xyz", molecule("H2O"))
    write(
        "all.yaml",
        relax={"files": "water.xyz", "model": "mini", "engine": "ase"},
        md={
            "file": "relaxed/relaxed.extxyz",
            "model": "mini",
            "ps": 0.01,
            "log_every": 5,
        },
    )
    assert run("relax", "all.yaml", "fmax=0.05") == 0, capsys.readouterr().err
    assert run("md", "all.yaml", "--set", "thermostat=bussi") == 0, capsys.readouterr().err
    assert "0.01 ps of 3 atoms" in capsys.readouterr().out
    assert run("md", "all.yaml", "--thermostat", "bussi", "ps=0.02") == 0, "the same run goes on"
    assert len(Path("md/log.csv").read_text().splitlines()) == 1 + 9
