"""What `tools/release.py` lets pass and what it stops at; all of it is `make release-check`."""

from __future__ import annotations

import importlib.util
import io
import json
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STATED = ("tlpot/__init__.py", "CHANGELOG.md", "CITATION.cff", ".zenodo.json")


@pytest.fixture
def release(tmp_path, monkeypatch):
    """The tool, with copies of the files that state the version."""
    spec = importlib.util.spec_from_file_location("release", ROOT / "tools/release.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    for name in STATED:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    return tool


def wheel(path: Path, names: tuple[str, ...], size: int = 1) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, b"0" * size)
    return path


def sdist(path: Path, names: tuple[str, ...]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(f"tlpot-1/{name}"), io.BytesIO())
    return path


def test_this_tree_has_one_version_and_one_citation(release):
    assert release.version() in (ROOT / "CITATION.cff").read_text()
    release.require_citable()


@pytest.mark.parametrize("name", STATED)
def test_a_version_that_differs_is_named_with_its_file(release, tmp_path, name):
    now = release.version()
    text = (tmp_path / name).read_text()
    assert now in text
    (tmp_path / name).write_text(text.replace(now, "9.9.9"))
    with pytest.raises(SystemExit, match=rf"versions differ: .*'{name}': '9\.9\.9'"):
        release.version()


@pytest.mark.parametrize("field", ["title", "license", "creators", "upload_type"])
def test_a_record_that_says_something_else_is_refused(release, tmp_path, field):
    record = json.loads((tmp_path / ".zenodo.json").read_text())
    (tmp_path / ".zenodo.json").write_text(json.dumps(record | {field: "x"}))
    with pytest.raises(SystemExit, match=f"{field} is 'x', CITATION.cff says"):
        release.require_citable()


def test_archives_are_whole(release, tmp_path):
    whole = wheel(tmp_path / "a.whl", (*release.IN_WHEEL, "tlpot-1.dist-info/RECORD"))
    source = sdist(tmp_path / "a.tar.gz", release.IN_SDIST)
    release.require_whole(whole, source)
    for faulty, archive, fault in (
        (wheel(tmp_path / "b.whl", release.IN_WHEEL[1:]), source, "lacks tlpot/py.typed"),
        (wheel(tmp_path / "c.whl", (*release.IN_WHEEL, "tests/x.py")), source, "holds tests/x.py"),
        (wheel(tmp_path / "d.whl", release.IN_WHEEL, release.LARGEST + 1), source, "has 4.0 MB"),
        (whole, sdist(tmp_path / "b.tar.gz", release.IN_SDIST[1:]), "lacks LICENSE"),
    ):
        with pytest.raises(SystemExit, match=fault):
            release.require_whole(faulty, archive)


def test_a_command_that_fails_stops_with_what_it_said(release, tmp_path):
    assert release.run("echo", "well", cwd=tmp_path) == "well\n"
    with pytest.raises(SystemExit, match=r"nothing\.txt"):
        release.run("ls", "nothing.txt", cwd=tmp_path)
