"""Packed files, known by their content: what reads, and what is told of the rest."""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import ase.io
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from tlpot.data.compression import open_binary, unpacked
from tlpot.data.read import read_frames
from tlpot.errors import TlpotError


def zipped(data: bytes, *names: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in names or ("OUTCAR",):
            archive.writestr(name, data)
    return packed.getvalue()


PACK: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE),
    "zip": zipped,
}


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("name", ["OUTCAR", "OUTCAR_1", "run1.OUTCAR", "step.txt"])
def test_an_outcar_reads_packed_under_any_name(
    tmp_path: Path, outcar_text: Callable[..., str], suffix: str, name: str
) -> None:
    packed = PACK[suffix](outcar_text(4, 4).encode())
    for file in (tmp_path / f"{name}.{suffix}", tmp_path / name):  # also without the suffix
        file.write_bytes(packed)
        assert [frame.energy for frame in read_frames(file)] == [-15.2, -16.2]


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("name", ["vasprun.xml", "run1.vasprun.xml", "vasprun_2.xml"])
def test_a_vasprun_reads_packed_under_any_name(
    tmp_path: Path, vasprun_text: Callable[..., str], suffix: str, name: str
) -> None:
    file = tmp_path / f"{name}.{suffix}"
    file.write_bytes(PACK[suffix](vasprun_text(4, 4).encode()))
    assert [frame.energy for frame in read_frames(file)] == [-15.2, -15.2]
    assert [frame.source for frame in read_frames(tmp_path)] == [str(file)] * 2


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("name", ["a.extxyz", "a.traj", "a.db"])
def test_what_ase_reads_reads_packed(tmp_path: Path, suffix: str, name: str) -> None:
    atoms = Atoms("H2", [[0, 0, 0], [0, 0, 0.8]])
    atoms.calc = SinglePointCalculator(atoms, energy=-3.0, forces=[[0, 0, 1.0], [0, 0, -1.0]])
    plain = tmp_path / name
    ase.io.write(plain, atoms)
    data = plain.read_bytes()
    packed = tmp_path / f"{name}.{suffix}"
    packed.write_bytes(zipped(data, name) if suffix == "zip" else PACK[suffix](data))
    (frame,) = read_frames(packed)
    assert (frame.energy, frame.source) == (-3.0, str(packed))


def test_plain_files_that_are_called_packed(
    tmp_path: Path, outcar_text: Callable[..., str]
) -> None:
    file = tmp_path / "OUTCAR.gz"
    file.write_text(outcar_text(4))
    assert len(read_frames(file)) == 1


@pytest.mark.parametrize("suffix", ["gz", "xz", "bz2", "zip"])
@pytest.mark.parametrize("name", ["OUTCAR", "vasprun.xml", "a.extxyz"])
def test_a_packed_file_that_is_cut_says_so(
    tmp_path: Path, outcar_text: Callable[..., str], suffix: str, name: str
) -> None:
    file = tmp_path / f"{name}.{suffix}"
    packed = PACK[suffix](outcar_text(*[4] * 20).encode())
    file.write_bytes(packed[: len(packed) * 2 // 3])
    with pytest.raises(TlpotError, match=rf"{name}\.{suffix}.*the copy is cut or damaged"):
        read_frames(file)


@pytest.mark.parametrize(
    ("name", "head", "said"),
    [
        ("OUTCAR.zst", b"\x28\xb5\x2f\xfd", "zstd"),
        ("OUTCAR", b"\x28\xb5\x2f\xfd", "zstd"),
        ("vasprun.xml.7z", b"7z\xbc\xaf\x27\x1c", "7z"),
        ("a.extxyz.Z", b"\x1f\x9d", "compress"),
        ("a.rar", b"Rar!\x1a\x07", "rar"),
    ],
)
def test_other_compressions_are_named(tmp_path: Path, name: str, head: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(head + bytes(200))
    for reader in (read_frames, open_binary, lambda path: unpacked(path).__enter__()):
        with pytest.raises(TlpotError, match=rf"compressed with {said}.*unpack it"):
            reader(tmp_path / name)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_tar_archives_are_named(tmp_path: Path, mode: str) -> None:
    (tmp_path / "OUTCAR").write_text("x")
    with tarfile.open(tmp_path / "run.tgz", mode) as archive:
        archive.add(tmp_path / "OUTCAR", "OUTCAR")
    with pytest.raises(TlpotError, match=r"run\.tgz: a tar archive; unpack it"):
        read_frames(tmp_path / "run.tgz")


def test_zip_archives_of_several_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "runs.zip").write_bytes(zipped(b"x", "1/OUTCAR", "2/OUTCAR"))
    with pytest.raises(TlpotError, match="zip archive of 2 files; unpack it"):
        read_frames(tmp_path / "runs.zip")


def test_a_folder_reads_each_run_once(
    tmp_path: Path, outcar_text: Callable[..., str], vasprun_text: Callable[..., str]
) -> None:
    for name in ("OUTCAR.xz", "OUTCAR_2", "run3.OUTCAR.bz2", "OUTCAR_4"):
        (tmp_path / name).write_text(outcar_text(4))
    for name in ("vasprun.xml.gz", "vasprun_2.xml", "run3.vasprun.xml"):
        (tmp_path / name).write_text(vasprun_text(4))
    found = sorted(Path(frame.source).name for frame in read_frames(tmp_path))
    assert found == ["OUTCAR_4", "run3.vasprun.xml", "vasprun.xml.gz", "vasprun_2.xml"]


def test_an_empty_file_packed_is_empty(tmp_path: Path) -> None:
    (tmp_path / "OUTCAR.gz").write_bytes(gzip.compress(b""))
    with pytest.raises(TlpotError, match=r"OUTCAR\.gz: the file is empty"):
        read_frames(tmp_path / "OUTCAR.gz")


def test_what_is_packed_twice_is_said(tmp_path: Path) -> None:
    (tmp_path / "run.zip").write_bytes(zipped(lzma.compress(b"x"), "OUTCAR.xz"))
    (tmp_path / "OUTCAR.gz").write_bytes(gzip.compress(gzip.compress(b"x")))
    for name in ("run.zip", "OUTCAR.gz"):
        with pytest.raises(TlpotError, match="packed twice; unpack it"):
            read_frames(tmp_path / name)
