"""Work that is kept: answers, fine-tuned models, and the models of finished runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tlpot import TlpotError, finetune, load, read_frames
from tlpot.ablation.run import run_point
from tlpot.ablation.sweep import name_of, settings
from tlpot.config.run import Config, load_config, parse_config
from tlpot.data.check import check_frames
from tlpot.data.split import split_frames, thin
from tlpot.files import write_whole
from tlpot.model.load import supported_elements
from tlpot.model.potential import Potential
from tlpot.structure.frames import Frame
from tlpot.training.checkpoint import NAME as CHECKPOINT


def once(path: Path, work: Callable[[], Any]) -> Any:
    """What `work` gives, as JSON, from the file if it is there."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(work(), indent=1) + "\n")
    return json.loads(path.read_text())


def trained(folder: Path, config: Mapping[str, Any], frames: Sequence[Frame] | None = None) -> Path:
    """The folder of a run of this config: finished, taken up where it stopped, or begun."""
    if not (folder / "metrics.json").exists():
        whole = parse_config({**config, "output": str(folder)})
        finetune(whole, resume=(folder / "config.yaml").exists(), frames=frames)
    return folder


def with_members(base: str, members: int | None, folder: Path) -> str:
    """A model file, ``bases/<base>-<members>``, with the first members of a base's ensemble."""
    if not members:
        return base
    path = folder / "bases" / f"{base}-{members}.safetensors"
    if not path.exists():
        whole = load(base)
        header = whole.backbone.describe()
        header["architecture"] = {**header["architecture"], "members": members}
        backbone = type(whole.backbone).restore(header).requires_grad_(False)
        kept = {n: p[:members] for n, p in whole.backbone.named_parameters()}
        backbone.load_state_dict(kept, strict=False)
        Potential(backbone, whole.reference, whole.metadata).save(path)
    return str(path)


class Models:
    """Models of finished runs, by their settings.

    Parameters
    ----------
    runs
        Folder that is searched, sub-folders included, and where missing models are trained.
    train
        Train what is missing, and take up what was interrupted.
    """

    def __init__(self, runs: Path, train: bool = True) -> None:
        self.runs, self.train = runs, train
        self.folders = {settings(config): folder for folder, config in finished(runs)}

    def folder(self, config: Config, study: str = "crystals/full") -> Path | None:
        """Run folder of a config, trained among those of `study` if need be; None if missing."""
        wanted = settings(config)
        if wanted not in self.folders and self.train:
            folder = self.runs / study / "points" / name_of(config)
            run_point(config, str(folder), keep_model=True)
            self.folders[wanted] = folder
        return self.folders.get(wanted)

    def none(self) -> TlpotError:
        """What is wrong where a study finds none of its models."""
        return TlpotError(f"no finished model of crystals.py --full under {self.runs}")


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
    elements = (*supported_elements(config.model.base), *config.model.elements)
    frames = check_frames(frames, config.data, elements).frames
    splits = split_frames(frames, config.data.split)
    splits = thin(splits, config.data.train_fraction, config.data.split.seed)
    return {name: [frames[i] for i in chosen] for name, chosen in vars(splits).items()}
