import csv
import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from threading import Thread

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from tlpot.csp.evaluate import Sharded
from tlpot.csp.output import write_ranking
from tlpot.csp.rank import rank
from tlpot.csp.settings import Ranking
from tlpot.csp.thermo import FREQUENCY_NOISE
from tlpot.data.fingerprints import TrainingSet
from tlpot.data.read import read_frames
from tlpot.data.write import write_frames
from tlpot.errors import TlpotError
from tlpot.model.calculator import TLPotCalculator
from tlpot.model.potential import Potential
from tlpot.model.uncertainty import Calibration, Scale
from tlpot.relax.settings import Relaxation
from tlpot.sampling.geometries import nearest_minimum
from tlpot.structure.frames import Frame
from tlpot.structure.molecules import find_molecules, gaseous, ions_or_radicals, looseness
from tlpot.structure.units import KJ_PER_MOL


@pytest.fixture(scope="module")
def glycine():
    """Its zwitterion, one in a cell."""
    symbols = "CCOONHHHHH"
    places = [
        [0, 0, 0],
        [1.53, 0, 0],
        [-0.6, 1.08, 0],
        [-0.62, -1.1, 0],
        [2.05, -1.4, 0],
        [1.2, -2.0, 0],
        [1.9, 0.53, 0.88],
        [1.9, 0.53, -0.88],
        [2.62, -1.55, 0.82],
        [2.62, -1.55, -0.82],
    ]
    return Atoms(symbols, places, cell=[5.9, 5.9, 4.6], pbc=True)


def names(ranked):
    return [Path(one.name).name[0] for one in ranked.candidates]


def test_lattice_energy_is_per_molecule_against_the_gas(mini, ranked, packings):
    gas = nearest_minimum(find_molecules(packings[1])[0], TLPotCalculator(mini))
    alone = mini.predict([gas])[0].energy
    energies = {n: c.energy for n, c in zip(names(ranked), ranked.candidates, strict=True)}
    for i, name in enumerate("abcde"):
        expected = (mini.predict([packings[i]])[0].energy / 2 - alone) / KJ_PER_MOL
        assert energies[name] == pytest.approx(expected, abs=0.05)
    assert list(ranked.relative) == sorted(ranked.relative)
    assert str(ranked.unit) == "CH4N2O"
    assert len(ranked.gas) == 1


def test_order_of_files_and_choice_of_cell_do_not_matter(mini, ranked, tmp_path, packings, moved):
    for name, atoms in zip("edcba", reversed(packings), strict=True):
        ase.io.write(tmp_path / f"{name}.vasp", moved(atoms), format="vasp")
    other = rank([str(tmp_path / f"{name}.vasp") for name in "cbeda"], mini)
    assert names(other) == names(ranked)
    assert {one.z for one in other.candidates} == {4}
    np.testing.assert_allclose(other.energies, ranked.energies, atol=0.02)
    np.testing.assert_allclose(other.spread, ranked.spread, atol=0.02)


def test_copies_are_left_out_or_kept(mini, landscape, tmp_path, packings, moved):
    ase.io.write(tmp_path / "twin.vasp", moved(packings[3]), format="vasp")
    files = [str(landscape / "a.cif"), str(landscape / "d.cif"), str(tmp_path / "twin.vasp")]
    found = rank(files, mini)
    assert len(found.candidates) == 2
    ((copy, kept),) = found.copies
    assert {Path(name).name[0] for name in (copy.name, kept)} == {"t", "d"}
    assert len(rank(files, mini, Ranking(duplicates=False)).candidates) == 3


def test_experimental_structure_and_reference_energies(mini, landscape, ranked, tmp_path):
    table = tmp_path / "dft.csv"
    ours = {name: place for place, name in enumerate(names(ranked))}
    table.write_text("id,eV\n" + "".join(f"{n},{0.02 * k - 990}\n" for n, k in ours.items()))
    settings = Ranking(experimental=[str(landscape / "d.cif")], reference=str(table))
    found = rank(landscape, mini, settings)
    (match,) = found.experimental.values()
    assert match is not None
    assert match.candidate.name.endswith("d.cif#0")
    assert match.rmsd < 1e-3
    assert found.scores["spearman"] == pytest.approx(1.0)
    assert found.scores["hit_rank"] == 1
    steps = np.diff([one.reference for one in found.candidates])
    np.testing.assert_allclose(steps, 0.02 / 2 / KJ_PER_MOL, rtol=1e-6)
    assert np.isnan(ranked.scores["spearman"])


