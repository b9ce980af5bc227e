"""The run folder: its contract, its figures, and what becomes of it after a kill."""

import csv
import importlib.metadata
import json
import os
import signal
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from forked import Forked, begin
from safetensors.torch import load_file

import tlpot
from tlpot import finetune, load
from tlpot.backbones.aev import COMPONENTS, FINE
from tlpot.config.run import load_config, parse_config
from tlpot.errors import TlpotError, TlpotWarning
from tlpot.evaluation.metrics import evaluate
from tlpot.finetuning.manifest import own_part
from tlpot.finetuning.prepare import prepare
from tlpot.training.parallel import Team
from tlpot.training.run_folder import choose_device

FILES = {
    "config.yaml",
    "model.safetensors",
    "history.csv",
    "metrics.json",
    "parity.png",
    "report.html",
    "manifest.json",
    "run.log",
    "last.pt",
}
METRICS = {
    "energy_rmse_meV_per_atom",
    "energy_rmse_centered_meV_per_atom",
    "force_rmse_meV_per_A_component",
    "force_rmse_meV_per_A_vector",
    "n_frames",
    "n_atoms",
}


def read_json(path: Path) -> dict:
    return json.loads(path.read_text(), parse_constant=pytest.fail)


def history(folder: Path) -> list[dict]:
    """Rows of history.csv without the seconds."""
    with (folder / "history.csv").open() as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def test_folder_holds_what_the_contract_names(finished):
    assert {file.name for file in finished.folder.iterdir()} == FILES
    assert (finished.folder / "parity.png").read_bytes().startswith(b"\x89PNG")
    assert "<html" in (finished.folder / "report.html").read_text()
    assert len(history(finished.folder)) == 15


def test_config_is_resolved(finished):
    stored = load_config(finished.folder / "config.yaml")
    values = yaml.safe_load((finished.folder / "config.yaml").read_text())
    assert stored.training.epochs == 15
    assert values["training"]["lambda"] == stored.training.force_share
    assert values["training"]["fit"] == "mean"
    assert values["data"]["split"]["seed"] == 0


def test_metrics_of_both_models_on_every_part(finished):
    metrics = read_json(finished.folder / "metrics.json")
    assert metrics == json.loads(json.dumps(finished.metrics))
    for model in ("baseline", "finetuned"):
        for part, n_frames in {"test": 4, "validation": 3, "train": 9}.items():
            found = metrics[model][part]
            assert set(found) >= METRICS
            assert found["n_frames"] == n_frames
            assert all(found[name] is not None for name in METRICS)
    before, after = metrics["baseline"]["train"], metrics["finetuned"]["train"]
    name = "force_rmse_meV_per_A_vector"
    assert after[name] < 0.95 * before[name]


def test_the_saved_model_is_the_one_that_was_judged(finished):
    config = load_config(finished.folder / "config.yaml")
    frames = tlpot.read_frames(config.data.files)
    test = [frames[i] for i in read_json(finished.folder / "manifest.json")["split"]["test"]]
    found = evaluate(tlpot.load(finished.folder), test)
    stored = read_json(finished.folder / "metrics.json")["finetuned"]["test"]
    for name in METRICS:
        assert found[name] == pytest.approx(stored[name], rel=1e-6), name


def test_manifest(finished):
    manifest = read_json(finished.folder / "manifest.json")
    for package in ("tlpot", "torch", "torchani", "ase"):
        assert manifest["versions"][package] == importlib.metadata.version(package)
    (file,) = manifest["data"]["files"]
    assert file["frames"] == 16
    assert len(file["sha256"]) == 64
    split = manifest["split"]
    indices = [split[part] for part in ("train", "validation", "test")]
    assert sorted(i for part in indices for i in part) == list(range(16))
    assert manifest["hardware"]["device"] == "cpu"
    assert manifest["seconds"] > 0
    assert manifest["elements"] == {}
    assert manifest["energy_reference"]["kind"] == "minimum norm"
    assert set(manifest["energy_reference"]["values_eV"]) == {"H", "C", "N", "O"}
    counted = manifest["trainable_parameters"]
    weights = load_file(finished.folder / "model.safetensors")
    assert counted["total"] == sum(w.numel() for w in weights.values())
    frozen = sum(w.numel() for name, w in weights.items() if ".output." in name)
    assert counted["total"] - counted["trainable"] == frozen > 0


