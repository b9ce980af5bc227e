"""Frames of several groups: which labels they have, and what they weigh."""

from dataclasses import replace

import numpy as np
import pytest

from tlpot.config.data import Data, Group, Keys
from tlpot.data.check import check_frames, sort_frames
from tlpot.data.groups import marked, read_data
from tlpot.errors import TlpotError


@pytest.fixture
def files(tmp_path, water, write_frames):
    """Two frames with forces, and two others without, whose energy has a name of its own."""
    full = [water(0.01 * i, forces=np.diag([0.1, 0.2, -0.3])) for i in range(2)]
    bare = [replace(water(0.05 + 0.01 * i), forces=None, stress=None) for i in range(2)]
    files = [tmp_path / "full.extxyz", tmp_path / "bare.extxyz"]
    for path, frames in zip(files, (full, bare), strict=True):
        write_frames(path, frames)
    files[1].write_text(files[1].read_text().replace(" energy=", " dft_energy="))
    return [str(path) for path in files]


def test_each_group_is_read_by_its_own_rules(files):
    group = Group(files=files[1:], relaxed=True, weight=0.5, keys=Keys(energy="dft_energy"))
    frames = read_data(Data(files=files[:1], groups=[group]))
    assert [frame.labels for frame in frames] == ["full", "full", "relaxed", "relaxed"]
    assert [frame.weight for frame in frames] == [1.0, 1.0, 0.5, 0.5]
    assert frames[0].forces[1, 1] == 0.2
    assert all(np.array_equal(frame.forces, np.zeros((3, 3))) for frame in frames[2:])
    assert len(check_frames(frames, Data(files=files)).frames) == 4


def test_missing_forces_are_refused_unless_the_config_says_what_they_are(files):
    both = Data(files=files)
    with pytest.raises(TlpotError, match=r"data\.relaxed: true if they are DFT minima"):
        check_frames(read_data(both), both)
    both = Data(files=files, energy_only=True)
    frames = check_frames(read_data(both), both).frames
    assert [frame.labels for frame in frames] == ["full", "full", "energy", "energy"]
    assert frames[2].forces is None


def test_minima_keep_the_forces_that_they_have_and_must_be_minima(water):
    settings = Data(files=["x"], relaxed=True)
    still = water(forces=np.full((3, 3), 0.01))
    assert marked(still, settings).forces is still.forces
    moving = marked(water(forces=np.diag([0.0, 0.5, 0.0])), settings)
    (rejected,) = sort_frames([moving], settings).rejected
    assert rejected.reason == "not relaxed"
    assert "0.5 eV/Å on atom 1" in rejected.detail
    assert "group of their own" in rejected.mend


def test_of_two_that_agree_the_one_with_forces_is_kept(water):
    full = water()
    energy = replace(full, forces=None, labels="energy")
    minimum = replace(full, forces=np.zeros((3, 3)), labels="relaxed")
    for other in (energy, minimum):
        for frames in ([full, other], [other, full]):
            checked = sort_frames(frames, Data(files=["x"]))
            assert checked.frames == [full]
            assert [r.reason for r in checked.rejected] == ["duplicate"]
    unlike = replace(energy, energy=full.energy + 0.1)
    checked = sort_frames([full, unlike], Data(files=["x"]))
    assert [r.reason for r in checked.rejected] == ["contradicting labels"] * 2
