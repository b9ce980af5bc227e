"""Makes the element vectors in ``tlpot/elements/modes.csv`` from ``tools/element_properties.csv``.

``--fetch`` first writes the properties anew from mendeleev (``pip install mendeleev``); without it
numpy and torch suffice. Autoencoders compress the properties of each element to four numbers
(Herr, Koh, Yao, Parkhill, J. Chem. Phys. 151, 084103 (2019)). Seconds on one core, seeded.

Properties of the 86 elements from H to Rn: mass; valence electrons in s, p, d and f shells (a
filled d or f shell is core once the next shell fills: Zn has d10, Ga none); Allen
electronegativity; covalent (Pyykkö) and van der Waals (Alvarez) radius; first ionisation energy;
electron affinity; dipole polarisability. Each is standardised over the elements, mass and
polarisability as logarithms.

Missing values: an anion that is not bound (affinity negative, or absent outside the lanthanides)
has electron affinity 0. Other gaps stay empty in the properties file; in training a linear fit on
the complete properties fills them at the input, and they do not count in the loss.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

PROPERTIES = Path(__file__).parent / "element_properties.csv"
MODES = Path(__file__).parents[1] / "tlpot" / "elements" / "modes.csv"
HEAVIEST = 86
SIZE = 4
HIDDEN = 24
MEMBERS = 16
STEPS = 1000
DECAY = 0.1
SEED = 0
LOGARITHMIC = ("mass_u", "polarizability_au")
SHELLS = "spdf"


def fetch() -> dict[str, dict[str, float | None]]:
    """Properties by symbol, from mendeleev; None where it has no value."""
    from mendeleev import element

    rows: dict[str, dict[str, float | None]] = {}
    for e in map(element, range(1, HEAVIEST + 1)):
        affinity = e.electron_affinity
        if affinity is None and not 57 <= e.atomic_number <= 71:
            affinity = 0.0
        rows[e.symbol] = {
            "mass_u": e.atomic_weight,
            **{f"valence_{shell}": n for shell, n in valence(e).items()},
            "electronegativity_allen_eV": e.en_allen,
            "covalent_radius_pm": e.covalent_radius_pyykko,
            "vdw_radius_pm": e.vdw_radius_alvarez,
            "ionisation_energy_eV": e.ionenergies[1],
            "electron_affinity_eV": None if affinity is None else max(affinity, 0.0),
            "polarizability_au": e.dipole_polarizability,
        }
    return rows


def valence(e: object) -> dict[str, int]:
    """Electrons outside the noble-gas core by shell, without d10 under p and f14 under d."""
    counts = dict.fromkeys(SHELLS, 0)
    outer = e.econf.rpartition("] ")[2]  # type: ignore[attr-defined]
    for shell in outer.split():
        counts[shell[1]] += int(shell[2:] or 1)
    if counts["p"]:
        counts["d"] = counts["f"] = 0
    if counts["d"] and counts["f"] == 14:
        counts["f"] = 0
    return counts


def write_properties(rows: dict[str, dict[str, float | None]]) -> None:
    with PROPERTIES.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["symbol", *next(iter(rows.values()))])
        for symbol, row in rows.items():
            writer.writerow([symbol, *("" if v is None else f"{v:.7g}" for v in row.values())])


def read_properties() -> tuple[list[str], list[str], np.ndarray]:
    """Symbols, names of the properties, values ``(elements, properties)`` with NaN for gaps."""
    with PROPERTIES.open(newline="") as file:
        header, *rows = csv.reader(file)
    values = [[float(cell or "nan") for cell in row[1:]] for row in rows]
    return [row[0] for row in rows], header[1:], np.array(values)


def standardise(names: list[str], values: np.ndarray) -> tuple[Tensor, Tensor]:
    """Standardised properties with gaps filled by a linear fit, and where they are known."""
    values = values.copy()
    for name in LOGARITHMIC:
        values[:, names.index(name)] = np.log(values[:, names.index(name)])
    values = (values - np.nanmean(values, axis=0)) / np.nanstd(values, axis=0)
    known = np.isfinite(values)
    complete = np.column_stack([values[:, known.all(axis=0)], np.ones(len(values))])
    for k in np.flatnonzero(~known.all(axis=0)):
        there = known[:, k]
        fit = np.linalg.lstsq(complete[there], values[there, k], rcond=None)[0]
        values[~there, k] = complete[~there] @ fit
    return torch.from_numpy(values), torch.from_numpy(known)


class Autoencoders(nn.Module):
    """`MEMBERS` networks side by side: properties to `SIZE` numbers and back, tanh between."""

    def __init__(self, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.encoder = _layers(width, HIDDEN, SIZE, generator)
        self.decoder = _layers(SIZE, HIDDEN, width, generator)

    def encode(self, x: Tensor) -> Tensor:
        """``[elements, properties]`` to codes ``[members, elements, 4]``."""
        return _apply(self.encoder, x)

    def decode(self, code: Tensor) -> Tensor:
        """Codes ``[members, elements, 4]`` to ``[members, elements, properties]``."""
        return _apply(self.decoder, code)


def _layers(n_in: int, hidden: int, n_out: int, generator: torch.Generator) -> nn.ParameterList:
    layers = nn.ParameterList()
    for rows, columns in ((n_in, hidden), (hidden, n_out)):
        shape = (MEMBERS, rows, columns)
        weight = torch.randn(shape, generator=generator, dtype=torch.float64)
        layers.append(weight * rows**-0.5)
        layers.append(torch.zeros(MEMBERS, 1, columns, dtype=torch.float64))
    return layers


def _apply(layers: nn.ParameterList, x: Tensor) -> Tensor:
    first, bias, second, last_bias = layers
    return torch.tanh(x @ first + bias) @ second + last_bias


def train(x: Tensor, known: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Modes ``[elements, 4]``, the members' own codes and what they decode to.

    The basis of an autoencoder's code is arbitrary. Each member's is brought to the one in which
    a distance measures what the decoder makes of it: dz·G·dz with G the mean over the elements of
    JᵀJ, J the decoder's Jacobian. The modes are the first four principal components of all
    members' codes together, scaled by one factor to a mean square of one.
    """
    model = Autoencoders(x.shape[1], torch.Generator().manual_seed(SEED))
    adam = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, STEPS)
    for _ in range(STEPS):
        loss = (model.decode(model.encode(x)) - x)[:, known].square().mean(dim=1).sum()
        adam.zero_grad()
        loss.backward()
        adam.step()
        schedule.step()
    with torch.no_grad():
        code = model.encode(x)
        slope = 1 - torch.tanh(code @ model.decoder[0] + model.decoder[1]).square()
        jacobian = torch.einsum("mih,meh,mhp->meip", model.decoder[0], slope, model.decoder[2])
        metric = torch.einsum("meip,mejp->mij", jacobian, jacobian) / len(x)
        codes = code @ torch.linalg.cholesky(metric)
        modes = principal_axes(torch.cat(list(codes), dim=1))[:, :SIZE]
        return modes / modes.square().mean().sqrt(), codes, model.decode(code)


