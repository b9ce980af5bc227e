"""YAML as people write it: its traps are told by the line, with the mend; or are none any more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tlpot.ablation.sweep import load_sweep
from tlpot.cli.main import main
from tlpot.config.reading import dumped, read_yaml
from tlpot.config.run import load_config
from tlpot.errors import TlpotError
from tlpot.parallel.processes import read_yaml as read_cluster

DATA = "data: {files: a.xyz}\n"


@pytest.fixture
def config(tmp_path: Path) -> Any:
    """Reads a config from its text."""

    def read(text: str | bytes, *overrides: str) -> Any:
        path = tmp_path / "config.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_config(path, [*overrides])

    return read


def said(config: Any, text: str | bytes, *overrides: str) -> str:
    with pytest.raises(TlpotError) as caught:
        config(text, *overrides)
    return str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "data:\n  files: [x.traj@100:]\n",
        "data:\n  files: [x.traj@100:, y.traj]\n",
        "data:\n  files:\n  - x.traj@100:\n",
        "data:\n  files: x.traj@100:\n",
        "data:\n  files: {x.traj@100:}\n",
        "data: {files: a, groups: [{files: [x.traj@100:]}]}\n",
    ],
)
def test_an_open_slice_without_quotes_is_explained(config, text):
    """YAML makes a key of it, or a second colon."""
    assert "put it in quotes: 'x.traj@100:'" in said(config, text)


@pytest.mark.parametrize("override", ["data.files=x.traj@100:", "data.files=[x.traj@100:]"])
def test_an_open_slice_on_the_command_line_too(config, override):
    assert "put it in quotes: 'x.traj@100:'" in said(config, DATA, override)


@pytest.mark.parametrize("text", ["[x.traj@:100]", "[x.traj@::10]", "['x.traj@100:']", "x@-1"])
def test_slices_that_yaml_leaves_alone(config, text):
    assert (
        config(f"data: {{files: {text}}}\n").data.files
        == yaml.safe_load(f"[{text}]")[0 if text[0] == "[" else slice(None)]
    )


@pytest.mark.parametrize(
    ("text", "line", "mend"),
    [
        ("data:\n\tfiles: a\n", 2, "a tab stands where YAML wants blanks"),
        ("data:\n  files:\n\t- a\n", 3, "a tab stands where YAML wants blanks"),
        ("data: {files: [@x.traj]}\n", 1, "a value cannot begin with @: put it in quotes"),
        ("data:\n  files: `x`\n", 2, "a value cannot begin with `"),
        ("data:\n  files: %x\n", 2, "a value cannot begin with %"),
        ("data:\n  files: *.traj\n", 2, "put it in quotes, '*.traj'"),
        ("data:\n  files: [*traj]\n", 2, "put it in quotes, '*.traj'"),
        ("data:\n  files: !x\n", 2, "put it in quotes"),
        ("data: {files: &.x}\n", 1, "put it in quotes"),
        ('data:\n  files: "C:\\data\\x"\n', 2, "put it in single quotes, or write / for \\"),
        ('data:\n  files: "C:\\users\\x"\n', 2, "put it in single quotes, or write / for \\"),
        ('data:\n  files: "C:\\xtal\\x"\n', 2, "put it in single quotes, or write / for \\"),
        ('data:\n  files: "C:\\new\\table"\n', 2, "put it in single quotes, or write / for \\"),
        ("data: {files: a}\noutput: b: c\n", 2, "put it in quotes: 'b: c'"),
        (DATA + "training:\n  epochs:50\n  seed: 1\n", 3, "'epochs: 50'"),
        ("output:run\n" + DATA, 1, "'output: run'"),
        (DATA + "output: 'abc\n", 2, "a quote is opened and not closed"),
        ("data: {files: [a, b}\n", 1, "a bracket is opened and not closed"),
        ("data: {files: ['O'Brien.traj']}\n", 1, "within '…' write '' for an apostrophe"),
        ("data:\n   files: a\n  relaxed: true\n", 3, "must begin in the same column"),
        ("data:\n  files: - a\n", 2, "begin the list on a line of its own"),
        (DATA + "---\noutput: b\n", 2, "'---' begins a second document"),
        (DATA + "training:\n\u00a0\u00a0epochs: 3\n", 3, "U+00A0 looks like a blank and is none"),
        (DATA + "output: “runs/x”\n", 2, "typographic quotes"),
        (DATA + "output: >x\n", 2, "must stand in quotes"),
        (DATA + "data: {files: b}\n", 2, "'data' is given twice"),
        (DATA + "training: {epochs: 1, epochs: 2}\n", 2, "'epochs' is given twice"),
    ],
)
def test_what_yaml_cannot_read_is_told_by_line_and_mend(config, text, line, mend):
    message = said(config, text)
    assert "config.yaml is not valid YAML: line " in message
    assert mend in message
    assert f"line {line} (" in message or "---" in text, message
    assert "while scanning" not in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data: {files: [3]}\n", ["data.files.0", "put it in quotes: '3'"]),
        (DATA + "output: 2026\n", ["output", "put it in quotes: '2026'"]),
        (DATA + "training: {epochs: on}\n", ["training.epochs", "write a number, not true"]),
        (DATA + "training: {force_weight: 0,5}\n", ["in braces a comma parts", "decimal point"]),
        (DATA + "output: no\n", ["output", "YAML takes yes, no, on"]),
        (DATA + "label: {dispersion: off}\n", ["label.dispersion", "or write null for none"]),
        (DATA + "output:\n", ["output", "there is nothing behind its colon"]),
        (DATA + "model: {elements: {14: C}}\n", ["model.elements.14", "an element's symbol"]),
        (DATA + "model: {elements: {Si:C}}\n", ["model.elements.Si:C", "'Si: C'"]),
        (DATA + "model: {elements: {Si: off}}\n", ["model.elements.Si", "name a donor"]),
        (DATA + "training: {epochs:50}\n", ["epochs:50: unknown key", "'epochs: 50'"]),
        (DATA + "training:\n  epochs:50\n", ["training", "'epochs: 50'"]),
        (DATA + "training: epochs=50\n", ["training", "'epochs: 50'"]),
        (DATA + "training:\n  learning_rate: 0,001\n", ["a decimal point: 0.001"]),
        ("data: {files: a, groups: {files: b}}\n", ["data.groups", "put it in brackets"]),
        ("epochs = 3\n", ["found 'epochs = 3'; write 'key: value'"]),
        (DATA.encode() + "output: Köln\n".encode("latin-1"), ["save the file as UTF-8 text"]),
        ("# Übung\n".encode("latin-1") + DATA.encode(), ["save the file as UTF-8 text"]),
        (DATA + "model: mini\n", ["model: a section, with keys of its own below it (got 'mini')"]),
        ("data: [a.xyz]\n", ["data: a section, with keys"]),
        ("16 " + 900 * "x" + "\n", ["found '16 xxx", "xx'; write 'key: value'"]),
    ],
)
def test_what_yaml_reads_as_something_else_is_explained(config, text, words):
    message = said(config, text)
    for word in words:
        assert word in message


def test_numbers_and_keys_are_what_they_look_like(config, tmp_path):
    """Of YAML 1.2: PyYAML makes words of 1e-3, eight of 010, an hour of 01:00:00, a date of a
    folder's name, a falsehood of nobelium."""
    text = DATA + "output: 2026-11-29\ntraining: {seed: 010, epochs: 1e2, learning_rate: 1e-3}\n"
    text += "model: {elements: {No: C}}\nlabel: {engine: emt, parameters: {energy: 1e-6}}\n"
    read = config(text)
    assert read.output == "2026-11-29"
    assert (read.training.seed, read.training.epochs, read.training.learning_rate) == (
        10,
        100,
        1e-3,
    )
    assert list(read.model.elements) == ["No"]
    assert read.label.parameters == {"energy": 1e-6}
    assert config(DATA, "output=2026-11-29", "training.seed=010").training.seed == 10
    cluster = tmp_path / "slurm.yaml"
    cluster.write_text("walltime: 01:00:00\nmemory: 4GB\n")
    assert read_cluster(cluster, "cluster") == {"walltime": "01:00:00", "memory": "4GB"}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_file_may_come_from_any_editor(config, encoding):
    text = (DATA + "output: Köln\n").replace("\n", "\r\n").encode(encoding)
    assert config(text).output == "Köln"


def test_what_is_dumped_reads_back_here_and_elsewhere(tmp_path):
    words = ["1e5", "010", "09", "2026-11-29", "01:00:00", "no", "No", "@x", "x@1:", "C:\\new", "="]
    path = tmp_path / "words.yaml"
    path.write_text(dumped([*words, 1e-5, 10, None, True]))
    assert (
        read_yaml(path, "list")
        == yaml.safe_load(path.read_text())
        == [*words, 1e-5, 10, None, True]
    )


def test_every_reader_of_yaml_explains_alike(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("a.yaml").write_text("files: [*.cif]\n")
    with pytest.raises(TlpotError, match=r"put it in quotes, '\*\.traj'"):
        load_sweep("a.yaml")
    with pytest.raises(SystemExit):
        main(["rank", "a.yaml"])
    assert "put it in quotes, '*.traj'" in " ".join(capsys.readouterr().err.split())
    room = Path(__file__).parents[2] / "tlpot"
    own = [f.name for f in room.rglob("*.py") if "yaml.safe_" in f.read_text(encoding="utf-8")]
    assert own == []
