"""Every reason to reject a frame, and none for a good one."""

from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from time import perf_counter

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from rich.console import Console

from tlpot.cli.show.data import checked_table
from tlpot.config.data import Data, Keys
from tlpot.data.check import MENDS, check_frames, sort_frames
from tlpot.data.read import read_frames
from tlpot.data.repeats import find_repeats
from tlpot.errors import TlpotError
from tlpot.structure.frames import Frame

Water = Callable[..., Frame]
DROP = Data(files=["x"], bad_frames="drop")


def settings(**change: object) -> Data:
    return Data(files=["x"], **change)  # type: ignore[arg-type]


def reason(frame: Frame, **kwargs: object) -> str | None:
    checked = sort_frames([frame], DROP, **kwargs)  # type: ignore[arg-type]
    return checked.rejected[0].reason if checked.rejected else None


def test_good_frames_pass_untouched(water: Water) -> None:
    frames = [water(0.01 * i, index=i) for i in range(10)]
    checked = check_frames(frames, settings(), supported={"H", "O"})
    assert checked.frames == frames
    assert checked.rejected == []
    assert checked.surplus == 0


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"energy": None}, "missing label"),
        ({"forces": None}, "missing label"),
        ({"energy": float("nan")}, "non-finite"),
        ({"forces": np.full((3, 3), np.inf)}, "non-finite"),
        ({"stress": np.full(6, np.nan)}, "non-finite"),
        ({"forces": np.diag([0.0, 51.0, 0.0])}, "force too large"),
        ({"info": {"converged": False}}, "not converged"),
        ({"info": {"converged": True}}, None),
        ({"info": {"converged": None}}, None),
        ({"info": {"machine_learned": True}, "energy": None}, "machine-learned step"),
        ({"info": {"incomplete": "cut"}, "energy": None}, "incomplete step"),
        ({"info": {"charge": 1}}, "charged or open-shell"),
        ({"info": {"charge": 0.0}}, None),
        ({"info": {"total_charge": -1.0}}, "charged or open-shell"),
        ({"info": {"multiplicity": 3}}, "charged or open-shell"),
        ({"info": {"multiplicity": 1}}, None),
        ({"info": {"spin": 1}}, None),  # a multiplicity: the electrons are even
        ({"info": {"spin": 2}}, "charged or open-shell"),
        ({"info": {"magmom": -1.98}}, "charged or open-shell"),
        ({"info": {"magmom": 1e-3}}, None),
    ],
)
def test_reasons(water: Water, change: dict, wanted: str | None) -> None:
    assert reason(water(**change)) == wanted


def test_bounds_are_bounds(water: Water) -> None:
    forces = np.diag([0.0, 49.9, 0.0])
    assert reason(water(forces=forces)) is None
    frame = water(forces=np.diag([0.0, 0.0, 9.0]))
    assert sort_frames([frame], settings(max_force=8.0)).rejected[0].reason == "force too large"
    assert sort_frames([frame], settings(max_force=10.0)).rejected == []


def test_unit_slip_is_guessed(water: Water) -> None:
    forces = np.diag([0.0, 0.0, 100.0])
    (rejection,) = sort_frames([water(forces=forces)], DROP).rejected
    assert "4.34 eV/Å if the file is in kcal/mol/Å" in rejection.detail
    assert "atom 2 (O)" in rejection.detail
    (rejection,) = sort_frames([water(forces=forces * 50)], DROP).rejected
    assert "meV/Å" in rejection.detail


def test_overlap_is_seen_through_the_boundary(water: Water) -> None:
    atoms = water().atoms
    atoms.positions[0] = [0, 0, 3.7]  # 0.3 Å below the oxygen's image
    (rejection,) = sort_frames([water(atoms=atoms)], DROP).rejected
    assert rejection.reason == "overlapping atoms"
    assert rejection.detail == "atoms 0 (H) and 2 (O) overlap, 0.30 Å apart"
    atoms.pbc = False
    assert reason(water(atoms=atoms)) is None


def test_cell_shorter_than_the_bound_overlaps_with_itself(water: Water) -> None:
    atoms = Atoms("He", cell=[0.4, 4, 4], pbc=True)
    assert reason(Frame(atoms, energy=-1.0, forces=np.zeros((1, 3)))) == "overlapping atoms"


