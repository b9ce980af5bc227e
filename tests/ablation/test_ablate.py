"""Sweeps that really train, in real processes."""

import csv
import time
from pathlib import Path
from statistics import fmean, stdev

import pytest
import yaml
from forked import begin, command

from tlpot.ablation.run import ablate
from tlpot.ablation.sweep import parse_sweep
from tlpot.errors import TlpotError
from tlpot.finetuning.run import finetune

ERROR = "force_rmse_meV_per_A_component"


def make(settings, output: Path, **given):
    return parse_sweep({"base": settings, "output": str(output), **given})


def stamps(folder: Path) -> dict[str, int]:
    return {p.parent.name: p.stat().st_mtime_ns for p in folder.glob("points/*/metrics.json")}


@pytest.fixture(scope="module")
def swept(tmp_path_factory, labelled, write_frames, base_model):
    folder = tmp_path_factory.mktemp("sweep")
    data = write_frames(folder / "data.extxyz", labelled(12))
    settings = {
        "data": {"files": [str(data)]},
        "model": {"base": str(base_model)},
        "training": {"epochs": 2, "fit": "mean"},
    }
    axes = {
        "training.lambda": [0.1, 0.9],
        "limit": {"usual": {}, "absurd": {"data.max_force": 1e-6}},
    }
    sweep = make(settings, folder / "out", axes=axes, seeds=[0, 1], workers=2)
    seen = []
    outcomes = ablate(sweep, lambda done, total: seen.append((len(done), total)))
    return sweep, outcomes, seen


def test_points_finish_or_fail_by_themselves(swept):
    sweep, outcomes, seen = swept
    assert [o.point.labels["limit"] for o in outcomes] == (["usual"] * 2 + ["absurd"] * 2) * 2
    for outcome in outcomes:
        failed = outcome.point.labels["limit"] == "absurd"
        assert ("force too large" in (outcome.reason or "")) == failed
        assert (outcome.metrics is None) == failed
    assert seen == [(i, 8) for i in range(9)]
    folders = [Path(sweep.output) / "points" / o.point.name for o in outcomes if o.metrics]
    assert all((folder / "report.html").exists() for folder in folders)
    assert not any((folder / "model.safetensors").exists() for folder in folders)


def test_the_csv_has_a_row_a_point_and_the_table_its_means(swept):
    sweep, outcomes, _ = swept
    with open(Path(sweep.output) / "points.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == (["done"] * 2 + ["failed"] * 2) * 2
    good = [row for row in rows if row["training.lambda"] == "0.1" and row["status"] == "done"]
    found = [float(row[f"finetuned_{ERROR}"]) for row in good]
    assert found == [o.metrics["finetuned"]["test"][ERROR] for o in outcomes[:2]]
    table = (Path(sweep.output) / "table.md").read_text()
    (line,) = [x for x in table.splitlines() if x.startswith("| 0.1 | usual")]
    mean, spread = line.split("|")[4].split("±")
    assert float(mean) == pytest.approx(fmean(found), abs=0.1 * stdev(found) + 0.05)
    assert float(spread) == pytest.approx(stdev(found), rel=0.1, abs=0.05)
    assert "4 of 8 points failed" in table
    for axis in sweep.axes:
        assert (Path(sweep.output) / f"by-{axis}.png").read_bytes()[:4] == b"\x89PNG"


def test_what_a_point_gives_is_what_finetune_gives(swept, tmp_path):
    _, outcomes, _ = swept
    config = outcomes[0].point.config.model_copy(update={"output": str(tmp_path / "alone")})
    alone = finetune(config)
    expected = alone.metrics["finetuned"]["test"][ERROR]
    assert outcomes[0].metrics["finetuned"]["test"][ERROR] == pytest.approx(expected, rel=1e-4)


@pytest.mark.usefixtures("no_workers")
def test_finished_points_are_not_run_again(swept):
    sweep, outcomes, _ = swept
    before = stamps(Path(sweep.output))
    again = ablate(sweep)
    assert stamps(Path(sweep.output)) == before
    assert [o.metrics for o in again] == [o.metrics for o in outcomes]


@pytest.mark.usefixtures("no_workers")
def test_points_known_from_elsewhere_are_not_run(swept, tmp_path):
    sweep, outcomes, _ = swept
    elsewhere = sweep.model_copy(update={"output": str(tmp_path / "other")})
    known = [o for o in outcomes if o.metrics]
    again = ablate(elsewhere, outcomes=known)
    assert [o.point.name for o in again] == [o.point.name for o in outcomes]
    assert [o.metrics for o in again] == [o.metrics for o in outcomes]
    assert not stamps(tmp_path / "other")


@pytest.mark.usefixtures("no_workers")
def test_a_point_that_an_earlier_version_finished_is_not_run_again(settings, tmp_path):
    sweep = make(settings, tmp_path / "out")
    (outcome,) = ablate(sweep)
    folder = tmp_path / "out" / "points" / outcome.point.name
    stored = yaml.safe_load((folder / "config.yaml").read_text())
    del stored["training"]["huber"]
    (folder / "config.yaml").write_text(yaml.safe_dump(stored))
    folder.rename(folder.with_name("0123456789ab"))
    before = stamps(tmp_path / "out")
    (again,) = ablate(sweep)
    assert stamps(tmp_path / "out") == before
    assert again.metrics == outcome.metrics


@pytest.mark.usefixtures("no_workers")
def test_changed_data_do_not_mix_with_finished_points(settings, tmp_path):
    sweep = make(settings, tmp_path / "out")
    ablate(sweep)
    data = Path(settings["data"]["files"][0])
    data.write_text(data.read_text() + "\n")
    with pytest.raises(TlpotError, match="changed since point"):
        ablate(sweep)


def test_a_killed_sweep_is_taken_up(settings, tmp_path):
    settings["training"]["epochs"] = 12
    values = {"base": settings, "seeds": [0, 1, 2], "output": str(tmp_path / "out")}
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump(values))
    process = begin("ablate", path)
    while not (tmp_path / "out" / "points.csv").exists():
        assert process.is_alive(), process.ended()
        time.sleep(0.05)
    process.kill()
    process.ended()
    time.sleep(1.0)  # its worker finds itself alone
    with (tmp_path / "out" / "points.csv").open(newline="") as file:
        finished = [row["point"] for row in csv.DictReader(file)]
    before = stamps(tmp_path / "out")
    done = command("ablate", path)
    assert done.code == 0, done.err
    after = stamps(tmp_path / "out")
    assert 0 < len(finished) < 3 == len(after)
    assert all(after[name] == before[name] for name in finished)
    assert "points.csv" in done.out
