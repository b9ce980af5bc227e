import csv

import ase.io
import numpy as np
import pytest

from tlpot.csp.landscape import Candidate, spread_of_differences
from tlpot.csp.output import write_ranking
from tlpot.csp.page import sections
from tlpot.csp.rank import rank
from tlpot.csp.ranking import Ranked
from tlpot.csp.scores import score
from tlpot.csp.settings import Ranking
from tlpot.data.crystals.read import Refused
from tlpot.structure.molecules import Unit

UNIT = Unit((("CH4N2O", 1),))


@pytest.fixture(scope="module")
def made_up(packings):
    """Ranks `n` crystals of urea of made-up energies, an ensemble of eight in doubt of `width`."""

    def build(n: int, width: float = 6.0, members: int = 8) -> Ranked:
        random = np.random.default_rng(0)
        energies = np.sort(-90 + 60 * random.beta(2, 4, n))
        spread = width * random.normal(size=(n, members))
        spread -= spread.mean(axis=1, keepdims=True)
        candidates = []
        for i, energy in enumerate(energies):
            atoms = packings[i % len(packings)].copy()
            atoms.set_cell(atoms.cell * random.uniform(1.0, 1.1), scale_atoms=True)
            name = f"landscape/{random.bytes(8).hex()}.cif#0"
            reference = float(energy + random.normal(0, 4))
            found = Candidate(name, atoms, 2, energy + spread[i], reference, {}, -2800.0)
            candidates.append(found)
        members = np.array([c.energies for c in candidates])
        return Ranked(
            candidates=candidates,
            unit=UNIT,
            gas=[packings[0][:8]],
            spread=spread_of_differences(members, 1.0),
            doubt=np.full(n, width),
            scale=None,
            copies=[],
            refused=[Refused(f"landscape/{i}.cif", "long reasons " * 9) for i in range(n // 5)],
            experimental={},
            scores=score(energies, [c.reference for c in candidates]),
            settings=Ranking(),
        )

    return build


@pytest.mark.parametrize("n", [8, 127, 400])
def test_page_is_short_for_any_number_of_crystals(look, made_up, tmp_path, n):
    folder = write_ranking(made_up(n), tmp_path / "ranking")
    page = folder / "ranking.html"
    seen = look(page)
    size = page.stat().st_size / 1e6
    print(f"{n} crystals: {seen.heights} px, {seen.sheets} pages, {size:.2f} MB")
    assert seen.complaints == []
    assert set(seen.overflow.values()) == {0}
    assert (n > 20) == ("<summary>Rank" in page.read_text())
    assert seen.heights["desk"] < 3600
    assert seen.heights["phone"] < 7200
    assert seen.sheets <= 6
    assert size < 1.5
    names = [row["name"] for row in rows(folder)]
    text = page.read_text()
    assert all(name.split("/")[1].partition(".")[0] in text for name in names)


@pytest.mark.parametrize(("members", "width"), [(1, 6.0), (8, 0.001)])
def test_page_is_short_where_nothing_or_everything_is_told_apart(
    look, made_up, tmp_path, members, width
):
    ranked = made_up(127, width, members)
    seen = look(write_ranking(ranked, tmp_path / "ranking") / "ranking.html")
    assert seen.heights["phone"] < 6000
    assert (ranked.groups is None) == (members == 1)


def rows(folder):
    with open(folder / "ranking.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_groups_are_what_cannot_be_told_from_their_first(made_up):
    ranked = made_up(127)
    groups = ranked.groups
    assert [i for group in groups for i in group] == list(range(127))
    for group, after in zip(groups, [*groups[1:], range(127, 127)], strict=True):
        doubt = ranked.not_told_from(group.start)
        assert set(group[1:]) <= set(doubt)
        assert after.start not in doubt


def test_sections_hold_every_crystal_once(made_up):
    for n, width in ((1, 6.0), (8, 6.0), (127, 0.01), (127, 1.0), (400, 0.5), (400, 90.0)):
        ranked = made_up(n, width)
        numbered = [{"rank": i + 1, "group": 0} for i in range(n)]
        found = sections(numbered, ranked.groups)
        assert [row["rank"] for part in found for row in part.rows] == list(range(1, n + 1))
        assert len(found) <= 22


def test_table_has_space_group_and_cell_and_cifs_their_symmetry(mini, ideal_urea, tmp_path):
    """Urea: P-42_1m, Z 2, each molecule on mm2, a quarter of it in the asymmetric unit."""
    pytest.importorskip("spglib")
    ase.io.write(tmp_path / "urea.vasp", ideal_urea.repeat((2, 1, 1)))
    ranked = rank(tmp_path / "urea.vasp", mini, Ranking(duplicates=False))
    folder = write_ranking(ranked, tmp_path / "ranking")
    (row,) = rows(folder)
    assert (row["space_group"], row["Z_prime"], row["Z"]) == ("P-42_1m", "0.25", "2")
    assert [float(row[k]) for k in ("a_A", "b_A", "c_A")] == pytest.approx([5.565, 5.565, 4.684])
    assert [row[k] for k in ("alpha_deg", "beta_deg", "gamma_deg")] == ["90"] * 3
    (cif,) = (folder / "cif").iterdir()
    text = cif.read_text()
    assert "'P-42_1m'" in text
    assert "_space_group_IT_number 113" in text
    assert "_chemical_formula_sum 'C1 H4 N2 O1'" in text
    assert text.count("\nH") == 2
    atoms = ase.io.read(cif)
    assert atoms.get_volume() == pytest.approx(ideal_urea.get_volume(), rel=1e-5)
    np.testing.assert_allclose(
        np.sort(atoms.get_all_distances(mic=True).ravel()),
        np.sort(ideal_urea.get_all_distances(mic=True).ravel()),
        atol=1e-3,
    )


def test_structures_have_the_energies_of_the_model(ranked, mini, tmp_path):
    folder = write_ranking(ranked, tmp_path / "ranking")
    images = ase.io.read(folder / "structures.extxyz", ":")
    energies = [atoms.get_potential_energy() for atoms in images]
    expected = [prediction.energy for prediction in mini.predict(images)]
    assert energies == pytest.approx(expected, abs=1e-4)
    assert all(atoms.info["engine"].startswith("tlpot") for atoms in images)


def test_without_spglib_crystals_are_ranked_all_the_same(mini, landscape, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "spglib", None)
    ranked = rank(landscape, mini, Ranking(duplicates=False))
    assert any("pip install 'tlpot[use]'" in remark for remark in ranked.remarks)
    found = rows(write_ranking(ranked, tmp_path / "ranking"))
    assert {row["space_group"] for row in found} == {""}
    assert all(float(row["a_A"]) > 4 for row in found)
    assert "space<br>group" not in (tmp_path / "ranking" / "ranking.html").read_text()


def test_reference_is_drawn(made_up, ranked, tmp_path):
    drawn = write_ranking(made_up(8), tmp_path / "with")
    assert (drawn / "parity.png").read_bytes().startswith(b"\x89PNG")
    assert "Model against reference" in (drawn / "ranking.html").read_text()
    plain = write_ranking(ranked, tmp_path / "without")
    assert not (plain / "parity.png").exists()
    assert "Model against reference" not in (plain / "ranking.html").read_text()
