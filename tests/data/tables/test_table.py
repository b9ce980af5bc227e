import numpy as np
import pytest

from tlpot.data.tables.table import read_table
from tlpot.errors import TlpotError

IDS = {"u0", "u1", "u2", "007"}


def read(path, content, encoding="utf-8"):
    path.write_bytes(content.encode(encoding))
    return read_table(path, IDS.__contains__)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "energies.csv"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("line", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    "rows",
    [
        ["u0,-1.25", "007,2e-3", '"u1",', "u2,nan"],
        ["u0;-1,25", "007;2e-3", "u1;", "u2;#N/A"],
        ["sep=;", "u0;-1.25", "007;0.002", "u1;NA", '"u2";'],
        ["u0\t-1,25\t", '"007"\t0,002', "u1\t-", "u2\tNaN", "\t"],
        ["u0,-1.25,,", " 007 , 2e-3", "u1,,", "u2,null", ",,,", ""],
        ["# by Excel", "id,energy", "u0,-1.25", "007,2e-3", "u1,none", "u2,N/A"],
        [",energy,ID", "0,-1.25,u0", "1,2e-3,007", "2,,u1", "3,,u2"],
    ],
)
def test_what_spreadsheets_write(file, rows, line, encoding):
    table = read(file, line.join(rows) + line, encoding)
    assert [row.ident for row in table.rows] == ["u0", "007", "u1", "u2"]
    found = [row.number(1) for row in table.rows]
    np.testing.assert_array_equal(found, [-1.25, 2e-3, np.nan, np.nan])
    assert table.header in ([], ["id", "energy"], ["ID", "energy"])


def test_what_windows_has_instead_of_unicode(file):
    table = read(file, "u0,gr\u00f6\u00dfer\nu1,1", "cp1252")
    assert table.rows[0].value(1) == "gr\u00f6\u00dfer"


def test_a_first_line_is_names_only_where_it_cannot_be_a_row(file):
    assert read(file, "u0,\nu1,2\n").header == []
    assert read(file, "u0,broken\nu1,2\n").header == []
    assert read(file, "unknown,3\nu1,2\n").header == []
    assert read(file, "crystal,gap\nu1,2\n").header == ["crystal", "gap"]
    assert read(file, "id,300\nu1,2\n").header == ["id", "300"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the file is empty"),
        (",,\n\n", "the file is empty"),
        ("u0,1\nu1,2\nu0,3\n", r"row 3: 'u0' is there already, in row 1"),
        ("id,e\nu0,1\n\n,3\n", r"row 4: has no id: ,3"),
        ("u0,1\nu1,2,3\n", r"row 2: has 3 cells, the first row 2: u1,2,3"),
        ("id,e,e\nu0,1,2\n", "two columns are called 'e'"),
        ("u0,-1,00\nu1,-1,03\n", "decimals seem to have a comma"),
        ("u0;1,5\nu1;1.5\n", "a comma in row 1 and a point in row 2"),
    ],
)
def test_a_bad_line_is_named(file, text, said):
    with pytest.raises(TlpotError, match=said) as caught:
        read(file, text)
    assert "energies.csv" in str(caught.value)


def test_numbers_that_are_none(file):
    table = read(file, 'u0,high\nu1,inf\nu2,"1,5"\n')
    for row, said in zip(
        table.rows, ["row 1 .*'high'", "row 2 .*no finite", "row 3 .*'1,5'"], strict=True
    ):
        with pytest.raises(TlpotError, match=said):
            row.number(1)


def test_what_is_no_text_is_named(tmp_path):
    (tmp_path / "a.xlsx").write_bytes(b"PK\x03\x04")
    (tmp_path / "a.csv").write_bytes(bytes(range(256)))
    for name, said in (("a.xlsx", "save it as CSV"), ("a.csv", "is no text"), ("b.csv", "no such")):
        with pytest.raises(TlpotError, match=said):
            read_table(tmp_path / name, IDS.__contains__)
