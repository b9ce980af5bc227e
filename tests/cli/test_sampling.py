"""`tlpot sample` and `tlpot label` on the command line."""

from pathlib import Path

import ase.io
import pytest
import yaml
from ase.build import bulk
from commands import refused

import tlpot


@pytest.fixture
def config(tmp_path, settings) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def test_sample_proposes_and_never_overwrites(call, tmp_path, settings):
    output = tmp_path / "new.extxyz"
    water = f"{settings['data']['files'][0]}@0"
    propose = ("sample", "propose", water, "--method", "rattle", "--number", 3, "--output")
    code, out, err = call(*propose, output)
    assert code == 0, err
    assert "wrote 3 frames" in out
    found = tlpot.read_frames(output)
    assert [f.info["start"] for f in found] == [found[0].info["start"]] * 3
    assert found[0].energy is None
    refused(call(*propose, output), "exists already")


def test_sample_as_it_was_written_before(call, tmp_path, settings, base_model):
    """Its words still do what they did, and are told as they are now; none does another thing."""
    frames, output = settings["data"]["files"][0], tmp_path / "new.extxyz"
    rest = ("--number", 3, "--output", output)
    for words, now in (
        (("--method", "rattle"), f"propose {frames} --method rattle --number 3"),
        (("--pick", "random"), f"choose {frames} --by random --number 3"),
        (("--pick=farthest", "--model", base_model), f"choose {frames} --by farthest --model"),
    ):
        code, out, err = call("sample", frames, *words, *rest)
        assert (code, "wrote 3 frames" in out) == (0, True), err
        assert f"type: tlpot sample {now}" in err
        output.unlink()
    code, _, err = call("sample", "--from", tmp_path, *rest)
    assert (code, "tlpot sample choose --by doubt" in err) == (2, True)
    assert "holds no structures.extxyz" in err
    refused(call("sample", frames, "--pick", "active", *rest), "tlpot sample learn config.yaml")
    refused(call("sample", frames, *rest), "propose", "choose", "learn")
    refused(call("sample", frames, "--pick", "random", "--method", "md", *rest), "say what to do")
    assert not output.exists()


def test_sample_picks_labelled_frames(call, tmp_path, settings, base_model):
    output = tmp_path / "picked.extxyz"
    code, _, err = call(
        *(
            "sample",
            "choose",
            *settings["data"]["files"],
            "--by",
            "committee",
            "--model",
            base_model,
        ),
        *("--number", 5, "--output", output),
    )
    assert code == 0, err
    found = tlpot.read_frames(output)
    scores = [f.info["committee_eV"] for f in found]
    assert scores == sorted(scores, reverse=True)
    assert all(f.energy is not None and f.forces is not None for f in found)
    code, _, err = call(
        *(
            "sample",
            "choose",
            *settings["data"]["files"],
            "--by",
            "farthest",
            "--model",
            base_model,
        ),
        *("--number", 11, "--known", output, "--output", tmp_path / "others.extxyz"),
    )
    assert code == 0, err
    energies = [f.energy for f in (*found, *tlpot.read_frames(tmp_path / "others.extxyz"))]
    assert len(set(energies)) == 16  # what is known is not picked again


def test_sample_learns_actively(call, tmp_path, config, settings):
    overrides = yaml.safe_load(config.read_text())
    overrides["active"] = {"start": 0.2, "criterion": 1e-9, "add": 0.2}
    config.write_text(yaml.safe_dump(overrides))
    output = tmp_path / "chosen.extxyz"
    code, out, err = call(
        *("sample", "learn", config, "training.epochs=1", "--number", 6, "--output", output)
    )
    assert code == 0, err
    assert "wrote 6 frames" in out
    assert "round 1: trained on 6; 10 of the other 10 in doubt" in err
    assert len(tlpot.read_frames(output)) == 6
    assert Path(settings["output"], "round-01", "model.safetensors").is_file()


def test_label_resumes_and_reports(call, tmp_path, config, settings):
    crystals = [bulk("Cu", cubic=True) for _ in range(3)]
    for i, atoms in enumerate(crystals):
        atoms.rattle(0.05, seed=i + 1)
    crystals[1].symbols[0] = "Si"  # which EMT does not know
    ase.io.write(tmp_path / "in.extxyz", crystals)
    output = tmp_path / "out.extxyz"
    arguments = ("label", tmp_path / "in.extxyz", "--output", output)
    code, out, err = call(*arguments, "--engine", "emt")
    assert code == 1, err
    assert "2 frames labelled, 0 kept, 1 failed" in out
    assert "in.extxyz#1" in out
    assert [f.info["engine"].split()[0] for f in tlpot.read_frames(output)] == ["EMT"] * 2
    code, out, _ = call("label", f"{tmp_path}/in.extxyz@::2", "--output", output, "--engine", "emt")
    assert code == 0
    assert "0 frames labelled, 2 kept, 0 failed" in out
    changed = yaml.safe_load(config.read_text())
    changed["label"] = {"engine": "emt", "parameters": {"asap_cutoff": True}}
    config.write_text(yaml.safe_dump(changed))
    refused(call(*arguments, "--config", config), "levels never mix", "asap_cutoff=True")
    refused(call(*arguments, "--engine", "emtt"), "emtt")
    refused(call(*arguments, "--collect"), "holds no folders")


def test_label_writes_folders_for_vasp(call, tmp_path, settings):
    jobs = tmp_path / "jobs"
    files = settings["data"]["files"][0] + "@0:3"
    code, out, err = call("label", files, "--engine", "vasp", "--output", jobs)
    assert code == 0, err
    assert "wrote 3 folders" in out
    code, out, _ = call("label", jobs, "--collect", "--output", tmp_path / "out.extxyz")
    assert code == 2
    assert "0 frames labelled, 0 kept, 3 failed" in out
    refused(call("label", files, "--engine", "vasp", "--output", jobs), "not empty")