def test_periodic_without_a_cell(water: Water) -> None:
    atoms = Atoms("H2O", water().atoms.positions, pbc=True)
    assert reason(water(atoms=atoms)) == "broken cell"


def test_cell_vectors_in_one_plane(tmp_path: Path) -> None:
    cell = [[8.0, 0, 0], [8.0, 0, 0], [0, 0, 8.0]]
    atoms = Atoms("HF", [[0, 0, 0], [0, 0, 0.9]], cell=cell, pbc=True)
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=np.zeros((2, 3)), stress=[0] * 6)
    ase.io.write(tmp_path / "flat.extxyz", atoms)
    assert reason(read_frames(tmp_path / "flat.extxyz")[0]) == "broken cell"


def test_elements_and_their_mend(water: Water) -> None:
    assert reason(water(), supported={"H", "O"}) is None
    (rejection,) = sort_frames([water()], DROP, supported={"H", "C"}).rejected
    assert (rejection.reason, "O" in rejection.detail) == ("unsupported element", True)
    assert "model.elements" in rejection.mend


def test_radicals_and_lone_atoms() -> None:
    def molecule(formula: str) -> Frame:
        positions = np.arange(len(Atoms(formula)) * 3.0).reshape(-1, 3)
        return Frame(Atoms(formula, positions), energy=-1.0, forces=np.zeros_like(positions))

    assert reason(molecule("OH")) == "charged or open-shell"
    assert reason(molecule("OH2")) is None
    assert reason(molecule("C")) == "charged or open-shell"


def test_odd_electrons_are_fine_in_a_metal() -> None:
    atoms = Atoms("Cu", cell=[2.5, 2.5, 2.5], pbc=True)
    assert reason(Frame(atoms, energy=-1.0, forces=np.zeros((1, 3)))) is None


def test_energy_far_from_its_like(water: Water) -> None:
    frames = [water(0.01 * i, index=i) for i in range(9)]
    frames[4] = replace(frames[4], energy=-14.0 * 27.2)
    checked = sort_frames(frames, DROP)
    assert [r.frame.index for r in checked.rejected] == [4]
    assert checked.rejected[0].reason == "implausible energy"
    assert "H2O" in checked.rejected[0].detail


def test_two_unlike_energies_cannot_tell_which_is_wrong(water: Water) -> None:
    frames = [water(0.01 * i, energy=-14.0 - 100 * i) for i in range(2)]
    assert sort_frames(frames, DROP).rejected == []


def test_duplicates_keep_the_first(water: Water) -> None:
    near = water(0.1).atoms
    near.positions += 5e-6
    frames = [water(0.2, index=0), water(0.1, index=1), water(0.1, index=2), water(0.3, index=3)]
    frames.append(replace(water(0.1, index=4), atoms=near))
    checked = check_frames(frames, settings())
    assert [frame.index for frame in checked.frames] == [0, 1, 3]
    assert [(r.frame.index, r.reason) for r in checked.rejected] == [
        (2, "duplicate"),
        (4, "duplicate"),
    ]
    assert checked.rejected[0].detail == "the same as #1"
    with pytest.raises(TlpotError, match=r"data\.duplicates: drop"):
        check_frames(frames, settings(duplicates="refuse"))


def test_many_copies_are_quick(water: Water) -> None:
    frames = [water(0.1, index=i) for i in range(3000)]
    start = perf_counter()
    assert [frame.index for frame in check_frames(frames, settings()).frames] == [0]
    assert perf_counter() - start < 20.0


