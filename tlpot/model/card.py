"""What a model is, by its own file: base, data, recipe, errors, domain, versions, licence."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tlpot.config.bases import BASES, pretrained, untrained
from tlpot.data.fingerprints import TrainingSet
from tlpot.data.levels import level_text
from tlpot.errors import TlpotError
from tlpot.files import sha256
from tlpot.model.file import FORMAT, anonymous, located, read_model
from tlpot.model.load import BUNDLED, require_unshadowed_base, supported_elements

KINDS = {
    "reference": "interatomic potential",
    "property": "property of crystals",
    "powder": "classifier of powder patterns",
}
"""Of a model, by the section that its header has."""


def card(model: str | Path) -> dict[str, Any]:
    """Everything that a model says of itself, as plain data; None or empty where it is silent.

    Parameters
    ----------
    model
        Model file or run folder of any kind, or the name of a base with weights.

    Raises
    ------
    TlpotError
        As `tlpot.model.load.load`. A published base needs not be here.
    """
    name, named = str(model), not isinstance(model, Path) or not model.exists()
    if named:
        require_unshadowed_base(name)
    if named and name in BASES and BASES[name].weights == "torchani":
        return _published(name)
    if named and untrained(name):
        raise TlpotError(f"{name} has no pretrained weights: there is nothing to tell yet")
    bundled = named and name in BASES
    path = BUNDLED / f"{name}.safetensors" if bundled else located(model)
    if not path.is_file() and named:
        raise TlpotError(
            f"'{name}' is neither an existing model file nor one of {', '.join(pretrained())}"
        )
    header, weights = read_model(path)
    metadata = header if "powder" in header else header.get("metadata", {})
    if bundled:
        metadata = metadata | {"base": name}
    about = {
        "model": path.name,
        "sha256": sha256(path),
        "format": header["format"],
        "kind": next((kind for part, kind in KINDS.items() if part in header), "unknown"),
        **_architecture(header),
        "weights": sum(tensor.numel() for tensor in weights.values()),
        **_origin(metadata),
        "elements": _elements(header, metadata),
        "data": _data(metadata),
        "recipe": (metadata.get("training") or {}).get("training"),
        "test": metadata.get("test") or _distilled(metadata),
        "domain": _without_numbers(metadata.get("domain")),
        "versions": metadata.get("versions"),
        "calibration": header.get("calibration") or header.get("powder", {}).get("temperature"),
    }
    content: dict[str, Any] = anonymous(about)
    return content


def _published(name: str) -> dict[str, Any]:
    empty = dict.fromkeys(("recipe", "test", "domain", "versions", "calibration"))
    return {
        "model": name,
        "sha256": None,
        "format": FORMAT,
        "kind": KINDS["reference"],
        "backbone": BASES[name].backbone,
        **_origin({"base": name, "trained": "as published; torchani fetches the weights"}),
        "elements": {"own": list(supported_elements(name)), "aliases": {}, "clones": {}},
        "data": None,
        **empty,
    }


def _distilled(metadata: Mapping[str, Any]) -> dict[str, Any] | None:
    """Errors against the model that a bundled one was made from."""
    errors = (metadata.get("errors_against_ani2x") or {}).get("test all")
    if not errors:
        return None
    component = errors["force_rmse_meV_per_A_component"]
    return {**errors, "force_rmse_meV_per_A_vector": math.sqrt(3) * component}


def _architecture(header: Mapping[str, Any]) -> dict[str, Any]:
    if "reference" in header:
        about = header.get("architecture", {})
        return {"backbone": header.get("backbone", "ani"), "members": about.get("members")}
    if "property" in header:
        return {"property": header["property"]["name"], "unit": header["property"]["unit"]}
    return {"systems": header["powder"]["systems"]} if "powder" in header else {}


def _origin(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The base with its licence, the model that it was trained from, level of theory."""
    training = metadata.get("training") or {}
    model = training.get("model") or {}
    scratch = model.get("init") == "scratch" or (training and model.get("base", "") is None)
    name = None if scratch else metadata.get("base", model.get("base"))
    base = BASES.get(str(name))
    if scratch:
        licence: str | None = "none to keep: trained from scratch"
    else:
        licence = base.licence if base else None
    levels = [level_text(level) for level in (metadata.get("data") or {}).get("levels", [])]
    if "training" not in metadata and base and base.labels:
        levels = [base.labels]
    parents = [
        {"name": Path(str(file.get("name", file.get("path")))).name, "sha256": file.get("sha256")}
        for file in (metadata.get("inputs") or {}).get("base", [])
    ]
    return {
        "base": {"name": name, "title": base and base.title, "licence": licence},
        "trained_from": parents or None,
        "level_of_theory": levels,
        "notes": metadata.get("trained"),
    }


