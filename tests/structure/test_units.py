import ast
from pathlib import Path

import pytest
from ase import Atoms

from tlpot.structure import units

ROOT = Path(__file__).parents[2]
HOME = ROOT / "tlpot/structure/units.py"
CODE = ("tlpot", "benchmarks", "datasets", "tools")
KNOWN = [27.211386, 13.605693, 0.529177, 627.5095, 96.485332, 23.060548, 160.21766, 0.01036427]
KNOWN += [0.04336410, 1.6605391, 0.60221408, 4.1356677, 12.398420, 8.617333, 1.6021766, 6.6260702]
"""Digits by which a constant of energy, length, mass or pressure is known, in either direction."""
COMPOSED = {"mol", "kJ", "kcal", "_hplanck", "_hbar", "_e", "_amu", "_Nav", "m"}
"""Of ``ase.units``: what nobody uses but to make another constant of it."""


@pytest.mark.parametrize(
    ("constant", "known"),
    [
        (units.KJ_PER_MOL, 0.0103642697),
        (units.KCAL_PER_MOL, 0.0433641),
        (units.KBAR, 6.24150907e-4),
        (units.GRAM_PER_CM3, 0.602214076),
        (units.THZ, 4.135667696e-3),
        (units.KEV_PHOTON, 12.39841984),
        (units.FORCE_UNITS["Hartree/Bohr"], 51.4220675),
        (units.ENERGY_UNITS["Rydberg"], 13.605693123),
        (units.STRESS_UNITS["GPa"], 6.24150907e-3),
    ],
)
def test_constants_are_those_of_the_tables(constant, known):
    """CODATA 2018; ASE's own are of 2014."""
    assert constant == pytest.approx(known, rel=2e-7)


def test_a_spring_has_the_quantum_of_its_frequency():
    """H2: 36.7 eV/Å² between two of 1.008 u, 4400 cm⁻¹ (1 cm⁻¹ is 0.12398 meV)."""
    quantum = units.SPRING_QUANTUM * (36.7 * 2 / 1.008) ** 0.5
    assert quantum / 1.2398420e-4 == pytest.approx(4400, rel=0.02)


def test_water_weighs_a_gram_per_cm3():
    cell = Atoms("OH2", cell=[29.92, 1.0, 1.0], pbc=True)  # 18.015 u
    assert cell.get_masses().sum() / cell.get_volume() / units.GRAM_PER_CM3 == pytest.approx(
        1.0, rel=1e-3
    )


def _made_here(tree: ast.AST):
    """What a module makes of ``ase.units`` or writes out that `tlpot.structure.units` has."""
    composed = {f"units.{name}" for name in COMPOSED}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, float) and node.value > 0:
            digits = float(f"{node.value:e}".split("e")[0])
            for known in KNOWN:
                mantissa = float(f"{known:e}".split("e")[0])
                if abs(digits / mantissa - 1) < 2e-4 and len(repr(node.value).strip("0.")) > 4:
                    yield node.lineno, node.value
        if isinstance(node, ast.Attribute) and ast.unparse(node) in composed:
            yield node.lineno, ast.unparse(node)
        if isinstance(node, ast.ImportFrom) and node.module == "ase.units":
            yield from ((node.lineno, x.name) for x in node.names if x.name in COMPOSED)


def test_no_module_has_a_constant_of_its_own():
    own = {
        f"{path.relative_to(ROOT)}:{line}": what
        for folder in CODE
        for path in (ROOT / folder).rglob("*.py")
        if path != HOME
        for line, what in _made_here(ast.parse(path.read_text()))
    }
    assert not own, "make it in tlpot/structure/units.py, or take it from there"


@pytest.mark.parametrize(
    "source",
    [
        "from ase import units\nKJ = units.kJ / units.mol",
        "from ase.units import kcal, mol",
        "SCALE = 27.2114",
        "x = 96.485 * y",
        'FORCE_UNITS = {"kcal/mol/Å": 0.0433641}',
        "HC = 12.398419843320026",
    ],
)
def test_a_constant_of_its_own_is_seen(source):
    assert list(_made_here(ast.parse(source)))


@pytest.mark.parametrize("source", ["units.GPa * 3", "WINDOW = 0.5", "rate = 1.6", "x = 0.025"])
def test_other_numbers_are_left_alone(source):
    assert not list(_made_here(ast.parse(source)))
