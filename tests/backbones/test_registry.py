"""A backbone that tlpot has never heard of: what it must say, and that it then does all."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.data import atomic_numbers
from torch import nn

from tlpot import TLPotCalculator, TlpotError, finetune, load
from tlpot.backbones.base import Backbone, find_backbone, register
from tlpot.backbones.published import PUBLISHED, SYMBOLS
from tlpot.cli.main import app
from tlpot.config.bases import BACKBONES, BASES, pretrained
from tlpot.interfaces.export import export
from tlpot.model.file import read_model
from tlpot.model.load import load_base
from tlpot.sampling.choose import choose

CENTRES = torch.linspace(0.5, 3.5, 8)


class Toy(Backbone):
    """Two-layer networks of distances, summed over the neighbours of each element."""

    kind = "toy"

    def __init__(self, symbols: tuple[str, ...], cutoff: float, members: int) -> None:
        super().__init__()
        self.symbols, self.cutoff, self.members = tuple(symbols), cutoff, members
        sizes = {"hidden": (len(symbols) * (len(CENTRES) + 1), 12), "output": (12, 1)}
        self.networks = nn.ModuleDict()
        for i in range(members):
            layers = {name: nn.Linear(*size) for name, size in sizes.items()}
            self.networks[f"member{i}"] = nn.ModuleDict(layers)

    def atomic_energies(self, batch):
        table = torch.zeros(119, len(self.symbols), dtype=self.dtype)
        table[[atomic_numbers[s] for s in self.symbols]] = torch.eye(len(self.symbols)).to(table)
        own, (first, second) = table[batch.numbers], batch.pairs
        r = batch.vectors.to(self.dtype).norm(dim=1, keepdim=True)
        fade = 0.5 + 0.5 * torch.cos(torch.pi * (r / self.cutoff).clamp(max=1.0))
        radial = torch.exp(-2 * (r - CENTRES.to(r)) ** 2) * fade
        seen = r.new_zeros(len(own), len(self.symbols), len(CENTRES))
        seen = seen.index_add(0, first, own[second][:, :, None] * radial[:, None])
        seen = seen.index_add(0, second, own[first][:, :, None] * radial[:, None])
        x = torch.cat([seen.flatten(1), own], dim=1)
        networks = self.networks.values()
        return torch.stack([n["output"](torch.tanh(n["hidden"](x)))[:, 0] for n in networks])

    def describe(self):
        return {"sizes": [self.symbols, self.cutoff, self.members]}

    @classmethod
    def restore(cls, header):
        return cls(*header["sizes"])

    @classmethod
    def new(cls):
        return cls(("H", "C", "N", "O"), 4.0, 2)


@pytest.fixture
def toy():
    """The name of a base whose backbone is registered at run time."""
    register(Toy)
    yield Toy.kind
    del BACKBONES[Toy.kind], BASES[Toy.kind]


@pytest.fixture
def config(toy, settings) -> dict:
    """Of a short run from scratch."""
    return settings | {
        "model": {"base": toy},
        "training": settings["training"] | {"epochs": 40, "learning_rate": 0.01},
    }


def test_it_learns_and_is_saved_loaded_and_used(config, urea):
    run = finetune(config)
    before, after = (
        run.metrics[model]["train"]["force_rmse_meV_per_A_component"]
        for model in ("baseline", "finetuned")
    )
    assert after < 0.8 * before
    again = load(run.folder)
    assert isinstance(again.backbone, Toy)
    (mine,), (theirs,) = (p.predict([urea], members=True) for p in (run.potential, again))
    assert np.array_equal(mine.forces, theirs.forces)
    assert mine.forces_std.min() > 0
    again.backbone.double()
    ends = []
    for step in (1e-4, -1e-4):
        moved = urea.copy()
        moved.positions[0, 0] += step
        ends.append(again.predict([moved])[0].energy)
    urea.calc = TLPotCalculator(again)
    assert urea.get_forces()[0, 0] == pytest.approx((ends[1] - ends[0]) / 2e-4, abs=1e-4)


def test_its_model_is_a_base_whose_layers_can_be_kept(config, tmp_path):
    first = finetune(config)
    model = {"base": str(first.folder), "freeze": ["hidden"]}
    second = finetune(config | {"model": model, "output": str(tmp_path / "second")})
    old, new = (dict(run.potential.backbone.named_parameters()) for run in (first, second))
    for name, weight in old.items():
        assert torch.equal(weight, new[name]) == ("hidden" in name), name


def test_resumed_is_uninterrupted(config, tmp_path):
    def stop(row) -> None:
        if row["epoch"] == 2:
            raise KeyboardInterrupt

    config["training"]["epochs"] = 4
    with pytest.raises(KeyboardInterrupt):
        finetune(config, on_epoch=stop)
    resumed = finetune(config, resume=True).potential.backbone
    straight = finetune(config | {"output": str(tmp_path / "straight")}).potential.backbone
    pairs = zip(resumed.named_parameters(), straight.named_parameters(), strict=True)
    for (name, one), (_, other) in pairs:
        assert torch.equal(one, other), name


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        ("model", {"init": "pretrained"}, "toy has no pretrained weights"),
        ("model", {"elements": {"Si": "C"}}, "no weights of an element"),
        ("model", {"train": "new"}, "init: scratch"),
        ("training", {"fine_angles": True}, "fine_angles: true has no effect with toy"),
    ],
)
def test_what_it_cannot_is_refused(config, section, change, message):
    config[section] |= change
    with pytest.raises(TlpotError, match=message):
        finetune(config)


def test_verbs_that_it_has_nothing_for_say_so(toy, labelled, tmp_path):
    potential = load_base(toy)
    with pytest.raises(TlpotError, match="toy has no descriptors"):
        choose(labelled(4), "farthest", 2, potential)
    with pytest.raises(TlpotError, match="take no new element") as refusal:
        potential.predict([molecule("SiH4")])
    assert "model.elements" not in str(refusal.value)
    path = potential.save(tmp_path / "toy.safetensors")
    with pytest.raises(TlpotError, match="take no new element"):
        app(["elements", "H", "Si", "--model", str(path), "--output", str(tmp_path / "map.png")])
    assert not (tmp_path / "map.png").exists()
    for to, suffix in (("torchani", ".py"), ("metatomic", ".pt")):
        with pytest.raises(TlpotError, match=f"toy cannot be exported to {to}"):
            export(path, tmp_path / f"other{suffix}", to)


def test_a_process_that_lacks_the_backbone_says_what_to_import(toy, tmp_path):
    path = load_base(toy).save(tmp_path / "toy.safetensors")
    verb = ["export", path, "--to", "torchani", "--output", tmp_path / "model.py"]
    done = subprocess.run([sys.executable, "-m", "tlpot", *verb], capture_output=True, text=True)
    assert done.returncode == 2
    words = " ".join(done.stderr.split())
    assert "the backbone 'toy' is none of ani, emodes, schnet" in words
    assert "import the module that registers it" in words


@pytest.mark.parametrize("kind", ["ani", "mini", "schnet"])
def test_a_name_of_tlpots_own_is_taken(kind):
    twin = type("Twin", (Toy,), {"kind": kind})
    with pytest.raises(TlpotError, match=f"tlpot has a base {kind} already"):
        register(twin)


@pytest.mark.parametrize("kind", BACKBONES)
def test_the_table_leads_to_classes_of_these_kinds(kind):
    assert find_backbone(kind).kind == kind


def test_every_base_can_be_loaded_from_what_the_table_says():
    assert {base.backbone for base in BASES.values()} == BACKBONES.keys()
    published = {name for name, base in BASES.items() if base.weights == "torchani"}
    assert published == PUBLISHED.keys() == SYMBOLS.keys()
    for name in set(BASES) - published:
        potential = load(name) if name in pretrained() else load_base(name)
        assert potential.backbone.kind == BASES[name].backbone
        assert potential.metadata["base"] == name


def test_a_file_that_names_no_backbone_is_ani(small, tmp_path):
    """As model files were before there was another."""
    potential = small()
    path = potential.save(tmp_path / "model.safetensors")
    header, _ = read_model(path)
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    old = content[8 : 8 + length].replace(b'\\"backbone\\": \\"ani\\", ', b"")
    assert len(old) < length
    assert header["backbone"] == "ani"
    path.write_bytes(len(old).to_bytes(8, "little") + old + content[8 + length :])
    water = molecule("H2O")
    assert load(path).predict([water])[0].energy == potential.predict([water])[0].energy


def test_choosing_a_base_needs_no_torch():
    code = "import sys, tlpot.config.run; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
