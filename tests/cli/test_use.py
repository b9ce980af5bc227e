import pytest

from tlpot.cli.main import main
from tlpot.data.read import read_frames

UREA = "datasets/urea/urea.extxyz"


def run(*words):
    with pytest.raises(SystemExit) as done:
        main([*map(str, words)])
    return done.value.code


@pytest.fixture
def urea(request):
    return str(request.config.rootpath / UREA)


def test_rank(tmp_path, urea, capsys):
    output = tmp_path / "ranking"
    words = ["rank", f"{urea}@0:40:20", "--model", "mini", "--no-relax", "--output", output]
    (tmp_path / "broken.cif").write_text("nonsense")
    assert run(*words, tmp_path / "broken.cif") == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "2 ranked, 0 copies, 1 refused" in said
    assert "broken.cif: cannot be read as CIF" in said
    assert (output / "ranking.html").is_file()
    assert run(*words) == 2
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("broken.cif", "cannot be read as CIF"),
        ("empty.cif", "the file is empty"),
        ("absent.cif", "no such file"),
    ],
)
def test_bad_files_alone_exit_with_2(tmp_path, capsys, file, said):
    (tmp_path / "broken.cif").write_text("nonsense")
    (tmp_path / "empty.cif").write_text("")
    words = ["rank", tmp_path / file, "--model", "mini", "--output", tmp_path / "ranking"]
    assert run(*words) == 2
    message = " ".join(capsys.readouterr().err.split())
    assert file in message
    assert said in message
    assert not (tmp_path / "ranking").exists()


def test_sample_from_a_ranking(tmp_path, urea, capsys):
    folder = tmp_path / "ranking"
    words = ["rank", f"{urea}@0:60:20", "--model", "mini", "--no-relax", "--output", folder]
    assert run(*words) == 0
    chosen = tmp_path / "next.extxyz"
    assert run("sample", "choose", folder, "--by", "doubt", "--number", 2, "--output", chosen) == 0
    assert len(read_frames(chosen)) == 2
    other = tmp_path / "other.extxyz"
    assert (
        run("sample", "choose", urea, folder, "--by", "doubt", "--number", 2, "--output", other)
        == 2
    )
    assert "name one folder" in capsys.readouterr().err
