"""One answer to "is this structure sound?", and every room gives it."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.io import write
from typer.main import get_command

from tlpot.cli.main import app
from tlpot.config.data import Data
from tlpot.data.check import sort_frames
from tlpot.data.crystals.read import read_crystals
from tlpot.errors import TlpotError
from tlpot.labelling.label import _unfit
from tlpot.property.data import read_unlabelled
from tlpot.relax.relax import unfit
from tlpot.sampling.choose import choose
from tlpot.sampling.geometries import take
from tlpot.sampling.propose import propose
from tlpot.sampling.settings import Proposal
from tlpot.structure.frames import Frame
from tlpot.structure.soundness import COINCIDENT, LEAST_VOLUME, SHORTEST, find_flaw, require_sound


def ice(**changes):
    atoms = molecule("H2O", cell=[4, 4, 4], pbc=True)
    for name, value in changes.items():
        setattr(atoms, name, value)
    return atoms


def moved(distance):
    atoms = ice()
    atoms.positions[1] = atoms.positions[0] + [0, 0, distance]
    return atoms


FLAWS = {
    "no atoms": Atoms(cell=[4, 4, 4], pbc=True),
    "unknown element": ice(numbers=[0, 1, 1]),
    "broken cell": ice(cell=[4, 4, 0]),
    "overlapping atoms": moved(0.0),
}
"""Of each, what extended XYZ can hold."""
NOWHERE = ice(positions=np.full((3, 3), np.nan))


@pytest.mark.parametrize(
    ("atoms", "reason"),
    [
        *((atoms, reason) for reason, atoms in FLAWS.items()),
        (NOWHERE, "non-finite"),
        (ice(cell=[np.inf, 4, 4]), "non-finite"),
        (ice(numbers=[200, 1, 1]), "unknown element"),
        (ice(cell=[[4, 0, 0], [4, 0, 0], [0, 0, 4]]), "broken cell"),
        (ice(pbc=False, cell=[[4, 0, 0], [4, 0, 0], [0, 0, 4]]), "broken cell"),
        (Atoms("He", cell=[0.9, 0.9, 0.9], pbc=True), "broken cell"),
        (Atoms("He", cell=[0.4, 4, 4], pbc=True), "overlapping atoms"),
        (moved(SHORTEST - 0.01), "overlapping atoms"),
    ],
)
def test_every_flaw_is_found(atoms, reason):
    flaw = find_flaw(atoms)
    assert flaw is not None
    assert flaw.reason == reason
    with pytest.raises(TlpotError, match=f"in.xyz#3: {reason}"):
        require_sound([Frame(ice()), Frame(atoms, source="in.xyz", index=3)], SHORTEST)


@pytest.mark.parametrize(
    "atoms",
    [
        ice(),
        molecule("H2"),
        bulk("Cu"),
        Atoms("H"),
        moved(SHORTEST + 0.01),
        molecule("H2O", cell=[4, 0, 0], pbc=[True, False, False]),
        Atoms("H2", [[0, 0, 0], [0.74, 0, 0]], cell=[1.1, 1.1, 1.1], pbc=False),
    ],
)
def test_what_is_sound_has_none(atoms):
    assert find_flaw(atoms) is None


def test_what_the_caller_wants():
    slab = ice(pbc=[True, True, False])
    assert find_flaw(slab) is None
    assert find_flaw(slab, periodic="whole").reason == "not periodic"
    assert find_flaw(molecule("H2O"), periodic="whole") is None
    assert find_flaw(molecule("H2O"), periodic="crystal").reason == "not periodic"
    assert "does not know O, only H, C" in find_flaw(ice(), elements=("H", "C")).detail
    assert find_flaw(moved(0.3), shortest=0.25) is None
    assert find_flaw(moved(0.3), shortest=0.0) is None
    assert find_flaw(moved(COINCIDENT / 2), shortest=0.0).reason == "overlapping atoms"


@pytest.mark.parametrize("reason", FLAWS)
def test_every_room_gives_the_same_answer(reason, mini, tmp_path):
    """Reading crystals and structures with a property, frames, relaxing, sampling, labelling."""
    atoms = FLAWS[reason]
    detail = find_flaw(atoms).detail
    file = tmp_path / "a.extxyz"
    write(file, [ice(), atoms])
    frame = Frame(atoms, source=str(file), index=1, energy=-1.0, forces=np.zeros((len(atoms), 3)))
    _, (refused,) = read_crystals(file)
    _, (rejected,) = read_unlabelled(file, drop_bad=True)
    (bad,) = sort_frames([frame], Data(files=["a"])).rejected
    for answer in (refused.reason, rejected, bad.detail, unfit(atoms, mini), _unfit(frame)):
        assert detail in answer
    for call in (
        lambda: propose([frame], "rattle", 1, None),
        lambda: choose([frame], "farthest", 1, mini),
    ):
        with pytest.raises(TlpotError, match=detail.replace("(", r"\(").replace(")", r"\)")):
            call()


def test_positions_that_are_no_numbers(mini):
    frame = Frame(NOWHERE, source="a", energy=-1.0, forces=np.zeros((3, 3)))
    detail = find_flaw(NOWHERE).detail
    (bad,) = sort_frames([frame], Data(files=["a"])).rejected
    assert {bad.detail, unfit(NOWHERE, mini), _unfit(frame)} == {detail}
    with pytest.raises(TlpotError, match="proposals in a row"):
        take(iter([NOWHERE] * 30), 1, 0.0)
    with pytest.raises(TlpotError, match="not finite"):
        propose([frame], "rattle", 1, None)


def test_settings_have_the_one_number():
    """Written out where importing it would cost a second: in the config and in the flags."""
    flag = get_command(app).commands["sample"].commands["propose"].params  # type: ignore[attr-defined]
    defaults = [p.default for p in flag if p.name == "min_distance"]
    defaults += [s.model_fields["min_distance"].default for s in (Data, Proposal)]
    assert defaults == [SHORTEST] * 3


def test_no_solid_is_as_dense_as_a_cell_without_volume():
    """Metallic hydrogen at 500 GPa: r_s 1.23, 4/3 π (1.23 × 0.529)³ Å³."""
    assert 4 / 3 * np.pi * (1.23 * 0.529) ** 3 > LEAST_VOLUME
