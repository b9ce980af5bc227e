"""Whatever a file holds, it is read or refused: no traceback, no hang, no memory beyond its size.

``TLPOT_FUZZ=2000`` tries so many files of each kind (``make fuzz``); the suite tries a few.
"""

import bz2
import gzip
import io
import lzma
import os
import zipfile
from contextlib import suppress
from pathlib import Path

import ase.io
import numpy as np
import pytest
from bounds import LOADERS, bounded, labelled_water, written
from hypothesis import HealthCheck, Phase, given, settings
from mutations import broken

from tests.golden.test_golden import FILES
from tlpot.config.data import Group
from tlpot.config.run import load_config
from tlpot.config.template import config_template
from tlpot.data.crystals.read import read_crystals
from tlpot.data.read import read_frames, read_structures
from tlpot.data.tables.table import read_table
from tlpot.data.tables.tabulated import read_tabulated
from tlpot.errors import TlpotError
from tlpot.model.card import card, card_rows
from tlpot.model.load import load
from tlpot.powder.pattern import read_pattern

EXAMPLES = int(os.environ.get("TLPOT_FUZZ", "12"))


def fuzz(name: str, read, seeds: tuple[bytes, ...], folder: Path) -> None:
    path = folder / name

    @settings(
        max_examples=EXAMPLES,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
        database=None,
    )
    @given(broken(seeds))
    def check(content: bytes) -> None:
        path.write_bytes(content)
        with bounded(len(content)), suppress(TlpotError):
            read(path)

    for seed in seeds:  # real ones are read
        path.write_bytes(seed)
        read(path)
    check()


def frames(path: Path) -> None:
    read_frames(path)
    read_structures(path)


def crystals(path: Path) -> None:
    read_crystals(path)


