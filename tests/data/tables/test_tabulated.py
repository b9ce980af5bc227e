"""A folder of structures and a table of energies become frames; what is unclear is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import yaml
from ase.units import Hartree, kcal, kJ, mol

import tlpot
from tlpot.cli.main import main
from tlpot.config.data import Data, Group
from tlpot.config.run import parse_config
from tlpot.data.check import check_frames, sort_frames
from tlpot.data.groups import read_data
from tlpot.errors import TlpotError
from tlpot.structure.frames import Frame

TOTALS = {"a": -120.0, "b": -120.1, "c": -119.9, "d": -120.05, "e": -119.8}
"""eV per cell of 2 molecules of urea, 16 atoms."""


@pytest.fixture
def folder(tmp_path: Path, landscape: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the landscape, in the folder that one works in."""
    shutil.copytree(landscape, tmp_path / "landscape")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def table(rows: dict[str, Any], title: str = "energy (eV)", name: str = "energies.csv") -> None:
    lines = [f"id,{title}", *(f"{ident},{value}" for ident, value in rows.items())]
    Path(name).write_text("\n".join(lines) + "\n")


def read(remarks: list[str] | None = None, **more: Any) -> list[Frame]:
    group = {"files": "landscape/*", "table": "energies.csv", "relaxed": True} | more
    settings = Data(groups=[Group(**group)])
    return read_data(settings, on_remark=(remarks if remarks is not None else []).append)


def energies(**more: Any) -> dict[str, float | None]:
    return {Path(frame.source).stem: frame.energy for frame in read(**more)}


def test_each_structure_gets_its_energy_and_the_forces_of_a_minimum(folder):
    table(TOTALS)
    remarks: list[str] = []
    frames = read(remarks)
    assert {Path(f.source).stem: f.energy for f in frames} == TOTALS
    for frame in frames:
        assert frame.labels == "relaxed"
        assert np.array_equal(frame.forces, np.zeros((16, 3)))
        assert frame.stress is None
    assert len(remarks) == 1
    assert "energies.csv: 5 energies of column 'energy (eV)', eV per cell" in remarks[0]
    assert read(relaxed=False, energy_only=True)[0].labels == "energy"


@pytest.mark.parametrize(
    ("title", "factor"),
    [
        ("PBE+MBD(eV)", 1.0),
        ("energy_meV", 1e-3),
        ("E [Hartree]", Hartree),
        ("E_tot / Ha", Hartree),
        ("energy (kJ/mol per cell)", kJ / mol),
        ("energy_kJ_per_mol/cell", kJ / mol),
        ("E (kcal/mol per unit cell)", kcal / mol),
        ("energy per molecule (eV)", 2.0),
        ("energy (kJ/mol/molecule)", 2 * kJ / mol),
        ("E (eV/f.u.)", 2.0),
        ("E (eV per formula unit)", 2.0),
        ("energy [eV/atom]", 16.0),
        ("meV/atom", 16e-3),
    ],
)
def test_titles_say_unit_and_of_what(folder, title, factor):
    table(TOTALS, title)
    assert energies() == pytest.approx({k: v * factor for k, v in TOTALS.items()}, rel=1e-12)


@pytest.mark.parametrize(
    ("options", "factor"),
    [
        ({"unit": "eV"}, 1.0),
        ({"unit": "Hartree", "per": "atom"}, 16 * Hartree),
        ({"unit": "kJ/mol", "per": "molecule"}, 2 * kJ / mol),
        ({"unit": "kcal/mol", "per": "formula"}, 2 * kcal / mol),
    ],
)
def test_options_say_what_the_title_does_not(folder, options, factor):
    table(TOTALS, "energy")
    assert energies(**options) == pytest.approx({k: v * factor for k, v in TOTALS.items()})


@pytest.mark.parametrize(
    ("title", "options", "words"),
    [
        ("energy", {}, "in which unit are its energies?"),
        ("energy (kJ/mol)", {}, "kJ/mol of what?"),
        ("energy (eV)", {"unit": "Hartree"}, "data.groups.unit: Hartree contradicts the column's"),
        ("eV/atom", {"per": "cell"}, "data.groups.per: cell contradicts the column's title"),
        ("energy (eV)", {"column": "dft"}, r"has no column 'dft', .* it has energy \(eV\)"),
    ],
)
def test_what_is_not_said_is_asked_for(folder, title, options, words):
    table(TOTALS, title)
    with pytest.raises(TlpotError, match=words):
        read(**options)


