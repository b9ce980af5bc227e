"""`training.replay`: structures that keep the base's answers, from files or made (`auto`)."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import tlpot
from tlpot.cli.shared import out
from tlpot.cli.show.potential import print_prepared
from tlpot.config.run import Training, parse_config
from tlpot.config.training import Replay
from tlpot.errors import TlpotError
from tlpot.finetuning.prepare import prepare
from tlpot.finetuning.replay import EACH, POOL_WEIGHT, REPLAYED, pool
from tlpot.model.domain import DOUBT, too_close
from tlpot.structure.bonds import changed_bonds
from tlpot.structure.frames import Frame
from tlpot.structure.molecules import find_molecules
from tlpot.structure.soundness import find_flaw
from tlpot.training.potential import PotentialTask

KINDS = {
    *("compressed cells", "strained cells"),
    *("close pairs of molecules", "stretched and bent molecules"),
}


@pytest.fixture
def auto(settings) -> dict:
    """The settings of a short run that replays a pool, each member learning by itself."""
    settings["training"] |= {"replay": "auto", "fit": "members", "epochs": 4}
    return settings


def test_a_pool_is_sound_and_labelled_as_the_base_labels_it(auto, capsys):
    prepared = prepare(parse_config(auto))
    replay, base = prepared.replay, prepared.base
    assert {frame.info[REPLAYED] for frame in replay} <= KINDS
    assert len(replay) > EACH
    spreads = [p.energy_std / len(f) ** 0.5 for f, p in _asked(base, prepared.parts["train"])]
    for frame, said in _asked(base, replay):
        assert find_flaw(frame.atoms) is None
        assert too_close(frame.atoms, {}) is None
        assert said.energy_std / len(frame) ** 0.5 <= DOUBT * max(spreads) * (1 + 1e-6)
        np.testing.assert_allclose(frame.forces, said.forces, atol=1e-5)
        assert frame.energy is None
        assert frame.weight == POOL_WEIGHT
    (told,) = (line for line in prepared.checked.remarks if "auto made" in line)
    for kind in KINDS:
        number = sum(frame.info[REPLAYED] == kind for frame in replay)
        assert number == 0 or f"{number} {kind}" in told
    print_prepared(prepared, out)
    assert "training.replay: auto made" in capsys.readouterr().out


def _asked(base, frames):
    return zip(frames, base.predict([frame.atoms for frame in frames]), strict=True)


def test_cells_are_pressed_and_pairs_are_close_but_molecules_stay(ideal_urea, published):
    """Of urea with ANI-2x, which is sure of nearly all of it; what is pressed is pushed apart."""
    train = [Frame(ideal_urea)]
    ani = published("ani2x")
    frames, _ = pool(train, ani, set(ani.elements), seed=1)
    by_kind = {kind: [f.atoms for f in frames if f.info[REPLAYED] == kind] for kind in KINDS}
    assert min(map(len, by_kind.values())) > EACH / 2
    for cell in by_kind["strained cells"]:
        assert sorted(map(len, find_molecules(cell))) == [8, 8]
    volumes = [
        atoms.get_volume() / ideal_urea.get_volume() for atoms in by_kind["compressed cells"]
    ]
    assert 0.6 <= min(volumes) < max(volumes) <= 0.9
    pressures = [-p.stress[:3].mean() for p in ani.predict(by_kind["compressed cells"])]
    assert min(pressures) > 0.0
    urea = find_molecules(ideal_urea)[0]
    for molecule in by_kind["stretched and bent molecules"]:
        assert changed_bonds(urea, molecule) is None
        assert np.abs(molecule.get_all_distances() - urea.get_all_distances()).max() > 0.01


def test_the_same_seed_makes_the_same_pool_and_another_another(auto):
    pools = []
    for seed in (0, 0, 1):
        auto["training"]["seed"] = seed
        pools.append([f.atoms.positions for f in prepare(parse_config(auto)).replay])
    assert all(np.array_equal(a, b) for a, b in zip(*pools[:2], strict=True))
    assert not np.array_equal(pools[0][0], pools[2][0])


def test_members_replay_their_own_answers(auto):
    """So that untrained they are where they should be, however far they are from their mean."""
    prepared = prepare(parse_config(auto))
    train, replay = prepared.batches, [prepared.base.batch([f]) for f in prepared.replay]
    settings = Training(fit="members", replay=Replay(files=["auto"]))
    losses = []
    for base in (prepared.base, None):
        task = PotentialTask(prepared.potential, train, [], settings, replay, base)
        chosen = [len(train), 0, len(train) + 1]
        both = [task.step([i], chosen) for i in (chosen[0], chosen[2])]
        losses.append(sum(float(terms["force_loss"].detach()) for terms in both))
        together = float(task.step(chosen, chosen)["force_loss"].detach())
        alone = sum(float(task.step([i], chosen)["force_loss"].detach()) for i in chosen)
        assert together == pytest.approx(alone, rel=1e-4)
    own, mean = losses
    assert own < 1e-6 * mean


def test_a_run_with_a_pool_that_was_stopped_goes_on_bit_for_bit(auto, tmp_path):
    whole = tlpot.finetune(auto | {"output": str(tmp_path / "whole")})

    def stop(row) -> None:
        if row["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tlpot.finetune(auto, on_epoch=stop)
    resumed = tlpot.finetune(auto, resume=True)
    a, b = (load_file(run.folder / "model.safetensors") for run in (whole, resumed))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert sum(whole.manifest["replayed"].values()) == len(prepare_again(auto, tmp_path).replay)
    assert "training.replay: auto made" in (whole.folder / "run.log").read_text()


def prepare_again(settings, tmp_path):
    return prepare(parse_config(settings | {"output": str(tmp_path / "again")}))


def test_elements_that_the_base_lacks_are_left_out_and_told(auto, labelled, small, write_frames):
    frames = labelled(12)
    for frame in frames[3::4]:  # acetamide
        frame.atoms.symbols[frame.atoms.symbols == "C"] = "Si"
    base = small()
    known = set(base.elements)
    made, remarks = pool(frames, base, known, seed=0)
    assert {s for f in made for s in f.atoms.symbols} == {"H", "O"}
    assert "makes nothing of 3 of 12" in remarks[0]
    assert "does not know Si" in remarks[0]
    with pytest.raises(TlpotError, match=r"nothing to replay.*does not know Si.*replay\.files"):
        pool(frames[3::4], base, known, seed=0)


def test_a_pool_without_an_effect_is_refused(auto, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "auto").write_text("a file of the user's")
    with pytest.raises(TlpotError, match=r"\./auto"):
        prepare(parse_config(auto))
    (tmp_path / "auto").unlink()
    auto["model"] = {"base": "schnet"}
    with pytest.raises(TlpotError, match=r"training\.replay has no effect.*schnet"):
        prepare(parse_config(auto))


# --- structures from files ----------------------------------------------------------------------


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


def test_networks_that_only_replayed_structures_train_are_told_as_trained(
    settings, labelled, write_frames, tmp_path
):
    import ase.io
    from ase.build import molecule

    water = [frame for frame in labelled(20) if set(frame.atoms.symbols) == {"H", "O"}]
    write_frames(Path(settings["data"]["files"][0]), water)
    ase.io.write(tmp_path / "replay.extxyz", molecule("NH3"))
    settings["model"]["freeze"] = ["N.input", "C.input"]
    settings["training"] |= {"replay": {"files": str(tmp_path / "replay.extxyz")}, "epochs": 2}
    run = tlpot.finetune(settings)
    said = (run.folder / "run.log").read_text()
    assert "'C.input' changes nothing" in said
    assert "'N.input' changes nothing" not in said
    prepared = prepare_again(settings, tmp_path)
    before, after = (
        dict(potential.backbone.named_parameters()) for potential in (prepared.base, run.potential)
    )
    for layer in prepared.layers:
        same = [
            torch.equal(before[name], after[name])
            for name in before
            if f".{layer.name}." in f".{name}"
        ]
        assert same
        assert all(same) == (layer.trained == 0), layer.name


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
