"""Finite displacements are known by their geometry, and stay together."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from tlpot.config.data import Data, Split
from tlpot.data.check import sort_frames
from tlpot.data.displaced import displaced_sets
from tlpot.data.split import split_frames
from tlpot.errors import TlpotError
from tlpot.structure.frames import Frame


def displaced(
    atoms: Atoms, moves: list[tuple[int, int, float]], rest: bool = True, source: str = "run"
) -> list[Frame]:
    """Frames in which an atom is moved along an axis; first the one at rest, if there is one."""
    images = [atoms.copy() for _ in moves]
    for image, (atom, axis, size) in zip(images, moves, strict=True):
        image.positions[atom, axis] += size
    return [
        Frame(image, energy=-1.0, forces=np.zeros((len(atoms), 3)), source=source, index=i)
        for i, image in enumerate([atoms] * rest + images)
    ]


def signs(nfree: int, step: float) -> list[float]:
    """Displacements of VASP's NFREE."""
    return {1: [step], 2: [step, -step], 4: [step, -step, 2 * step, -2 * step]}[nfree]


@pytest.fixture
def md(urea: Atoms) -> list[Frame]:
    """Fifty frames in which every atom moves."""
    images = [urea.copy() for _ in range(50)]
    for i, image in enumerate(images):
        image.rattle(0.05, seed=i)
    return [
        Frame(image, -1.0, np.zeros((16, 3)), source="md", index=i)
        for i, image in enumerate(images)
    ]


@pytest.mark.parametrize("nfree", [1, 2, 4])
@pytest.mark.parametrize("rest", [True, False])
@pytest.mark.parametrize("step", [0.005, 0.01, 0.015, 0.04])
def test_runs_of_every_scheme_are_known(
    urea: Atoms, md: list[Frame], nfree: int, rest: bool, step: float
) -> None:
    moves = [(atom, axis, s) for atom in range(16) for axis in range(3) for s in signs(nfree, step)]
    run = displaced(urea, moves, rest)
    random = np.random.default_rng(1).permutation(len(md) + len(run))
    frames = [[*md, *run][i] for i in random]
    (only,) = displaced_sets(frames)
    assert {frames[i].name for i in only.members} == {frame.name for frame in run}
    assert only.step == pytest.approx(step, rel=1e-6)
    assert [frames[i].index for i in only.at_rest] == [0] * rest
    assert only.atoms == 16
    for i, move in zip(only.members, only.moves, strict=True):
        np.testing.assert_allclose(frames[i].atoms.positions, urea.positions + move, atol=1e-9)


def test_symmetry_and_selective_dynamics_leave_few_displacements(urea: Atoms) -> None:
    for moves in ([(0, 2, 0.015)], [(0, 0, 0.01), (2, 2, 0.01)], [(5, 1, 0.02), (5, 1, -0.02)]):
        for rest in (True, False):
            sets = displaced_sets(frames := displaced(urea, moves, rest))
            assert [len(s.members) for s in sets] == ([len(frames)] if len(frames) > 1 else [])


def test_rounding_wrapping_and_a_second_run_do_not_confuse(urea: Atoms) -> None:
    other = urea.copy()
    other.rattle(0.03, seed=5)
    moves = [(atom, axis, s) for atom in range(4) for axis in range(3) for s in (0.01, -0.01)]
    first, second = displaced(urea, moves, source="one"), displaced(other, moves, source="two")
    for frame in first[::2]:
        frame.atoms.wrap()
    for frame in second:
        frame.atoms.positions = frame.atoms.positions.round(5)
    frames = [frame for pair in zip(first, second, strict=True) for frame in pair]
    sets = displaced_sets(frames)
    assert {frozenset(frames[i].source for i in s.members) for s in sets} == {
        frozenset({"one"}),
        frozenset({"two"}),
    }
    assert [len(s.members) for s in sets] == [25, 25]


