"""`tlpot init`: a config that fits files passes `validate` as it is written, or none is written."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args, get_origin

import ase.io
import pytest
import yaml
from ase.build import bulk

from tlpot.config.run import Config, load_config, parse_config
from tlpot.config.sections import Section, load_section
from tlpot.config.template import config_template
from tlpot.powder.config import PowderConfig
from tlpot.property.config import PropertyConfig


@pytest.fixture
def call(call, tmp_path, monkeypatch):
    """In a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return call


@pytest.fixture
def fitted(call, base_model):
    """Writes a config for files by the small base, and validates it as it is."""

    def fit(*words: object, path: str = "config.yaml") -> tuple[Config, str]:
        code, out, err = call("init", path, f"model.base={base_model}", "--from", *words)
        assert code == 0, err
        code, _, err = call("validate", path)
        assert code == 0, err
        return load_config(path), out

    return fit


@pytest.fixture
def data(tmp_path, labelled, write_frames):
    """Writes so many labelled frames, other elements in the place of some."""

    def write(name: str, number: int, **renamed: str) -> Path:
        frames = [
            replace(f, forces=(1 + 0.01 * len(renamed)) * f.forces) for f in labelled(number)
        ]  # no labels of other frames
        for frame in frames:
            for old, new in renamed.items():
                frame.atoms.symbols[frame.atoms.symbols == old] = new
        (tmp_path / name).parent.mkdir(exist_ok=True)
        return write_frames(tmp_path / name, frames)

    return write


@pytest.mark.parametrize("words", [["frames.extxyz"], ["run*/f.traj"], ["run1"], ["run1", "run2"]])
def test_files_globs_and_folders(fitted, data, words):
    ase.io.write(data("run1/f.traj", 12), ase.io.read(data("frames.extxyz", 12), ":"))
    shutil.copytree("run1", "run2")
    config, out = fitted(*words)
    assert config.data.files == words
    assert "12 frames in 1 file: C H N O, 3 to 9 atoms" in out or len(words) > 1 or "*" in words[0]
    assert "labels: energy 12, forces 12, stress 9" in out or "24 frames in 2 files" in out


def test_vasp_says_its_level(fitted, call, outcar_text, tmp_path):
    (tmp_path / "OUTCAR").write_text(outcar_text(9, 8, tags="GGA = PE\nISPIN = 1\nENCUT = 500.0"))
    config, out = fitted("OUTCAR", "data.max_force=200")
    assert "level of theory: engine VASP 6.3.0" in out
    assert "xc PBE" in out
    assert (config.data.split.test, config.data.split.validation) == (0.0, 0.0), "two frames"
    text = Path("config.yaml").read_text()
    assert "# labels: energy 2, forces 2, stress 2" in text


@pytest.mark.parametrize(
    ("number", "test", "validation"), [(1, 0.0, 0.0), (6, 0.2, 0.0), (16, 0.2, 0.1)]
)
def test_few_frames_are_not_spent_on_parts(fitted, data, number, test, validation):
    split = fitted(data("frames.extxyz", number))[0].data.split
    assert (split.test, split.validation, split.group) == (test, validation, None)


def test_runs_are_held_out_whole(fitted, data, labelled, write_frames, tmp_path):
    for i, pair in enumerate(zip(labelled(24)[::2], labelled(24)[1::2], strict=True)):
        write_frames(tmp_path / f"{i:02}.extxyz", list(pair))
    assert fitted("*.extxyz")[0].data.split.group == "file"


def test_donors_of_elements_that_the_base_lacks(fitted, data):
    config, out = fitted(data("alias.extxyz", 12, O="S"))
    assert config.model.elements["S"].donor == "O"
    assert config.model.elements["S"].kind == "alias"
    assert "S: unknown to the base, stands on O; others: tlpot elements S" in out


def test_beside_its_donor_an_element_is_a_clone(fitted, data):
    both = [data("a.extxyz", 12), data("b.extxyz", 12, O="S")]
    config, out = fitted(*both)
    assert (config.model.elements["S"].donor, config.model.elements["S"].kind) == ("O", "clone")
    assert "a clone of O, which occurs too" in out
    config, _ = fitted(*both, "model.elements={S: N}", path="mine.yaml")
    assert config.model.elements["S"].donor == "N", "what is given is kept"


def test_energies_alone(fitted, labelled, write_frames, tmp_path):
    bare = [replace(frame, forces=None, stress=None) for frame in labelled(12)]
    config, out = fitted(write_frames(tmp_path / "bare.extxyz", bare))
    assert config.data.energy_only
    assert "relaxed: true" in out


