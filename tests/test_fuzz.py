"""Whatever a file holds, it is read or refused: no traceback, no hang, no memory beyond its size.

``TLPOT_FUZZ=2000`` tries so many files of each kind (``make fuzz``); the suite tries a few.
"""

import bz2
import gzip
import io
import json
import lzma
import os
import resource
import signal
import tracemalloc
import zipfile
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
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
from tlpot.powder.classifier import load_classifier
from tlpot.powder.pattern import read_pattern
from tlpot.property.model import PropertyModel
from tlpot.structure.neighbours import neighbour_pairs
from tlpot.structure.soundness import find_flaw

EXAMPLES = int(os.environ.get("TLPOT_FUZZ", "12"))
SECONDS = 10
"""Of the processor; ten times as many on the clock, which others may slow down."""
TIMES, CONSTANT = 10, 64 << 20
"""Memory that reading may take: times the file, and what it takes at least."""


class Hang(BaseException):
    """As a kill: no reader may catch it."""


@contextmanager
def bounded(size: int):
    """Within it nothing lasts, and nothing takes memory out of proportion."""

    def stop(*_):
        raise Hang

    signal.signal(signal.SIGALRM, stop)
    signal.signal(signal.SIGPROF, stop)
    signal.alarm(10 * SECONDS)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        tracemalloc.stop()
    assert peak < TIMES * size + CONSTANT, f"{peak >> 20} MB for {size} bytes"


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


def written(suffix: str, images, **options) -> bytes:
    """As ASE writes it."""
    if suffix in ("traj", "db"):
        path = Path(f"seed.{suffix}")
        ase.io.write(path, images)
        return path.read_bytes()
    text = io.BytesIO() if suffix == "cif" else io.StringIO()
    ase.io.write(text, images, format=suffix, **options)
    found = text.getvalue()
    return found if isinstance(found, bytes) else found.encode()


@pytest.fixture
def labelled_water() -> list:
    images = []
    for i in range(3):
        atoms = molecule("H2O", vacuum=3.0, pbc=i < 2)
        atoms.rattle(0.02, seed=i)
        labels = {"energy": -14.0 - i, "forces": np.full((3, 3), 0.1 * i)}
        if i < 2:
            labels["stress"] = np.arange(6) / 100
        atoms.calc = SinglePointCalculator(atoms, **labels)
        images.append(atoms)
    return images


@pytest.mark.parametrize("kind", ["extxyz", "xyz", "traj", "db"])
def test_frames_of_ase(kind, tmp_path, monkeypatch, labelled_water):
    monkeypatch.chdir(tmp_path)
    seed = written(kind, labelled_water)
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


LOADERS = {"property": PropertyModel.load, "powder": load_classifier}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_models(tmp_path, path):
    read = LOADERS.get(path.stem.partition("_")[0], load)

    def use(file: Path) -> None:
        list(card_rows(card(file)))
        read(file)

    fuzz("model.safetensors", use, (path.read_bytes(),), tmp_path)


def test_packed(tmp_path, labelled_water):
    plain = written("extxyz", labelled_water)
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


# --- what malice makes, told apart from what accidents do -----------------------------------------


def refused(read, path: Path, words: str = "") -> str:
    """Within bounds of time and memory, measured of the whole process too."""
    with bounded(path.stat().st_size), pytest.raises(TlpotError, match=words) as told:
        read(path)
    return str(told.value)


BOMB = "".join(
    f'<!ENTITY e{i + 1} "{f"&e{i};" * 10}">\n' if i else '<!ENTITY e1 "lolololololololololol">\n'
    for i in range(9)
)


@pytest.mark.parametrize("name", ["vasprun.xml", "crystal.xsd", "crystal.xml"])
@pytest.mark.parametrize("declared", [BOMB, '<!ENTITY e9 SYSTEM "file:///etc/passwd">'])
def test_entities_of_xml(tmp_path, vasprun_text, name, declared):
    text = vasprun_text(2)
    head, _, rest = text.partition("<modeling>")
    bomb = f"{head}<!DOCTYPE modeling [\n{declared}]>\n<modeling>{rest}"
    bomb = bomb.replace("<c>H </c>", "<c>&e9;</c>").replace("<v>0 0 4</v>", "<v>&e9;</v>")
    path = tmp_path / name
    path.write_text(bomb)
    assert "root:" not in refused(read_frames, path)


@cache
def packed(suffix: str) -> bytes:
    """A great many zeros."""
    zeros = bytes(60 << 20)
    if suffix == "zip":
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("frames.extxyz", zeros)
        return archive.getvalue()
    if suffix == "xz":
        return lzma.compress(zeros, preset=0)
    return {"gz": gzip, "bz2": bz2}[suffix].compress(zeros, 9 if suffix == "bz2" else 6)


@pytest.mark.parametrize("suffix", ["gz", "bz2", "xz", "zip"])
@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("frames.extxyz", read_frames),
        ("OUTCAR", read_frames),
        ("crystal.cif", read_frames),
        ("pattern.xy", read_pattern),
    ],
)
def test_bombs_of_packers(tmp_path, monkeypatch, name, read, suffix):
    """Of a file that unpacks to a thousand times its size no more than a part is unpacked."""
    monkeypatch.setattr("tlpot.data.compression.MOST", 1 << 20)
    path = tmp_path / f"{name}.{suffix}"
    path.write_bytes(packed(suffix))
    refused(read, path, "unpacks to more than")


def test_what_data_packs_to_is_read(tmp_path, labelled_water):
    """A trajectory of like frames packs well, and is no bomb."""
    path = tmp_path / "frames.extxyz.xz"
    path.write_bytes(lzma.compress(written("extxyz", labelled_water[:1]) * 500))
    assert len(read_frames(path)) == 500