def test_reference_crystals_that_trained_the_model_are_told(mini, landscape, tmp_path):
    """As evaluate tells: agreement with what it was trained on says little.

    They are told by their structure, in whatever cell, order and images it was trained on.
    """
    frames = read_frames(str(landscape))

    def elsewhere(frame):
        atoms = frame.atoms[::-1] * (2, 1, 1)
        atoms.positions += 1.3
        atoms.wrap()
        return replace(frame, atoms=atoms)

    table = tmp_path / "dft.csv"
    table.write_text("".join(f"{Path(f.source).stem},{-990 - i}\n" for i, f in enumerate(frames)))
    settings = Ranking(reference=str(table), relaxation=None)
    known = TrainingSet.of({}).with_frames([elsewhere(frames[0])], [elsewhere(frames[1])])
    model = Potential(mini.backbone, mini.reference, {"seen": known.as_dict()}, mini.calibration)
    remarks = rank(landscape, model, settings).remarks
    told = f"trained on 1 and tuned on 1 of these {len(frames)} crystals with a reference energy"
    assert any(told in remark for remark in remarks)
    for other, reference in ((mini, str(table)), (model, None)):
        remarks = rank(
            landscape, other, settings.model_copy(update={"reference": reference})
        ).remarks
        assert not any("trained on" in remark for remark in remarks)


def test_energies_in_files_are_a_reference_only_when_asked(mini, tmp_path, packings):
    predicted = mini.predict(packings)
    frames = [
        Frame(atoms, energy=p.energy, info={"name": f"x/{name}.cif#0"})
        for name, atoms, p in zip("abcde", packings, predicted, strict=True)
    ]
    file = write_frames(tmp_path / "relaxed.extxyz", frames)
    silent, asked = (rank(file, mini, Ranking(reference=r)) for r in (None, "labels"))
    assert np.isnan(silent.scores["spearman"])
    assert asked.scores["spearman"] == pytest.approx(1.0)
    assert asked.scores["rmse_centred_kJ_mol"] == pytest.approx(0.0, abs=1e-3)
    table = tmp_path / "dft.csv"
    table.write_text("id,eV\na,1.0\nb,2.0\n")
    assert rank(file, mini, Ranking(reference=str(table))).scores["n"] == 2


def test_calibration_scales_bars_and_sets_what_is_told_apart(mini, landscape, ranked):
    scale = Calibration(Scale(3.0, 2.0, 20), None)
    found = rank(landscape, Potential(mini.backbone, mini.reference, mini.metadata, scale))
    np.testing.assert_allclose(found.spread, 3 * ranked.spread, atol=1e-3)
    for i in range(len(found.candidates)):
        gaps = np.abs(found.energies - found.energies[i])
        doubt = {j for j in range(5) if j != i and gaps[j] <= 2.0 * found.spread[i, j]}
        assert set(found.not_told_from(i)) == doubt


def test_wrong_composition_is_refused_by_name(mini, landscape, tmp_path, packings):
    short = packings[0].copy()
    del short[short.symbols.search("H")[0]]
    ase.io.write(tmp_path / "short.cif", short)
    found = rank([str(tmp_path), str(landscape / "a.cif"), str(landscape / "d.cif")], mini)
    assert len(found.candidates) == 2
    (bad,) = found.refused
    assert "short.cif" in bad.name
    assert "not Z × CH4N2O" in bad.reason


def test_given_molecule_decides_what_the_unit_is(mini, landscape, tmp_path):
    ase.io.write(tmp_path / "water.xyz", molecule("H2O"))
    with pytest.raises(TlpotError, match=r"a\.cif#0: its 16 atoms are not Z × H2O"):
        rank(landscape, mini, Ranking(molecule=str(tmp_path / "water.xyz")))


