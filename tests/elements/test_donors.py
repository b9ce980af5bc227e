import pytest

from tlpot.elements.donors import check_elements, require_elements, suggest_donors
from tlpot.elements.modes import nearest
from tlpot.errors import TlpotError

ANI2X = ("H", "C", "N", "O", "S", "F", "Cl")


@pytest.mark.parametrize(
    ("element", "donor"),
    [
        ("Si", "C"),
        ("Ge", "C"),
        ("I", "Cl"),
        ("Br", "Cl"),
        ("P", "N"),
        ("Se", "S"),
        ("Cu", "S"),
        ("Li", "H"),
        ("Ti", "C"),
        ("U", "Cl"),
    ],
)
def test_the_nearest_of_the_column_is_suggested_first(element, donor):
    suggested = suggest_donors(element, ANI2X)
    assert suggested[0] == donor
    assert set(suggested) <= set(ANI2X)


def test_only_supported_elements_are_suggested():
    assert suggest_donors("Si", ("H", "N")) == ["N", "H"]


def test_column_comes_before_distance_and_distance_decides_within():
    assert nearest("Si", ANI2X)[0][0] == "S"
    assert suggest_donors("Si", ANI2X)[:2] == ["C", "S"]
    assert suggest_donors("Ge", ("O", "C", "S", "Si"))[:3] == ["Si", "C", "S"]


@pytest.mark.parametrize("mapping", [{}, {"Si": "C"}, {"Si": "C", "I": "Cl", "Cu": "S"}])
def test_sound_stand_ins_pass(mapping):
    check_elements(mapping, ANI2X)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"Xx": "C"}, "'Xx' is not a chemical element"),
        ({"X": "C"}, "'X' is not a chemical element"),
        ({"Si": "Cc"}, "'Cc' is not a chemical element"),
        ({"O": "S"}, "O is already supported; remove 'O: S'"),
        ({"Si": "Ge"}, r"donor Ge of Si is not supported .*try 'Si: C'"),
    ],
)
def test_stand_ins_that_cannot_work_name_the_mend(mapping, message):
    with pytest.raises(TlpotError, match=message):
        check_elements(mapping, ANI2X)


def test_unknown_elements_name_the_line_to_add():
    require_elements({"H", "Si"}, (*ANI2X, "Si"), ANI2X)
    with pytest.raises(TlpotError, match=r"I, Si: not .*model\.elements: \{I: Cl, Si: C\}"):
        require_elements({"H", "Si", "I"}, ANI2X, ANI2X)