def test_a_landscape_and_its_table(fitted, labelled, tmp_path):
    rows = ["id,energy (eV)"]
    for i, frame in enumerate(f for f in labelled(16) if f.kind == "crystal"):
        ase.io.write(tmp_path / f"c{i}.cif", frame.atoms)
        rows.append(f"c{i},{frame.energy}")
    (tmp_path / "energies.csv").write_text("\n".join(rows))
    config, out = fitted("c*.cif", "energies.csv")
    (group,) = config.data.groups
    assert (config.data.files, group.files, group.table) == ([], ["c*.cif"], "energies.csv")
    assert "split: 9 train, 1 validation, 2 test" in out


def test_a_config_elsewhere_holds_there_and_here(fitted, call, data, tmp_path, monkeypatch):
    data("frames.extxyz", 6)
    (tmp_path / "configs").mkdir()
    fitted("frames.extxyz@0:5", path="configs/mine.yaml")
    monkeypatch.chdir("configs")
    code, _, err = call("validate", "mine.yaml")
    assert code == 0, err


def test_a_run_that_is_there_does_not_stand_in_the_way(fitted, data, tmp_path):
    (tmp_path / "runs/finetune").mkdir(parents=True)
    (tmp_path / "runs/finetune/model.safetensors").write_text("of another run")
    assert fitted(data("frames.extxyz", 6))[0].output == "runs/finetune-2"


def test_what_validate_refuses_is_refused_in_its_words(call, data, base_model, labelled, tmp_path):
    frames = ase.io.read(data("frames.extxyz", 6), ":")
    frames[2].calc.results["forces"][:] = 1e6
    ase.io.write(tmp_path / "bad.extxyz", frames)
    Path("mine.yaml").write_text(f"data: {{files: bad.extxyz}}\nmodel: {{base: {base_model}}}")
    words = ["--from", "bad.extxyz", f"model.base={base_model}"]
    refusals = [call("validate", "mine.yaml"), call("init", *words)]
    (code, _, first), (same, out, second) = refusals
    assert (code, same, out) == (2, 2, "")
    assert first.strip() in second
    assert "behind this command: data.bad_frames=drop" in second
    assert not Path("config.yaml").exists()
    code, out, err = call("init", *words, "data.bad_frames=drop")
    assert code == 0, err
    assert "1 × force too large: left out" in out


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--from", "none.xyz"], "none.xyz: no such file"),
        (["--from"], "requires an argument"),
        (["model.bas=mini"], "model.bas: unknown key; did you mean 'base'?"),
        (["training.epochs=many"], "training.epochs: Input should be a valid integer"),
        (["--examples", "model.base=mini"], "model.base=mini has no effect with --examples"),
        (["a.yaml", "b"], "a.yaml b: name one file to write"),
    ],
)
def test_refusals(call, words, reason):
    code, out, err = call("init", *words)
    assert (code, out) == (2, "")
    assert reason in " ".join(err.replace("│", " ").split())
    assert not list(Path.cwd().iterdir())


@pytest.fixture
def cells(tmp_path):
    """Cubic, tetragonal and hexagonal crystals of two elements, a file each; their names."""
    (tmp_path / "cells").mkdir()
    made = {}
    for i, symbol in enumerate(["Cu", "Ag", "Au", "Al"]):
        made[f"cubic{i}"] = bulk(symbol, "fcc", 3.6 + 0.1 * i, cubic=True)
        made[f"tetragonal{i}"] = bulk(symbol, "bct", 3.0 + 0.1 * i, c=4.6)
        made[f"hexagonal{i}"] = bulk(symbol, "hcp", 2.6 + 0.1 * i, c=4.5)
    for name, atoms in made.items():
        ase.io.write(tmp_path / "cells" / f"{name}.cif", atoms)
    return list(made)


def trains(call, verb: str) -> None:
    """The config as it is written is one that a training takes."""
    code, _, err = call(*verb.split(), "train", "config.yaml", "training.epochs=1", "output=here")
    assert code == 0, err


@pytest.mark.parametrize("words", [["gaps.csv", "cells"], ["gaps.csv", "cells/*.cif"]])
def test_a_table_of_a_property_and_its_crystals(call, cells, words):
    rows = [f"{name},{0.0 if i % 2 else 1.5 + i},7" for i, name in enumerate(cells)]
    Path("gaps.csv").write_text("\n".join(["id,gap,other", *rows]))
    names = [str(p) for word in words for p in (Path().glob(word) if "*" in word else [word])]
    code, out, err = call("init", "--kind", "property", "--from", *names, "data.unit=eV")
    assert code == 0, err
    config = load_section(PropertyConfig, "config.yaml")
    assert (config.data.files, config.data.structures) == (["gaps.csv"], "cells")
    assert config.data.unit == "eV"
    assert "12 crystals: Ag Al Au Cu, " in out
    assert "gap: 0 to 11.5, median 0.75" in out
    assert "6 of them are zero: model.gate: true" in out
    assert "tlpot property train config.yaml" in out
    trains(call, "property")


