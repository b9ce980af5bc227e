import base64
import io
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from ase.build import molecule
from rich.console import Console

from tlpot.cli.show.potential import print_evaluation, print_summary
from tlpot.config.run import parse_config
from tlpot.data.fingerprints import overlap
from tlpot.evaluation import plots
from tlpot.evaluation.metrics import judge
from tlpot.evaluation.report import (
    lattice_error,
    write_report,
)
from tlpot.model.uncertainty import Calibration, Scale

EVIL = "<script>alert('x').traj"


@pytest.fixture
def manifest() -> dict:
    layers = [
        {"name": f"{element}.{layer}", "parameters": 1234, "trained": trained}
        for element in "HO"
        for layer, trained in (("input", 1000), ("output", 0))
    ]
    return {
        "versions": {"tlpot": "0.1.0", "torch": "2.9.0"},
        "data": {
            "files": [{"path": EVIL, "sha256": "0123456789abcdef" * 4, "frames": 13}],
            "checked": {"kept": 10, "rejected": {"repeats another frame": 3}},
        },
        "split": {"seed": 7, "train": [0, 1], "validation": [], "test": [2, 3, 4]},
        "hardware": {"cpu": "a CPU", "cores": 2, "device": "cpu"},
        "seconds": 3725.0,
        "trainable_parameters": {"total": 4936, "trainable": 2000, "layers": layers},
        "elements": {
            "Ge": {"from": "C", "as": "alias"},
            "Si": {"from": "C", "as": "clone"},
        },
        "energy_reference": {"kind": "per atom", "why": "one composition", "values_eV": {"H": -1}},
    }


@pytest.fixture
def report(tmp_path, frames, noisy, history, manifest):
    """Writes a report and gives back the page."""

    def write(judgement=None, figures=None) -> str:
        judgement = judgement or judge(noisy(0.2), noisy(0.002), {"test": frames, "train": frames})
        write_report(
            tmp_path / "report.html",
            config=parse_config({"data": {"files": [EVIL]}, "output": "runs/a 'b'"}),
            metrics={"seen_by_base": overlap([]) | {"moved_to_train": 0}, **judgement.metrics},
            manifest=manifest,
            history=history,
            figures=figures or {},
        )
        return (tmp_path / "report.html").read_text(encoding="utf-8")

    return write


