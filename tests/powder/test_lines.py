import numpy as np
import pytest
from ase.build import bulk

from tlpot.errors import TlpotError
from tlpot.powder.lines import WAVELENGTH, crystal_system, lines_of
from tlpot.structure.symmetry import symmetry


def test_every_line_is_where_bragg_puts_its_reflection(crystals):
    for name in ("MgO_rocksalt", "MgO2_rutile", "MgO_wurtzite"):
        lines = lines_of(crystals[name])
        q = np.linalg.norm(lines.hkl @ np.linalg.inv(lines.cell).T, axis=1)
        angles = 2 * np.degrees(np.arcsin(0.5 * WAVELENGTH * q))
        assert np.allclose(angles, lines.two_theta, atol=1e-4)
        assert len(lines.two_theta) > 5


def test_strain_keeps_the_crystal_system(crystals):
    random = np.random.default_rng(1)
    cubic, tetragonal = (
        lines_of(crystals[name], symmetry(crystals[name], 0.1).rotations)
        for name in ("MgO_rocksalt", "MgO2_rutile")
    )
    for _ in range(3):
        strained = cubic.strained(0.05, random)
        ratio = np.sin(np.radians(strained.two_theta / 2)) / np.sin(
            np.radians(cubic.two_theta[: len(strained.two_theta)] / 2)
        )
        assert np.allclose(ratio, ratio[0])  # cubic stays cubic: all lines move alike
        assert abs(ratio[0] - 1) > 1e-4
    strained = tetragonal.strained(0.05, random)
    own = {tuple(h): t for h, t in zip(tetragonal.hkl, tetragonal.two_theta, strict=True)}
    ratios = {}
    for hkl, angle in zip(strained.hkl, strained.two_theta, strict=True):
        ratio = np.sin(np.radians(angle / 2)) / np.sin(np.radians(own[tuple(hkl)] / 2))
        ratios.setdefault("c" if not hkl[:2].any() else "a" if not hkl[2] else "mixed", []).append(
            ratio
        )
    assert np.allclose(ratios["a"], ratios["a"][0])
    assert np.allclose(ratios["c"], ratios["c"][0])
    assert abs(ratios["a"][0] - ratios["c"][0]) > 1e-3  # but c may go another way than a


def test_plates_show_their_faces_and_cubes_hide_nothing(crystals):
    lines = lines_of(crystals["MgO2_rutile"])
    changes = []
    for seed in range(20):
        textured = lines.textured(0.5, np.random.default_rng(seed))
        change = textured.intensity / lines.intensity
        assert (change > 0).all()
        assert np.array_equal(textured.two_theta, lines.two_theta)
        equal = np.ptp(change) < 1e-9
        changes.append(not equal)
    assert any(changes)
    none = lines.textured(0.0, np.random.default_rng(0))
    assert np.allclose(none.intensity, lines.intensity)


@pytest.mark.parametrize(
    ("group", "system"),
    [
        (1, "triclinic"),
        (2, "triclinic"),
        (3, "monoclinic"),
        (62, "orthorhombic"),
        (142, "tetragonal"),
        (143, "trigonal"),
        (167, "trigonal"),
        (168, "hexagonal"),
        (195, "cubic"),
        (230, "cubic"),
    ],
)
def test_crystal_systems_by_space_group(group, system):
    assert crystal_system(group) == system


def test_symmetry_is_found_within_its_tolerance():
    silver = bulk("Ag", cubic=True)
    silver.rattle(0.01, seed=0)
    assert symmetry(silver, 0.2).number == 225
    assert symmetry(silver, 1e-4).number == 1
    silver.positions[1] = silver.positions[0]
    with pytest.raises(TlpotError, match="no symmetry"):
        symmetry(silver, 0.2)