def test_a_copy_is_one_wherever_its_atoms_are_written() -> None:
    """Wrapped into the cell, or moved as a whole; but not with one atom moved, or another cell."""
    random = np.random.default_rng(0)
    cell = [[5.0, 0, 0], [1.0, 6.0, 0], [0.5, -1.0, 7.0]]
    atoms = Atoms("CNOH", random.uniform(-8, 8, (4, 3)), cell=cell, pbc=True)
    forces = np.zeros((4, 3))

    def frame(change: Callable[[Atoms], object], index: int) -> Frame:
        other = atoms.copy()
        change(other)
        return Frame(other, -1.0, forces, index=index)

    def nudge(a: Atoms) -> None:
        a.positions[2, 0] += 1e-3

    frames = [
        frame(lambda a: None, 0),
        frame(lambda a: a.wrap(), 1),
        frame(lambda a: a.translate([0.3, 2.0, -9.0]), 2),
        frame(lambda a: a.positions.__iadd__([[0, 0, 0], cell[0], cell[2], cell[1]]), 3),
        frame(nudge, 4),
        frame(lambda a: a.set_cell(a.cell * 1.001), 5),
        frame(lambda a: a.set_pbc([True, True, False]), 6),
    ]
    found = find_repeats(list(enumerate(frames)))
    assert {i: reason for i, (reason, _) in found.items()} == dict.fromkeys((1, 2, 3), "duplicate")


@pytest.mark.parametrize("pbc", [False, (True, False, True)])
def test_along_open_directions_copies_are_found_too(pbc) -> None:
    atoms = Atoms("OH2", [[0, 0, 0], [0.8, 0.6, 0], [-0.8, 0.6, 0]], cell=[9, 20, 9], pbc=pbc)
    moved, away = atoms.copy(), atoms.copy()
    moved.positions += 3.0
    away.positions[0] += atoms.cell[1]
    frames = [Frame(a, -1.0, np.zeros((3, 3)), index=i) for i, a in enumerate((atoms, moved, away))]
    assert set(find_repeats(list(enumerate(frames)))) == {1}


def test_close_is_not_the_same(water: Water) -> None:
    frames = [water(1e-4 * i) for i in range(20)]
    assert sort_frames(frames, DROP).rejected == []


def test_one_geometry_with_two_labels_is_bad_twice(water: Water) -> None:
    frames = [water(0.1, index=0), water(0.1, index=1, energy=-13.0, source="b.xyz"), water(0.2)]
    checked = sort_frames(frames, DROP)
    assert [r.reason for r in checked.rejected] == ["contradicting labels"] * 2
    assert "b.xyz#1" in checked.rejected[0].detail
    with pytest.raises(TlpotError, match="contradicting labels"):
        check_frames(frames, settings())


def test_refusal_names_frame_reason_and_way_out(water: Water) -> None:
    frames = [water(0.01 * i, index=i) for i in range(20)]
    for i in range(3, 12):
        frames[i] = replace(frames[i], energy=None)
    with pytest.raises(TlpotError) as error:
        check_frames(frames, settings())
    message = str(error.value)
    assert "9 of 20 frames" in message
    assert "water.xyz#3: missing label — no energy" in message
    assert "water.xyz#7" in message
    assert "water.xyz#8" not in message
    assert "9 × missing label" in message
    assert "data.bad_frames: drop" in message
    assert "data.keys" in message
    assert len(check_frames(frames, DROP).frames) == 11


def test_nothing_left_is_an_error(water: Water) -> None:
    with pytest.raises(TlpotError, match="no frame can be used"):
        check_frames([water(energy=None)], DROP)
    with pytest.raises(TlpotError, match="no frame"):
        check_frames([], DROP)


def test_max_frames_is_a_seeded_choice_in_file_order(water: Water) -> None:
    frames = [water(0.01 * i, index=i) for i in range(30)]

    def chosen(seed: int) -> list[int]:
        data = settings(max_frames=10, split={"seed": seed})
        checked = check_frames(frames, data)
        assert checked.surplus == 20
        return [frame.index for frame in checked.frames]

    assert chosen(0) == chosen(0) == sorted(chosen(0))
    assert chosen(0) != chosen(1)
    assert len(set(chosen(0))) == 10


def test_table_and_summary_count_every_frame(water: Water) -> None:
    frames = [water(0.1, index=0), water(0.1, index=1), water(index=2, energy=None)]
    checked = check_frames(frames, DROP)
    assert checked.summary() == {
        "kept": 1,
        "beyond_max_frames": 0,
        "rejected": {"missing label": 1, "duplicate": 1},
        "rejected_frames": {"missing label": ["water.xyz#2"], "duplicate": ["water.xyz#1"]},
    }
    out = StringIO()
    Console(file=out, width=200).print(checked_table(checked))
    for part in ("1 of 3 frames used", "missing label", "water.xyz#2", "duplicate", "water.xyz#1"):
        assert part in out.getvalue()