def test_page_loads_nothing(report, frames, noisy, history):
    judgement = judge(noisy(0.2), noisy(0.002), {"test": frames})
    page = report(judgement, plots.figures(judgement, history))
    assert not re.search(r"https?://|@import|url\(|<script|<link|<iframe", page)
    sources = re.findall(r'src="([^"]+)"', page)
    assert len(sources) == 4
    for source in sources:
        kind, data = source.split(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(data).startswith(b"\x89PNG")


def test_page_escapes_what_users_name(report):
    page = report()
    assert "&lt;script&gt;alert(" in page


def test_page_has_the_key_numbers(report, frames, noisy):
    judgement = judge(noisy(0.2), noisy(0.002), {"test": frames, "train": frames})
    page = report(judgement)
    for model in ("baseline", "finetuned"):
        entry = judgement.metrics[model]["test"]
        for key in ("energy_rmse_meV_per_atom", "force_rmse_meV_per_A_vector"):
            assert plots.short(entry[key]) in page
    for text in ("ANI-2x, fine-tuned on CH₄, H₂O", "1 h 2 min", "repeats another frame", "seed 7",
                 "2,000 of", "1,000 of 1,234", "1,234 frozen", "one composition",
                 "best validation loss was at epoch 19 of 20", "Si is a clone of C",
                 "Ge is an alias of C", "0123456789abcdef…", "a CPU"):  # fmt: skip
        assert re.search(r"\s+".join(map(re.escape, text.split())), page), text


def test_snippet_is_python(report):
    page = report()
    snippet = re.search(r"<pre>(from ase.+?)</pre>", page, re.DOTALL)
    assert snippet is not None
    text = snippet[1].replace("&#34;", '"').replace("&#39;", "'")
    compile(text, "snippet", "exec")
    assert "runs/a 'b'/model.safetensors" in text


def test_page_without_test_frames_says_so(report, frames, noisy):
    page = report(judge(noisy(0.2), noisy(0.002), {"train": frames}))
    assert "No test frames were held out" in page
    assert "Breakdowns need test frames" in page
    assert "fine-tuned on &lt;script&gt;alert(" in page


def test_page_warns_when_training_made_it_worse(report, frames, noisy):
    page = report(judge(noisy(0.01), noisy(0.1), {"test": frames}))
    assert "made the energy RMSE worse" in page
    assert "<img" not in page


def test_lattice_error_is_per_molecule(frames, noisy):
    entry = judge(noisy(0.1), noisy(0.01), {"test": frames}).metrics["finetuned"]["test"]
    found = lattice_error(entry)
    centred = entry["by_system"]["H2O crystal"]["energy_rmse_centered_meV_per_atom"]
    assert found["system"] == "H2O crystal"
    assert found["per_molecule"] == pytest.approx(3 * centred * 0.0964853, rel=1e-5)
    assert found["difference"] == pytest.approx(math.sqrt(2) * found["per_molecule"])
    assert lattice_error({}) is None


def printed(show, what) -> str:
    console = Console(width=100, file=io.StringIO())
    show(what, console)
    return console.file.getvalue()


def test_summary_shows_before_and_after_for_parts_with_frames(frames, noisy):
    results = judge(noisy(0.2), noisy(0.02), {"test": frames}).metrics
    text = printed(print_summary, results)
    assert "test" in text
    assert "10 frames" in text
    assert "validation" not in text
    before, after = (
        plots.short(results[model]["test"]["force_rmse_meV_per_A_vector"]) for model in results
    )
    assert f"{before} → {after}" in text


def test_evaluation_shows_groups(frames, noisy):
    result = judge(noisy(0.2), noisy(0.02), {"test": frames}).metrics["finetuned"]["test"]
    text = printed(print_evaluation, result)
    for name in ("all", "crystal", "H2O molecule", "CH4 molecule", "O"):
        assert re.search(rf"^\s*{name}\s", text, re.MULTILINE)
    assert "spread is raw" in text


def test_evaluation_says_what_the_intervals_cover(frames, noisy):
    half = Scale(1.0, 1e9, 20)
    scaled = noisy(0.02, calibration=Calibration(half, half))
    result = judge(noisy(0.2), scaled, {"test": frames}).metrics["finetuned"]["test"]
    text = printed(print_evaluation, result)
    assert "90 % intervals of the model cover 100.0 % of the energies, 100.0 % of the" in text


def test_a_run_without_validation_has_no_best_epoch(report, history):
    for column in history:
        if column.startswith("validation"):
            history[column] = history[column] * np.nan
    assert "best validation loss" not in report()


def text_of(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", page))


@pytest.fixture
def lopsided(frames, noisy):
    """Crystals 30 meV/atom too high against molecules, and one frame far off."""
    judgement = judge(noisy(0.2), noisy(0.001), {"test": frames})
    guesses = judgement.predictions["finetuned"]["test"]
    for i, frame in enumerate(frames):
        offset = 0.03 * len(frame) * (frame.kind == "crystal") + 3.0 * (i == 2)
        guesses[i] = replace(guesses[i], energy=guesses[i].energy + offset)
    return judge(noisy(0.2), noisy(0.001), {"test": frames}, judgement.predictions)


def test_verdict_speaks_of_crystals_against_molecules_and_of_the_one_bad_frame(report, lopsided):
    text = text_of(report(lopsided))
    assert re.search(r"crystal of H₂O is on average [\d.]+ kJ/mol per molecule too high", text)
    assert re.search(r"meV/atom on 6 crystals and [\d.]+ meV/atom on 4 molecules", text)
    assert "One frame makes the error: without made-up.extxyz#2: energy RMSE" in text
    assert "The worst frames" in text


def test_terminal_says_the_same(frames, lopsided):
    text = printed(print_evaluation, lopsided.metrics["finetuned"]["test"])
    assert re.search(r"H2O +6 +2 +\d", text)
    assert re.search(r"made-up.extxyz#2 +\d", text)
    assert "One frame makes the error: without made-up.extxyz#2" in text


LONG = "/scratch/project_with_a_name/campaign-2026/" + "deep/" * 9 + "vasprun.xml.gz"


@pytest.mark.parametrize("labels", ["all", "energies"])
def test_page_fits_desk_phone_and_paper(
    report, lopsided, frames, noisy, history, tmp_path, look, labels
):
    changes = {"source": LONG} | ({"forces": None} if labels == "energies" else {})
    some = [replace(frame, **changes) for frame in frames]
    judgement = judge(noisy(0.2), noisy(0.01), {"test": some}, lopsided.predictions)
    page = report(judgement, plots.figures(judgement, history))
    assert page.count(LONG) >= 5
    seen = look(tmp_path / "report.html")
    assert seen.complaints == []
    assert set(seen.overflow.values()) == {0}
    assert seen.sheets <= 8


def test_page_says_to_train_longer_where_the_best_epoch_is_the_last(report, history):
    assert "Train longer" not in report()
    history["validation_loss"][-1] = 0.01
    assert "Train longer: with --resume and training.epochs above 20" in text_of(report())


def test_cards_columns_and_tables_of_nothing_are_left_out(report, frames, noisy):
    """Energies alone, of one crystal: no force, no group of one, no row or column of dashes."""
    bare = [replace(frame, forces=None) for frame in frames[:6]]
    guesses = noisy(0.01).predict(frames)[:6]
    predictions = {model: {"test": guesses} for model in ("baseline", "finetuned")}
    judgement = judge(noisy(0.0), noisy(0.0), {"test": bare}, predictions)
    page = report(judgement)
    assert re.findall(r'<div class="card">([^<]+)<b>', page) == [
        "Energy RMSE",
        "Energy RMSE, centred",
    ]
    assert "By system" not in page
    assert "By frame size" in page
    trust = page.split("Can the spread be trusted?")[1].split("Where the errors are")[0]
    assert "force components" not in trust
    assert not re.search(r"<td[^>]*>–", page)


def test_page_without_test_frames_has_no_empty_table(report, frames, noisy):
    page = report(judge(noisy(0.2), noisy(0.002), {"train": frames}))
    trust = page.split("Can the spread be trusted?")[1].split("Where the errors are")[0]
    assert "<table" not in trust


def test_benzene_is_no_ch(frames, noisy, report):
    benzene = [replace(f, atoms=molecule("C6H6"), forces=np.zeros((12, 3))) for f in frames[:3]]
    judgement = judge(noisy(0.2), noisy(0.01), {"test": benzene})
    assert list(judgement.metrics["finetuned"]["test"]["by_system"]) == ["C6H6 molecule"]
    assert "fine-tuned on C₆H₆" in report(judgement)
