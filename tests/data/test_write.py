from dataclasses import replace

import numpy as np
import pytest

from tlpot.data.read import read_frames
from tlpot.data.write import refuse_to_overwrite, write_frames
from tlpot.errors import TlpotError


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


def test_nothing_is_overwritten(tmp_path):
    assert refuse_to_overwrite(tmp_path / "a.extxyz") == tmp_path / "a.extxyz"
    (tmp_path / "a.extxyz").write_text("")
    with pytest.raises(TlpotError, match="exists already"):
        refuse_to_overwrite(tmp_path / "a.extxyz")
    with pytest.raises(TlpotError, match="extxyz"):
        refuse_to_overwrite(tmp_path / "a.cif")