def header(about: dict, weights: bytes = b"", size: int | None = None) -> bytes:
    text = json.dumps(about).encode()
    return (len(text) if size is None else size).to_bytes(8, "little") + text + weights


def altered(path: Path, change) -> bytes:
    """A model file with another header of ours."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    about = json.loads(content[8 : 8 + length])
    ours = json.loads(about["__metadata__"]["tlpot"])
    change(ours)
    about["__metadata__"]["tlpot"] = json.dumps(ours)
    return header(about, content[8 + length :])


TENSOR = {"dtype": "F32", "shape": [1 << 20, 1 << 20], "data_offsets": [0, 4 << 40]}
CLAIMS = {
    "a header longer than the file": header({"x": TENSOR}, size=1 << 40),
    "a header of the largest number": header({"x": TENSOR}, size=(1 << 64) - 1),
    "a tensor larger than the file": header({"x": TENSOR}, bytes(16)),
    "a shape of other bytes": header({"x": TENSOR | {"data_offsets": [0, 16]}}, bytes(16)),
    "a shape that overflows": header(
        {"x": TENSOR | {"shape": [1 << 62, 4], "data_offsets": [0, 16]}}, bytes(16)
    ),
    "overlapping tensors": header(
        {k: {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} for k in "xy"}, bytes(16)
    ),
    "json without an end": (1 << 17).to_bytes(8, "little") + b"[" * (1 << 17),
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_model_files_that_claim_what_they_do_not_hold(tmp_path, claim):
    path = tmp_path / "model.safetensors"
    path.write_bytes(CLAIMS[claim])
    refused(load, path)
    refused(card, path)


def sizes(about: dict, *keys: str):
    for key in keys:
        about = about[key]
    return about


ALTERED = {
    "ani": lambda h: sizes(h, "architecture").update(members=10**12),
    "ani_fine": lambda h: sizes(h, "architecture").update(widths=[[3000] * 3] * 4, members=3000),
    "ani_components": lambda h: sizes(h, "architecture").update(components=3000),
    "emodes": lambda h: sizes(h, "architecture").update(widths=[4000, 4000, 4000]),
    "schnet": lambda h: sizes(h, "architecture").update(interactions=300),
    "property_network": lambda h: sizes(h, "property", "network").update(layers=10**9),
    "property_gated": lambda h: sizes(h, "property", "network").update(dense=1900, width=1900),
    "powder_lines": lambda h: sizes(h, "powder", "network").update(dense=[600] * 300),
}


@pytest.mark.parametrize("name", ALTERED)
def test_architectures_that_the_weights_do_not_have(tmp_path, name):
    source = next(path for path in FILES if path.stem == name)
    path = tmp_path / "model.safetensors"
    path.write_bytes(altered(source, ALTERED[name]))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(LOADERS.get(name.partition("_")[0], load), path, "model.safetensors")
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert after - before < CONSTANT >> 10, f"{(after - before) >> 10} MB"


def test_models_with_json_that_never_ends(tmp_path):
    about = {"__metadata__": {"tlpot": "[" * (1 << 17)}}
    path = tmp_path / "model.safetensors"
    path.write_bytes(header(about))
    refused(load, path)


YAML = {
    "aliases": "a0: &a0 [x, x]\n"
    + "".join(f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 9)}]\n" for i in range(12))
    + "data: {files: *a12}\n",
    "depth": "[" * 3000,
    "depth of keys": "{a: " * 20_000,
    "itself": "data: &d {files: *d}\n",
    "a number": "data: {files: x, split: {seed: " + "9" * 5000 + "}}\n",
    "code": "!!python/object/apply:os.system ['true']",
}


@pytest.mark.parametrize("name", YAML)
def test_yaml(tmp_path, name):
    path = tmp_path / "config.yaml"
    path.write_text(YAML[name])
    refused(load_config, path)


@pytest.mark.parametrize(
    "cell", [[1e11, 5, 5], [1e2, 1e2, 1e-4], [1e-4, 1e3, 1e3], [5, 5, 1e30], [1e-3] * 3]
)
def test_cells_without_an_end_of_neighbours(tmp_path, cell):
    """Vesin divides by zero on some, and counts for ever in others."""
    atoms = molecule("H2O", cell=cell, pbc=True)
    path = tmp_path / "frames.extxyz"
    ase.io.write(path, atoms)
    with bounded(path.stat().st_size):
        assert find_flaw(read_structures(path)[0].atoms).reason == "broken cell"
        with pytest.raises(TlpotError):
            neighbour_pairs(atoms, 6.0)
    refused(read_crystals, path, "cell")


@pytest.mark.parametrize(
    "text",
    [
        "99999999999\n\nH 0 0 0\n",
        "1\n\nH 0 0 0\n\n99999999999\n\n",
        "1_0_0_0_0\n\nH 0 0 0\n",
        f"1\nProperties=species:S:1:pos:R:3:x:R:{10**11}\nH 0 0 0 1\n",
        "9" * 5000 + "\n\nH 0 0 0\n",
    ],
)
def test_xyz_that_claims_what_it_does_not_hold(tmp_path, text):
    path = tmp_path / "frames.xyz"
    path.write_text(text)
    refused(read_frames, path)


@pytest.mark.parametrize("count", ["99999999999", "9" * 30, "3000000"])
def test_poscar_that_counts_more_atoms_than_it_has_lines(tmp_path, count):
    path = tmp_path / "POSCAR"
    path.write_text(f"x\n1.0\n5 0 0\n0 5 0\n0 0 5\nH O\n2 {count}\nDirect\n" + "0 0 0\n" * 3)
    refused(read_frames, path, "counts")
