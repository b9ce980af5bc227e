"""Proposing and choosing with a potential."""

import numpy as np
import pytest
from ase.build import molecule

from tlpot.errors import TlpotError
from tlpot.model.load import load
from tlpot.sampling.choose import choose, committee, frame_features
from tlpot.sampling.propose import propose
from tlpot.structure.frames import Frame


@pytest.fixture(scope="module")
def mini():
    return load("mini")


@pytest.fixture
def start() -> list[Frame]:
    return [
        Frame(molecule(name), source="start.xyz", index=i)
        for i, name in enumerate(("CH3OH", "NH3", "H2O"))
    ]


def same(one: list[Frame], two: list[Frame]) -> bool:
    return len(one) == len(two) and all(
        np.allclose(a.atoms.positions, b.atoms.positions, atol=1e-9)
        and np.allclose(a.atoms.cell, b.atoms.cell)
        for a, b in zip(one, two, strict=True)
    )


@pytest.mark.parametrize("method", ["modes", "rattle"])
def test_the_seed_decides(mini, start, method):
    first = propose(start, method, 6, mini, seed=4)
    assert same(first, propose(start, method, 6, mini, seed=4))
    assert not same(first, propose(start, method, 6, mini, seed=5))
    # what one structure gives does not depend on those after it
    assert same(first[:2], propose(start[:1], method, 2, mini, seed=4))


def test_numbers_are_shared_out_and_origins_noted(start):
    done: list[int] = []
    found = propose(start, "rattle", 7, None, rattle=0.01, on_structure=done.append)
    assert [f.info["start"] for f in found] == [
        s.name for s, n in zip(start, (2, 2, 3), strict=True) for _ in range(n)
    ]
    assert all(f.info["sampled"] == "rattle" and f.info["rattle"] == 0.01 for f in found)
    assert all(f.energy is None for f in found)
    assert done == [1, 2, 3]


def test_md_runs_with_a_potential(mini, start, monkeypatch):
    monkeypatch.setattr("tlpot.sampling.geometries.EQUILIBRATION", 50)
    monkeypatch.setattr("tlpot.sampling.geometries.SPACING", 20)
    found = propose(start[2:], "md", 3, mini, temperature=200.0, seed=1)
    assert same(found, propose(start[2:], "md", 3, mini, temperature=200.0, seed=1))
    assert found[0].info["temperature"] == 200.0
    assert not same(found[:1], found[1:2])


def test_what_cannot_be_sampled_is_named(mini, start):
    silane = Frame(molecule("SiH4"), source="si.xyz")
    with pytest.raises(TlpotError, match=r"si\.xyz#0: .*Si"):
        propose([*start, silane], "modes", 4, mini)
    with pytest.raises(TlpotError, match=r"start\.xyz#0: .*closer"):
        propose(start, "rattle", 3, None, rattle=0.1, min_distance=3.0)
    with pytest.raises(TlpotError, match="needs a model"):
        propose(start, "modes", 4, None)


def test_committee_takes_the_largest_spread_per_root_n(small, structures):
    frames = [Frame(a, source="pool.xyz", index=i) for i, a in enumerate(structures(12))]
    model = small()
    energies = model.evaluate(model.batch(frames)).energy
    expected = (energies.std(dim=0) / model.batch(frames).n_atoms.sqrt()).numpy()
    assert committee(model, frames) == pytest.approx(expected, rel=1e-6)
    picked = choose(frames, "committee", 4, model)
    assert [f.index for f in picked] == np.argsort(-expected)[:4].tolist()
    assert picked[0].info["committee_eV"] == pytest.approx(expected.max(), abs=1e-6)
    with pytest.raises(TlpotError, match="single network"):
        choose(frames, "committee", 4, small(members=1))


def test_farthest_sees_kinds_apart_and_not_the_size(small, structures):
    frames = [Frame(a, index=i) for i, a in enumerate(structures(12))]
    model = small()
    picked = choose(frames, "farthest", 3, model)
    assert {f.formula == "C2H5NO" for f in picked} == {True, False}
    more = choose(frames, "farthest", 5, model)
    rest = [f for f in frames if f.index not in {p.index for p in more[:3]}]
    again = choose(rest, "farthest", 2, model, existing=more[:3])
    assert [f.index for f in again] == [f.index for f in more[3:]]
    ice = structures(1)[0]
    twice = frame_features(model, [Frame(ice), Frame(ice.repeat((1, 2, 1)))])
    assert twice[0] == pytest.approx(twice[1], abs=1e-9)
    assert twice.any()


def test_features_do_not_depend_on_how_frames_are_batched(small, structures, monkeypatch):
    frames = [Frame(a) for a in structures(9)]
    together = frame_features(small(), frames)
    monkeypatch.setattr("tlpot.model.potential.CHUNK", 10)
    assert frame_features(small(), frames) == pytest.approx(together, abs=1e-12)


def test_farthest_works_for_any_backbone(small_emodes):
    frames = [Frame(molecule(n), index=i) for i, n in enumerate(("CH4", "CH4", "SiH4", "PH3"))]
    picked = choose(frames, "farthest", 3, small_emodes())
    assert {str(f.atoms.symbols) for f in picked} == {"CH4", "SiH4", "PH3"}


def test_random_is_seeded_and_needs_no_model(structures):
    frames = [Frame(a, index=i) for i, a in enumerate(structures(12))]
    picked = [[f.index for f in choose(frames, "random", 5, None, seed)] for seed in (1, 1, 2)]
    assert picked[0] == picked[1] != picked[2]
    assert len(set(picked[0])) == 5


def test_too_few_frames_or_broken_ones_are_refused(small, structures):
    frames = [Frame(a, source="pool.xyz", index=i) for i, a in enumerate(structures(3))]
    with pytest.raises(TlpotError, match="4 frames are asked for, but the files hold 3"):
        choose(frames, "random", 4, None)
    with pytest.raises(TlpotError, match="needs a model"):
        choose(frames, "farthest", 2, None)
    frames[1].atoms.positions[0] = np.nan
    with pytest.raises(TlpotError, match=r"pool\.xyz#1"):
        choose(frames, "committee", 2, small())
