"""What lies outside a model's training: by contacts, by its spread, by its descriptors."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from tlpot.backbones.base import Backbone
from tlpot.backbones.schnet import SchNet
from tlpot.cli.main import main
from tlpot.errors import TlpotError, TlpotWarning
from tlpot.md.dynamics import run_md
from tlpot.md.settings import Dynamics
from tlpot.model.calculator import TLPotCalculator
from tlpot.model.card import card
from tlpot.model.density import Density
from tlpot.model.domain import Domain, training_domain
from tlpot.model.load import load
from tlpot.model.potential import Potential
from tlpot.relax.relax import relax
from tlpot.relax.settings import Relaxation
from tlpot.structure.contacts import shortest_contacts
from tlpot.structure.frames import Batch, Frame
from tlpot.structure.neighbours import neighbour_pairs

UREA = Path(__file__).parents[2] / "datasets/urea/urea.extxyz"


@pytest.fixture(scope="module")
def mini() -> Potential:
    return load("mini")


@pytest.fixture(scope="module")
def parts() -> dict[str, list[Frame]]:
    """Eighty DFT frames of crystalline urea, dealt out."""
    frames = [Frame(atoms, index=i) for i, atoms in enumerate(ase.io.read(UREA, ":"))]
    order = np.random.default_rng(0).permutation(len(frames))
    shuffled = [frames[i] for i in order]
    return {"train": shuffled[:40], "validation": shuffled[40:60], "test": shuffled[60:]}


@pytest.fixture(scope="module")
def home(mini, parts) -> Potential:
    """`mini`, as if it had been trained on urea: what it knows of its domain stands on that."""
    small = mini.for_elements("CHNO")
    batches = {
        part: [small.batch([frame]) for frame in parts[part]] for part in ("train", "validation")
    }
    density = Density.fit(small.backbone, **batches)
    predictions = mini.predict(parts["train"])
    domain = training_domain(parts["train"], predictions, density)
    return Potential(mini.backbone, mini.reference, {"domain": domain})


def scaled(atoms: Atoms, factor: float) -> Atoms:
    other = atoms.copy()
    other.set_cell(atoms.cell * factor, scale_atoms=True)
    return other


def without(atoms: Atoms, symbol: str) -> Atoms:
    """Without the first atom of an element: an open shell."""
    first = list(atoms.symbols).index(symbol)
    return atoms[[i for i in range(len(atoms)) if i != first]]


def shuffled_in_cell(atoms: Atoms) -> Atoms:
    """Atoms anywhere, but not upon each other."""
    random = np.random.default_rng(1)
    while True:
        other = atoms.copy()
        other.set_scaled_positions(random.random((len(atoms), 3)))
        if min(shortest_contacts([other]).values()) > 1.1:
            return other


def test_a_model_file_says_what_it_was_trained_on(finished):
    domain = load(finished.folder).metadata["domain"]
    assert domain["contacts"]["H-O"] < 1.1
    assert domain["spread"] > 0
    about = card(finished.folder)["domain"]["density"]
    split = finished.manifest["split"]
    assert about["frames"] == len(split["validation"]) + len(split["train"])
    assert about["elements"] == ["C", "H", "N", "O"]
    assert load(finished.folder).domain.density is not None


def test_contacts_and_the_largest_spread(small, labelled):
    potential, frames = small(), labelled(6)
    predictions = potential.predict(frames)
    domain = training_domain(frames, predictions)
    assert domain["contacts"] == shortest_contacts(frame.atoms for frame in frames)
    spreads = [
        prediction.energy_std / np.sqrt(len(frame))
        for prediction, frame in zip(predictions, frames, strict=True)
    ]
    assert domain["spread"] == pytest.approx(max(spreads))
    assert "spread" not in training_domain(frames, small(members=1).predict(frames))


def test_frames_like_those_of_training_are_inside(home, parts):
    """One in twenty is not: of twenty, with a chance of 1.6 % more than three (binomial)."""
    outside = [p.outside for p in home.predict(parts["test"], domain=True)]
    assert sum(outside) <= 3


def test_one_in_twenty_is_outside_where_few_frames_validate(mini, monkeypatch):
    """Of four validation frames the largest distance is exceeded by one frame in five.

    Five deals of 80 frames, 36 test frames each; the deals share frames, so twice the wanted share
    is allowed.
    """
    small = mini.for_elements("CHNO").backbone
    batches = [Batch.of_frame(Frame(atoms), small.cutoff) for atoms in ase.io.read(UREA, ":")]
    features = {id(batch): small.features(batch) for batch in batches}
    monkeypatch.setattr(small, "features", lambda batch: features[id(batch)])
    shares = []
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(batches))
        train, validation, test = ([batches[i] for i in part] for part in np.split(order, [40, 44]))
        density = Density.fit(small, train, validation)
        shares.append(np.mean([density.distances(small, batch).max() > 1 for batch in test]))
    assert 0.0 < np.mean(shares) < 0.10


def test_validation_frames_of_another_run_say_what_is_far(mini, parts):
    """Training frames tell nothing of them: where they lie farther, they decide."""
    small = mini.for_elements("CHNO").backbone
    other = [Frame(scaled(frame.atoms, 1.08)) for frame in parts["validation"]]
    train, validation, like, unlike = (
        [Batch.of_frame(frame, small.cutoff) for frame in some]
        for some in (parts["train"], parts["validation"], other[:10], other[10:])
    )
    outside = []
    for some in (validation, like):
        density = Density.fit(small, train, some)
        outside.append(np.mean([density.distances(small, b).max() > 1 for b in unlike]))
    assert outside[0] > 0.5 > 0.3 > outside[1]


@pytest.mark.parametrize(
    "change",
    [
        lambda atoms: scaled(atoms, 0.88),
        lambda atoms: scaled(atoms, 1.15),
        lambda atoms: without(atoms, "H"),
        shuffled_in_cell,
        lambda atoms: Atoms("H", [atoms.positions[0] + [0.6, 0.7, 0.7]]) + atoms,
    ],
    ids=["compressed", "expanded", "a hydrogen less", "at random", "a hydrogen more"],
)
def test_what_no_training_frame_is_like_is_outside(home, parts, change):
    domain = home.domain
    for frame in parts["test"][:5]:
        assert domain.distances(change(frame.atoms)).max() > 1.0


def test_the_farthest_atom_is_the_one_that_was_moved(home, parts):
    atoms = parts["test"][0].atoms.copy()
    moved = list(atoms.symbols).index("H")
    bonded = int(np.argsort(atoms.get_distances(moved, range(len(atoms)), mic=True))[1])
    along = atoms.get_distance(bonded, moved, mic=True, vector=True)
    atoms.positions[moved] += 0.5 * along
    assert home.domain.distances(atoms).argmax() in (moved, bonded)
    reason = home.predict(atoms, domain=True).reason
    assert "times as far from training's" in reason


def test_an_element_that_training_had_none_of(home, parts):
    prediction = home.predict(molecule("CH4"), domain=True)
    assert prediction.outside
    domain = Domain(home.metadata["domain"], home.backbone)
    assert np.isinf(domain.distances(molecule("SH2"))).all()
    assert next(domain.doubts(molecule("SH2"), 0.0)) == "no frame in training holds S"


def test_prediction_says_nothing_unasked_nor_of_a_model_that_does_not_say(home, mini, parts):
    plain = home.predict(parts["test"][0])
    assert (plain.outside, plain.reason) == (None, None)
    silent = mini.predict(parts["test"][0], domain=True)
    assert (silent.outside, silent.reason) == (None, None)


def test_a_model_without_density_is_judged_by_what_it_has(home, mini, parts):
    """As files of before have it."""
    old = {key: value for key, value in home.metadata["domain"].items() if key != "density"}
    potential = Potential(mini.backbone, mini.reference, {"domain": old})
    assert potential.predict(parts["test"][0], domain=True).outside is False
    reason = potential.predict(scaled(parts["test"][0].atoms, 0.7), domain=True).reason
    assert "the closest in training" in reason
    assert "meV per √N" in reason


def test_a_file_keeps_the_density_and_stays_small(home, parts, tmp_path):
    again = load(home.save(tmp_path / "model.safetensors"))
    atoms = parts["test"][0].atoms
    np.testing.assert_array_equal(again.domain.distances(atoms), home.domain.distances(atoms))
    stored = home.metadata["domain"]["density"]["elements"]
    assert max(len(json.dumps(part)) for part in stored.values()) < 12_000


def test_a_damaged_density_is_refused_when_the_model_is_loaded(home, tmp_path):
    domain = json.loads(json.dumps(home.metadata["domain"]))
    domain["density"]["elements"]["C"]["values"] = "AAAA"
    damaged = Potential(home.backbone, home.reference, {"domain": domain})
    with pytest.raises(TlpotError, match="damaged"):
        load(damaged.save(tmp_path / "model.safetensors"))


def test_a_part_of_the_potential_says_that_it_is_one(home):
    with pytest.raises(TlpotError, match="ask the whole one"):
        home.for_elements("CH").predict(molecule("CH4"), domain=True)


def test_backbones_without_descriptors_have_none(small_schnet, labelled, monkeypatch):
    monkeypatch.setattr(SchNet, "features", Backbone.features)
    potential, frames = small_schnet(), labelled(4)
    batches = [potential.batch([frame]) for frame in frames]
    assert Density.fit(potential.backbone, batches, batches) is None


def test_the_calculator_warns_when_a_structure_comes_to_lie_outside(home, parts):
    atoms = parts["test"][0].atoms.copy()
    atoms.calc = TLPotCalculator(home, warn_outside=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error", TlpotWarning)
        atoms.get_potential_energy()
    assert atoms.calc.results["outside"] is False
    far = scaled(atoms, 1.2)
    far.calc = atoms.calc
    with pytest.warns(TlpotWarning, match="lies outside the model's training: the surroundings"):
        far.get_potential_energy()
    assert atoms.calc.results["outside"] is True
    assert atoms.calc.results["reason"] == home.predict(far, domain=True).reason
    far.rattle(1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("error", TlpotWarning)
        far.get_potential_energy()


def test_to_warn_costs_no_neighbour_list(home, parts, monkeypatch):
    """Each is built once, and none while atoms move less than the skin allows."""
    built = []

    def counted(*of):
        built.append(of)
        return neighbour_pairs(*of)

    for room in ("frames", "contacts"):
        monkeypatch.setattr(f"tlpot.structure.{room}.neighbour_pairs", counted)
    atoms = parts["test"][0].atoms.copy()
    atoms.calc = TLPotCalculator(home, warn_outside=True)
    atoms.get_potential_energy()
    assert len(built) == 1
    atoms.rattle(1e-3)
    atoms.get_potential_energy()
    assert len(built) == 1
    home.predict(atoms, domain=True)
    assert len(built) == 2


def test_the_calculator_refuses_to_warn_without_knowing(mini):
    with pytest.raises(TlpotError, match="warn_outside has no effect"):
        TLPotCalculator(mini, warn_outside=True)


def test_relaxing_and_dynamics_stop_outside(home, tmp_path):
    """At three times what is usual, unless more is allowed; shorter contacts are another matter."""
    density = {"density": home.metadata["domain"]["density"]}
    home = Potential(home.backbone, home.reference, {"domain": density})
    methanol = molecule("CH3OH", cell=[8, 8, 8], pbc=True)
    settings = Relaxation(free="positions", steps=200, fmax=0.05, engine="ase")
    (end,) = relax([methanol], home, settings)
    assert "times as far from training's" in end.reason
    allowed = settings.model_copy(update={"max_distance": 1e3})
    assert relax([methanol], home, allowed)[0].converged
    reason = run_md(methanol, home, 3, tmp_path / "stopped", Dynamics(log_every=1))
    assert "times as far from training's" in reason
    limits = Dynamics(log_every=1, max_distance=1e3)
    assert run_md(methanol, home, 3, tmp_path / "allowed", limits) is None


def test_evaluate_says_which_frames_lie_outside(home, parts, tmp_path, capfd):
    path = home.save(tmp_path / "model.safetensors")
    inside, other = parts["test"][0].atoms, scaled(parts["test"][1].atoms, 1.2)
    for atoms in (inside, other):
        atoms.calc = None
        atoms.info = {"energy": float(home.predict(atoms).energy)}
    ase.io.write(tmp_path / "frames.extxyz", [inside, other])

    def evaluate(*words: str) -> str:
        with pytest.raises(SystemExit) as end:
            main(["evaluate", str(path), str(tmp_path / "frames.extxyz"), *words])
        assert end.value.code == 0
        return capfd.readouterr().out

    (entry,) = json.loads(evaluate("--json", "-o", str(tmp_path / "out.extxyz")))["outside"]
    assert entry["index"] == 1
    assert "times as far" in entry["reason"]
    first, second = ase.io.read(tmp_path / "out.extxyz", ":")
    assert not first.info["outside"]
    assert second.info["outside"]
    assert second.info["reason"] == entry["reason"]
    assert "outside the model's training: 1 of 2 frames" in evaluate()
