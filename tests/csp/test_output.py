import csv
import json
import math
import re

import ase.io
import pytest

from tlpot.csp.output import COLUMNS, ranges, table, write_ranking
from tlpot.csp.rank import rank
from tlpot.csp.settings import Ranking
from tlpot.data.crystals.read import Refused, stem
from tlpot.errors import TlpotError
from tlpot.sampling.choose import choose_from_ranking


@pytest.fixture(scope="module")
def folder(tmp_path_factory, mini, landscape):
    ranked = rank(landscape, mini, Ranking(experimental=[str(landscape / "d.cif")]))
    ranked.refused.append(Refused("<script>.cif", "overlap & more"))
    return write_ranking(ranked, tmp_path_factory.mktemp("out") / "ranking")


def rows(folder):
    with open(folder / "ranking.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_table_has_every_structure_once_in_order(folder):
    found = rows(folder)
    assert list(found[0]) == list(COLUMNS)
    ranked = [row for row in found if row["status"] == "ranked"]
    assert [int(row["rank"]) for row in ranked] == [1, 2, 3, 4, 5]
    energies = [float(row["lattice_energy_kJ_mol"]) for row in ranked]
    assert energies == sorted(energies)
    assert found[-1]["status"] == "refused"
    assert found[-1]["reason"] == "overlap & more"


def test_what_is_unknown_is_empty_never_zero(folder):
    found = rows(folder)
    for name in ("reference_kJ_mol", "free_energy_kJ_mol", "pattern_similarity"):
        assert {row[name] for row in found} == {""}
    assert {row["relative_kJ_mol"] for row in found if row["status"] == "refused"} == {""}
    assert json.loads((folder / "ranking.json").read_text())["scores"]["spearman"] is None


def test_structures_are_in_order_and_complete(folder, packings):
    images = ase.io.read(folder / "structures.extxyz", ":")
    assert [atoms.info["rank"] for atoms in images] == [1, 2, 3, 4, 5]
    assert ase.io.read(folder / "gas.extxyz").symbols.formula.count() == {
        "C": 1, "H": 4, "N": 2, "O": 1
    }  # fmt: skip
    cifs = sorted((folder / "cif").iterdir())
    assert len(cifs) == 5
    for atoms, row, path in zip(images, rows(folder), cifs, strict=False):
        assert atoms.info["name"] == row["name"]
        assert stem(row["name"]) in path.name
        assert ase.io.read(path).get_volume() == pytest.approx(atoms.get_volume(), rel=1e-5)


def test_page_loads_nothing_and_escapes_names(folder):
    page = (folder / "ranking.html").read_text()
    assert not re.search(r"https?://|@import|url\(|<script|<link|<iframe", page)
    assert "&lt;script&gt;.cif" in page
    assert "CH₄N₂O" in page
    assert re.search(r"Experimental d\s*<b>rank \d</b>", page)
    assert (folder / "landscape.png").read_bytes().startswith(b"\x89PNG")


def test_nothing_is_overwritten(folder, ranked):
    with pytest.raises(TlpotError, match="exists already"):
        write_ranking(ranked, folder)


def test_bars_are_those_of_differences(ranked):
    found = table(ranked)
    assert found[0]["relative_std_kJ_mol"] == 0.0
    assert all(math.isfinite(row["relative_std_kJ_mol"]) for row in found)


def test_ranges_are_short():
    assert ranges([2, 3, 4, 7, 9, 10]) == "2 to 4; 7; 9 to 10"
    assert ranges([]) == ""
    assert stem("x/y/form.cif#0") == "form"
    assert stem("x/y/all.extxyz#12") == "all-12"


def test_next_structures_are_those_in_doubt_near_the_top(folder, tmp_path):
    frames = choose_from_ranking(folder, 3, window=20.0)
    scores = [frame.info["doubt_near_top_kJ_mol"] for frame in frames]
    assert scores == sorted(scores, reverse=True)
    by_name = {row["name"]: row for row in rows(folder)}
    assert len({frame.info["name"] for frame in frames}) == 3
    for frame in frames:
        row = by_name[frame.info["name"]]
        assert frame.info["centred_std_kJ_mol"] == pytest.approx(
            float(row["centred_std_kJ_mol"]), rel=1e-4
        )
        assert frame.info["doubt_near_top_kJ_mol"] <= frame.info["centred_std_kJ_mol"] + 1e-3
    with pytest.raises(TlpotError, match="6 structures are asked for"):
        choose_from_ranking(folder, 6)
    with pytest.raises(TlpotError, match="tlpot rank wrote"):
        choose_from_ranking(tmp_path, 1)
