"""Space groups by spglib."""

import pytest
from ase.build import bulk

from tlpot.structure.symmetry import symmetry


def test_what_a_library_tries_in_vain_is_not_written_to_the_terminal(capfd):
    """spglib tries more than one space group on the way to P1, and would say so."""
    pytest.importorskip("spglib")
    salt = bulk("NaCl", "rocksalt", a=5.6) * (2, 1, 1)
    salt.rattle(0.08, seed=134)
    assert symmetry(salt, 0.1).number == 1
    assert capfd.readouterr() == ("", "")