@pytest.mark.parametrize("kind", ["extxyz", "xyz", "traj", "db"])
def test_frames_of_ase(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seed = written(kind, labelled_water())
    fuzz(f"frames.{kind}", frames, (seed,), tmp_path)


def test_outcar(tmp_path, outcar_text):
    seeds = (outcar_text(3, 2).encode(), outcar_text(2, tags="ISPIN = 2").encode() * 2)
    fuzz("OUTCAR", frames, seeds, tmp_path)


def test_vasprun(tmp_path, vasprun_text):
    seeds = (vasprun_text(2, 1).encode(), vasprun_text(1, tags="ISPIN = 2").encode() * 2)
    fuzz("vasprun.xml", frames, seeds, tmp_path)


def test_cif(tmp_path, ideal_urea):
    pytest.importorskip("spglib")
    operators = "".join(f"  '{s}'\n" for s in ("x,y,z", "-x,-y,-z", "1/2-x,1/2+y,1/2-z"))
    by_hand = (
        "data_one\n_chemical_formula_sum 'C2 H4'\n_cell_formula_units_Z 2\n"
        "_cell_length_a 5.1(2)\n_cell_length_b 6.2\n_cell_length_c 7.3\n_cell_angle_alpha 90\n"
        "_cell_angle_beta 95.5\n_cell_angle_gamma 90\n_space_group_IT_number 14\n"
        f"_space_group_name_H-M_alt 'P 21/n'\nloop_\n_space_group_symop_operation_xyz\n{operators}"
        "loop_\n_atom_site_label\n_atom_site_type_symbol\n_atom_site_fract_x\n_atom_site_fract_y\n"
        "_atom_site_fract_z\n_atom_site_occupancy\nC1 C 0.1 0.2 0.3 1.0\nH1 H .25 .25 0.4 1\n"
    )
    seeds = (written("cif", ideal_urea), by_hand.encode().replace(b"_occupancy", b"_occupancy"))
    fuzz("crystal.cif", lambda path: read_structures_or_refuse(path), seeds, tmp_path)


def read_structures_or_refuse(path: Path) -> None:
    with suppress(TlpotError):
        read_crystals(path)


def test_poscar(tmp_path, ideal_urea):
    seeds = (
        written("vasp", ideal_urea),
        written("vasp", ideal_urea, direct=True, vasp5=True),
    )
    fuzz("POSCAR", crystals, seeds, tmp_path)


SHELX = b"""TITL urea
CELL 0.71073 5.565 5.565 4.684 90 90 90
ZERR 2 0.001 0.001 0.001 0 0 0
LATT -1
SYMM -Y, X, -Z
SYMM -X, -Y, Z
SYMM Y, -X, -Z
SYMM 1/2+X, 1/2-Y, -Z
SYMM 1/2-X, 1/2+Y, -Z
SYMM 1/2+Y, 1/2+X, Z
SYMM 1/2-Y, 1/2-X, Z
SFAC C H N O
UNIT 2 8 4 2
FVAR 1.0 0.5
C1 1 0.0 0.5 0.3280 10.25
O1 4 0.0 0.5 0.5962 10.25
N1 3 0.1447 0.6447 0.1785 10.5
H1 2 0.2552 0.7552 0.2841 10.5
H2 2 0.1428 0.6428 -0.0339 10.5
HKLF 4
END
"""


def test_shelx(tmp_path):
    fuzz("crystal.res", crystals, (SHELX,), tmp_path)


def test_table(tmp_path, ideal_urea):
    ase.io.write(tmp_path / "one.cif", ideal_urea)
    ase.io.write(tmp_path / "two.cif", ideal_urea)

    def read(path: Path) -> None:
        read_table(path, {"one", "two"}.__contains__)
        group = Group(files=[str(tmp_path / "*.cif")], table=str(path), energy_only=True)
        read_tabulated(group)

    seeds = (
        b"id,energy (eV)\none,-10.5\ntwo,-10.25\n",
        b"id;energy [kJ/mol per cell]\none;-1,5\ntwo;0\n",
    )
    fuzz("table.csv", read, seeds, tmp_path)


def test_pattern(tmp_path):
    x = np.arange(5, 60, 0.5)
    y = 100 + 50 * np.sin(x) ** 2
    columns = "".join(f"{a:.2f} {b:.1f}\n" for a, b in zip(x, y, strict=True))
    narrow = "".join(f"{a / 10:.3f} {b:.1f}\n" for a, b in zip(x, y, strict=True))
    gsas = f"BANK 1 {len(x)} {len(x)} CONS 500 50 0 0 FXY\n" + "".join(
        f"{100 * a:.1f} {b:.1f}\n" for a, b in zip(x, y, strict=True)
    )
    fullprof = "5.0 0.5 59.5\n" + "".join(
        f"{b:.1f}" + ("\n" if i % 5 == 4 else " ") for i, b in enumerate(y)
    )
    seeds = ("# 2theta, wavelength 1.5406\n" + columns, "# Q (1/A)\n" + narrow, gsas, fullprof)
    seeds = tuple(text.encode() for text in seeds)
    fuzz("pattern.xy", lambda path: read_pattern(path, "CuKa"), seeds, tmp_path)


def test_config(tmp_path):
    seed = config_template().replace("files:", "files: [x.extxyz] #").encode()
    small = (
        b"data: {files: [x.xyz], split: {seed: 3}}\nmodel: {elements: {Si: C}}\noutput: runs/a\n"
    )
    fuzz("config.yaml", load_config, (small, seed), tmp_path)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_models(tmp_path, path):
    read = LOADERS.get(path.stem.partition("_")[0], load)

    def use(file: Path) -> None:
        list(card_rows(card(file)))
        read(file)

    fuzz("model.safetensors", use, (path.read_bytes(),), tmp_path)


def test_packed(tmp_path):
    plain = written("extxyz", labelled_water())
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("frames.extxyz", plain)
    seeds = (gzip.compress(plain), bz2.compress(plain), lzma.compress(plain), archive.getvalue())
    for name in ("frames.extxyz", "pattern.xy"):
        read = frames if name == "frames.extxyz" else attempt(read_pattern)
        fuzz(name, read, seeds, tmp_path)


def attempt(read):
    def tried(path: Path) -> None:
        with suppress(TlpotError):
            read(path)

    return tried
