"""A training is seen while it runs: on a bar in a terminal, line by line in a pipe."""

import os
import pty
import re
import struct
import subprocess
import sys
import termios
from fcntl import ioctl
from pathlib import Path

import pytest
import yaml
from forked import command
from rich.cells import cell_len
from rich.console import Console

from tlpot.cli.main import main
from tlpot.cli.training import TrainingDisplay

EPOCH = r"epoch {}/{} · \d+:\d\d:\d\d left · loss \d\S* · validation \S[^·\n]*"


def written(path: Path, values: dict) -> Path:
    path.write_text(yaml.safe_dump(values))
    return path


def test_a_pipe_gets_a_line_an_epoch(settings, tmp_path):
    """In a process started anew, also where colours are forced, as in CI."""
    settings["training"]["epochs"] = 3
    config = written(tmp_path / "config.yaml", settings)
    forced = os.environ | {"FORCE_COLOR": "1", "TTY_COMPATIBLE": "1"}
    words = [sys.executable, "-m", "tlpot", "finetune", str(config)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=forced)
    lines = [line for line in done.stderr.splitlines() if line.startswith("epoch ")]
    for i, line in enumerate(lines, 1):
        assert re.fullmatch(EPOCH.format(i, 3), line), line
    assert len(lines) == 3
    assert "meV/atom" in lines[0]
    assert "meV/Å" in lines[0]
    assert "0:00:00 left" in lines[-1]


@pytest.mark.parametrize("verb", ["property", "xrd"])
def test_so_do_the_other_trainings(metals, tmp_path, capsys, verb):
    if verb == "xrd":
        pytest.importorskip("spglib")
    files = metals / "id_prop.csv" if verb == "property" else metals
    model = {"width": 8, "convolutions": 1, "dense": 8} if verb == "property" else {"dense": [8]}
    values = {
        "data": {"files": str(files), "split": {"test": 0.2, "validation": 0.2}},
        "model": model,
        "training": {"epochs": 2, "device": "cpu"},
        "output": str(tmp_path / "out"),
    }
    with pytest.raises(SystemExit) as end:
        main([verb, "train", str(written(tmp_path / "config.yaml", values))])
    assert not end.value.code
    error = capsys.readouterr().err
    for i in (1, 2):
        assert re.search(EPOCH.format(i, 2), error), error


def test_a_sweep_tells_of_each_epoch_of_each_point(settings, tmp_path):
    settings["training"]["epochs"] = 2
    sweep = {
        "base": settings,
        "output": str(tmp_path / "out"),
        "axes": {"training.lambda": [0.1, 0.9]},
    }
    done = command("ablate", written(tmp_path / "sweep.yaml", sweep))
    assert done.code == 0, done.err
    for share in (0.1, 0.9):
        for i in (1, 2):
            line = rf"training\.lambda={share}, seed 0 · " + EPOCH.format(i, 2)
            assert len(re.findall(line, done.err)) == 1, done.err
    assert re.search(r"point 2/2 · (.* · )?training\.lambda=0\.9, seed 0\n", done.err)


def test_a_terminal_shows_epoch_loss_and_time_whole(settings, tmp_path):
    config = written(tmp_path / "config.yaml", settings)
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR")}
    environment["TERM"] = "xterm"
    words = [sys.executable, "-m", "tlpot", "finetune", str(config)]
    with subprocess.Popen(words, stderr=theirs, stdout=theirs, env=environment) as process:
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 4096):
                shown += part
        except OSError:  # the other end is closed
            pass
    assert process.returncode == 0
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    bars = [line for line in re.split(r"[\r\n]+", plain) if re.match(r"epoch\s+\d+/", line)]
    whole = r"epoch 2/2 [━╸╺ ]+ 0:00:00 left loss \d\S* · validation \d\S* meV/atom, .*"
    assert re.fullmatch(whole, bars[-1]), bars
    assert all(cell_len(bar.rstrip()) <= 80 for bar in bars)
    assert not re.search(r"epoch \d/\d ·", plain), "both a bar and lines"


@pytest.mark.parametrize("epochs", [9, 150, 2000])
def test_long_numbers_fit_into_80_columns(epochs):
    """The bar itself, drawn in 80 columns with numbers as they come."""
    console = Console(width=80, force_terminal=True, color_system=None, record=True)
    display = TrainingDisplay(epochs, lambda prepared, console: None, console)
    display.disable = False
    display.update(display.task, visible=True)
    row = {
        "epoch": epochs - 1,
        "seconds": 3600.0 * epochs,
        "train_loss": 0.0001234,
        "validation_energy_rmse_meV_per_atom": 12.3456,
        "validation_force_rmse_meV_per_A_component": 345.6,
        "validation_loss": 0.0002345,
    }
    display.on_epoch(row)
    with console.capture() as capture:
        console.print(display.get_renderable())
    (line,) = capture.get().splitlines()
    for words in (f"epoch {epochs - 1}/{epochs} ", "loss 0.000123 · validation"):
        assert words in line, line
    assert re.search(r" 1:0\d:\d\d left ", line), line