def test_what_is_no_phonon_run(urea: Atoms, md: list[Frame]) -> None:
    assert displaced_sets(md) == []
    assert displaced_sets([*md, md[0]]) == []
    scan = displaced(urea, [(3, 0, 0.02 * i) for i in range(1, 12)])
    assert displaced_sets(scan) == []
    strained = [replace(f, atoms=f.atoms.copy()) for f in displaced(urea, [(0, 0, 0.01)] * 2)]
    for i, frame in enumerate(strained):
        frame.atoms.set_cell(frame.atoms.cell * (1 + 0.01 * i), scale_atoms=True)
    assert displaced_sets(strained) == []
    assert displaced_sets([Frame(bulk("Cu"), -1.0, np.zeros((1, 3)))] * 2) == []


def test_a_run_is_on_one_side_of_the_split(urea: Atoms, md: list[Frame]) -> None:
    moves = [(atom, axis, s) for atom in range(8) for axis in range(3) for s in (0.015, -0.015)]
    runs = [displaced(urea, moves)]
    for seed in range(4):
        atoms = urea.copy()
        atoms.rattle(0.1, seed=100 + seed)
        runs.append(displaced(atoms, moves, source=f"run{seed}"))
    for count in (1, 5):
        for seed in range(3):
            frames = [*md, *(frame for run in runs[:count] for frame in run)]
            splits = split_frames(frames, Split(seed=seed))
            parts = {name: {frames[i].source for i in part} for name, part in vars(splits).items()}
            for run in runs[:count]:
                assert sum(run[0].source in sources for sources in parts.values()) == 1
            if count == 1:
                assert runs[0][0].source in parts["train"]
            else:
                assert sum(f.startswith("run") for f in parts["test"]) == 1
            singles = [i for i in splits.test if frames[i].source == "md"]
            assert len(singles) == 10
    by_file = [replace(f, source=f"{i % 2}") for i, f in enumerate([*runs[0], *md])]
    with pytest.raises(TlpotError, match="1 groups by 'file'"):
        split_frames(by_file, Split(group="file"))
    with pytest.raises(TlpotError, match="finite displacements of one stay together"):
        split_frames(runs[0], Split())


def test_steps_of_one_vasp_run_stay_together(urea: Atoms, md: list[Frame]) -> None:
    """With ISIF = 3 it strains the cell too: near twins, though no atom is displaced alone."""
    strained = []
    for i in range(6):
        atoms = urea.copy()
        atoms.set_cell(atoms.cell * (1 + 0.001 * (i - 2)), scale_atoms=True)
        strained.append(Frame(atoms, -1.0, np.zeros((16, 3)), None, "OUTCAR", i, {"ibrion": 6}))
    for seed in range(4):
        frames = [*md, *strained]
        splits = split_frames(frames, Split(seed=seed))
        assert {name for name, part in vars(splits).items() if part[-1] >= 50} == {"train"}


def test_they_are_told_and_no_duplicates(urea: Atoms, md: list[Frame]) -> None:
    run = displaced(urea, [(a, 0, 0.01) for a in range(16)])
    checked = sort_frames([*md, *run], Data(files=["x"]))
    assert len(checked.frames) == len(md) + len(run)
    (remark,) = checked.remarks
    assert remark.startswith("17 frames are finite displacements, as run#0: 16 of 16 atoms")
    assert "by 0.01 Å, with the structure at rest" in remark


def test_the_tag_of_a_vasp_run_is_kept(outcar_text: Callable[..., str], tmp_path) -> None:
    from tlpot.data.read import read_frames

    for ibrion, kept in ((5, 5), (6, 6), (8, 8), (2, None)):
        path = tmp_path / f"OUTCAR_{ibrion}"
        path.write_text(outcar_text(3, 3, tags=f"IBRION = {ibrion}    ionic relax"))
        assert {frame.info.get("ibrion") for frame in read_frames(path)} == {kept}
