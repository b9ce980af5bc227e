"""What ``path@slice`` names in `data.files`, whatever the path and the slice."""

import glob
from pathlib import Path

import ase.io
import pytest
from ase import Atoms
from hypothesis import example, given
from hypothesis import strategies as st

from tlpot.data.find import find_files
from tlpot.data.read import read_frames
from tlpot.errors import TlpotError

COUNT = 7
NAMES = ("a.xyz", "b@c.xyz", "d@1:2", "e f.xyz", "run[1].xyz", "@.xyz", "ü@.xyz")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Files of names that look like grammar; the x of the first atom tells file and place."""
    folder = tmp_path_factory.mktemp("grammar")
    for k, name in enumerate(NAMES):
        images = [Atoms("H", [(100 * k + i, 0, 0)]) for i in range(COUNT)]
        ase.io.write(folder / "plain.xyz", images, format="extxyz")
        (folder / "plain.xyz").rename(folder / name)
    return folder


numbers = st.integers(-9, 9)
bounds = st.none() | numbers


def text_of(bound: int | None) -> str:
    return "" if bound is None else str(bound)


@example("a.xyz", (None, None, 0))
@given(st.sampled_from(NAMES), st.tuples(bounds, bounds) | st.tuples(bounds, bounds, bounds))
def test_a_slice_picks_what_it_picks_of_a_list(folder, name, index):
    path = folder / name
    text = f"{path}@{':'.join(map(text_of, index))}"
    try:
        expected = list(range(COUNT))[slice(*index)]
    except ValueError:  # a step of zero
        expected = []
    if not expected:
        with pytest.raises(TlpotError, match=r"picks none|step"):
            read_frames(text)
        return
    frames = read_frames(text)
    assert [frame.index for frame in frames] == expected
    assert [frame.source for frame in frames] == [str(path)] * len(expected)
    assert [frame.atoms.positions[0, 0] % 100 for frame in frames] == expected
    assert {frame.atoms.positions[0, 0] // 100 for frame in frames} == {NAMES.index(name)}


@given(st.sampled_from(NAMES), numbers)
def test_a_number_picks_one_frame(folder, name, number):
    text = f"{folder / name}@{number}"
    if not -COUNT <= number < COUNT:
        with pytest.raises(TlpotError, match="picks none"):
            read_frames(text)
        return
    (frame,) = read_frames(text)
    assert frame.index == range(COUNT)[number]


@given(st.sampled_from(NAMES))
def test_a_path_that_exists_is_that_path(folder, name):
    assert [frame.index for frame in read_frames(str(folder / name))] == list(range(COUNT))
    assert read_frames(folder / name)[0].source == str(folder / name)


@example("-:")
@example(":-")
@example("::0")
@example("٣")
@given(st.text(alphabet="0123456789:-+ @.eE_x", max_size=6))
def test_any_other_ending_is_a_file_that_is_not_there(folder, ending):
    """What is no slice is refused in words; nothing is ever guessed."""
    path = str(folder / "a.xyz")
    try:
        sources = {frame.source for frame in read_frames(f"{path}@{ending}")}
    except TlpotError as refusal:
        sources = {str(refusal).partition("@")[0]}
    assert sources == {path}


@given(st.lists(st.sampled_from([*NAMES, "*.xyz"]), min_size=1, max_size=4), bounds)
def test_files_come_in_the_order_given_and_each_has_its_slice(folder, names, start):
    suffix = f"@{text_of(start)}:"
    expected = [
        path
        for name in names
        for path in (
            [str(folder / name)] if name in NAMES else sorted(glob.glob(str(folder / name)))
        )
    ]
    found = find_files([f"{folder / name}{suffix}" for name in names])
    assert [str(path) for path, _ in found] == expected
    assert {index.start for _, index in found} == {start}