def test_an_isomer_given_as_the_molecule_is_told(mini, landscape, tmp_path):
    isourea = Atoms(
        "CNNOHHHH",
        [
            [0, 0, 0],
            [1.27, 0, 0],
            [-0.7, 1.2, 0],
            [-0.68, -1.17, 0],
            [1.6, 0.96, 0],
            [-0.2, 2.07, 0],
            [-1.7, 1.2, 0],
            [-1.6, -0.9, 0],
        ],
    )
    ase.io.write(tmp_path / "isourea.xyz", isourea)
    found = rank(str(landscape / "a.cif"), mini, Ranking(molecule=str(tmp_path / "isourea.xyz")))
    assert "1 of 1 crystals" in found.remarks[0]
    assert "CH4N2O with other bonds than the gas molecule" in found.remarks[0]


def test_a_zwitterion_is_told(mini, tmp_path, glycine):
    ase.io.write(tmp_path / "glycine.cif", glycine)
    (remark,) = rank(str(tmp_path / "glycine.cif"), mini).remarks[:1]
    assert "gas molecule C2H5NO2" in remark
    assert "neutral" in remark
    assert "--molecule" in remark or "does not stay" in remark


def test_dispersion_holds_crystals_together(mini, landscape, ranked):
    found = rank(landscape, mini, Ranking(dispersion="d3"))
    bound = dict(zip(names(found), found.energies, strict=True))
    for name, energy in zip(names(ranked), ranked.energies, strict=True):
        assert -60.0 < bound[name] - energy < -20.0


def test_relaxed_structures_are_ranked_and_the_astray_refused(mini, landscape):
    files = [str(landscape / name) for name in ("a.cif", "d.cif")]
    loose = Relaxation(fmax=0.05, smax=0.5, steps=60)
    found = rank(files, mini, Ranking(relaxation=loose, duplicates=False))
    assert len(found.candidates) == 2
    for one in found.candidates:
        assert one.energy == pytest.approx(found.energies[0], abs=2.0)
        (forces,) = (p.forces for p in mini.predict([one.atoms]))
        assert np.linalg.norm(forces, axis=1).max() < 0.051
    with pytest.raises(TlpotError, match=r"no structure can be used: .*a\.cif#0: "):
        rank(files, mini, Ranking(relaxation=Relaxation(steps=2)))


def test_dispersion_pulls_together_as_crystals_relax(mini, landscape):
    loose = Relaxation(fmax=0.05, smax=0.3, steps=100)
    files = str(landscape / "a.cif")
    plain, bound = (
        rank(files, mini, Ranking(relaxation=loose, dispersion=d)).candidates[0].density
        for d in (None, "d3")
    )
    assert bound > 1.02 * plain


def test_free_energies_of_the_lowest(mini, landscape):
    settings = Ranking(phonons=1, supercell=4.0, temperature=300.0)
    found = rank(str(landscape / "a.cif"), mini, settings)
    notes = found.candidates[0].notes
    assert 20.0 < notes["free_energy_kJ_mol"] - found.energies[0] < 200.0
    unstable = notes["lowest_phonon_THz"] <= FREQUENCY_NOISE
    assert len(found.remarks) == 1 + unstable
    assert "were not relaxed here" in found.remarks[0]
    assert ("imaginary" in found.remarks[-1]) == unstable


@pytest.mark.parametrize(
    ("text", "said"),
    [("id,eV\nzzz,1\n", "none of its ids"), ("id\nzzz\n", "no table of reference energies")],
)
def test_reference_of_other_structures_is_an_error(mini, landscape, tmp_path, text, said):
    table = tmp_path / "dft.csv"
    table.write_text(text)
    with pytest.raises(TlpotError, match=said):
        rank(landscape, mini, Ranking(reference=str(table)))


@pytest.mark.parametrize(
    ("relaxation", "within"), [(None, 1e-3), (Relaxation(fmax=0.02, smax=0.02), 0.1)]
)
def test_shards_in_other_processes_give_the_same_ranking(
    mini, landscape, tmp_path, relaxation, within
):
    settings = Ranking(relaxation=relaxation)
    elsewhere = Sharded("mini", settings, tmp_path / "out", "local", workers=2, shard=2)
    found = rank(str(landscape), mini, settings, evaluated=elsewhere)
    expected = rank(str(landscape), mini, settings)
    assert names(found) == names(expected)
    np.testing.assert_allclose(found.energies, expected.energies, atol=within)
    np.testing.assert_allclose(found.spread, expected.spread, atol=within)
    assert len(list((tmp_path / "out/shards").glob("*.extxyz"))) == 3
    write_ranking(found, tmp_path / "out")
    assert not (tmp_path / "out/shards").exists()
    with pytest.raises(TlpotError, match="exists already"):
        rank(str(landscape), mini, settings, evaluated=elsewhere)


