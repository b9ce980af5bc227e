import numpy as np
import pytest
from ase import Atoms

from tlpot.csp.scores import SCORES, read_reference, score
from tlpot.errors import TlpotError
from tlpot.structure.frames import Frame


def test_perfect_order_with_any_offset():
    energies = np.array([-3.0, -1.0, 0.5, 2.0, 9.0, 11.0])
    found = score(energies, energies - 1000.0)
    assert found["spearman"] == pytest.approx(1.0)
    assert found["kendall"] == pytest.approx(1.0)
    assert found["rmse_centred_kJ_mol"] == pytest.approx(0.0, abs=1e-9)
    assert (found["top_1"], found["top_5"], found["hit_rank"]) == (1.0, 1.0, 1.0)


def test_hit_rank_counts_what_is_below():
    found = score([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0])
    assert found["spearman"] == pytest.approx(-1.0)
    assert (found["top_1"], found["top_5"], found["hit_rank"]) == (0.0, 0.0, 7.0)


@pytest.mark.parametrize("one", [[], [1.0], [np.nan, 1.0]])
def test_too_few_is_undefined_never_zero(one):
    found = score(one, one)
    assert all(np.isnan(found[name]) for name in SCORES)


def test_constant_has_no_correlation():
    found = score([1.0, 2.0, 3.0], [5.0, 5.0, 5.0])
    assert np.isnan(found["spearman"])
    assert np.isnan(found["kendall"])
    assert np.isnan(found["top_5"])
    assert found["rmse_centred_kJ_mol"] == pytest.approx(np.sqrt(2 / 3))


def test_unknown_references_are_left_out():
    assert score([1.0, 2.0, 3.0, 4.0], [1.0, np.nan, 3.0, 5.0])["n"] == 3


def frames(*files):
    return [Frame(Atoms("H"), source=file, index=0) for file in files]


def reference(tmp_path, text, *files):
    (tmp_path / "dft.csv").write_text(text)
    remarks = []
    found = read_reference(frames(*files), str(tmp_path / "dft.csv"), remarks.append)
    return found, remarks


def test_energies_of_files_of_one_name_are_told_apart_by_their_folders(tmp_path):
    files = ("a/1.cif", "b/1.cif")
    found, remarks = reference(tmp_path, "id,eV\na/1,-5\nb/1,-7\n", *files)
    assert found == {"a/1.cif#0": -5.0, "b/1.cif#0": -7.0}
    assert not remarks
    with pytest.raises(TlpotError, match=r"dft\.csv, row 2 \(1\): '1' may be a/1"):
        reference(tmp_path, "id,eV\n1,-5\n", *files)
    with pytest.raises(TlpotError, match=r"row 3: '1' is there already, in row 2"):
        reference(tmp_path, "id,eV\n1,-5\n1,-6\n", "a/1.cif")


def test_the_first_row_of_a_table_without_names_counts(tmp_path):
    found, remarks = reference(tmp_path, "1;-5,5\n2;-7,25\n3;-8,0\n", "1.cif", "2.cif")
    assert found == {"1.cif#0": -5.5, "2.cif#0": -7.25}
    (remark,) = remarks
    assert "1 ids are of no structure here: 3" in remark


def test_what_has_no_energy_is_told(tmp_path):
    found, remarks = reference(tmp_path, "id,eV\n1,-5\n2,\n", "1.cif", "2.cif", "3.cif")
    assert found == {"1.cif#0": -5.0}
    assert remarks == ["No reference energy is known of 2 structures: 2.cif#0, 3.cif#0."]
