"""Every study answers --help, its page is what its committed results say, and one runs."""

from __future__ import annotations

import json
import runpy
import shutil
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
EVIDENCE = ROOT / "docs" / "evidence"
SCRIPTS = sorted(path for path in ROOT.glob("benchmarks/*/*.py") if "__main__" in path.read_text())
STUDIES = [path for path in SCRIPTS if "STUDY.main(" in path.read_text()]
UNMEASURED = {"gpu"}
"""Studies that wait for a machine, or for hours of one."""


def name(path: Path) -> str:
    return path.stem


@pytest.fixture
def as_script(monkeypatch: pytest.MonkeyPatch):
    """Run a script as `python script …` does: its folder on the path, nothing of ours imported."""

    def run(script: Path, *words: str) -> None:
        monkeypatch.chdir(ROOT)
        monkeypatch.setattr(sys, "argv", [str(script), *words])
        elsewhere = [p for p in sys.path if Path(p or ".").resolve() != ROOT]
        monkeypatch.setattr(sys, "path", [str(script.parent), *elsewhere])
        for module in [m for m in sys.modules if m.partition(".")[0] == "benchmarks"]:
            monkeypatch.delitem(sys.modules, module)
        runpy.run_path(str(script), run_name="__main__")

    return run


def test_studies_are_found() -> None:
    assert len(STUDIES) > 8
    assert len({path.stem for path in SCRIPTS}) == len(SCRIPTS), "`make bench-NAME` is one script"


@pytest.mark.parametrize("script", SCRIPTS, ids=name)
def test_help(script: Path, as_script, monkeypatch, capsys) -> None:
    monkeypatch.delenv("TLPOT_DATA", raising=False)
    with pytest.raises(SystemExit) as stopped:
        as_script(script, "--help")
    assert not stopped.value.code
    assert "usage:" in capsys.readouterr().out


@pytest.mark.parametrize("script", STUDIES, ids=name)
def test_pages_are_what_the_committed_results_say(script: Path, as_script, tmp_path) -> None:
    shutil.copytree(RESULTS, tmp_path / "results")
    as_script(script, "--page", "--results", str(tmp_path / "results"))
    made = list(tmp_path.glob("results/**/*.md"))
    assert bool(made) == (script.stem not in UNMEASURED)
    for page in made:
        assert page.read_text() == (EVIDENCE / page.relative_to(tmp_path / "results")).read_text()


def test_every_result_has_its_page_with_date_commit_and_recipe(monkeypatch) -> None:
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks.lib.page import origin

    for path in RESULTS.glob("**/*.json"):
        page = (EVIDENCE / path.relative_to(RESULTS)).with_suffix(".md").read_text()
        assert page.splitlines()[2] == origin(json.loads(path.read_text())), path
        assert "load average when the run began" in page, path


def test_every_page_is_made_by_a_study_or_belongs_to_a_settled_one() -> None:
    named = "".join(path.read_text() for path in STUDIES)
    for path in RESULTS.glob("**/*.json"):
        settled = path.parent.name == "answered"
        assert settled or path.stem in named or path.stem in {p.stem for p in STUDIES}, path
    assert not list(RESULTS.glob("**/*.md"))


