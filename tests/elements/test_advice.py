import io
import json

import matplotlib.image
import pytest
from rich.console import Console

from tlpot.cli.show.elements import print_advice
from tlpot.elements.advice import advise
from tlpot.elements.modes import nearest_elements
from tlpot.errors import TlpotError

ANI2X = ("H", "C", "N", "O", "S", "F", "Cl")


def test_donors_are_ranked_by_distance_and_marked():
    advice = advise(["Si", "I", "Cu"], ANI2X, "ani2x")
    assert advice.own == ()
    for element, choice in {"Si": "C", "I": "Cl", "Cu": "S"}.items():
        donors = advice.donors[element]
        assert [d.element for d in donors] == [name for name, _ in nearest_elements(element, ANI2X)]
        assert [d.element for d in donors if d.thesis] == [choice]
        assert advice.suggested[element] == choice
    assert {d.element for d in advice.donors["I"] if d.same_column} == {"F", "Cl"}
    assert not any(d.same_column for d in advice.donors["Cu"])


def test_a_supported_element_needs_no_donor():
    advice = advise(["C", "Si", "Si", "H"], ANI2X, "ani2x")
    assert advice.own == ("C", "H")
    assert list(advice.donors) == ["Si"]
    assert advice.as_dict()["elements"]["C"] == {"supported": True}


def test_the_dictionary_is_json():
    advice = advise(["Br"], ANI2X, "ani2x")
    entry = json.loads(json.dumps(advice.as_dict()))["elements"]["Br"]
    assert entry["suggested"] == "Cl"
    assert entry["donors"][0]["element"] == "Cl"
    assert entry["donors"][0]["same_column"] is True


def test_the_page_says_what_to_write():
    console = Console(width=120, record=True, file=io.StringIO())
    print_advice(advise(["Si", "O"], ANI2X, "ani2x"), console)
    text = console.export_text()
    assert "O is already an element of ani2x" in text
    assert "C*' 0.9" in text
    assert "model.elements: {Si: C}" in text


@pytest.mark.drawn
def test_the_map_shows_what_was_asked_for(tmp_path):
    for name, asked in (("one", ["Si"]), ("two", ["Si", "Cu"]), ("none", ["C"])):
        advise(asked, ANI2X, "ani2x").draw(tmp_path / f"{name}.png")
    one, two, none = (
        matplotlib.image.imread(tmp_path / f"{n}.png") for n in ("one", "two", "none")
    )
    orange = [((p[..., 0] > 0.9) & (p[..., 2] < 0.3)).sum() for p in (none, one, two)]
    assert orange[0] == 0 < orange[1] < orange[2]


def test_a_picture_that_cannot_be_written_is_refused(tmp_path):
    advice = advise(["Si"], ANI2X, "ani2x")
    with pytest.raises(TlpotError, match=r"map\.foo: no type of picture"):
        advice.draw(tmp_path / "map.foo")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(TlpotError, match=r"folder\.png cannot be written"):
        advice.draw(tmp_path / "folder.png")


@pytest.mark.parametrize(("symbol", "message"), [("Xx", "not a chemical"), ("U", "H to Rn")])
def test_unknown_elements_are_refused(symbol, message):
    with pytest.raises(TlpotError, match=f"'{symbol}'.*{message}"):
        advise(["Si", symbol], ANI2X, "ani2x")
