"""Reading files: what is found, which label is taken, and what a bad file is told."""

import importlib
import pickle
from collections.abc import Callable
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from tlpot.data.read import read_frames
from tlpot.errors import TlpotError

FORCES = np.arange(9.0).reshape(3, 3) / 10


def crystal(**results: object) -> Atoms:
    atoms = Atoms("OH2", [[0, 0, 0], [0, 0.76, 0.59], [0, -0.76, 0.59]], cell=[4, 4, 5], pbc=True)
    if results:
        atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def refusal(*args: object, **kwargs: object) -> str:
    with pytest.raises(TlpotError) as error:
        read_frames(*args, **kwargs)  # type: ignore[arg-type]
    return str(error.value)


@pytest.mark.parametrize("name", ["a.traj", "a.extxyz", "a.xyz", "a.db", "a.extxyz.gz"])
def test_labels_survive_every_common_format(tmp_path: Path, name: str) -> None:
    stress = np.arange(6.0) / 100
    path = tmp_path / name
    image = crystal(energy=-14.5, forces=FORCES, stress=stress)
    ase.io.write(path, [image, image])
    first, second = read_frames(path)
    assert (first.energy, first.source, first.index) == (-14.5, str(path), 0)
    assert second.name == f"{path}#1"
    np.testing.assert_allclose(first.forces, FORCES)
    np.testing.assert_allclose(first.stress, stress)
    np.testing.assert_allclose(first.atoms.positions, image.positions)
    assert first.atoms.calc is None
    assert first.info["energy_key"] == "energy"


@pytest.fixture
def five(tmp_path: Path) -> Path:
    path = tmp_path / "five.extxyz"
    ase.io.write(path, [crystal(energy=-float(i), forces=FORCES) for i in range(5)])
    return path


@pytest.mark.parametrize(
    ("suffix", "wanted"),
    [("@1:3", [1, 2]), ("@-2:", [3, 4]), ("@::2", [0, 2, 4]), ("@3", [3]), ("@-1", [4])],
)
def test_index_suffix(five: Path, suffix: str, wanted: list[int]) -> None:
    frames = read_frames(f"{five}{suffix}")
    assert [frame.index for frame in frames] == wanted
    assert [frame.energy for frame in frames] == [-float(i) for i in wanted]


def test_index_that_picks_nothing(five: Path) -> None:
    assert "none of the file's 5 frames" in refusal(f"{five}@7:9")


def test_at_sign_and_colon_in_a_name(five: Path, tmp_path: Path) -> None:
    odd = tmp_path / "run@300K:a.extxyz"
    five.rename(odd)
    assert len(read_frames(odd)) == 5
    assert len(read_frames(f"{odd}@0:2")) == 2
    tricky = tmp_path / "run@0:2"
    odd.rename(tricky.with_suffix(".extxyz"))
    assert len(read_frames(tmp_path / "run@0:2.extxyz")) == 5


