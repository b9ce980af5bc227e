import numpy as np
import pytest

from tlpot.csp.landscape import Candidate
from tlpot.csp.match import Matcher, find_duplicates, find_experimental
from tlpot.data.crystals.read import read_crystals


def candidate(name, atoms, energy):
    return Candidate(name, atoms, len(atoms) // 8, np.array([energy, energy]))


def test_copies_in_another_cell_are_found_and_the_lowest_stays(packings, moved):
    twin = moved(packings[0])
    landscape = [
        candidate("twin", twin, -100.0),
        candidate("other", packings[4], -103.0),
        candidate("first", packings[0], -100.1),
        candidate("far", packings[0], -97.0),
    ]
    assert find_duplicates(landscape) == {0: 2}


def test_superposition_has_no_distance(packings, moved):
    rmsd = Matcher().rmsd(packings[0], moved(packings[0]))
    assert rmsd is not None
    assert rmsd < 0.01


def test_rmsd_is_in_angstrom(packings):
    shaken = packings[0].copy()
    heavy = shaken.numbers > 1
    shift = np.random.default_rng(0).normal(0.0, 0.1, (heavy.sum(), 3))
    shaken.positions[heavy] += shift - shift.mean(axis=0)
    rmsd = Matcher(hydrogen=False).rmsd(packings[0], shaken)
    assert rmsd == pytest.approx(np.sqrt((shift**2).sum(axis=1).mean()), rel=0.15)


def test_nearest_match_is_the_experimental_one(packings, moved):
    shaken = packings[0].copy()
    shaken.rattle(0.05, seed=2)
    landscape = [candidate("near", shaken, -100.0), candidate("it", packings[0], -99.0)]
    found = find_experimental(landscape, moved(packings[0]))
    assert found is not None
    assert found.candidate.name == "it"
    loose = packings[0].copy()
    loose.set_cell(loose.cell.array * 1.1, scale_atoms=True)
    assert find_experimental([candidate("loose", loose, -100.0)], packings[0]) is None


@pytest.mark.parametrize(
    ("system", "form", "match"),
    [
        ("aspirin", "ACSALA00", "20ce6e221825ca0"),
        ("aspirin", "ACSALA17", "98f018e9b2a7d8d"),
        ("DNI", "TEVHEH01", "8c841e22c18e088"),
    ],
)
def test_experimental_forms_are_found_among_generated_ones(tlpot_data, system, form, match):
    folder = tlpot_data / "csp_genarris" / system
    files = sorted((folder / "PBE_MBD").glob("*.cif"))[:15]
    files.append(folder / "PBE_MBD" / f"{match}.cif")
    frames, _ = read_crystals(sorted(set(files)))
    landscape = [candidate(frame.source, frame.atoms, 0.0) for frame in frames]
    (experimental,), _ = read_crystals(folder / f"{form}.cif")
    found = find_experimental(landscape, experimental.atoms)
    assert found is not None
    assert match in found.candidate.name
    assert found.rmsd < 0.1