def test_the_manifest_names_the_frames_that_were_held_out(settings, labelled, write_frames):
    frames = labelled(12)
    write_frames(Path(settings["data"]["files"][0]), [frames[0], *frames])
    settings["data"]["max_frames"] = 10
    prepared = prepare(parse_config(settings))
    manifest = own_part(prepared)
    for part, names in manifest["split_frames"].items():
        assert names == [frame.name for frame in prepared.parts[part]]
    read = tlpot.read_frames(settings["data"]["files"])
    by_name = {frame.name: frame for frame in read}
    for name, frame in zip(manifest["split_frames"]["test"], prepared.parts["test"], strict=True):
        assert by_name[name].energy == frame.energy


def test_the_model_keeps_its_history_and_its_frozen_layers(finished, base_model):
    model = tlpot.load(finished.folder)
    assert model.metadata["training"]["training"]["epochs"] == 15
    assert model.metadata["versions"]["torch"]
    assert model.metadata["test"]["n_frames"] == 4
    start, end = load_file(base_model), load_file(finished.folder / "model.safetensors")
    assert set(start) == set(end)
    for name, tensor in end.items():
        assert torch.equal(tensor, start[name]) == (".output." in name), name


def test_the_energy_reference_knows_nothing_of_the_test_frames(settings):
    config = parse_config(settings)
    prepared = prepare(config)
    part = prepared.parts["train"]
    network = [p.energy for p in prepared.base.predict(part)]
    errors = [(e - f.energy) / len(f) for e, f in zip(network, part, strict=True)]
    assert abs(sum(errors)) < 1e-6
    held_out = prepared.parts["test"] + prepared.parts["validation"]
    network = [p.energy for p in prepared.base.predict(held_out)]
    errors = [(e - f.energy) / len(f) for e, f in zip(network, held_out, strict=True)]
    assert abs(sum(errors)) > 1e-4


def test_the_same_config_gives_the_same_model(finished, tmp_path):
    config = load_config(finished.folder / "config.yaml")
    again = tlpot.finetune(config.model_copy(update={"output": str(tmp_path / "again")}))
    a, b = (load_file(run.folder / "model.safetensors") for run in (finished, again))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert history(finished.folder) == history(again.folder)


@pytest.mark.parametrize(
    ("test", "validation"), [(0.0, 0.0), (0.25, 0.0), (0.0, 0.25)], ids=["none", "test", "valid"]
)
def test_a_share_of_zero_leaves_that_part_out(settings, test, validation):
    settings["data"]["split"] = {"test": test, "validation": validation}
    settings["training"]["epochs"] = 1
    run = tlpot.finetune(settings)
    assert {file.name for file in run.folder.iterdir()} == FILES
    for part, share in {"test": test, "validation": validation}.items():
        found = read_json(run.folder / "metrics.json")["finetuned"][part]
        assert found["n_frames"] == 16 * share
        assert (found["energy_rmse_meV_per_atom"] is None) == (share == 0)


@pytest.mark.parametrize(
    "change",
    [
        {"training": {"preset": "thesis", "epochs": 1}},
        {"model": {"init": "scratch"}, "data": {"max_frames": 8}},
        {"training": {"stress_weight": 0.5, "fit": "mean", "epochs": 1}},
    ],
    ids=str,
)
def test_options_run_to_the_end(settings, change):
    for section, values in change.items():
        settings[section] |= values
    run = tlpot.finetune(settings)
    assert {file.name for file in run.folder.iterdir()} == FILES
    assert run.metrics["finetuned"]["test"]["energy_rmse_meV_per_atom"] > 0


def test_a_stand_in_is_trained_and_used(settings, labelled, write_frames):
    frames = labelled(16)
    for frame in frames:
        frame.atoms.symbols[frame.atoms.symbols == "C"] = "Si"
    write_frames(Path(settings["data"]["files"][0]), frames)
    settings["model"] |= {"elements": {"Si": "C"}, "freeze": []}
    run = tlpot.finetune(settings)
    model = tlpot.load(run.folder)
    assert model.backbone.donors == {"Si": "C"}
    elements = read_json(run.folder / "manifest.json")["elements"]
    assert elements == {"Si": {"from": "C", "as": "alias"}}
    silicon = next(f.atoms for f in frames if "Si" in f.atoms.symbols)
    carbon = silicon.copy()
    carbon.symbols[carbon.symbols == "Si"] = "C"
    a, b = model.predict([silicon, carbon])
    own = model.reference.values["Si"] - model.reference.values["C"]
    assert a.energy - b.energy == pytest.approx(2 * own, abs=1e-5)
    assert abs(own) > 1e-3


