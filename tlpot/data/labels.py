"""Find energy, forces and stress among the names that files give them, and make a Frame of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import Any, Literal, NamedTuple

import numpy as np
from ase import Atoms

from tlpot.config.data import Keys
from tlpot.config.hints import hint
from tlpot.data.constraints import simplified
from tlpot.data.label_names import NAMES, label_of, require_own_unit
from tlpot.data.notes import DATABASE_NOTES, from_own, own_note
from tlpot.errors import TlpotError
from tlpot.structure.electrons import initial_state
from tlpot.structure.frames import Frame, bare

EnergyKind = Literal["free_energy", "energy"]

_CLOSE = {"energy": (2e-7, 1e-6), "forces": (1e-5, 1e-5), "stress": (1e-5, 1e-6)}
"""rtol and atol within which two labels of one frame are the same number (float32 rounding)."""
OWN_COLUMNS = ("positions", "momenta", "masses", "initial_charges", "initial_magmoms")
"""Numbers of each atom that are no labels, as ASE calls them."""


class _Label(NamedTuple):
    """One candidate for a label: where it stands and its value in tlpot's units."""

    key: str
    prefix: str
    free: bool
    value: np.ndarray

    def __str__(self) -> str:
        if self.value.size == 1:
            return f"{self.key} = {float(self.value):.6f}"
        return f"{self.key} (first {float(self.value.flat[0]):.6f})"


def make_frames(
    images: Sequence[Atoms],
    places: Sequence[int],
    source: str,
    keys: Keys,
    energy: EnergyKind,
) -> list[Frame]:
    """Turn what was read from one file into frames; `places` are their numbers in it.

    Raises
    ------
    TlpotError
        If several labels compete, a named one is nowhere in the file, or frames use different ones.
    """
    pools = [_pool(atoms) for atoms in images]
    _require_named(pools, source, keys)
    frames = [
        _make_frame(atoms, pool, Frame(atoms, source=source, index=place), keys, energy)
        for atoms, pool, place in zip(images, pools, places, strict=True)
    ]
    first: dict[str, Frame] = {}
    for frame in frames:
        if "energy_key" in frame.info:
            first.setdefault(str(frame.info["energy_key"]).replace("free_energy", "energy"), frame)
    if len(first) > 1:
        listed = ", ".join(
            f"'{frame.info['energy_key']}' in {frame.name}" for frame in first.values()
        )
        raise TlpotError(
            f"{source}: its frames call their energy by different names ({listed}); these may be "
            "different levels of theory. "
            + hint("Name one with {data.keys.energy}.", "Keep frames of one.")
        )
    return frames


def _pool(atoms: Atoms) -> dict[str, Any]:
    """Everything the file says about a frame by name; the calculator's results come first."""
    pool = dict(atoms.calc.results) if atoms.calc else {}
    extra = [atoms.info.get(name) for name in DATABASE_NOTES]
    arrays = {k: v for k, v in atoms.arrays.items() if k not in ("numbers", "positions")}
    for notes in (atoms.info, arrays, *(more for more in extra if isinstance(more, dict))):
        for key, value in notes.items():
            if key in pool and label_of(key) and not _equal(label_of(key), atoms, pool[key], value):
                key = f"{key} (in info)"
            pool.setdefault(key, value)
    return {key: value for key, value in pool.items() if value is not None}


def _equal(kind: str, atoms: Atoms, a: Any, b: Any) -> bool:
    rtol, atol = _CLOSE[kind]
    try:
        a, b = _convert(kind, "", a, atoms), _convert(kind, "", b, atoms)
    except (ValueError, TypeError):  # one of them is no label
        return False
    return a.shape == b.shape and np.allclose(a, b, rtol=rtol, atol=atol, equal_nan=True)


def _convert(kind: str, key: str, value: Any, atoms: Atoms) -> np.ndarray:
    """Labels as float64 in tlpot's shapes; a virial becomes a stress, a gradient a force."""
    array = np.asarray(value, dtype=float)
    if kind == "energy":
        return array.reshape(())
    if kind == "forces":
        array = array.reshape(len(atoms), 3)
        return -array if "grad" in key.lower() else array
    if array.size == 9:
        full = array.reshape(3, 3)
        array = ((full + full.T) / 2).flat[[0, 4, 8, 5, 2, 1]]
    array = array.reshape(6)
    return -array / atoms.get_volume() if "virial" in key.lower() else array


def _is_other(key: str, value: Any, atoms: Atoms) -> bool:
    """Whether what has a label's name is a flag (a word of a comment) or a gradient's norm."""
    array = np.asarray(value)
    return array.dtype.kind == "b" or ("grad" in key.lower() and array.size != 3 * len(atoms))


def _require_named(pools: list[dict[str, Any]], source: str, keys: Keys) -> None:
    for kind, key in keys:
        if key is None or any(key in pool for pool in pools):
            continue
        names = sorted({name for pool in pools for name in pool})
        close = get_close_matches(key, names, n=3, cutoff=0.4)
        named = hint(f"{{data.keys.{kind}}}")
        close_names = (
            f"did you mean {' or '.join(close)}?" if close else "the file has no similar name."
        )
        raise TlpotError(
            f"{source}: no frame has '{key}', which {named} names; {close_names} "
            f"Found: {', '.join(names) or 'no labels at all'}."
        )