def test_every_reason_has_a_mend() -> None:
    assert all(mend and not mend.endswith(".") for mend in MENDS.values())


def test_two_thousand_frames_are_quick(water: Water) -> None:
    """No step may grow with the square of the frames; the bound is ten times what it takes."""
    random = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*[np.arange(4)] * 3), -1).reshape(-1, 3)[:50] * 2.0
    frames = []
    for i in range(2000):
        positions = grid + random.normal(scale=0.05, size=(50, 3))
        atoms = Atoms("C50", positions, cell=[8, 8, 8], pbc=True)
        frames.append(Frame(atoms, energy=-50.0, forces=positions * 0.1, index=i))
    start = perf_counter()
    assert len(check_frames(frames, settings()).frames) == 2000
    assert perf_counter() - start < 20.0


def test_si_i_molecules(tlpot_data: Path) -> None:
    frames = read_frames(
        tlpot_data / "si_i_molecules/aimnet2_configs.xyz", Keys(energy="orca_energy")
    )
    checked = check_frames(frames, DROP, supported=["H", "C", "N", "O", "F", "S", "Cl", "Si", "I"])
    assert checked.summary()["rejected"] == {
        "unsupported element": 172,
        "charged or open-shell": 421,
    }
    assert len(checked.frames) == 407


def test_cu_formate(tlpot_data: Path) -> None:
    frames = read_frames(tlpot_data / "cu_formate/deal_0.05_selected.xyz")
    with pytest.raises(TlpotError, match=r"selected.xyz#345: force too large — \|F\| = 74.35"):
        check_frames(frames, settings())
    assert len(check_frames(frames, DROP).frames) == 407


def test_urea_repeats_one_frame(tlpot_data: Path) -> None:
    frames = read_frames(tlpot_data / "x23/21_urea/train.traj")
    checked = check_frames(frames, settings())
    assert [r.frame.index for r in checked.rejected] == [84]
    assert checked.summary()["rejected"] == {"duplicate": 1}


def test_vasp_samples(tlpot_data: Path) -> None:
    folder = tlpot_data / "vasp_samples"
    files = [p for p in folder.rglob("*OUTCAR*") if p.parent.name != "outcar.longit"]
    assert sort_frames(read_frames(sorted(files)), DROP).summary()["rejected"] == {
        "incomplete step": 9,
        "machine-learned step": 6,
        "not converged": 3,
        "duplicate": 1,
    }


def remarks(*frames: Frame) -> list[str]:
    return check_frames(frames, settings()).remarks


def test_forces_that_do_not_sum_to_zero_are_told(water: Water) -> None:
    """What they share no potential can learn; of a frame with fixed atoms the sum says nothing."""
    pulled = water(0.1, forces=np.full((3, 3), 0.03), index=4)
    (remark,) = remarks(water(), pulled)
    assert remark.startswith(
        "the forces of 1 frames do not sum to zero, as those of water.xyz#4: 0.05"
    )
    pulled.atoms.set_constraint(FixAtoms([0]))
    assert remarks(water(), pulled) == []
    assert remarks(water(), water(0.1, forces=1e-3 * np.arange(9.0).reshape(3, 3))) == []


def test_crystals_with_odd_electrons_are_told_unless_of_a_metal(water: Water) -> None:
    def crystal(symbols: str) -> Frame:
        frame = water()
        return replace(frame, atoms=Atoms(symbols, frame.atoms.positions, cell=[4] * 3, pbc=True))

    (remark,) = remarks(crystal("O2H"))
    assert "1 frames have an odd number of electrons, as water.xyz#0 (HO2)" in remark
    assert remarks(crystal("OH2")) == []
    assert remarks(crystal("ONa2")) == remarks(crystal("OHNa")) == []
    assert remarks(crystal("Cu3")) == []


def test_a_missing_energy_is_told_with_what_may_be_it(water: Water) -> None:
    (rejection,) = sort_frames([water(energy=None, info={"U_pbe": -3.5})], settings()).rejected
    assert rejection.detail == "no energy; it has U_pbe"