def test_of_several_columns_the_first_energy_is_taken_and_said(folder):
    lines = [f"{k},2,{v},{v - 1}" for k, v in TOTALS.items()]
    Path("energies.csv").write_text("\n".join(["id,Z,PBE (eV),MACE (eV)", *lines]))
    remarks: list[str] = []
    assert {Path(f.source).stem: f.energy for f in read(remarks)} == TOTALS
    assert "column 'PBE (eV)', eV per cell; data.groups.column names another (MACE" in remarks[0]
    assert energies(column="MACE (eV)")["a"] == -121.0


def test_ids_are_the_ends_of_paths(folder):
    shutil.copytree("landscape", "other")
    table({"landscape/a.cif": -120.0, "other/a": -110.0})
    frames = read(files=["landscape/a.cif", "other/a.cif"])
    assert [frame.energy for frame in frames] == [-120.0, -110.0]
    table({"a": -120.0})
    with pytest.raises(TlpotError, match=r"energies\.csv, row 2 .* may be .*landscape/a\.cif#0"):
        read(files=["landscape/a.cif", "other/a.cif"])


def test_rows_and_structures_that_do_not_meet(folder):
    """Rows too many are said; a structure without a row is refused as a frame, or left out."""
    rows = {k: v for k, v in TOTALS.items() if k not in "de"} | {"e": "", "z": -120.0}
    table(rows)
    remarks: list[str] = []
    frames = read(remarks)
    assert any("1 ids are of no structure here: z" in remark for remark in remarks)
    settings = Data(files=["x"])
    with pytest.raises(TlpotError, match=r"d\.cif#0: not in the table — energies\.csv has no row"):
        check_frames(frames, settings)
    checked = check_frames(frames, settings.model_copy(update={"bad_frames": "drop"}))
    assert len(checked.frames) == 3
    assert [r.detail.partition(" has ")[2] for r in checked.rejected] == [
        "no row for it",
        "no value for it",
    ]
    table({"y": 1.0, "z": 2.0})
    with pytest.raises(TlpotError, match=r"none of its ids \(y, z\) is the name of a structure"):
        read()


@pytest.mark.parametrize("twice", ["a", "a.cif"])
def test_an_id_given_twice_is_refused(folder, twice):
    table(TOTALS)
    with Path("energies.csv").open("a") as file:
        file.write(f"{twice},-1\n")
    with pytest.raises(TlpotError, match=r"energies\.csv, row 7.*'a(\.cif)?'"):
        read()


def test_a_file_that_cannot_be_read_is_a_frame_that_is_refused(folder):
    Path("landscape/broken.cif").write_text("data_broken\n_cell_length_a 3\n")
    table(TOTALS | {"broken": -120.0})
    frames = read()
    (rejected,) = sort_frames(frames, Data(files=["x"])).rejected
    assert (rejected.reason, rejected.frame.source) == ("unreadable", "landscape/broken.cif")


def test_labels_of_the_files_are_not_those_of_the_table(folder, labelled, write_frames):
    """Their forces belong to another level."""
    write_frames(folder / "labelled.extxyz", labelled(3))
    table({"labelled": -1.0, "labelled-1": -2.0, "labelled#2": -3.0})
    frames = read(files="labelled.extxyz", relaxed=False, energy_only=True)
    assert [frame.energy for frame in frames] == [-1.0, -2.0, -3.0]
    assert all(frame.forces is None and frame.stress is None for frame in frames)


# --- relative energies ----------------------------------------------------------------------------


def test_relative_energies_are_told_by_title_zero_or_option(folder):
    shifted = {k: v + 120.1 for k, v in TOTALS.items()}
    for title, rows, options in (
        ("rel. energy (eV/atom)", TOTALS, {}),
        ("ΔE (eV per molecule)", TOTALS, {}),
        ("lattice energy (kJ/mol per molecule)", TOTALS, {}),
        ("energy (eV)", shifted, {}),
        ("energy (eV)", TOTALS, {"relative": True}),
    ):
        table(rows, title)
        remarks: list[str] = []
        frames = read(remarks, **options)
        assert all(frame.info["relative_energy"] for frame in frames)
        assert "relative energies, of CH4N2O known up to a constant" in remarks[-1]
    table(shifted)
    assert "relative_energy" not in read(relative=False)[0].info