def test_a_fine_tuned_model_is_a_base_too(settings, finished):
    settings["model"]["base"] = str(finished.folder)
    settings["training"]["epochs"] = 1
    run = tlpot.finetune(settings)
    before = run.metrics["baseline"]["train"]["force_rmse_meV_per_A_component"]
    reached = finished.metrics["finetuned"]["train"]["force_rmse_meV_per_A_component"]
    assert before == pytest.approx(reached, rel=1e-3)


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": {"files": ["none.xyz"]}}, "none.xyz"),
        ({"model": {"base": "ani9"}}, "ani9"),
        ({"model": {"freeze": ["inptu"]}}, "did you mean 'input'"),
        ({"model": {"elements": {"Si": "Ge"}}}, "donor Ge"),
        ({"training": {"device": "cuda:99"}}, r"training\.device"),
        ({"training": {"device": "abacus"}}, r"training\.device"),
        ({"data": {"split": {"group": "weather"}}}, "weather"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(settings, change, message):
    for section, values in change.items():
        settings[section] |= values
    with pytest.raises(TlpotError, match=message):
        tlpot.finetune(settings)
    assert not Path(settings["output"]).exists()


def test_labels_in_another_unit_are_refused(settings, labelled, write_frames):
    frames = [replace(f, forces=f.forces / 27.2114, stress=None) for f in labelled(16)]
    write_frames(Path(settings["data"]["files"][0]), frames)
    with pytest.raises(TlpotError, match="the forces are"):
        tlpot.finetune(settings)
    settings["model"]["init"] = "scratch"
    tlpot.finetune(settings)


def test_a_run_is_never_overwritten(finished, settings):
    settings["output"] = str(finished.folder)
    before = {file.name: file.read_bytes() for file in finished.folder.iterdir()}
    with pytest.raises(TlpotError, match="already holds a run"):
        tlpot.finetune(settings)
    config = load_config(finished.folder / "config.yaml")
    with pytest.raises(TlpotError, match="nothing to resume"):
        tlpot.finetune(config, resume=True)
    assert {file.name: file.read_bytes() for file in finished.folder.iterdir()} == before


@pytest.mark.parametrize("name", ["model.safetensors", "config.yaml", "report.html"])
def test_files_of_something_else_are_not_overwritten(settings, name):
    mine = Path(settings["output"]) / name
    mine.parent.mkdir()
    mine.write_text("mine")
    with pytest.raises(TlpotError, match=f"holds {name} of something else"):
        tlpot.finetune(settings)
    assert mine.read_text() == "mine"


def test_a_run_without_an_epoch_may_be_replaced(settings):
    def stop(prepared) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tlpot.finetune(settings, on_start=stop)
    settings["training"]["learning_rate"] = 3e-4
    assert tlpot.finetune(settings).metrics


def test_output_that_is_a_file_is_refused(settings, tmp_path):
    settings["output"] = settings["data"]["files"][0]
    with pytest.raises(TlpotError, match="is a file"):
        tlpot.finetune(settings)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_output_that_is_not_ours_is_refused(settings, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(TlpotError, match=r"output: .*cannot be made"):
        tlpot.finetune(settings)


def test_output_below_a_file_is_refused(settings):
    settings["output"] = settings["data"]["files"][0] + "/run"
    with pytest.raises(TlpotError, match=r"output: .*cannot be made"):
        tlpot.finetune(settings)


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_is_one_processes_at_a_time(settings, resume):
    """A second process, real: it is refused while the first trains, and has touched nothing."""
    ends = []

    def intrude(row: dict) -> None:
        ends.append(Forked(partial(tlpot.finetune, settings, resume=resume)).ended())

    settings["training"]["epochs"] = 1
    tlpot.finetune(settings, on_epoch=intrude)
    assert "another process is at work" in ends[0].err


def test_without_tensorboard_its_option_is_refused(settings, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    settings["training"]["tensorboard"] = True
    with pytest.raises(TlpotError, match=r"training\.tensorboard.*pip install"):
        tlpot.finetune(settings)


def test_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto", Team()) == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto", Team()) == torch.device("cuda", 0)
    assert choose_device("cpu", Team()) == torch.device("cpu")


# --- stopping and resuming -----------------------------------------------------------------------


def interrupt(row: dict) -> None:
    raise KeyboardInterrupt


@pytest.fixture
def stopped(settings) -> dict:
    """Settings of a run that was stopped after its first epoch."""
    with pytest.raises(KeyboardInterrupt):
        tlpot.finetune(settings, on_epoch=interrupt)
    return settings


def test_resume_needs_the_same_config(stopped):
    stopped["training"]["learning_rate"] = 3e-4
    says = r"differs from this config \(training\.learning_rate: .* → 0\.0003\)"
    with pytest.raises(TlpotError, match=says):
        tlpot.finetune(stopped, resume=True)


def test_a_stopped_run_goes_on_where_its_folder_was_moved_to(stopped, tmp_path):
    moved = Path(stopped["output"]).rename(tmp_path / "moved")
    run = tlpot.finetune(stopped | {"output": str(moved)}, resume=True)
    assert (run.folder, len(history(moved))) == (moved, stopped["training"]["epochs"])


def test_resume_needs_the_same_data(stopped, labelled, write_frames):
    write_frames(Path(stopped["data"]["files"][0]), labelled(17)[1:])
    with pytest.raises(TlpotError, match="data files changed"):
        tlpot.finetune(stopped, resume=True)


@pytest.mark.parametrize("which", ["base", "replayed files"])
def test_resume_needs_the_same_base_and_replay(settings, tmp_path, labelled, write_frames, which):
    model, replay = tmp_path / "base.safetensors", tmp_path / "replay.extxyz"
    load(settings["model"]["base"]).save(model)
    write_frames(replay, labelled(2))
    settings["model"]["base"] = str(model)
    settings["training"]["replay"] = {"files": str(replay)}
    with pytest.raises(KeyboardInterrupt):
        tlpot.finetune(settings, on_epoch=interrupt)
    if which == "base":
        other = load(model)
        with torch.no_grad():
            next(other.backbone.parameters()).add_(0.1)
        other.save(model)
    else:
        write_frames(replay, labelled(3)[1:])
    with pytest.raises(TlpotError, match=f"{which} changed"):
        tlpot.finetune(settings, resume=True)


def test_resume_needs_a_run(settings):
    with pytest.raises(TlpotError, match="no run to resume"):
        tlpot.finetune(settings, resume=True)


def test_a_run_stopped_before_its_first_epoch_starts_again(settings):
    def stop(prepared) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tlpot.finetune(settings, on_start=stop)
    resumed = tlpot.finetune(settings, resume=True)
    whole = tlpot.finetune(settings | {"output": f"{resumed.folder}-whole"})
    assert history(resumed.folder) == history(whole.folder)


@pytest.fixture(scope="module")
def long_settings(tmp_path_factory, labelled, write_frames, base_model) -> dict:
    """Of a run that lasts long enough to be killed."""
    folder = tmp_path_factory.mktemp("whole")
    frames = labelled(16)
    data = write_frames(folder / "frames.extxyz", frames[:10])
    bare = [replace(frame, forces=None) for frame in frames[10:]]
    minima = write_frames(folder / "minima.extxyz", bare)
    training = {"epochs": 50, "schedule": "plateau", "warmup_epochs": 1, "ema": 0.9}
    return {
        "data": {"files": str(data), "groups": [{"files": str(minima), "relaxed": True}]},
        "model": {"base": str(base_model)},
        "training": training | {"batch_size": 1, "device": "cpu"},
        "output": str(folder / "run"),
    }


@pytest.fixture(scope="module")
def whole(long_settings) -> tlpot.finetuning.run.PotentialRun:
    return tlpot.finetune(long_settings)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_killed_run_resumes_bit_for_bit(long_settings, whole, tmp_path, how):
    folder, config = tmp_path / "run", tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(long_settings | {"output": str(folder)}))
    process = begin("finetune", config)
    while not (folder / "model.safetensors").exists():
        assert process.is_alive(), process.ended()
        time.sleep(0.005)
    process.stop(how)
    end = process.ended()
    if how == signal.SIGKILL:
        assert end.code == -how
    else:
        assert end.code == 128 + how
        assert "continue with --resume" in end.err
        assert "Traceback" not in end.err
        ended = "KeyboardInterrupt" if how == signal.SIGINT else "SIGTERM"
        assert f"interrupted ({ended})" in (folder / "run.log").read_text()
    assert not (folder / "report.html").exists(), "it had finished before the kill"
    done = len(history(folder))
    assert done < 50
    with pytest.warns(TlpotWarning, match=r"unfinished run: epoch \d+ of 50"):
        so_far = tlpot.load(folder).metadata["unfinished"]
    assert so_far["epoch"] <= done
    if how != signal.SIGKILL:
        assert so_far["epoch"] == done

    resumed = tlpot.finetune(config, resume=True)
    assert {file.name for file in folder.iterdir()} == FILES
    a, b = (load_file(run.folder / "model.safetensors") for run in (resumed, whole))
    assert all(torch.equal(a[name], b[name]) for name in b)
    assert history(resumed.folder) == history(whole.folder)
    assert resumed.metrics == whole.metrics
    assert "unfinished" not in tlpot.load(folder).metadata


def test_replayed_structures_keep_the_bases_answers(settings, tmp_path):
    """Training pulls away from the base; replay holds the structures it is given back."""
    import ase.io
    from ase.build import molecule

    strangers = [molecule("H2O"), molecule("CH4")]
    ase.io.write(tmp_path / "replay.extxyz", strangers)
    settings["training"] |= {"epochs": 20, "learning_rate": 1e-3, "lambda": 0.5}
    changed = {}
    for share in (None, 0.7):
        replay = share and {"files": str(tmp_path / "replay.extxyz"), "share": share}
        training = settings["training"] | {"replay": replay}
        config = parse_config(
            settings | {"training": training, "output": str(tmp_path / f"run-{share}")}
        )
        base = prepare(config).base.predict(strangers)
        tuned = tlpot.finetune(config).potential.predict(strangers)
        pairs = zip(base, tuned, strict=True)
        changed[share] = sum(abs(a.forces - b.forces).mean() for a, b in pairs)
    assert changed[0.7] < 0.6 * changed[None]


@pytest.mark.parametrize(
    ("replay", "says"),
    [
        ({"files": []}, "files is empty"),
        ({"files": "nowhere.xyz"}, "nowhere.xyz"),
        ({"files": "x.xyz", "share": 1.0}, "replay.share"),
        ({"files": "x.xyz", "portion": 0.1}, "replay.portion: unknown key"),
    ],
)
def test_replay_that_cannot_be_is_refused(settings, replay, says):
    settings["training"]["replay"] = replay
    with pytest.raises(TlpotError, match=says):
        tlpot.finetune(settings)


def test_replayed_structures_need_a_sound_geometry_but_no_label(settings, tmp_path):
    import ase.io
    from ase import Atoms

    file = tmp_path / "replay.extxyz"
    settings["training"] |= {"replay": {"files": str(file)}, "epochs": 1}
    for distance, says in ((0.15, "overlapping"), (float("nan"), "non-finite")):
        ase.io.write(file, Atoms("H2", [[0, 0, 0], [0, 0, distance]]))
        with pytest.raises(TlpotError, match=rf"replay\.files.*{says}"):
            tlpot.finetune(settings)
    hydrogen = Atoms("H2", [[0, 0, 0], [0, 0, 0.74]], info={"energy": 1.0, "REF_energy": 2.0})
    ase.io.write(file, hydrogen)
    tlpot.finetune(settings)


# --- fine angles ---------------------------------------------------------------------------------


def test_a_run_adds_fine_angles_and_trains_them(settings, small, tmp_path):
    base = small(fine=None, dtype=torch.float32).save(tmp_path / "plain.safetensors")
    settings["model"]["base"] = str(base)
    run = finetune(settings)
    wide = load(run.folder).backbone
    assert wide.architecture.fine == FINE
    assert wide.architecture.components == COMPONENTS
    assert wide.layer("H", "input").weight[..., -COMPONENTS:].abs().max() > 0
    assert wide.projection.any()
    again = finetune(
        {**settings, "model": {"base": str(run.folder)}, "output": str(tmp_path / "2")}
    )
    assert load(again.folder).backbone.architecture == wide.architecture
    assert torch.equal(load(again.folder).backbone.projection, wide.projection)


@pytest.mark.parametrize(
    "changes", [{"training": {"fine_angles": False}}, {"model": {"freeze": ["input"]}}]
)
def test_the_bases_descriptor_stays_where_fine_angles_are_off_or_of_no_use(
    settings, small, tmp_path, changes
):
    base = small(fine=None, dtype=torch.float32).save(tmp_path / "plain.safetensors")
    settings["model"]["base"] = str(base)
    for section, values in changes.items():
        settings[section] |= values
    assert load(finetune(settings).folder).backbone.architecture.fine is None