def _make_frame(
    atoms: Atoms, pool: dict[str, Any], unlabelled: Frame, keys: Keys, energy_kind: EnergyKind
) -> Frame:
    info, own = _notes(atoms), own_note(atoms.info)
    labels: dict[str, np.ndarray | None] = {}
    prefix = None
    for kind, named in keys:
        try:
            label = _choose(kind, atoms, pool, named, prefix, energy_kind)
        except TlpotError as error:
            raise TlpotError(f"{unlabelled.name}: {error}") from None
        except (ValueError, TypeError) as error:
            raise TlpotError(
                f"{unlabelled.name}: its {kind} is not a number or has the wrong shape for "
                f"{len(atoms)} atoms ({error}). "
                + hint(
                    f"Mend the file, or name another key with {{data.keys.{kind}}}.",
                    "Mend the file.",
                )
            ) from None
        if label is not None and _weight(kind, pool, unlabelled.name) == 0.0:
            label = None
        labels[kind] = None if label is None else label.value
        if label is not None:
            info[f"{kind}_key"] = label.key
            prefix = label.prefix if kind == "energy" else prefix
        elif kind == "forces" and "energy_key" in info and (columns := _unknown_columns(atoms)):
            info["columns"] = ", ".join(columns)
    structure = bare(atoms)
    structure.set_constraint(simplified(atoms))
    frame = Frame(
        structure,
        energy=None if labels["energy"] is None else float(labels["energy"]),
        forces=labels["forces"],
        stress=labels["stress"],
        source=unlabelled.source,
        index=unlabelled.index,
        info=info,
        labels=own.get("labels", "full"),
        weight=own.get("weight", 1.0),
    )
    if frame.stress is not None and frame.kind == "molecule":
        del info["stress_key"]
        frame = replace(frame, stress=None)
    return frame


def _unknown_columns(atoms: Atoms) -> list[str]:
    """Numbers of each atom under a name that tells nothing."""
    numbers = [name for name, values in atoms.arrays.items() if values.dtype.kind == "f"]
    return [name for name in numbers if name not in OWN_COLUMNS and not label_of(name)]


def _notes(atoms: Atoms) -> dict[str, object]:
    """What ``atoms.info`` says that is no label, and the magnetic moment."""
    notes: dict[str, object] = {}
    results = atoms.calc.results if atoms.calc else {}
    moment: dict[str, object] = {"magmom": results["magmom"]} if "magmom" in results else {}
    if "magmom" not in atoms.info | moment and "magmoms" in results:
        moment["magmom"] = float(np.linalg.norm(np.sum(results["magmoms"], axis=0)))
    pairs = atoms.info.get("key_value_pairs")
    for key, value in {
        **moment,
        **atoms.info,
        **(pairs if isinstance(pairs, dict) else {}),
    }.items():
        value = value.item() if isinstance(value, np.generic) else value
        plain = value is None or isinstance(value, str | bool | int | float)
        numbers = isinstance(value, np.ndarray) and value.dtype.kind in "bif"
        if (plain or numbers) and not label_of(key):
            notes[key] = value
    notes |= from_own(own_note(atoms.info))
    return notes | initial_state(atoms, notes)


def _choose(
    kind: str,
    atoms: Atoms,
    pool: dict[str, Any],
    named: str | None,
    prefix: str | None,
    energy_kind: EnergyKind,
) -> _Label | None:
    if kind == "stress" and not atoms.pbc.all():
        return None
    candidates = []
    for key, value in pool.items():
        match = NAMES[kind].fullmatch(key.removesuffix(" (in info)").lower())
        fits = match and label_of(key) == kind and not _is_other(key, value, atoms)
        if key == named or (named is None and fits):
            groups = match.groupdict() if match else {}
            label = _Label(
                key,
                groups.get("prefix") or groups.get("suffix") or "",
                groups.get("kind") == "free",
                _convert(kind, key, value, atoms),
            )
            candidates.append(label)
    if not candidates:
        return None
    if kind == "energy" and named is None:
        wanted = energy_kind == "free_energy"
        candidates = [
            label
            for label in candidates
            if label.free == wanted
            or not any(o.free == wanted for o in candidates if o.prefix == label.prefix)
        ]
    for label in candidates:
        require_own_unit(kind, label.key, pool)
    same = [label for label in candidates if label.prefix == prefix]
    candidates = same or candidates
    first = candidates[0]
    if not all(_equal(kind, atoms, first.value, other.value) for other in candidates):
        choice = "; ".join(map(str, candidates))
        raise TlpotError(
            f"several labels could be its {kind} and they differ: {choice}. "
            + hint(f"Name one with {{data.keys.{kind}}}.", "Keep one in the file.")
        )
    return first


def _weight(kind: str, pool: dict[str, Any], where: str) -> float:
    names = {"energy": ["energy"], "forces": ["force", "forces"]}
    stems = names.get(kind, ["stress", "virial", "virials"])
    keys = [f"{config}{stem}_weight" for config in ("", "config_") for stem in stems]
    weights = []
    for name in [*keys, "config_weight"]:
        if name in pool:
            try:
                weights.append(float(pool[name]))
            except (ValueError, TypeError):
                raise TlpotError(f"{where}: its {name} is no number: {pool[name]!r}") from None
    return min(weights, default=1.0)