def test_a_study_in_a_minute(as_script, tmp_path) -> None:
    """`mini` on the bundled urea frames, thesis preset against default, then none of it again."""
    script = ROOT / "benchmarks/accuracy/crystals.py"
    words = ["--seeds", "0", "--epochs", "1", "--train-fraction", "0.2"]
    words += ["--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    subprocess.run([sys.executable, script, *words], cwd=ROOT, check=True, capture_output=True)
    results = json.loads((tmp_path / "results/reduced/crystals.json").read_text())
    errors = {p["recipe"]: p["finetuned_force_rmse_meV_per_A_component"] for p in results["points"]}
    untouched = results["points"][0]["baseline_force_rmse_meV_per_A_component"]
    assert set(errors) == {"default", "thesis"}
    assert all(0 < error < untouched for error in errors.values())
    page = (tmp_path / "results/reduced/crystals.md").read_text()
    assert "mini on urea/urea.extxyz; 11 training and 16 test frames; 1 epochs; seeds 0" in page
    assert (tmp_path / "results/reduced/crystals.png").stat().st_size > 0
    as_script(script, *words, "--have-only")
    again = json.loads((tmp_path / "results/reduced/crystals.json").read_text())
    seconds = [[p["seconds"] for p in found["points"]] for found in (results, again)]
    assert seconds[0] == seconds[1]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_there_is_nothing_to_measure(as_script, tmp_path, capsys) -> None:
    with pytest.raises(SystemExit) as stopped:
        as_script(ROOT / "benchmarks/speed/gpu.py", "--results", str(tmp_path))
    assert stopped.value.code == 2
    assert "no CUDA device here" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_a_part_that_fails_costs_itself_alone(monkeypatch, tmp_path) -> None:
    """It dies, hangs with a child, or breaks what it returns; the next one is measured."""
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks.lib.machine import machine
    from benchmarks.speed import gpu

    def python(code: str):
        return lambda part: {"summary": part.run([sys.executable, "-c", code]).strip()}

    child = "import subprocess; subprocess.run(['sleep', '60'])"
    parts = {
        "dies": (python("raise SystemExit('no luck today')"), 60.0),
        "hangs": (python(child), 0.5),
        "breaks": (lambda part: {}["nothing"], 60.0),
        "works": (python("print('well done')"), 60.0),
    }
    monkeypatch.setattr(gpu, "PARTS", parts)
    *_, results = gpu.measure(Namespace(device="cpu", quick=True, slack=1.0))
    passed = {name: part["passed"] for name, part in results["parts"].items()}
    assert passed == {"dies": False, "hangs": False, "breaks": False, "works": True}
    assert results["parts"]["hangs"]["wall_s"] < 30
    page = gpu.page(results | {"machine": machine()})
    for words in ("no luck today", "its time was over", "nothing", "well done"):
        assert words in page


def test_points_of_committed_sweeps_are_known_again(monkeypatch) -> None:
    """Else the whole of a sweep would be trained anew, and its page forget what it has."""
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks.lib.sweep import by_settings

    for name in ("crystals", "ablation_data", "ablation_recipe"):
        results = json.loads((RESULTS / f"{name}.json").read_text())
        finished = [row for row in results["points"] if row["status"] == "done"]
        assert len(by_settings(results)) == len(finished) > 0, name


ORIGINALS = [path for path in STUDIES if path.parent.name == "originals"]


@pytest.mark.parametrize("script", ORIGINALS, ids=name)
def test_committed_answers_are_taken_where_nothing_else_is_kept(script, as_script, tmp_path):
    """Else another machine would train for hours what is known, and forget what it had not."""
    results = tmp_path / f"results/{script.stem}.json"
    shutil.copytree(RESULTS, results.parent)
    words = ["--have-only", "--results", str(results.parent), "--runs", str(tmp_path / "runs")]
    as_script(script, *words)
    assert results.exists() == (script.stem not in UNMEASURED)
    if results.exists():
        committed = json.loads((RESULTS / results.name).read_text())
        assert json.loads(results.read_text())["runs"] == committed["runs"]


def test_a_study_that_is_stopped_forgets_no_committed_answer(monkeypatch, tmp_path) -> None:
    """What comes after the first that is missing is there before that is worked out."""
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks.lib.study import Study

    study = Study(str(tmp_path / "count.py"), None, lambda results: "", have_only=True)
    given = Namespace(results=tmp_path, runs=tmp_path / "runs", name="count", have_only=False)
    committed = {"epochs": 2, "runs": [{"seed": 0}, {"seed": 2}]}
    (tmp_path / "count.json").write_text(json.dumps(committed))
    wanted = {str(s): ({"seed": s}, lambda s=s: {"seed": s, "new": True}) for s in range(3)}
    seen = [
        [row["seed"] for row in found["runs"]]
        for found in study.answers(given, {"epochs": 2}, wanted)
    ]
    assert seen == [[0, 2], [0, 1, 2]]
    assert all(row["new"] for row in list(study.answers(given, {"epochs": 3}, wanted))[-1]["runs"])
