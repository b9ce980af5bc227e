from dataclasses import replace

import pytest

from tlpot.config import Data
from tlpot.data.check import check_frames
from tlpot.data.inspect import inspect_files
from tlpot.data.levels import require_one_level
from tlpot.data.read import read_frames
from tlpot.data.write import write_frames
from tlpot.errors import TlpotError

PBE = {"engine": "GPAW 26.7.0", "xc": "PBE", "cutoff": 1100, "kpts": "2x2x3"}


@pytest.mark.parametrize(
    "other",
    [{"engine": "TBLite 0.8.0"}, {"xc": "PBE+D3(BJ)"}, {"cutoff": 700}, {"settings": "x=1"}],
    ids=str,
)
def test_levels_never_mix(water, other):
    frames = [water(0.01 * i, info=PBE, index=i) for i in range(3)]
    frames.append(water(0.05, info=PBE | other, index=3))
    with pytest.raises(TlpotError, match=r"water\.xyz#0 by .*water\.xyz#3 by") as caught:
        check_frames(frames, Data(files=["x"], bad_frames="drop"))
    assert str(next(iter(other.values()))).split()[0] in str(caught.value)


def test_inspection_says_so_and_shows_the_rest(water, tmp_path):
    frames = [water(0.01 * i, info=PBE | {"cutoff": 700 + i // 2}, index=i) for i in range(4)]
    files = [str(write_frames(tmp_path / "mixed.extxyz", frames))]
    found = inspect_files(files, None, Data(files=files))
    assert "2 different levels" in found.conflict
    assert len(found.checked.frames) == 4
    assert inspect_files([f"{files[0]}@:2"], None, Data(files=files)).conflict == ""


def test_versions_k_points_and_silence_pass(water):
    kinds = [PBE, PBE | {"engine": "GPAW 25.1"}, PBE | {"kpts": "1x1x1"}, {}, {"xc": "LDA"}]
    require_one_level([replace(water(), info=info) for info in kinds])


def test_our_own_urea_is_of_one_level():
    frames = read_frames("datasets/urea/urea.extxyz")
    assert frames[0].info["engine"]
    require_one_level(frames)
