"""Fine-tuned models that several benchmarks judge: taken from finished runs, else trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.accuracy.crystals import PRESETS, crystals
from benchmarks.lib.sweep import full_base
from tlpot import read_frames
from tlpot.ablation.run import run_point
from tlpot.ablation.sweep import Point, name_of, parse_sweep, points, settings
from tlpot.config import Config, load_config
from tlpot.data.check import check_frames
from tlpot.data.split import split_frames, thin
from tlpot.errors import TlpotError
from tlpot.frames import Frame
from tlpot.potential import supported_elements
from tlpot.training.checkpoint import NAME as CHECKPOINT


def crystal_points(names: Sequence[str], seeds: Sequence[int]) -> list[Point]:
    """The points of ``crystals.py --full`` for some crystals of X23.

    Raises
    ------
    TlpotError
        If a crystal is not there.
    """
    known = crystals()
    if unknown := [name for name in names if name not in known] or ["none"] * ("none" in known):
        raise TlpotError(f"no {unknown[0]}/train.traj under $TLPOT_DATA/x23; set TLPOT_DATA")
    axes = {"crystal": {n: known[n] for n in names or known}, "recipe": PRESETS}
    return points(parse_sweep({"base": full_base(), "axes": axes, "seeds": list(seeds)}))


class Models:
    """Models of finished runs, by their settings.

    Parameters
    ----------
    runs
        Folder that is searched, sub-folders included, and where missing models are trained.
    train
        Train what is missing, and take up what was interrupted.
    """

    def __init__(self, runs: Path, train: bool) -> None:
        self.runs, self.train = runs, train
        self.found = {settings(config): folder for folder, config in finished(runs)}

    def folder(self, config: Config, study: str = "crystals/full") -> Path | None:
        """Run folder of a config, trained among those of `study` if need be; None if missing."""
        wanted = settings(config)
        if wanted not in self.found and self.train:
            folder = self.runs / study / "points" / name_of(config)
            run_point(config, str(folder), keep_model=True)
            self.found[wanted] = folder
        return self.found.get(wanted)


def finished(runs: Path) -> Iterator[tuple[Path, Config]]:
    """Run folders anywhere below `runs` that trained to the end and kept their model."""
    for model in sorted(runs.rglob("model.safetensors")):
        folder = model.parent
        if (folder / "metrics.json").exists() and not (folder / CHECKPOINT).exists():
            try:
                yield folder, load_config(folder / "config.yaml")
            except TlpotError:  # of a property or a powder classifier
                continue


def parts_of(config: Config) -> dict[str, list[Frame]]:
    """Frames that a run of these settings trains on, tunes on and is judged by."""
    frames = read_frames(config.data.files, config.data.keys, config.data.energy)
    known = (*supported_elements(config.model.base), *config.model.elements)
    frames = check_frames(frames, config.data, known).frames
    splits = split_frames(frames, config.data.split)
    splits = thin(splits, config.data.train_fraction, config.data.split.seed)
    return {name: [frames[i] for i in chosen] for name, chosen in vars(splits).items()}
