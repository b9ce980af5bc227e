from dataclasses import replace

import numpy as np
import pytest

from tlpot.data.read import read_frames
from tlpot.data.write import write_frames


def test_what_is_written_reads_back(tmp_path, labelled):
    frames = [
        replace(
            f,
            info={"kind": "made up", "charge": 0, "converged": True, "energy_key": "E", "note": ""},
        )
        for f in labelled(4)
    ]
    frames[1] = replace(frames[1], energy=None, forces=None, stress=None)
    again = read_frames(write_frames(tmp_path / "new" / "all.extxyz", frames))
    for old, new in zip(frames, again, strict=True):
        assert np.array_equal(new.atoms.numbers, old.atoms.numbers)
        assert np.array_equal(new.atoms.pbc, old.atoms.pbc)
        assert new.atoms.positions == pytest.approx(old.atoms.positions, abs=0)
        for name in ("energy", "forces", "stress"):
            if getattr(old, name) is None:
                assert getattr(new, name) is None
            else:
                assert getattr(new, name) == pytest.approx(getattr(old, name), abs=0)
        assert new.info["kind"] == "made up"
        assert new.info["converged"] is True
        assert new.info["note"] == ""
        assert new.info.get("energy_key") != "E"
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["all.extxyz"]
