import io

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from rich.console import Console

from tlpot.cli.show.use import print_md
from tlpot.errors import TlpotError
from tlpot.md.summary import mean_and_error, radial_distribution, read_log, slope


def test_drift_is_the_slope():
    time = np.linspace(0, 3, 40)
    assert slope(time, 5e3 + 0.25 * time) == pytest.approx(0.25)
    assert np.isnan(slope(time, np.full(40, np.nan)))


def test_the_error_of_a_mean_knows_of_correlation():
    random = np.random.default_rng(0)
    values = np.repeat(random.normal(size=1000), 20)
    mean, error = mean_and_error(values)
    assert error == pytest.approx(1000**-0.5, rel=0.6)
    assert abs(mean) < 4 * error


def test_a_crystal_has_its_shells():
    """Face-centred cubic copper: 12 neighbours at a/√2, 6 at a."""
    atoms = bulk("Cu", a=4.0, cubic=True)
    r, g = radial_distribution([atoms], "Cu", "Cu")
    width = r[1] - r[0]
    around = g * 4 * np.pi * r**2 * width * len(atoms) / atoms.get_volume()
    assert around[r < 3.4].sum() == pytest.approx(12, rel=0.01)
    assert around[(r > 3.4) & (r < 4.4)].sum() == pytest.approx(6, rel=0.01)


def test_a_gas_of_two_kinds_is_even():
    random = np.random.default_rng(1)
    atoms = Atoms("Ar60Ne40", random.random((100, 3)) * 15, cell=[15] * 3, pbc=True)
    for kinds in (("Ar", "Ar"), ("Ar", "Ne"), ("Ne", "Ne")):
        r, g = radial_distribution([atoms], *kinds)
        assert g[r > 3].mean() == pytest.approx(1, abs=0.1)


def test_no_log_is_named(tmp_path):
    with pytest.raises(TlpotError, match="no such log"):
        read_log(tmp_path / "log.csv")


def test_what_does_not_change_has_no_error_bar(tmp_path):
    known = {"mean": 150.6, "error": 9.5e-15}
    summary = {"time_ps": 1.0, "atoms": 16, "drift_meV_per_atom_per_ps": 0.1, "stopped": None}
    summary |= {"temperature_K": {"mean": 300.0, "error": 2.0}, "pressure_GPa": known}
    console = Console(file=io.StringIO(), width=80)
    print_md(summary | {"volume_A3": known}, tmp_path, console)
    lines = console.file.getvalue().splitlines()
    assert "volume 150.6 Å³" in lines
    assert "temperature 300 ± 2 K" in lines