def test_lists_globs_variables_and_folders(
    five: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HERE", str(tmp_path))
    assert len(read_frames("$HERE/*.extxyz")) == 5
    assert len(read_frames(["$HERE/five.extxyz@0", "${HERE}/five.extxyz@1"])) == 2
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(read_frames("~/five.extxyz")) == 5
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    five.rename(deep / "five.extxyz")
    (tmp_path / "a" / "notes.txt").write_text("not data")
    assert len(read_frames(tmp_path)) == 5
    assert "$UNSET_FOLDER is not set" in refusal("$UNSET_FOLDER/x.traj")


def test_folder_of_a_vasp_run_is_read_once(
    tmp_path: Path, vasprun_text: Callable[..., str], outcar_text: Callable[..., str]
) -> None:
    (tmp_path / "vasprun.xml").write_text(vasprun_text(3))
    (tmp_path / "OUTCAR").write_text(outcar_text(3))
    ase.io.write(tmp_path / "POSCAR", crystal(), format="vasp")
    assert {Path(frame.source).name for frame in read_frames(tmp_path)} == {"vasprun.xml"}


def test_folder_of_bare_structures(tmp_path: Path) -> None:
    ase.io.write(tmp_path / "POSCAR", crystal(), format="vasp")
    ase.io.write(tmp_path / "a.cif", crystal())
    frames = read_frames(tmp_path)
    assert len(frames) == 2
    assert all(frame.energy is None for frame in frames)


def test_vasp_is_known_by_content(tmp_path: Path, outcar_text: Callable[..., str]) -> None:
    (tmp_path / "step1.txt").write_text(outcar_text(3))
    assert read_frames(tmp_path / "step1.txt")[0].energy == -15.2


def test_missing_file_suggests_its_neighbour(five: Path) -> None:
    message = refusal(five.with_name("fvie.extxyz"))
    assert "no such file" in message
    assert "five.extxyz" in message
    assert "does not exist either" in refusal(five.parent / "nowhere" / "x.traj")
    assert "no file matches" in refusal(five.parent / "*.traj")


def test_empty_file_and_folder(tmp_path: Path) -> None:
    (tmp_path / "a.traj").touch()
    assert "a.traj: the file is empty" in refusal(tmp_path / "a.traj")
    (tmp_path / "empty").mkdir()
    assert "holds no OUTCAR" in refusal(tmp_path / "empty")


def test_cut_files_name_file_and_mend(five: Path, tmp_path: Path) -> None:
    text = five.read_text()
    five.write_text(text[: len(text) - 60])
    message = refusal(five)
    assert str(five) in message
    assert "copy it again" in message
    ase.io.write(tmp_path / "a.traj", [crystal(energy=-1.0, forces=FORCES)] * 3)
    data = (tmp_path / "a.traj").read_bytes()
    (tmp_path / "a.traj").write_bytes(data[: len(data) // 2])
    assert "a.traj: cannot be read" in refusal(tmp_path / "a.traj")


def test_frames_behind_a_blank_line_do_not_vanish(five: Path) -> None:
    lines = five.read_text().splitlines()
    five.write_text("\n".join([*lines[:10], "", *lines[10:]]) + "\n")
    message = refusal(five)
    assert "holds 5 frames" in message
    assert "after 2" in message
    assert "blank line" in message
    five.write_text("\n".join(lines) + "\n\n\n")
    assert len(read_frames(five)) == 5


def test_what_follows_the_frames_and_is_none(five: Path) -> None:
    five.write_text(five.read_text() + "\n# end of file\n")
    message = refusal(five)
    assert "behind frame 4" in message
    assert "'# end of file'" in message


@pytest.mark.parametrize("module", ["gzip", "bz2", "lzma"])
def test_compressed_files(five: Path, module: str) -> None:
    suffix = {"gzip": ".gz", "bz2": ".bz2", "lzma": ".xz"}[module]
    packed = five.with_name(five.name + suffix)
    packed.write_bytes(importlib.import_module(module).compress(five.read_bytes()))
    assert [f.energy for f in read_frames(packed)] == [f.energy for f in read_frames(five)]


@pytest.mark.parametrize("name", ["a.pkl", "a.traj", "OUTCAR"])
def test_pickles_are_never_loaded(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(pickle.dumps(_Bomb()))
    assert "pickle" in refusal(path)


class _Bomb:
    def __reduce__(self) -> tuple:
        return (pytest.exit, ("a pickle was loaded",))


def test_file_of_no_known_kind(tmp_path: Path) -> None:
    (tmp_path / "notes.zzz").write_text("hello")
    assert "not a kind of file" in refusal(tmp_path / "notes.zzz")


@pytest.mark.parametrize("name", ["OSZICAR", "vaspout.h5", "ML_AB", "INCAR.relax"])
def test_other_files_of_vasp_point_to_those_with_labels(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("1 F= -.8E+01 E0= -.8E+01\n")
    assert "reads OUTCAR and vasprun.xml" in refusal(tmp_path / name)


@pytest.mark.parametrize("name", ["a.extxyz", "OUTCAR", "POSCAR", "vasprun.xml"])
def test_text_of_windows_in_utf_16_is_called_so(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("3\n\nH 0 0 0\n", encoding="utf-16")
    assert "UTF-16" in refusal(tmp_path / name)


def test_urea(tlpot_data: Path) -> None:
    frames = read_frames(tlpot_data / "x23/21_urea/train.traj")
    kinds = [frame.kind for frame in frames]
    assert (kinds.count("crystal"), kinds.count("molecule")) == (170, 10)
    assert all((frame.stress is None) == (frame.kind == "molecule") for frame in frames)
    assert frames[0].energy == -41.55479094
    assert frames[0].info["config_stress_weight"] == 0


def test_a_link_to_nowhere_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.extxyz").symlink_to("gone.extxyz")
    message = refusal(tmp_path / "a.extxyz")
    assert "a link to gone.extxyz, which is not there" in message