def test_structures_that_hold_one_number_name_the_property(call, tmp_path):
    frames = [bulk("Cu", "fcc", 3.5 + 0.01 * i) for i in range(7)]
    for i, frame in enumerate(frames):
        frame.info |= {"gap": 0.5 + i, "note": "a", "good": True}
    ase.io.write("cells.extxyz", frames)
    assert call("init", "--kind", "property", "--from", "cells.extxyz")[0] == 0
    config = load_section(PropertyConfig, "config.yaml")
    assert (config.data.property, config.data.split.validation) == ("gap", 0.0)
    trains(call, "property")
    for i, frame in enumerate(frames):
        frame.info["modulus"] = float(i)
    ase.io.write("two.extxyz", frames)
    words = ["init", "two.yaml", "--kind", "property", "--from", "two.extxyz"]
    code, _, err = call(*words)
    assert (code, Path("two.yaml").exists()) == (2, False)
    assert "hold gap, modulus; say which is the property: data.property=NAME" in err
    assert call(*words, "data.property=gap")[0] == 0


def test_crystals_of_a_classifier(call, cells):
    code, out, err = call("init", "--kind", "xrd", "--from", "cells")
    assert code == 0, err
    assert load_section(PowderConfig, "config.yaml").data.files == ["cells"]
    assert "12 crystals: 2 tetragonal, 4 hexagonal, 6 cubic" in out
    assert "of no crystal: triclinic, monoclinic, orthorhombic, trigonal" in out
    trains(call, "xrd")
    Path("systems.csv").write_text("\n".join(["id,crystal_system", *(f"{c},cubic" for c in cells)]))
    code, _, err = call("init", "new.yaml", "--kind", "xrd", "--from", "cells", "systems.csv")
    assert (code, Path("new.yaml").exists()) == (2, False)
    assert "all 12 crystals are cubic: there is nothing to tell apart" in " ".join(err.split())


@pytest.mark.parametrize("kind", ["property", "xrd"])
def test_files_that_no_training_could_begin_with(call, cells, kind):
    code, _, err = call("init", "--kind", kind, "--from", "nothing.cif")
    assert (code, "nothing.cif: no such file" in err) == (2, True)
    assert not Path("config.yaml").exists()
    code, _, err = call("init", "--kind", kind, "--from", "cells", "--refused", "r.csv")
    assert (code, "--refused has no effect with --kind" in " ".join(err.split())) == (2, True)


KINDS = {"finetune": Config, "property": PropertyConfig, "xrd": PowderConfig}


@pytest.mark.parametrize("kind", KINDS)
def test_each_training_has_a_template_that_is_its_defaults(call, kind):
    assert call("init", "--kind", kind, "training.epochs=7")[0] == 0
    written = KINDS[kind].model_validate(yaml.safe_load(Path("config.yaml").read_text()))
    given = {"data": {"files": written.data.files}, "training": {"epochs": 7}}
    assert written == KINDS[kind].model_validate(given)
    code, _, err = call("init", "--kind", kind)
    assert (code, "config.yaml exists already" in err) == (2, True)


def literals(section: type[Section]):
    for name, field in section.model_fields.items():
        kind = field.annotation
        if get_origin(kind) is Literal:
            yield field.alias or name, get_args(kind)
        elif isinstance(kind, type) and issubclass(kind, Section):
            yield from literals(kind)


@pytest.mark.parametrize("section", KINDS.values())
def test_the_choices_of_a_field_stand_beside_it(section):
    lines = config_template({"data": {"files": ["x"]}}, section).splitlines()
    every = dict(literals(section))
    assert "schedule" in every
    for name, words in every.items():
        of_field = [x for x in lines if x.lstrip("# ").startswith(f"{name}: ")]
        assert any(x.endswith(f"one of {', '.join(words)}") for x in of_field), name


def test_what_is_given_to_the_preset_is_set():
    values = {"data": {"files": ["x"] * 6}, "training": {"epochs": 9, "preset": "thesis"}}
    text = config_template(values)
    assert parse_config(yaml.safe_load(text)) == parse_config(values)
    assert "\n    - x\n" in text
