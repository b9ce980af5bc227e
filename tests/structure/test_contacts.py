import numpy as np
import pytest
from ase import Atoms

from tlpot.structure.contacts import CONTACT_REACH, shortest_contacts


def test_shortest_contact_of_each_pair_of_elements():
    near, far = (Atoms("HCO", [[0, 0, 0], [d, 0, 0], [d, 1.2, 0]]) for d in (1.06, 1.3))
    found = shortest_contacts([far, near])
    assert found == pytest.approx({"C-H": 1.06, "C-O": 1.2, "H-O": np.hypot(1.06, 1.2)}, abs=1e-4)
    assert shortest_contacts([Atoms("HC", [[0, 0, 0], [CONTACT_REACH + 0.1, 0, 0]])]) == {}


def test_contacts_with_images_count():
    atoms = Atoms("O", cell=[2.5, 3, 3], pbc=True)
    assert shortest_contacts([atoms]) == {"O-O": 2.5}