def _elements(header: Mapping[str, Any], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Of the networks; aliases and clones with their donors; of crystals trained on, where told."""
    if "reference" not in header:
        return {"own": metadata.get("elements", []), "aliases": {}, "clones": {}}
    symbols = header.get("architecture", {}).get("symbols", [])
    return {
        "own": list(symbols),
        "aliases": header.get("elements", {}),
        "clones": metadata.get("clones", {}),
    }


def _data(metadata: Mapping[str, Any]) -> dict[str, Any] | None:
    data = metadata.get("data")
    if not data and "seen" not in metadata:
        return None
    data = dict(data or {})
    files = data.pop("files", [])
    if isinstance(files, list):
        files = [
            {"name": Path(str(file.get("name", file.get("path")))).name}
            | {key: file[key] for key in ("frames", "sha256") if key in file}
            for file in files
        ]
    seen = TrainingSet.of(metadata)
    told = {"train": len(seen.train), "validation": len(seen.validation)}
    keep = ("sha256", "property", "crystals", "by_system", "unseen", "labels", "energy_keys")
    return {
        "files": files,
        "structures": told if "seen" in metadata else None,
        **{key: data[key] for key in keep if key in data},
    }


def card_rows(about: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What to show of a `card`, as title and text; what the model does not say is said to be so."""
    unknown, potential = "not stated", about["kind"] == KINDS["reference"]
    base, elements, data = about["base"], about["elements"], about["data"] or {}
    yield (
        "model",
        " · ".join(
            filter(None, (about["model"], about["kind"], about.get("backbone"), _count(about)))
        ),
    )
    if about["sha256"]:
        yield "sha256", about["sha256"]
    if about.get("property"):
        yield "property", f"{about['property']} ({about['unit']})".removesuffix(" ()")
    yield "base", base["title"] or base["name"] or "none"
    for parent in about["trained_from"] or []:
        yield "trained from", f"{parent['name']} (sha256 {str(parent['sha256'])[:12]})"
    yield "licence of the base", base["licence"] or unknown
    if about.get("systems"):
        yield "crystal systems", ", ".join(about["systems"])
    if elements["own"]:
        yield "elements", " ".join(elements["own"])
    for kind in ("aliases", "clones"):
        if donors := elements[kind]:
            text = ", ".join(f"{element} from {donor}" for element, donor in donors.items())
            yield kind, text
    if potential:
        yield "level of theory", "; ".join(about["level_of_theory"]) or unknown
    yield "data", "; ".join(_data_lines(data)) or about["notes"] or unknown
    yield "recipe", _settings(about["recipe"]) or unknown
    yield "test errors", "; ".join(_errors(about["test"])) or unknown
    if potential or about["calibration"]:
        yield "calibration", _calibration(about["calibration"]) or "none: the spread is raw"
    if potential:
        yield "domain", "; ".join(_domain(about["domain"] or {})) or unknown
    yield "versions", _settings(about["versions"]) or unknown


def _count(about: Mapping[str, Any]) -> str:
    members = f"{about['members']} networks, " if about.get("members") else ""
    return f"{members}{about['weights']:,} numbers" if "weights" in about else ""


def _settings(values: Mapping[str, Any] | None) -> str:
    plain = {k: v for k, v in (values or {}).items() if not isinstance(v, Mapping)}
    return ", ".join(f"{k} {v}" for k, v in plain.items() if v is not None)


def _data_lines(data: Mapping[str, Any]) -> Iterator[str]:
    files = data.get("files") or []
    listed = files if isinstance(files, list) else []
    for file in listed[:FILES_SHOWN]:
        count = f", {file['frames']} frame{'s' * (file['frames'] != 1)}" if "frames" in file else ""
        yield f"{file['name']}{count} (sha256 {str(file.get('sha256'))[:12]})"
    if len(listed) > FILES_SHOWN:
        yield f"and {len(listed) - FILES_SHOWN} more"
    if isinstance(files, int):
        yield f"{files} files (sha256 of all {data.get('sha256', '')[:12]})"
    if told := data.get("structures"):
        yield f"structures: {told['train']} trained on, {told['validation']} tuned on"


FILES_SHOWN = 5
"""Files of the data that are shown; `card` has all."""
TEST = (
    ("energy_rmse_meV_per_atom", "energy RMSE {:.3g} meV/atom"),
    ("force_rmse_meV_per_A_component", "force RMSE {:.3g} meV/Å per component"),
    ("force_rmse_meV_per_A_vector", "{:.3g} per vector"),
    ("stress_rmse_meV_per_A3", "stress RMSE {:.3g} meV/Å³"),
    ("mae", "MAE {:.3g}"),
    ("rmse", "RMSE {:.3g}"),
    ("r2", "R² {:.3g}"),
    ("accuracy", "{:.1%} right"),
)
"""Errors shown, by their key in ``metrics.json``."""


def _errors(test: Mapping[str, Any] | None, of: str = "") -> Iterator[str]:
    test = test or {}
    shown = [text.format(test[key]) for key, text in TEST if isinstance(test.get(key), int | float)]
    count = test.get("n_frames", test.get("n"))
    if shown:
        yield f"{of}{', '.join(shown)} ({count} held out)"
    for kind in ("ideal", "measured"):
        if isinstance(test.get(kind), Mapping):
            yield from _errors(test[kind], f"{kind} patterns: ")


def _calibration(calibration: Mapping[str, Any] | float | None) -> str:
    if isinstance(calibration, int | float):
        return f"temperature {calibration:.3g}"
    scales = {k: v for k, v in (calibration or {}).items() if isinstance(v, Mapping)}
    return ", ".join(
        f"{quantity}: spread × {scale['factor']:.3g} on {scale['frames']} frames"
        for quantity, scale in scales.items()
    )


def _without_numbers(domain: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Of the density what it is about, not its descriptors."""
    if not domain or "density" not in domain:
        return dict(domain) if domain else None
    density = dict(domain["density"])
    return {**domain, "density": density | {"elements": sorted(density["elements"])}}


def _domain(domain: Mapping[str, Any]) -> Iterator[str]:
    if contacts := domain.get("contacts"):
        yield "shortest contacts " + ", ".join(f"{k} {v:.2f}" for k, v in contacts.items()) + " Å"
    if spread := domain.get("spread"):
        yield f"spread up to {1e3 * spread:.3g} meV per √N in training"
    if density := domain.get("density"):
        yield (
            f"density of descriptors of {' '.join(density['elements'])}, "
            f"calibrated on {density['frames']} frames"
        )
    elif domain:
        yield "no density of descriptors"
