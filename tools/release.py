"""All of a release but the upload: one version everywhere, both archives, a fresh environment.

    python tools/release.py        # or: make release-check

Stops at the first thing that is not so, with what to do; leaves the archives in build/release.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import NoReturn

import yaml

ROOT = Path(__file__).parents[1]
ARCHIVES = ROOT / "build" / "release"
LARGEST = 4_000_000
"""Bytes of a file in the wheel: more is no code, no table and no small model."""
IN_WHEEL = (
    "tlpot/py.typed",
    "tlpot/backbones/mini.safetensors",
    "tlpot/evaluation/report.html.j2",
    "tlpot/bundled/examples/quickstart.yaml",
)
IN_SDIST = ("LICENSE", "README.md", "CHANGELOG.md", "CITATION.cff", "tests/conftest.py")


def stop(fault: str) -> NoReturn:
    """End with a sentence."""
    sys.exit(f"release-check: {fault}")


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    """What a command prints; stops if it fails."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    words = [*map(str, command)]
    done = subprocess.run(words, cwd=cwd, env=clean, capture_output=True, text=True)
    if done.returncode:
        stop(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def version() -> str:
    """The one version: of the package, the changelog's first section, the citation, Zenodo."""
    text = (ROOT / "tlpot" / "__init__.py").read_text()
    own = re.search(r'^__version__ = "(.+)"', text, re.M)
    section = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    stated = {
        "tlpot/__init__.py": own and own[1],
        "CHANGELOG.md": section and section[1],
        "CITATION.cff": yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"],
        ".zenodo.json": json.loads((ROOT / ".zenodo.json").read_text())["version"],
    }
    if len(set(stated.values())) != 1:
        stop(f"the versions differ: {stated}; make them one")
    return str(stated["CITATION.cff"])


def require_citable() -> None:
    """Zenodo's record says what the citation file says."""
    cff = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    record = json.loads((ROOT / ".zenodo.json").read_text())
    authors = [author["name"] for author in cff["authors"]]
    for field, expected in {
        "title": cff["title"],
        "license": cff["license"],
        "creators": [{"name": name} for name in authors],
        "upload_type": "software",
    }.items():
        if record.get(field) != expected:
            stop(f".zenodo.json: {field} is {record.get(field)!r}, CITATION.cff says {expected!r}")


def require_whole(wheel: Path, sdist: Path) -> None:
    """Both archives hold what they should, the wheel nothing else."""
    with zipfile.ZipFile(wheel) as archive:
        sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
    if missing := [name for name in IN_WHEEL if name not in sizes]:
        stop(f"{wheel.name} lacks {', '.join(missing)}; see package_data in setup.cfg")
    if strange := [n for n in sizes if not n.startswith(("tlpot/", "tlpot-"))]:
        stop(f"{wheel.name} holds {strange[0]}, which is no part of the package")
    if large := [n for n, size in sizes.items() if size > LARGEST]:
        stop(f"{wheel.name}: {large[0]} has {sizes[large[0]] / 1e6:.1f} MB")
    with tarfile.open(sdist) as packed:
        inside = {name.partition("/")[2] for name in packed.getnames()}
    if missing := [name for name in IN_SDIST if name not in inside]:
        stop(f"{sdist.name} lacks {', '.join(missing)}; see MANIFEST.in")


def try_out(wheel: Path, number: str) -> None:
    """The wheel alone in a fresh environment: its version, and its self-test."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        run(sys.executable, "-m", "venv", place / "environment")
        programs = place / "environment" / "bin"
        run(programs / "python", "-m", "pip", "install", "--quiet", wheel, cwd=place)
        if number not in run(programs / "tlpot", "--version", cwd=place):
            stop(f"the installed wheel is not {number}")
        run(programs / "tlpot", "init", "--examples", ".", cwd=place)
        run(
            programs / "tlpot",
            "finetune",
            "examples/quickstart.yaml",
            "training.epochs=2",
            cwd=place,
        )
        run(programs / "tlpot", "info", "runs/quickstart", cwd=place)


def main() -> None:
    """Check all; say what is left to do."""
    number = version()
    require_citable()
    shutil.rmtree(ARCHIVES, ignore_errors=True)
    run(sys.executable, "-m", "build", "--outdir", ARCHIVES, ROOT)
    (wheel,), (sdist,) = ARCHIVES.glob("*.whl"), ARCHIVES.glob("*.tar.gz")
    run(sys.executable, "-m", "twine", "check", "--strict", wheel, sdist)
    require_whole(wheel, sdist)
    try_out(wheel, number)
    print(f"tlpot {number} is ready: date its section of CHANGELOG.md, tag v{number}, then")
    print(f"  twine upload {wheel.relative_to(ROOT)} {sdist.relative_to(ROOT)}")
    print("and attach build/tlpot-docs.zip, the site (make docs), to the release")


if __name__ == "__main__":
    main()