def principal_axes(code: Tensor) -> Tensor:
    """Centred and turned onto its principal axes, largest first, mostly positive."""
    code = code - code.mean(dim=0)
    code = code @ torch.linalg.svd(code, full_matrices=False)[2].T
    return code * code.gather(0, code.abs().argmax(dim=0, keepdim=True)).sign()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--fetch", action="store_true", help="properties from mendeleev, anew")
    if parser.parse_args().fetch:
        write_properties(fetch())
    torch.set_num_threads(1)
    symbols, names, values = read_properties()
    x, known = standardise(names, values)
    modes, codes, again = train(x, known)
    for k, name in enumerate(names):
        gaps = [s for s, there in zip(symbols, known[:, k].tolist(), strict=True) if not there]
        error = (again - x)[:, known[:, k], k].square().mean().sqrt()
        missing = f"; filled: {' '.join(gaps)}" if gaps else ""
        print(f"{name:28s} reconstructed to {error:.2f} standard deviations{missing}")
    own = codes - codes.mean(dim=1, keepdim=True)
    own = own / own.square().mean(dim=(1, 2), keepdim=True).sqrt()
    for a, b in (("Si", "C"), ("Si", "S"), ("I", "Cl"), ("I", "S"), ("Cu", "S"), ("Cu", "C")):
        i, j = symbols.index(a), symbols.index(b)
        spread = (own[:, i] - own[:, j]).norm(dim=1).std()
        print(f"distance {a}-{b}: {(modes[i] - modes[j]).norm():.2f}, spread {spread:.2f}")
    with MODES.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["symbol", *(f"m{k + 1}" for k in range(SIZE))])
        for symbol, row in zip(symbols, modes.tolist(), strict=True):
            writer.writerow([symbol, *(f"{value:.6f}" for value in row)])
    print(f"wrote {MODES}")


if __name__ == "__main__":
    main()
