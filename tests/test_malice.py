"""Files made to harm: what they claim is never built, unpacked or followed."""

import bz2
import gzip
import io
import json
import lzma
import resource
import zipfile
from functools import cache
from pathlib import Path

import ase.io
import pytest
from ase.build import molecule
from bounds import CONSTANT, LOADERS, bounded, labelled_water, written

from tests.golden.test_golden import FILES
from tlpot.config.run import load_config
from tlpot.data.crystals.read import read_crystals
from tlpot.data.read import read_frames, read_structures
from tlpot.errors import TlpotError
from tlpot.model.card import card
from tlpot.model.load import load
from tlpot.powder.pattern import read_pattern
from tlpot.structure.neighbours import neighbour_pairs
from tlpot.structure.soundness import find_flaw


def refused(read, path: Path, words: str | None = None) -> str:
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


def test_what_data_packs_to_is_read(tmp_path):
    """A trajectory of like frames packs well, and is no bomb."""
    path = tmp_path / "frames.extxyz.xz"
    path.write_bytes(lzma.compress(written("extxyz", labelled_water()[:1]) * 500))
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
