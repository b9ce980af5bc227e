"""Elements that begin as a copy of another: they start on the alias and then go their own way."""

import json
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

import tlpot
from tlpot.cli.main import main
from tlpot.config.run import Training
from tlpot.errors import TlpotError
from tlpot.model.load import load_base
from tlpot.model.potential import Potential
from tlpot.structure.frames import Frame
from tlpot.training.freeze import freeze, train_only
from tlpot.training.potential import PotentialTask
from tlpot.training.trainer import Trainer


def clone(donor: str) -> dict[str, str]:
    return {"from": donor, "as": "clone"}


DONORS = {
    "mini": {"Si": "C", "I": "O", "Cu": "N"},
    "ani2x": {"Si": "C", "I": "Cl", "Cu": "S"},
}
MOLECULES = {"mini": ("C2H6", "CH3CONH2"), "ani2x": ("C2H6", "CH3SCH3", "CCl4", "C4H4S")}


@pytest.fixture(params=DONORS)
def base(request, published) -> str:
    if request.param == "ani2x":
        published("ani2x")
    return request.param


def mixed(base: str, urea: Atoms) -> list[Atoms]:
    """Molecules and a crystal where every other atom of a donor is the new element."""
    structures = [*map(molecule, MOLECULES[base]), urea]
    for atoms in structures:
        atoms.rattle(0.05, seed=1)
        for element, donor in DONORS[base].items():
            atoms.symbols[np.flatnonzero(atoms.symbols == donor)[::2]] = element
    return structures


def both(base: str, kinds: Collection[str]) -> tuple[Potential, Potential]:
    """All new elements as aliases, and some of them as clones."""
    donors = DONORS[base]
    some = {e: clone(d) if e in kinds else d for e, d in donors.items()}
    return load_base(base, donors), load_base(base, some)


@pytest.mark.parametrize(
    "kinds", [("Si",), ("Cu",), ("Si", "I"), ("I", "Si", "Cu"), ()], ids="-".join
)
def test_untrained_clones_are_aliases(base, urea, kinds):
    alias, cloned = both(base, kinds)
    assert set(cloned.backbone.symbols) == {*alias.backbone.symbols, *kinds}
    assert cloned.clones == {e: DONORS[base][e] for e in kinds}
    assert set(cloned.elements) == set(alias.elements)
    for potential in (alias, cloned):
        potential.backbone.double()
    structures = mixed(base, urea)
    pairs = zip(alias.predict(structures), cloned.predict(structures), strict=True)
    for atoms, (a, b) in zip(structures, pairs, strict=True):
        assert b.energy == pytest.approx(a.energy, abs=1e-7 * len(atoms))
        assert b.energy_std == pytest.approx(a.energy_std, abs=1e-7 * len(atoms))
        np.testing.assert_allclose(b.forces, a.forces, atol=1e-7)
        if a.stress is not None:
            np.testing.assert_allclose(b.stress, a.stress, atol=1e-8)
        output = cloned.evaluate(cloned.batch([Frame(atoms)]), training=True)
        assert output.energy.mean().item() == pytest.approx(a.energy, abs=1e-7 * len(atoms))
        np.testing.assert_allclose(output.forces[0].detach().numpy(), a.forces, atol=1e-7)


def test_in_the_weights_own_precision_too(base, urea):
    alias, cloned = both(base, DONORS[base])
    for atoms in mixed(base, urea):
        a, b = alias.predict([atoms])[0], cloned.predict([atoms])[0]
        assert b.energy == pytest.approx(a.energy, abs=1e-6 * len(atoms))
        np.testing.assert_allclose(b.forces, a.forces, atol=5e-5)


def test_a_clone_has_networks_and_channels_of_its_own(small):
    potential = small_with(small, {"Si": clone("C")})
    si_h, c_h = molecule("SiH4"), molecule("CH4")
    before = [p.energy for p in potential.predict([si_h, c_h])]
    potential.backbone.layer("Si", "hidden1").bias.data += 0.1
    after = [p.energy for p in potential.predict([si_h, c_h])]
    assert abs(after[0] - before[0]) > 1e-3
    assert after[1] == before[1]
    potential.backbone.layer("H", "input").weight.data[..., channels_of(potential, "Si")] *= 2
    last = [p.energy for p in potential.predict([si_h, c_h])]
    assert abs(last[0] - after[0]) > 1e-3
    assert last[1] == before[1]


