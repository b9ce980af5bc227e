"""Who saw what: a model tells what it was trained on, and holds out nothing that its base saw."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import ase.io
import pytest
import yaml

import tlpot
from tlpot.cli.main import main
from tlpot.config.run import parse_config
from tlpot.data.fingerprints import TrainingSet
from tlpot.evaluation.metrics import evaluate
from tlpot.finetuning.prepare import prepare
from tlpot.model.load import load
from tlpot.model.potential import Potential
from tlpot.property.run import train as train_property


class Output(NamedTuple):
    stdout: str
    stderr: str


@pytest.fixture
def tlpot_says(capfd) -> Callable[..., Output]:
    """What the command line prints."""

    def says(*arguments: object) -> Output:
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        printed = capfd.readouterr()
        assert not end.value.code, printed.err
        return Output(printed.out, printed.err)

    return says


def split_of(folder: str | Path) -> dict[str, set[str]]:
    names = json.loads(Path(folder, "manifest.json").read_text())["split_frames"]
    return {part: set(some) for part, some in names.items()}


@pytest.fixture
def second(finished, settings, labelled, write_frames, tmp_path) -> dict:
    """Settings of a fine-tuning of `finished` on its frames and eight more, drawn anew."""
    more = write_frames(tmp_path / "more.extxyz", labelled(24)[16:])
    first = finished.manifest["data"]["files"][0]["path"]
    settings["data"] = {"files": [first, str(more)], "split": {"test": 0.3, "seed": 5}}
    settings["model"] = {"base": str(finished.folder)}
    return settings


def test_no_frame_of_the_base_is_held_out_and_all_say_so(tlpot_says, finished, second, tmp_path):
    path = tmp_path / "second.yaml"
    path.write_text(yaml.safe_dump(second))
    done = tlpot_says("finetune", path)
    mine, bases = split_of(second["output"]), split_of(finished.folder)
    assert mine["test"]
    assert mine["test"].isdisjoint(bases["train"] | bases["validation"])
    assert mine["validation"].isdisjoint(bases["train"])
    metrics = json.loads(Path(second["output"], "metrics.json").read_text())
    counts = metrics["seen_by_base"]
    assert (counts["train"], counts["validation"], counts["unseen"]) == (9, 3, 12)
    assert counts["moved_to_train"] > 0
    said = "the base was trained on 9 and tuned on 3 of these 24 frames"
    for text in (done.stderr, done.stdout):
        assert text.startswith(said)
    assert said[1:] in Path(second["output"], "report.html").read_text()
    check = tlpot_says("validate", path, f"output={tmp_path / 'new'}")
    assert check.stdout.startswith(said)


def test_the_same_data_and_split_again_stay_as_they_are(finished, settings):
    settings["data"]["files"] = [finished.manifest["data"]["files"][0]["path"]]
    settings["model"] = {"base": str(finished.folder)}
    tlpot.finetune(settings)
    assert split_of(settings["output"]) == split_of(finished.folder)


def test_a_model_trained_anew_has_forgotten_what_its_base_saw(second):
    second["model"]["init"] = "scratch"
    run = tlpot.finetune(second)
    assert run.metrics["seen_by_base"]["unseen"] == 24
    known = TrainingSet.of(load(run.folder).metadata)
    assert len(known.train) + len(known.validation) < 24


def test_nothing_new_leaves_no_test(finished, settings, tmp_path):
    settings["data"]["split"] = {"test": 0.0, "validation": 0.0}
    everything = tlpot.finetune(settings)
    again = settings | {"output": str(tmp_path / "again"), "model": {"base": settings["output"]}}
    again["data"] = settings["data"] | {"split": {"test": 0.2, "validation": 0.0}}
    with pytest.raises(tlpot.TlpotError, match=r"set data\.split\.test to 0"):
        tlpot.finetune(again)
    assert not Path(again["output"]).exists()
    again["data"] = settings["data"]
    run = tlpot.finetune(again)
    assert run.metrics["seen_by_base"]["train"] == len(everything.manifest["split"]["train"])


def test_evaluate_tells_seen_frames_from_others(
    tlpot_says, finished, labelled, write_frames, tmp_path
):
    frames = labelled(20)
    for i, frame in enumerate(frames):  # as another program would write them
        frame.atoms.wrap()
        ase.io.write(tmp_path / f"{i:02d}.cif", frame.atoms)
    data = write_frames(tmp_path / "all.extxyz", frames[::-1])
    done = tlpot_says("evaluate", finished.folder, data)
    assert done.stdout.startswith(
        "the model was trained on 9 and tuned on 3 of these 20 frames: judge it by the errors of "
        "the 8 unseen ones"
    )
    result = json.loads(tlpot_says("evaluate", finished.folder, data, "--json").stdout)
    assert result["seen"] == {"train": 9, "validation": 3, "file": 0, "unseen": 8}
    unseen = set(split_of(finished.folder)["test"])
    held_out = [
        f for f in frames if f.index >= 16 or any(n.endswith(f"#{f.index}") for n in unseen)
    ]
    expected = evaluate(load(finished.folder), held_out)
    assert "by_seen" not in expected
    for key in ("energy_rmse_meV_per_atom", "force_rmse_meV_per_A_vector"):
        assert result["by_seen"]["unseen"][key] == pytest.approx(expected[key], rel=1e-5)
        assert result["by_seen"]["trained on"][key] < result[key]


def test_models_without_fingerprints_are_asked_by_their_files(
    tlpot_says, finished, settings, tmp_path, labelled, write_frames
):
    old = load(finished.folder)
    del old.metadata["seen"]
    path = old.save(tmp_path / "old.safetensors")
    data = Path(finished.manifest["data"]["files"][0]["path"])
    copy = tmp_path / "copy.extxyz"
    copy.write_bytes(data.read_bytes())
    more = write_frames(tmp_path / "more.extxyz", labelled(18)[16:])
    done = tlpot_says("evaluate", path, copy, more)
    assert done.stdout.startswith("the model has read the files of 16 of these 18 frames")
    assert "perhaps" in done.stdout
    settings["data"]["files"] = [str(copy)]
    settings["model"] = {"base": str(path)}
    run = tlpot.finetune(settings)
    assert run.metrics["seen_by_base"]["file"] == 16
    assert "The base has read the files of 16" in (run.folder / "report.html").read_text()
    assert evaluate(load(run.folder), labelled(16))["seen"]["train"] > 0


def test_a_chain_of_bases_remembers_its_beginning(second, finished, labelled, tmp_path):
    tlpot.finetune(second)
    frames = labelled(32)[24:]
    third = second | {"model": {"base": second["output"]}, "output": str(tmp_path / "third")}
    third["data"] = {}
    model = load(tlpot.finetune(third, frames=frames).folder)
    seen = evaluate(model, labelled(16))["seen"]
    assert seen["train"] >= len(split_of(finished.folder)["train"])
    assert len(model.metadata["seen"]["train"]) < 16 * 33


def test_a_committee_says_of_which_structures_it_was_told(
    tlpot_says, finished, labelled, write_frames, tmp_path
):
    """Its spread is small there because it was trained on them."""
    pool = write_frames(tmp_path / "pool.extxyz", labelled(20))
    words = ("sample", "choose", pool, "--by", "committee", "--number", "3", "--model")
    said = tlpot_says(*words, finished.folder, "--output", tmp_path / "a.extxyz").stderr
    assert "the model was trained on 9 and tuned on 3 of these 20 structures" in said
    assert "of the 8 others it guesses" in said
    said = tlpot_says(*words, "mini", "--output", tmp_path / "b.extxyz").stderr
    assert "trained" not in said


def test_a_base_that_labels_what_it_was_trained_on_says_so(
    tmp_path, finished, settings, labelled, write_frames
):
    """Replay: one structure of the base's training that trains here too, with another label."""
    frames = labelled(24)
    seen = TrainingSet.of(load(finished.folder).metadata).parts(frames)
    first = seen.index("train")
    settings["data"] = {"files": [str(write_frames(tmp_path / "new.extxyz", frames[16:]))]}
    settings["data"]["split"] = {"test": 0.0, "validation": 0.0}
    settings["model"] = {"base": str(finished.folder)}
    replayed = write_frames(tmp_path / "replay.extxyz", [frames[first], frames[20]])
    settings["training"]["replay"] = {"files": str(replayed)}
    told, twice = [x for x in prepare(parse_config(settings)).checked.remarks if "replay" in x]
    assert told.startswith("the base was trained on 1 of these 2 structures that it labels")
    assert twice.startswith("1 of the 8 train frames are structures")
    assert "one structure with two labels" in twice


