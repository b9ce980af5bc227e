import pytest

from tlpot.data.tables.identity import Names, short_names
from tlpot.errors import TlpotError

FILES = ["set/a/1.cif#0", "set/b/1.cif#0", "007.vasp#0", "md.extxyz#0", "md.extxyz#3", "x.cif.gz#0"]


@pytest.mark.parametrize(
    ("ident", "name"),
    [
        ("a/1", "set/a/1.cif#0"),
        ("b/1.cif", "set/b/1.cif#0"),
        ("set\\b\\1.cif", "set/b/1.cif#0"),
        ("./set/a/1.cif#0", "set/a/1.cif#0"),
        ("007", "007.vasp#0"),
        ("md", "md.extxyz#0"),
        ("md-3", "md.extxyz#3"),
        ("md.extxyz#3", "md.extxyz#3"),
        ("x", "x.cif.gz#0"),
        ("x.cif", "x.cif.gz#0"),
        ("7", None),
        ("c/1", None),
        ("md-1", None),
        ("", None),
    ],
)
def test_an_id_is_the_end_of_a_path(ident, name):
    assert Names(FILES).name_of(ident, "row 1") == name


def test_an_absolute_path_finds_a_file_that_was_named_otherwise(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Names(FILES).name_of(str(tmp_path / "set/a/1.cif"), "row 1") == "set/a/1.cif#0"


def test_what_is_not_clear_is_refused():
    names = Names(FILES)
    with pytest.raises(
        TlpotError, match=r"row 2: '1' may be set/a/1\.cif#0, set/b/1\.cif#0; write"
    ):
        names.by_name([("md", "row 1"), ("1", "row 2")])
    with pytest.raises(TlpotError, match=r"row 2: 'md\.extxyz' and 'md' are both md\.extxyz#0"):
        names.by_name([("md", "row 1"), ("md.extxyz", "row 2")])


def test_names_are_as_short_as_tells_them_apart():
    names = [
        "x/a/1.cif#0",
        "x/b/1.cif#0",
        "y/b/1.cif#0",
        "x/b/2.cif#0",
        "md.extxyz#0",
        "md.extxyz#3",
    ]
    assert list(short_names(names).values()) == ["a/1", "x/b/1", "y/b/1", "2", "md", "md-3"]
    assert short_names([]) == {}
