import pytest

from tlpot.config.run import parse_elements
from tlpot.elements.donors import check_elements, require_elements, suggest_donors
from tlpot.elements.modes import nearest_elements
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
    assert nearest_elements("Si", ANI2X)[0][0] == "S"
    assert suggest_donors("Si", ANI2X)[:2] == ["C", "S"]
    assert suggest_donors("Ge", ("O", "C", "S", "Si"))[:3] == ["Si", "C", "S"]


def clone(donor: str) -> dict[str, str]:
    return {"from": donor, "as": "clone"}


@pytest.mark.parametrize(
    "mapping",
    [{}, {"Si": "C"}, {"Si": clone("C")}, {"Si": "C", "Ge": clone("C"), "Cu": "S"}, {"Sn": "Pb"}],
)
def test_sound_new_elements_pass(mapping):
    check_elements(parse_elements(mapping), (*ANI2X, "Pb"), {"Pb": "C"})


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"Xx": "C"}, "'Xx' is not a chemical element"),
        ({"X": "C"}, "'X' is not a chemical element"),
        ({"Si": "Cc"}, "'Cc' is not a chemical element"),
        ({"O": "S"}, "O is already supported; remove 'O: S'"),
        ({"O": clone("S")}, "O is already supported; remove 'O: "),
        ({"Si": "Ge"}, r"donor Ge of Si is not supported .*try 'Si: C'"),
        ({"Si": clone("Ge")}, r"donor Ge .*not supported .*try 'Si: {from: C, as: clone}'"),
        ({"Ge": clone("Si"), "Si": clone("C")}, r"donor Si of Ge is itself new; .*from: C, as: cl"),
        ({"Ge": "Si", "Si": "C"}, "donor Si of Ge is itself new; .*'Ge: C'"),
        ({"Si": clone("Si")}, "donor Si of Si is itself new"),
        (
            {"Sn": clone("Pb")},
            r"Sn cannot be a clone of Pb, .*{from: C, as: clone}' or 'Sn: P",
        ),
        ({"Pb": clone("C")}, "Pb is already supported"),
    ],
)
def test_new_elements_that_cannot_work_name_the_mend(mapping, message):
    with pytest.raises(TlpotError, match=message):
        check_elements(parse_elements(mapping), (*ANI2X, "Pb"), {"Pb": "C"})


def test_unknown_elements_name_the_line_to_add():
    require_elements({"H", "Si"}, (*ANI2X, "Si"), ANI2X)
    with pytest.raises(TlpotError, match=r"I, Si: not .*model\.elements: \{I: Cl, Si: C\}"):
        require_elements({"H", "Si", "I"}, ANI2X, ANI2X)