def test_relative_energies_never_meet_total_ones_of_the_composition(folder, labelled, write_frames):
    table({k: v + 120.1 for k, v in TOTALS.items()})
    group = Group(files=["landscape/*"], table="energies.csv", relaxed=True)
    energies = Group(files=["landscape/*"], table="totals.csv", relaxed=True)
    table(TOTALS, name="totals.csv")
    with pytest.raises(TlpotError, match=r"has a relative energy, known up to a constant, and .*"):
        read_data(Data(groups=[group, energies]))
    write_frames(folder / "others.extxyz", labelled(3))  # of other compositions: its zero is free
    read_data(Data(files=["others.extxyz"], groups=[group]))


def test_relative_energies_per_cell_want_cells_of_one_size(folder):
    ase.io.write("landscape/big.cif", ase.io.read("landscape/a.cif").repeat((1, 1, 2)))
    rows = {k: v + 120.1 for k, v in TOTALS.items()} | {"big": 0.3}
    table(rows)
    with pytest.raises(TlpotError, match="cells of 16 and 32 atoms cannot be compared per cell"):
        read()
    assert energies(per="molecule")["big"] == pytest.approx(4 * 0.3)


# --- in a config ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("group", "words"),
    [
        ({"table": "e.csv"}, "a table has energies alone: add relaxed: true"),
        ({"unit": "eV"}, "unit has no effect without table"),
        ({"per": "atom"}, "per has no effect without table"),
        ({"column": "E"}, "column has no effect without table"),
        ({"relative": True}, "relative has no effect without table"),
        (
            {"table": "e.csv", "relaxed": True, "keys": {"energy": "E"}},
            "keys has no effect with table: e.csv",
        ),
        ({"table": "e.csv", "relaxed": True, "unit": "Joule"}, "data.groups.0.unit"),
    ],
)
def test_what_would_do_nothing_is_refused(group, words):
    with pytest.raises(TlpotError, match=words):
        parse_config({"data": {"groups": [{"files": "a", **group}]}})


def test_a_landscape_is_fine_tuned_and_its_table_is_part_of_the_run(folder, settings):
    table(TOTALS)
    settings["data"] = {
        "groups": [{"files": "landscape/*", "table": "energies.csv", "relaxed": True}],
        "split": {"test": 0.2, "validation": 0.2},
    }
    settings["training"]["epochs"] = 2

    def stop(row: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tlpot.finetune(settings, on_epoch=stop)
    table(TOTALS | {"a": -120.01})
    with pytest.raises(TlpotError, match="energy tables changed since this run began"):
        tlpot.finetune(settings, resume=True)
    table(TOTALS)
    run = tlpot.finetune(settings, resume=True)
    manifest = json.loads((run.folder / "manifest.json").read_text())
    assert manifest["data"]["labels"] == {"relaxed": 5}
    (kept,) = manifest["inputs"]["energy tables"]
    assert kept["path"] == "energies.csv"


def test_a_real_landscape_validates(tlpot_data, tmp_path, capsys, monkeypatch):
    """Genarris's crystals of C6H6O as they were published: CIFs beside a CSV of two methods."""
    monkeypatch.chdir(tmp_path)
    place = tlpot_data / "csp_genarris" / "Target_I"
    group = {
        "files": f"{place}/PBE_MBD/[0-3]*.cif",
        "table": f"{place}/Target_I.csv",
        "relaxed": True,
    }
    Path("c.yaml").write_text(
        yaml.safe_dump({"data": {"groups": [group]}, "model": {"base": "mini"}})
    )
    with pytest.raises(SystemExit) as stopped:
        main(["validate", "c.yaml"])
    said = " ".join(capsys.readouterr().out.split())
    assert stopped.value.code == 0, said
    assert "column 'PBE+MBD(eV)', eV per cell; data.groups.column names another (MACE" in said
    assert "minima" in said