def test_published_models_have_seen_nothing_that_we_know_of(labelled):
    base: Potential = load("mini")
    assert evaluate(base, labelled(4))["seen"] == {
        "train": 0, "validation": 0, "file": 0, "unseen": 4,
    }  # fmt: skip


# --- their relatives ---------------------------------------------------------------------------


def test_a_property_model_too(tlpot_says, tmp_path):
    from tests.property.conftest import KNOWN, crystal, make_settings

    folder = tmp_path / "crystals"
    folder.mkdir()
    for name, *_ in KNOWN:
        ase.io.write(folder / f"{name}.cif", crystal(name))
    table = folder / "id_prop.csv"
    table.write_text("".join(f"{name},{gap}\n" for name, *_, gap in KNOWN))
    first = train_property(make_settings(folder, tmp_path / "first", epochs=1))
    parts = json.loads((first.folder / "manifest.json").read_text())["split"]
    again = make_settings(folder, tmp_path / "again", epochs=1)
    again["data"]["split"] |= {"seed": 7}
    again["model"] = {"base": str(first.folder)}
    path = tmp_path / "again.yaml"
    path.write_text(yaml.safe_dump(again))
    done = tlpot_says("property", "train", path)
    said = "the base was trained on 14 and tuned on 2 of these 20 crystals"
    assert done.stdout.startswith(said)
    assert said[1:] in (tmp_path / "again" / "report.html").read_text()
    mine = json.loads((tmp_path / "again" / "manifest.json").read_text())["split"]
    assert set(mine["test"]).isdisjoint(parts["train"] + parts["validation"])
    done = tlpot_says("property", "evaluate", table, "--model", first.folder)
    assert done.stdout.startswith("the model was trained on 14 and tuned on 2 of these 20 crystals")
    assert "unseen" in done.stdout


def test_what_is_replayed_is_trained_on_and_told_where_it_is_held_out(
    tmp_path, settings, labelled, write_frames
):
    """Moved: a replayed structure is known whatever its frame of reference."""
    frames = labelled(16)
    prepared = prepare(parse_config(settings))
    again = [frame.atoms.copy() for frame in prepared.parts["test"][:2]]
    for atoms in again:
        atoms.translate([0.3, 0.2, 0.1])
        atoms.wrap()
    ase.io.write(tmp_path / "replay.extxyz", [*again, labelled(18)[17].atoms])
    settings["training"]["replay"] = {"files": str(tmp_path / "replay.extxyz")}
    remarks = [x for x in prepare(parse_config(settings)).checked.remarks if "replay" in x]
    assert len(remarks) == 1
    assert remarks[0].startswith("2 of the 4 test frames")
    run = tlpot.finetune(settings)
    parts = TrainingSet.of(run.potential.metadata).parts(frames)
    assert parts.count(None) == 2
    assert parts.count("train") == len(prepared.parts["train"]) + 2