def small_with(small: Callable[..., Potential], elements: dict, **options) -> Potential:
    """The small potential with new elements, by way of a file."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = small(**options).save(Path(folder) / "model.safetensors")
        return load_base(path, elements)


def channels_of(potential: Potential, element: str) -> np.ndarray:
    """Descriptor columns that see `element`: those that are not zero where it is around."""
    symbols = 3 * potential.backbone.symbols
    atoms = Atoms(symbols, np.random.default_rng(0).uniform(0, 3, (len(symbols), 3)))
    others = atoms[[symbol != element for symbol in symbols]]
    seen = []
    for some in (atoms, others):
        features, _ = potential.backbone.features(potential.batch([Frame(some)]))
        seen.append(features.abs().sum(dim=0) > 0)
    return np.flatnonzero((seen[0] & ~seen[1]).numpy())


# --- only what is new trains ---------------------------------------------------------------------


@pytest.fixture
def si_frames(labelled) -> Callable[[int], list[Frame]]:
    """Labelled frames where Si replaces one of the two carbons of acetamide."""

    def build(n: int) -> list[Frame]:
        frames = labelled(n)
        for frame in frames:
            carbons = np.flatnonzero(frame.atoms.symbols == "C")
            frame.atoms.symbols[carbons[:1]] = "Si"
        return frames

    return build


@pytest.mark.parametrize("patterns", [[], ["hidden1"], ["Si.*"]], ids=str)
def test_what_does_not_see_a_clone_stays(small, si_frames, labelled, tmp_path, patterns):
    potential = small_with(small, {"Si": clone("C")})
    states = train_only(potential.backbone, {"Si"}, freeze(potential.backbone, patterns))
    before = {n: p.detach().clone() for n, p in potential.backbone.named_parameters()}
    without = [f.atoms for f in labelled(4)]
    old = potential.predict(without)
    frames = si_frames(8)
    compact = potential.for_elements({s for f in frames for s in f.atoms.symbols})
    columns = compact.backbone.trained_columns()
    batches = [compact.batch([f]) for f in frames]
    settings = Training(epochs=2, weight_decay=0.5, ema=0.9)
    Trainer(
        PotentialTask(compact, batches, batches[:2], settings), settings, tmp_path, columns=columns
    ).fit()
    potential.backbone.absorb(compact.backbone)
    for a, b in zip(old, potential.predict(without), strict=True):
        assert a.energy == b.energy
        np.testing.assert_array_equal(a.forces, b.forces)

    new = channels_of(potential, "Si")
    moved: dict[str, int] = {}
    for name, parameter in potential.backbone.named_parameters():
        changed = parameter != before[name]
        if "Si" not in name and name.endswith("input.weight"):
            assert not np.delete(changed.numpy(), new, axis=-1).any()
        layer = ".".join(name.split(".")[1:-1])
        moved[layer] = moved.get(layer, 0) + int(changed.sum())
    for state in states:
        assert moved[state.name] <= state.trained, state.name
        assert moved[state.name] >= 0.99 * state.trained, state.name
    assert moved["H.input"] == 3 * 12 * len(new)
    assert (moved["Si.output"] > 0) == (patterns != ["Si.*"])


def test_training_new_elements_without_any_is_refused(small):
    backbone = small().backbone
    with pytest.raises(TlpotError, match="there are none; write one in"):
        train_only(backbone, {}, freeze(backbone, []))


def test_freezing_all_that_is_new_is_refused(small):
    backbone = small_with(small, {"Si": clone("C")}).backbone
    with pytest.raises(TlpotError, match="leave nothing to train"):
        train_only(backbone, {"Si"}, freeze(backbone, ["Si.*", "input"]))


@pytest.mark.parametrize("only", [False, True])
def test_leaving_out_absent_elements_is_exact(small, labelled, tmp_path, only):
    """Training H, O and the clone alone does to every weight what training all elements does."""
    frames = [f for f in labelled(8) if set(f.atoms.symbols) == {"H", "O"}]
    for frame in frames:
        frame.atoms.symbols[0] = "Si"
    settings = Training(epochs=2, weight_decay=0.5, learning_rate=1e-3, clip=None)
    trained = []
    for compactly in (True, False):
        potential = small_with(small, {"Si": clone("O")})
        backbone = potential.backbone.requires_grad_(True)
        if only:
            backbone.train_only({"Si"})
        model = potential.for_elements({"H", "O", "Si"}) if compactly else potential
        columns = model.backbone.trained_columns()
        batches = [model.batch([f]) for f in frames]
        Trainer(
            PotentialTask(model, batches, [], settings), settings, tmp_path, columns=columns
        ).fit()
        if compactly:
            backbone.absorb(model.backbone)
        trained.append(backbone)
    for symbol in ("H", "O", "Si"):
        for a, b in zip(*(t.networks[symbol].parameters() for t in trained), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-9)


# --- a whole run ---------------------------------------------------------------------------------


@pytest.fixture
def si_settings(settings, si_frames, write_frames) -> dict:
    write_frames(Path(settings["data"]["files"][0]), si_frames(16))
    settings["model"] |= {"elements": {"Si": clone("C")}}
    return settings


@pytest.mark.parametrize("train", ["all", "new"])
def test_a_clone_is_trained_saved_and_used(si_settings, si_frames, capsys, train):
    si_settings["model"]["train"] = train
    run = tlpot.finetune(si_settings)
    manifest = json.loads((run.folder / "manifest.json").read_text())
    assert manifest["elements"] == {"Si": {"from": "C", "as": "clone"}}
    assert "Si is a clone of C" in " ".join((run.folder / "report.html").read_text().split())

    model = tlpot.load(run.folder)
    assert model.clones == {"Si": "C"}
    assert model.backbone.symbols == ("H", "C", "N", "O", "Si")
    frame = next(f for f in si_frames(16) if "Si" in f.atoms.symbols)
    swapped = frame.atoms.copy()
    symbols = np.array(swapped.symbols)
    swapped.symbols = np.where(symbols == "Si", "C", np.where(symbols == "C", "Si", symbols))
    a, b = model.predict([frame.atoms, swapped])
    assert np.abs(a.forces - b.forces).max() > 1e-4  # an alias could not tell them apart
    frame.atoms.calc = tlpot.TLPotCalculator(run.folder)
    assert frame.atoms.get_potential_energy() == pytest.approx(a.energy, abs=1e-5)
    np.testing.assert_allclose(frame.atoms.get_forces(), a.forces, atol=1e-5)
    frame.atoms.calc.calculate(frame.atoms, ["forces_std"])
    assert frame.atoms.calc.results["energy_std"] == pytest.approx(a.energy_std, abs=1e-5)
    assert frame.atoms.calc.results["forces_std"].max() > 0

    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", str(run.folder), *si_settings["data"]["files"], "--json"])
    assert stopped.value.code == 0
    assert "Si" in json.loads(capsys.readouterr().out)["by_element"]


def test_a_model_with_a_clone_is_a_base_too(si_settings, tmp_path):
    first = tlpot.finetune(si_settings)
    si_settings["model"] = {"base": str(first.folder), "train": "new", "freeze": ["Si.input"]}
    second = tlpot.finetune(si_settings | {"output": str(tmp_path / "second")})
    assert second.potential.clones == {"Si": "C"}
    assert second.manifest["elements"] == {"Si": {"from": "C", "as": "clone"}}
    backbones = [r.potential.backbone for r in (first, second)]
    old, new = (b.layer("Si", "input").weight for b in backbones)
    assert torch.equal(old, new)
    old, new = (b.layer("Si", "hidden1").weight for b in backbones)
    assert not torch.equal(old, new)

    again = load_base(first.folder, {"Ge": "Si", "Sn": clone("C")})
    assert again.clones == {"Si": "C", "Sn": "C"}
    assert again.backbone.donors == {"Ge": "Si"}
    with pytest.raises(TlpotError, match="Ge cannot be a clone of Si, itself a clone"):
        load_base(first.folder, {"Ge": clone("Si")})
    with pytest.raises(TlpotError, match="Si is already supported"):
        load_base(first.folder, {"Si": clone("C")})


@pytest.mark.parametrize("train", ["all", "new"])
def test_a_resumed_run_is_the_same_run(si_settings, tmp_path, train):
    si_settings["model"]["train"] = train

    def stop(row: dict) -> None:
        if row["epoch"] == 1:
            raise KeyboardInterrupt

    whole = tlpot.finetune(si_settings | {"output": str(tmp_path / "whole")})
    with pytest.raises(KeyboardInterrupt):
        tlpot.finetune(si_settings, on_epoch=stop)
    resumed = tlpot.finetune(si_settings, resume=True)
    weights = [dict(r.potential.backbone.named_parameters()) for r in (whole, resumed)]
    for name, weight in weights[0].items():
        assert torch.equal(weight, weights[1][name]), name


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"elements": {"Si": clone("Ge")}}, r"donor Ge .*try 'Si: \{from: C, as: clone\}'"),
        ({"elements": {"Si": clone("C"), "Ge": clone("Si")}}, "donor Si of Ge is itself new"),
        ({"elements": {"O": clone("C")}}, "O is already supported"),
        ({"elements": {"Qq": clone("C")}}, "'Qq' is not a chemical element"),
        ({"elements": {}, "train": "new"}, "there are none"),
        ({"elements": {"Si": "C"}, "train": "new"}, "there are none"),
        ({"elements": {"Si": "C", "Ge": clone("C")}, "train": "new"}, "no frame holds Ge"),
    ],
)
def test_clones_that_cannot_work_are_refused(si_settings, model, message):
    si_settings["model"] |= model
    with pytest.raises(TlpotError, match=message):
        tlpot.finetune(si_settings)
    assert not Path(si_settings["output"]).exists()