def test_a_dask_worker_killed_on_the_way_costs_no_structure(mini, packings, tmp_path):
    """One of two is killed with a quarter of the shards there; each structure is ranked once."""
    distributed = pytest.importorskip("distributed")
    random, size, count = np.random.default_rng(0), 8, 160
    crystal, killed = packings[0], []
    rattled = [crystal.copy() for _ in range(count)]
    for atoms in rattled:
        atoms.positions += random.normal(scale=0.02, size=atoms.positions.shape)
    write_frames(tmp_path / "in.extxyz", map(Frame, rattled))

    def kill_one(client):
        pids = list(client.run(os.getpid).values())
        while len(list(tmp_path.glob("out/shards/*.extxyz"))) < count / size / 4:
            time.sleep(0.02)
        os.kill(pids[0], signal.SIGKILL)
        killed.append(pids[0])

    with distributed.LocalCluster(2, threads_per_worker=1, dashboard_address=None) as cluster:
        client = distributed.Client(cluster)
        Thread(target=kill_one, args=(client,), daemon=True).start()
        elsewhere = Sharded(
            "mini", Ranking(), tmp_path / "out", cluster.scheduler_address, 2, shard=size
        )
        found = rank(str(tmp_path / "in.extxyz"), mini, Ranking(), evaluated=elsewhere)
        client.close()
    write_ranking(found, tmp_path / "out")
    with (tmp_path / "out/ranking.csv").open() as file:
        ranked = [row["name"].rpartition("#")[2] for row in csv.DictReader(file)]
    assert len(killed) == 1
    assert sorted(map(int, ranked)) == list(range(count))
    lowest = found.candidates[0]
    place = int(lowest.name.rpartition("#")[2])
    whole, gas = mini.predict([rattled[place], found.gas[0]])
    assert lowest.energy == pytest.approx((whole.energy / 2 - gas.energy) / KJ_PER_MOL, abs=1e-3)


def test_ions_radicals_and_gases_are_refused_beside_good_ones(mini, tmp_path, packings):
    """Molecules that are no neutral closed shells, and one with vacuum around it."""
    salt = Atoms("NHHHHO", cell=[4.2] * 3, pbc=True)  # ammonium and a lone oxygen
    salt.positions[1:5] = np.array([[1, 1, 1], [-1, -1, 1], [-1, 1, -1], [1, -1, -1]]) * 0.595
    salt.positions[5] = 2.1
    radical = packings[0].copy()
    del radical[[radical.symbols.search("H")[0], radical.symbols.search("H")[-1]]]
    gas = molecule("CH4", cell=[9.0] * 3, pbc=True)
    for name, atoms in {"good": packings[0], "gas": gas, "radical": radical, "salt": salt}.items():
        ase.io.write(tmp_path / f"{name}.extxyz", atoms)
    found = rank(str(tmp_path), mini)
    assert [Path(one.name).name for one in found.candidates] == ["good.extxyz#0"]
    assert len(found.refused) == 3
    for name, said in (
        ("gas", "its molecules do not touch: a gas, 0.037 g/cm³"),
        ("salt", "H4N (odd number of electrons (11)), O (a lone atom)"),
        ("radical", "odd number of electrons"),
    ):
        with pytest.raises(TlpotError) as error:
            rank(str(tmp_path / f"{name}.extxyz"), mini)
        assert said in str(error.value)


def test_noble_gases_are_closed_shells_and_loose_packing_is_told(packings):
    argon = bulk("Ar", cubic=True)
    assert ions_or_radicals(find_molecules(argon)) is None
    assert ions_or_radicals([Atoms("Na")]) is not None
    assert 0.8 < looseness(packings[0]) < 1.4
    assert np.isnan(looseness(argon))
    layer = molecule("CH4", cell=[3.7, 3.7, 14.0], pbc=True)
    assert gaseous(layer, find_molecules(layer)) is None
    assert looseness(layer) > 2
