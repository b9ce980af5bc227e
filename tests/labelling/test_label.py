"""Labelling: what is recorded, what fails alone, and what an interruption leaves."""

from dataclasses import replace

import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

from tlpot.config.run import Label
from tlpot.data.read import read_frames
from tlpot.errors import TlpotError
from tlpot.labelling.label import label_frames
from tlpot.structure.frames import Frame

SETTINGS = Label(engine="faulty_engines:Faulty")


def crystal(symbol: str, seed: int) -> Atoms:
    atoms = bulk("Cu", cubic=True)
    atoms.symbols[:] = symbol
    atoms.rattle(0.05, seed=seed)
    return atoms


@pytest.fixture
def frames() -> list[Frame]:
    notes = {"kind": "rattled", "engine": "GPAW 1", "cutoff": 700, "converged": False}
    return [
        Frame(crystal("Cu", i), energy=1e3, source="in.extxyz", index=i, info=notes)
        for i in range(4)
    ]


def test_labels_are_the_engines_and_notes_are_kept(tmp_path, frames):
    seen = []
    output = tmp_path / "new" / "labelled.extxyz"
    summary = label_frames(frames, SETTINGS, output, on_frame=lambda s: seen.append(s.done))
    assert (summary.labelled, summary.kept, summary.failed) == (4, 0, [])
    assert seen == [0, 1, 2, 3, 4]
    for old, new in zip(frames, read_frames(output), strict=True):
        atoms = old.atoms.copy()
        atoms.calc = EMT()
        assert new.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-6)
        assert new.forces == pytest.approx(atoms.get_forces(), abs=1e-6)
        assert new.stress == pytest.approx(atoms.get_stress(), abs=1e-6)
        assert new.info["kind"] == "rattled"
        assert new.info["engine"].startswith("Faulty ")
        assert new.info["geometry"] == old.name
        assert not {"cutoff", "converged"} & set(new.info)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_bad_frame_fails_alone_with_its_reason(tmp_path, frames, workers):
    bad = [
        Frame(crystal(s, 9), source="bad.xyz", index=i)
        for i, s in enumerate(("Ni", "Pd", "Pt", "Ag"))
    ]
    charged = Frame(crystal("Cu", 8), source="ion.xyz", info={"charge": 1})
    mixed = [bad[0], frames[0], bad[1], bad[2], frames[1], charged, bad[3], frames[2], frames[3]]
    output = tmp_path / "out.extxyz"
    summary = label_frames(mixed, SETTINGS, output, workers)
    assert summary.labelled == 4
    reasons = dict(summary.failed)
    assert "SCF did not converge" in reasons["bad.xyz#0"]
    assert "signal 6" in reasons["bad.xyz#1"]
    assert "exit code 3" in reasons["bad.xyz#2"]
    assert "NaN" in reasons["bad.xyz#3"]
    assert "charge +1" in reasons["ion.xyz#0"]
    assert [f.info["geometry"] for f in read_frames(output)] == [f.name for f in frames]


def test_an_interruption_loses_nothing(tmp_path, frames):
    output = tmp_path / "out.extxyz"

    def stop(summary) -> None:
        if summary.labelled == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        label_frames(frames, SETTINGS, output, on_frame=stop)
    whole = output.read_text()
    assert len(read_frames(output)) == 2
    output.write_text(whole[:-40])  # as a kill in the middle of a write leaves it
    summary = label_frames(frames[::-1], SETTINGS, output)
    assert (summary.labelled, summary.kept) == (3, 1)
    found = [f.info["geometry"] for f in read_frames(output)]
    assert found == [f.name for f in frames[::-1]]
    again = label_frames(frames, SETTINGS, output, workers=2)
    assert (again.labelled, again.kept) == (0, 4)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.extxyz"]


def test_equal_geometries_are_labelled_once(tmp_path, frames):
    summary = label_frames([*frames, frames[0]], SETTINGS, tmp_path / "out.extxyz")
    assert summary.labelled == 4
    assert len(read_frames(tmp_path / "out.extxyz")) == 4


@pytest.mark.parametrize(
    "other",
    [
        {"engine": "emt"},
        {"dispersion": "PBE"},
        {"replicate": 8.0},
        {"parameters": {"asap_cutoff": True}},
    ],
    ids=str,
)
def test_levels_never_mix_in_a_file(tmp_path, frames, other):
    if "dispersion" in other:
        pytest.importorskip("dftd3")
    output = tmp_path / "out.extxyz"
    label_frames(frames[:1], SETTINGS, output)
    before = output.read_bytes()
    with pytest.raises(TlpotError, match="levels never mix"):
        label_frames(frames, SETTINGS.model_copy(update=other), output)
    assert output.read_bytes() == before


@pytest.mark.parametrize("text", ["", "no structure\nat all\n", "2\n\nH 0 0 0\n", "1\n\nH 0 0 0\n"])
def test_a_file_of_someone_else_is_left_alone(tmp_path, frames, text):
    output = tmp_path / "mine.xyz"
    output.write_text(text)
    if text:
        with pytest.raises(TlpotError, match=r"mine\.xyz"):
            label_frames(frames, SETTINGS, output)
        assert output.read_text() == text
    with pytest.raises(TlpotError, match="extxyz"):
        label_frames(frames, SETTINGS, tmp_path / "labels.csv")


AWKWARD = {"id": "007", "flag": "T", "path": "C:\\new", "text": 'two\n"lines"', "empty": ""}


def test_awkward_notes_outlive_an_interruption(tmp_path, frames):
    """A line break in a note made the ledger unreadable after all the work."""
    output = tmp_path / "out.extxyz"
    awkward = [replace(frame, info=AWKWARD | {"n": i}) for i, frame in enumerate(frames)]
    label_frames(awkward[:2], SETTINGS, output)
    summary = label_frames(awkward, SETTINGS, output)
    assert (summary.labelled, summary.kept) == (2, 2)
    for i, frame in enumerate(read_frames(output)):
        assert AWKWARD | {"n": i} == {k: frame.info[k] for k in (*AWKWARD, "n")}


def test_a_note_that_no_file_can_keep_is_refused_before_the_work(tmp_path, frames):
    seen = []
    bad = [*frames[:3], replace(frames[3], info={"note": object()})]
    with pytest.raises(TlpotError, match=r"in\.extxyz#3: the note 'note' .*cannot be written"):
        label_frames(bad, SETTINGS, tmp_path / "out.extxyz", on_frame=lambda s: seen.append(s))
    assert not seen
